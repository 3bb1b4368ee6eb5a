// What layers are made of and work on where the processor multiplies tiles of bfloat16 (AMX).
//
// Products take bfloat16 and give fp32; all else is fp32, and nothing between a product and the next norm is rounded.
#pragma once

#include <algorithm>

#include "attention.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#define HAS_TILES

namespace {

const int64_t ROWS = 16, INNER = 32;  // of a tile: rows, and numbers that are multiplied and added up

struct Product {
    const uint16_t *weight;  // (N / 16, K / 32) tiles, see `pack_tiles`
    const float *bias;       // (N)
};

struct Layer {
    Product expand, contract;
    const float *tables;  // (heads, length) of the bias
    Norm before, after;
};

struct Encoder {
    int64_t items, layers, heads, depth, hidden, buckets;  // `hidden`: the tables' length but one, what is not seen takes
    const Layer *layer;
    const float *inputs;  // (items, D)
};

// The bucket of so many seconds between two events, none where they are below zero (bias.py).
INLINE int64_t bucket_of(int64_t gap) {
    const float more = (float)(int32_t)std::max<int64_t>(gap, 0) + 1.0f;
    int32_t bits;
    memcpy(&bits, &more, sizeof bits);
    return (bits >> 23) - 127;
}

// Users between requests, in slots of a ring each, so many events long (memory.py).
struct Rings {
    int64_t events;
    Bfloat16 *const *layers;             // of each, (slots, events, 2 D) values and keys
    int64_t *prints, *moments;           // (slots, events)
    int64_t *newest, *lengths, *slides;  // (slots)
    float *states;                       // (slots, D)
};

struct Tiles {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    Tiles() {
        for (int tile = 0; tile < 8; ++tile) bytes[tile] = 64, rows[tile] = ROWS;
        _tile_loadconfig(this);
    }
    ~Tiles() { _tile_release(); }
};

// Up to four tiles of rows of a (16 TILES, K) by one tile of columns of a weight, into c (16 TILES, 16).
template <int TILES>
INLINE void multiply_tiles(const Bfloat16 *a, int64_t inner, const uint16_t *weight, float *c, int64_t step) {
    _tile_zero(0);
    if (TILES > 1) _tile_zero(1);
    if (TILES > 2) _tile_zero(2);
    if (TILES > 3) _tile_zero(3);
    const int64_t row = inner * sizeof(*a), block = ROWS * inner;
    for (int64_t at = 0; at < inner; at += INNER, a += INNER, weight += ROWS * INNER) {
        _tile_loadd(6, weight, 64);
        _tile_loadd(4, a, row);
        _tile_dpbf16ps(0, 4, 6);
        if (TILES > 1) {
            _tile_loadd(5, a + block, row);
            _tile_dpbf16ps(1, 5, 6);
        }
        if (TILES > 2) {
            _tile_loadd(4, a + 2 * block, row);
            _tile_dpbf16ps(2, 4, 6);
        }
        if (TILES > 3) {
            _tile_loadd(5, a + 3 * block, row);
            _tile_dpbf16ps(3, 5, 6);
        }
    }
    const int64_t bytes = step * sizeof(*c);
    _tile_stored(0, c, bytes);
    if (TILES > 1) _tile_stored(1, c + ROWS * step, bytes);
    if (TILES > 2) _tile_stored(2, c + 2 * ROWS * step, bytes);
    if (TILES > 3) _tile_stored(3, c + 3 * ROWS * step, bytes);
}

// Columns [first, stop) of a product of rows (tiles * 16, K), without its bias.
void multiply(const Bfloat16 *a, int64_t tiles, int64_t inner, const Product &by, int64_t first, int64_t stop,
              float *c, int64_t step) {
    for (; tiles > 0; tiles -= 4, a += 4 * ROWS * inner, c += 4 * ROWS * step)
        for (int64_t column = first; column < stop; column += ROWS) {
            const uint16_t *weight = by.weight + column * inner;
            switch (tiles) {
                case 1: multiply_tiles<1>(a, inner, weight, c + column, step); break;
                case 2: multiply_tiles<2>(a, inner, weight, c + column, step); break;
                case 3: multiply_tiles<3>(a, inner, weight, c + column, step); break;
                default: multiply_tiles<4>(a, inner, weight, c + column, step);
            }
        }
}

// Where the work on one row is done.
struct Desk {
    int64_t tokens, width, tiles, padded;
    float *states, *active, *keys, *blocks;
    Bfloat16 *normed;
    int32_t *ages, *rows;
    std::vector<float> kept;

    void clear(int64_t count, const Shape &shape) {
        tokens = count, width = shape.width(), tiles = (count + ROWS - 1) / ROWS, padded = shape.padded();
        const int64_t places = tiles * ROWS;
        const int64_t rooms = Block::numbers(shape) + 2 * LANES;
        const int64_t sizes[] = {places * width,     (places + BLOCK) * 4 * width, width * padded,
                                 places * width / 2, tokens, rooms,                tokens * tokens};
        int64_t total = 0;
        for (int64_t size : sizes) total += size + LANES;
        float *at = room(kept, total);
        void *places_of[7];
        for (int one = 0; one < 7; ++one) places_of[one] = at, at += sizes[one] + LANES;
        states = (float *)places_of[0], active = (float *)places_of[1], keys = (float *)places_of[2];
        normed = (Bfloat16 *)places_of[3], ages = (int32_t *)places_of[4], blocks = (float *)places_of[5];
        rows = (int32_t *)places_of[6];
        memset(normed, 0, places * width * sizeof(*normed));
        memset(active + places * 4 * width, 0, BLOCK * 4 * width * sizeof(float));
        memset(keys, 0, sizes[2] * sizeof(float));
    }

    // SiLU of `parts` of gate, values, queries and keys of tokens [first, stop), with the bias of their product.
    void activate(const float *bias, int64_t first, int64_t stop, int64_t from, int64_t to) {
        for (float *row = active + first * 4 * width; first < stop; ++first, row += 4 * width)
            for (int64_t at = from; at < to; at += LANES) store(row + at, silu(load(row + at) + load(bias + at)));
    }

    // Values and keys of a token.
    void keep(int64_t token, Bfloat16 *to) const {
        for (int64_t at = 0; at < width; at += LANES) {
            store(to + at, load(active + (4 * token + 1) * width + at));
            store(to + width + at, load(active + (4 * token + 3) * width + at));
        }
    }

    // The product after attention, added to the states of tokens from `first` on.
    void contract(const Layer &layer, int64_t first) {
        multiply(normed, tiles, width, layer.contract, 0, width, active, width);
        for (int64_t token = first; token < tokens; ++token)
            for (int64_t at = 0; at < width; at += LANES) {
                float *state = states + token * width + at;
                const Floats more = load(active + (token - first) * width + at) + load(layer.contract.bias + at);
                store(state, load(state) + more);
            }
    }
};

}  // namespace

#endif
