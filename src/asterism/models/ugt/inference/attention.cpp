// Pointwise attention between two products: SiLU, scores with their bias, SiLU, values, norm and gate in one pass.
//
// A token's row holds gate, values, queries and keys, D numbers each, the heads side by side in each of these.

#include <cmath>

#include "simd.h"

namespace {

const int BLOCK = 4;          // queries at a time
const int CHUNK = 4 * LANES;  // keys, or numbers of a head, at a time

struct Shape {
    int64_t batch, tokens, heads, depth;
    int64_t width() const { return heads * depth; }
};

struct Norm {
    const float *scale, *shift;
    float epsilon;
};

// The relative bias: a table of `length` numbers a head, and which of them each pair of tokens takes.
struct Bias {
    const int32_t *rows;
    const float *tables;
    int64_t length;
};

// (4, K) by (K, VECTORS * LANES), both fp32.
template <int VECTORS>
INLINE void multiply(const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t inner, float *c,
                     int64_t step_c) {
    Floats sums[BLOCK][VECTORS] = {};
    for (int64_t k = 0; k < inner; ++k) {
        Floats right[VECTORS];
        for (int v = 0; v < VECTORS; ++v) right[v] = load(b + k * step_b + v * LANES);
        for (int row = 0; row < BLOCK; ++row)
            for (int v = 0; v < VECTORS; ++v) sums[row][v] += a[row * step_a + k] * right[v];
    }
    for (int row = 0; row < BLOCK; ++row)
        for (int v = 0; v < VECTORS; ++v) store(c + row * step_c + v * LANES, sums[row][v]);
}

// The same for any number of columns; up to LANES - 1 more are read and written.
void product(const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t inner, float *c, int64_t step_c,
             int64_t columns) {
    for (int64_t first = 0; first < columns; first += CHUNK) {
        const float *right = b + first;
        float *found = c + first;
        switch ((columns - first + LANES - 1) / LANES) {
            case 1: multiply<1>(a, step_a, right, step_b, inner, found, step_c); break;
            case 2: multiply<2>(a, step_a, right, step_b, inner, found, step_c); break;
            case 3: multiply<3>(a, step_a, right, step_b, inner, found, step_c); break;
            default: multiply<4>(a, step_a, right, step_b, inner, found, step_c);
        }
    }
}

// What a row (D) is shifted and scaled by to have mean 0 and variance 1.
struct Moments {
    float mean, factor;
};

INLINE Moments moments(const float *row, int64_t width, float epsilon) {
    Floats total{}, squares{};
    for (int64_t at = 0; at < width; at += LANES) total += load(row + at);
    const float mean = sum(total) / width;
    for (int64_t at = 0; at < width; at += LANES) {
        Floats apart = load(row + at) - mean;
        squares += apart * apart;
    }
    return {mean, 1.0f / std::sqrt(sum(squares) / width + epsilon)};
}

// Norm of attended values (D), times the gate.
template <class Number>
INLINE void finish(const float *attended, const float *gate, int64_t width, const Norm &norm, Number *out) {
    const Moments found = moments(attended, width, norm.epsilon);
    for (int64_t at = 0; at < width; at += LANES) {
        const Floats even = (load(attended + at) - found.mean) * found.factor;
        store(out + at, (even * load(norm.scale + at) + load(norm.shift + at)) * load(gate + at));
    }
}

template <class Number>
void normalise(const float *states, int64_t rows, int64_t width, Norm norm, Number *out) {
    for (; rows--; states += width, out += width) {
        const Moments found = moments(states, width, norm.epsilon);
        for (int64_t at = 0; at < width; at += LANES) {
            const Floats even = (load(states + at) - found.mean) * found.factor;
            store(out + at, even * load(norm.scale + at) + load(norm.shift + at));
        }
    }
}

// Scalar product of a query and a key of a head.
template <class Number>
INLINE float dot(const float *query, const Number *key, int64_t depth) {
    Floats total{};
    int64_t at = 0;
    for (; at + LANES <= depth; at += LANES) total += load(query + at) * load(key + at);
    float found = sum(total);
    for (; at < depth; ++at) found += query[at] * number(key[at]);
    return found;
}

template <class Number>
void every(const Number *expanded, Bias bias, Shape shape, Norm norm, Number *out, Number *kept) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), depth = shape.depth, row = 4 * width;
    const int64_t padded = (tokens + CHUNK - 1) / CHUNK * CHUNK, wide = (depth + LANES - 1) / LANES * LANES;
    const int64_t blocks = BLOCK * (padded + wide + width);
    float *active = room(kept_room, (tokens + BLOCK) * row + width * padded + blocks + CHUNK);
    float *keys = active + (tokens + BLOCK) * row;  // (D, padded)
    float *scores = keys + width * padded;          // (BLOCK, padded)
    float *head_values = scores + BLOCK * padded;   // (BLOCK, wide)
    float *attended = head_values + BLOCK * wide;   // (BLOCK, D)
    memset(active + tokens * row, 0, BLOCK * row * sizeof(float));
    memset(keys, 0, width * padded * sizeof(float));
    for (int64_t one = 0; one < shape.batch; ++one, expanded += tokens * row, out += tokens * width) {
        const int32_t *rows = bias.rows + one * tokens * tokens;
        for (int64_t token = 0; token < tokens; ++token) {
            float *to = active + token * row;
            for (int64_t at = 0; at < row; at += LANES) store(to + at, silu(load(expanded + token * row + at)));
            for (int64_t at = 0; at < width; ++at) keys[at * padded + token] = to[3 * width + at];
            if (kept)
                for (int64_t at = 0; at < width; at += LANES) {
                    store(kept + at, load(to + width + at));
                    store(kept + width + at, load(to + 3 * width + at));
                }
            if (kept) kept += 2 * width;
        }
        for (int64_t first = 0; first < tokens; first += BLOCK) {
            const int64_t seen = first + BLOCK < tokens ? first + BLOCK : tokens;  // nothing later is visible
            for (int64_t head = 0; head < shape.heads; ++head) {
                const float *query = active + first * row + 2 * width + head * depth;
                const float *table = bias.tables + head * bias.length;
                product(query, row, keys + head * depth * padded, padded, depth, scores, padded, seen);
                for (int64_t at = 0; at < BLOCK && first + at < tokens; ++at) {
                    const int32_t *places = rows + (first + at) * tokens;
                    float *of_token = scores + at * padded;
                    for (int64_t key = 0; key < seen; ++key) of_token[key] += table[places[key]];
                    for (int64_t key = 0; key < seen; key += LANES) store(of_token + key, silu(load(of_token + key)));
                }
                const float *values = active + width + head * depth;
                product(scores, padded, values, row, seen, head_values, wide, depth);
                for (int64_t at = 0; at < BLOCK; ++at)
                    memcpy(attended + at * width + head * depth, head_values + at * wide, depth * sizeof(float));
            }
            for (int64_t at = first; at < seen; ++at)
                finish(attended + (at - first) * width, active + at * row, width, norm, out + at * width);
        }
    }
}

