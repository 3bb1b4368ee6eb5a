// Attention of one layer, called layer by layer; the products around it are somebody else's.

#include "attention.h"

namespace {

template <class Number>
void every(const Number *expanded, Bias bias, Shape shape, Norm norm, Number *out, Number *kept) {
    static thread_local std::vector<float> kept_room;
    const int64_t tokens = shape.tokens, width = shape.width(), row = 4 * width, padded = shape.padded();
    const int64_t numbers = (tokens + BLOCK) * row + width * padded;
    float *active = room(kept_room, numbers + Block::numbers(shape) + LANES), *keys = active + (tokens + BLOCK) * row;
    const Block block(active + numbers, shape);
    memset(active + tokens * row, 0, BLOCK * row * sizeof(float));
    memset(keys, 0, width * padded * sizeof(float));
    for (int64_t one = 0; one < shape.batch; ++one, expanded += tokens * row, out += tokens * width) {
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
        attend(active, keys, bias.rows + one * tokens * tokens, bias, shape, norm, block, out);
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
        read(query, active, active + width, pair, bias.rows + one * tokens, bias, shape, scores, attended);
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
        read(query, own, own + width, pair, bias.rows + one * tokens, bias, shape, scores, attended);
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
