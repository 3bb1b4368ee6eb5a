// Pointwise attention between two products: SiLU, scores with their bias, SiLU, values, norm and gate in one pass.
//
// A token's row holds gate, values, queries and keys, D numbers each, the heads side by side in each of these.
#pragma once

#include <cmath>

#include "simd.h"

namespace {

const int BLOCK = 4;          // queries at a time
const int CHUNK = 4 * LANES;  // keys, or numbers of a head, at a time

struct Shape {
    int64_t batch, tokens, heads, depth;
    int64_t width() const { return heads * depth; }
    int64_t padded() const { return (tokens + CHUNK - 1) / CHUNK * CHUNK; }
    int64_t wide() const { return (depth + LANES - 1) / LANES * LANES; }
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

// Room for `attend`: scores and values of a block of queries.
struct Block {
    float *scores, *head_values, *attended;
    static int64_t numbers(const Shape &shape) { return BLOCK * (shape.padded() + shape.wide() + shape.width()); }
    Block(float *at, const Shape &shape)
        : scores(at), head_values(scores + BLOCK * shape.padded()), attended(head_values + BLOCK * shape.wide()) {}
};

// What the tokens of one row attend to, normed and gated. `active` (tokens and BLOCK more, 4 D) gates, values, queries
// and keys after SiLU; the keys once more, across, in `keys` (D, padded); `rows` (tokens, tokens) of the bias.
template <class Number>
void attend(const float *active, const float *keys, const int32_t *rows, Bias bias, Shape shape, Norm norm, Block room,
            Number *out) {
    const int64_t tokens = shape.tokens, width = shape.width(), depth = shape.depth, row = 4 * width;
    const int64_t padded = shape.padded(), wide = shape.wide();
    for (int64_t first = 0; first < tokens; first += BLOCK) {
        const int64_t seen = first + BLOCK < tokens ? first + BLOCK : tokens;  // nothing later is visible
        for (int64_t head = 0; head < shape.heads; ++head) {
            const float *query = active + first * row + 2 * width + head * depth;
            const float *table = bias.tables + head * bias.length;
            product(query, row, keys + head * depth * padded, padded, depth, room.scores, padded, seen);
            for (int64_t at = 0; at < BLOCK && first + at < tokens; ++at) {
                const int32_t *places = rows + (first + at) * tokens;
                float *of_token = room.scores + at * padded;
                for (int64_t key = 0; key < seen; ++key) of_token[key] += table[places[key]];
                for (int64_t key = 0; key < seen; key += LANES) store(of_token + key, silu(load(of_token + key)));
            }
            const float *values = active + width + head * depth;
            product(room.scores, padded, values, row, seen, room.head_values, wide, depth);
            for (int64_t at = 0; at < BLOCK; ++at)
                memcpy(room.attended + at * width + head * depth, room.head_values + at * wide, depth * sizeof(float));
        }
        for (int64_t at = first; at < seen; ++at)
            finish(room.attended + (at - first) * width, active + at * row, width, norm, out + at * width);
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

// One query (D) against the values and keys (D each) of a row's tokens, whose numbers stand `step` apart; `rows` of
// the bias are those of the pairs.
template <class Number>
INLINE void read(const float *query, const Number *all_values, const Number *all_keys, int64_t step,
                 const int32_t *rows,
                 Bias bias, Shape shape, float *scores, float *attended) {
    const int64_t width = shape.width(), depth = shape.depth, tokens = shape.tokens;
    const float *table = bias.tables;
    for (int64_t first = 0; first < width; first += depth, table += bias.length) {
        const Number *keys = all_keys + first, *values = all_values + first;
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

}  // namespace