// Numbers [from, from + VECTORS * LANES) of what a head attends to: values weighed by scores.
template <int VECTORS, class Number>
INLINE void weigh(const float *scores, const Number *values, int64_t step, int64_t tokens, float *attended) {
    Floats totals[VECTORS] = {};
    for (int64_t token = 0; token < tokens; ++token)
        for (int v = 0; v < VECTORS; ++v) totals[v] += scores[token] * load(values + token * step + v * LANES);
    for (int v = 0; v < VECTORS; ++v) store(attended + v * LANES, totals[v]);
}

// One query (D) against the values and keys (D each, a token's side by side) of one row's tokens.
template <class Number>
INLINE void read(const float *query, const Number *answers, Bias bias, int64_t one, Shape shape, float *scores,
                 float *attended) {
    const int64_t width = shape.width(), depth = shape.depth, tokens = shape.tokens, step = 2 * width;
    const int32_t *rows = bias.rows + one * tokens;
    const float *table = bias.tables;
    for (int64_t first = 0; first < width; first += depth, table += bias.length) {
        const Number *keys = answers + width + first, *values = answers + first;
        for (int64_t token = 0; token < tokens; ++token)
            scores[token] = table[rows[token]] + dot(query + first, keys + token * step, depth);
        for (int64_t token = 0; token < tokens; token += LANES) store(scores + token, silu(load(scores + token)));
        float *to = attended + first;
        int64_t at = 0;
        for (; at + CHUNK <= depth; at += CHUNK) weigh<4>(scores, values + at, step, tokens, to + at);
        for (; at + LANES <= depth; at += LANES) weigh<1>(scores, values + at, step, tokens, to + at);
        for (; at < depth; ++at) {
            float total = 0;
            for (int64_t token = 0; token < tokens; ++token) total += scores[token] * number(values[token * step + at]);
            to[at] = total;
        }
    }
}

