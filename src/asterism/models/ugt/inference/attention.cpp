// Pointwise attention between two products: SiLU, scores with their bias, SiLU, values, norm and gate in one pass.
//
// A token's row holds gate, values, queries and keys, D numbers each, the heads side by side in each of these.

#include <cmath>

#include "simd.h"

namespace {

const int BLOCK = 4;           // queries at a time
const int CHUNK = 4 * LANES;   // keys, or numbers of a head, at a time

struct Shape {
    int64_t batch, tokens, heads, depth;
    int64_t width() const { return heads * depth; }
};

struct Norm {
    const float *scale, *shift;
    float epsilon;
};

// (4, K) by (K, VECTORS * LANES), both fp32.
template <int VECTORS>
INLINE void multiply(const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t inner, float *c, int64_t step_c) {
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
void product(const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t inner, float *c, int64_t step_c, int64_t columns) {
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
        Floats normed = (load(attended + at) - found.mean) * found.factor * load(norm.scale + at) + load(norm.shift + at);
        store(out + at, normed * load(gate + at));
    }
}

template <class Number>
void normalise(const float *states, int64_t rows, int64_t width, Norm norm, Number *out) {
    for (; rows--; states += width, out += width) {
        const Moments found = moments(states, width, norm.epsilon);
        for (int64_t at = 0; at < width; at += LANES)
            store(out + at, (load(states + at) - found.mean) * found.factor * load(norm.scale + at) + load(norm.shift + at));
    }
}

float dot(const float *one, const float *other, int64_t count) {
    Floats total{};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) total += load(one + at) * load(other + at);
    float found = sum(total);
    for (; at < count; ++at) found += one[at] * other[at];
    return found;
}

template <class Number>
void every(const Number *expanded, const int32_t *rows, const float *tables, int64_t table, Shape shape, Norm norm, Number *out, Number *kept) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), depth = shape.depth, row = 4 * width;
    const int64_t padded = (tokens + CHUNK - 1) / CHUNK * CHUNK, wide = (depth + LANES - 1) / LANES * LANES;
    float *active = room(kept_room, (tokens + BLOCK) * row + width * padded + BLOCK * (padded + wide + width) + CHUNK);
    float *keys = active + (tokens + BLOCK) * row;  // (D, padded)
    float *scores = keys + width * padded;          // (BLOCK, padded)
    float *head_values = scores + BLOCK * padded;   // (BLOCK, wide)
    float *attended = head_values + BLOCK * wide;   // (BLOCK, D)
    memset(active + tokens * row, 0, BLOCK * row * sizeof(float));
    memset(keys, 0, width * padded * sizeof(float));
    for (int64_t one = 0; one < shape.batch; ++one, rows += tokens * tokens, expanded += tokens * row, out += tokens * width) {
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
                product(query, row, keys + head * depth * padded, padded, depth, scores, padded, seen);
                for (int64_t at = 0; at < BLOCK && first + at < tokens; ++at) {
                    const int32_t *places = rows + (first + at) * tokens;
                    float *of_token = scores + at * padded;
                    for (int64_t key = 0; key < seen; ++key) of_token[key] += tables[head * table + places[key]];
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

// One query, with its gate, against the values and keys (D each, a token's side by side) of one row's tokens.
template <class Number>
INLINE void read(const float *asking, const Number *answers, bool raw, const int32_t *rows, const float *tables, int64_t table, Shape shape, float *answer, float *attended, Number *kept) {
    const int64_t width = shape.width(), depth = shape.depth;
    memset(attended, 0, width * sizeof(float));
    for (int64_t token = 0; token < shape.tokens; ++token) {
        for (int64_t at = 0; at < 2 * width; at += LANES) {
            Floats value = load(answers + token * 2 * width + at);
            value = raw ? silu(value) : value;
            store(answer + at, value);
            if (kept) store(kept + token * 2 * width + at, value);
        }
        for (int64_t head = 0; head < shape.heads; ++head) {
            const float *query = asking + width + head * depth, *key = answer + width + head * depth;
            const float weight = silu(all(tables[head * table + rows[token]] + dot(query, key, depth)))[0];
            for (int64_t at = head * depth; at < (head + 1) * depth; ++at) attended[at] += weight * answer[at];
        }
    }
}

template <class Number>
void newest(const Number *asked, const Number *answers, const int32_t *rows, const float *tables, int64_t table, Shape shape, Norm norm, Number *out, Number *kept) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), pair = 2 * width;
    float *asking = room(kept_room, 5 * width);
    for (int64_t one = 0; one < shape.batch; ++one) {
        for (int64_t at = 0; at < pair; at += LANES) store(asking + at, silu(load(asked + one * pair + at)));
        Number *to = kept ? kept + one * tokens * pair : nullptr;
        read(asking, answers + one * tokens * pair, true, rows + one * tokens, tables, table, shape, asking + pair, asking + 2 * pair, to);
        finish(asking + 2 * pair, asking, width, norm, out + one * width);
    }
}

template <class Number>
void advance(const Number *expanded, Number *memory, const int64_t *slots, const int64_t *places, const int32_t *rows, const float *tables, int64_t table, Shape shape, Norm norm, Number *out) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), pair = 2 * width;
    float *asking = room(kept_room, 5 * width);
    for (int64_t one = 0; one < shape.batch; ++one, expanded += 4 * width) {
        Number *own = memory + slots[one] * tokens * pair, *event = own + places[one] * pair;
        for (int64_t at = 0; at < width; at += LANES) {
            store(asking + at, silu(load(expanded + at)));
            store(event + at, silu(load(expanded + width + at)));
            store(asking + width + at, silu(load(expanded + pair + at)));
            store(event + width + at, silu(load(expanded + pair + width + at)));
        }
        read(asking, own, false, rows + one * tokens, tables, table, shape, asking + pair, asking + 2 * pair, (Number *)nullptr);
        finish(asking + 2 * pair, asking, width, norm, out + one * width);
    }
}

}  // namespace

#define SHARED const float *tables, int64_t table, int64_t batch, int64_t tokens, int64_t heads, int64_t depth, const float *scale, const float *shift, float epsilon
#define PASSED tables, table, {batch, tokens, heads, depth}, {scale, shift, epsilon}
#define OF_TYPE(NAME, NUMBER)                                                                                        \
    extern "C" void every_##NAME(const NUMBER *expanded, const int32_t *rows, SHARED, NUMBER *out, NUMBER *kept) {   \
        every(expanded, rows, PASSED, out, kept);                                                                    \
    }                                                                                                                \
    extern "C" void newest_##NAME(const NUMBER *asked, const NUMBER *answers, const int32_t *rows, SHARED,           \
                                  NUMBER *out, NUMBER *kept) {                                                       \
        newest(asked, answers, rows, PASSED, out, kept);                                                             \
    }                                                                                                                \
    extern "C" void advance_##NAME(const NUMBER *expanded, NUMBER *memory, const int64_t *slots,                     \
                                   const int64_t *places, const int32_t *rows, SHARED, NUMBER *out) {                \
        advance(expanded, memory, slots, places, rows, PASSED, out);                                                 \
    }                                                                                                                \
    extern "C" void normalise_##NAME(const float *states, int64_t rows, int64_t width, const float *scale,           \
                                     const float *shift, float epsilon, NUMBER *out) {                               \
        normalise(states, rows, width, {scale, shift, epsilon}, out);                                                \
    }

OF_TYPE(fp32, float)
OF_TYPE(bf16, Bfloat16)