template <class Number>
void newest(const Number *asked, const Number *answers, Bias bias, Shape shape, Norm norm, Number *out, Number *kept) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), pair = 2 * width;
    float *gate = room(kept_room, 3 * width + tokens * (pair + 1) + LANES), *query = gate + width;
    float *attended = gate + pair, *active = attended + width, *scores = active + tokens * pair;
    for (int64_t one = 0; one < shape.batch; ++one, answers += tokens * pair) {
        for (int64_t at = 0; at < pair; at += LANES) store(gate + at, silu(load(asked + one * pair + at)));
        for (int64_t at = 0; at < tokens * pair; at += LANES) {
            const Floats value = silu(load(answers + at));
            store(active + at, value);
            if (kept) store(kept + one * tokens * pair + at, value);
        }
        read(query, active, bias, one, shape, scores, attended);
        finish(attended, gate, width, norm, out + one * width);
    }
}

template <class Number>
void advance(const Number *expanded, Number *memory, const int64_t *slots, const int64_t *places, Bias bias,
             Shape shape, Norm norm, Number *out) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), pair = 2 * width;
    float *gate = room(kept_room, 3 * width + tokens + LANES), *query = gate + width;
    float *attended = gate + pair, *scores = attended + width;
    for (int64_t one = 0; one < shape.batch; ++one, expanded += 4 * width) {
        Number *own = memory + slots[one] * tokens * pair, *event = own + places[one] * pair;
        for (int64_t at = 0; at < width; at += LANES) {
            store(gate + at, silu(load(expanded + at)));
            store(event + at, silu(load(expanded + width + at)));
            store(query + at, silu(load(expanded + pair + at)));
            store(event + width + at, silu(load(expanded + pair + width + at)));
        }
        read(query, own, bias, one, shape, scores, attended);
        finish(attended, gate, width, norm, out + one * width);
    }
}

}  // namespace

#define SHARED                                                                                                       \
    const int32_t *rows, const float *tables, int64_t table, int64_t batch, int64_t tokens, int64_t heads,           \
        int64_t depth, const float *scale, const float *shift, float epsilon
#define PASSED {rows, tables, table}, {batch, tokens, heads, depth}, {scale, shift, epsilon}
#define OF_TYPE(NAME, NUMBER)                                                                                        \
    extern "C" void every_##NAME(const NUMBER *expanded, SHARED, NUMBER *out, NUMBER *kept) {                        \
        every(expanded, PASSED, out, kept);                                                                          \
    }                                                                                                                \
    extern "C" void newest_##NAME(const NUMBER *asked, const NUMBER *answers, SHARED, NUMBER *out, NUMBER *kept) {   \
        newest(asked, answers, PASSED, out, kept);                                                                   \
    }                                                                                                                \
    extern "C" void advance_##NAME(const NUMBER *expanded, NUMBER *memory, const int64_t *slots,                     \
                                   const int64_t *places, SHARED, NUMBER *out) {                                     \
        advance(expanded, memory, slots, places, PASSED, out);                                                       \
    }                                                                                                                \
    extern "C" void normalise_##NAME(const float *states, int64_t rows, int64_t width, const float *scale,           \
                                     const float *shift, float epsilon, NUMBER *out) {                               \
        normalise(states, rows, width, {scale, shift, epsilon}, out);                                                \
    }

OF_TYPE(fp32, float)
OF_TYPE(bf16, Bfloat16)
