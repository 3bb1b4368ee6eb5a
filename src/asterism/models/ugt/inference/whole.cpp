// All layers of a row in one go, where the processor multiplies tiles of bfloat16 (AMX): what a row needs stays near.
//
// Products take bfloat16 and give fp32; all else is fp32, and nothing between a product and the next norm is rounded.

#include <algorithm>

#include "attention.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include <sys/syscall.h>
#include <unistd.h>

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

// Which number of the bias tables each pair of a row's tokens takes (bias.py).
void find_rows(const int64_t *moments, int64_t tokens, const Encoder &encoder, int32_t *ages, int32_t *rows) {
    const int64_t latest = *std::max_element(moments, moments + tokens);
    for (int64_t token = 0; token < tokens; ++token)
        ages[token] = std::min<uint64_t>((uint64_t)latest - moments[token], INT32_MAX);
    for (int64_t query = 0; query < tokens; ++query, rows += tokens) {
        for (int64_t key = 0; key <= query; ++key) {
            const int64_t gap = (int64_t)ages[key] - ages[query];
            const float more = (float)(int32_t)std::max<int64_t>(gap, 0) + 1.0f;
            int32_t bits;
            memcpy(&bits, &more, sizeof bits);
            const int64_t row = (query - key) * encoder.buckets + (bits >> 23) - 127;
            rows[key] = std::min(row, encoder.hidden);
        }
        std::fill(rows + query + 1, rows + tokens, encoder.hidden);
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

    void keep(Bfloat16 *to) const {
        for (int64_t token = 0; token < tokens; ++token, to += 2 * width)
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

void every(Desk &desk, const Layer &layer) {
    const int64_t width = desk.width, tokens = desk.tokens;
    multiply(desk.normed, desk.tiles, width, layer.expand, 0, 4 * width, desk.active, 4 * width);
    desk.activate(layer.expand.bias, 0, tokens, 0, 4 * width);
    for (int64_t token = 0; token < tokens; ++token)
        for (int64_t at = 0; at < width; ++at)
            desk.keys[at * desk.padded + token] = desk.active[(4 * token + 3) * width + at];
}

void newest(Desk &desk, const Layer &layer, Bias bias, const Shape &shape) {
    const int64_t width = desk.width, last = desk.tokens - 1, start = last / ROWS * ROWS;
    for (int64_t part = 0; part < 4; ++part) {
        const int64_t first = part % 2 ? 0 : start;  // who asks is the newest token alone
        multiply(desk.normed + first * width, desk.tiles - first / ROWS, width, layer.expand, part * width,
                 (part + 1) * width, desk.active + first * 4 * width, 4 * width);
        desk.activate(layer.expand.bias, part % 2 ? 0 : last, desk.tokens, part * width, (part + 1) * width);
    }
    const float *own = desk.active + 4 * last * width;
    float *scores = desk.keys, *attended = desk.blocks;  // neither is needed any more
    read(own + 2 * width, desk.active + width, desk.active + 3 * width, 4 * width, bias.rows + last * desk.tokens, bias,
         shape, scores, attended);
    finish(attended, own, width, layer.after, desk.normed);
    desk.tiles = 1;
}

}  // namespace

extern "C" int64_t has_tiles() {
    const long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

// Lay a weight (N, K) of bfloat16 out in tiles of 16 outputs by 32 inputs, pairs of inputs side by side.
extern "C" void pack_tiles(const uint16_t *weight, int64_t outputs, int64_t inputs, uint16_t *to) {
    for (int64_t output = 0; output < outputs; output += ROWS)
        for (int64_t input = 0; input < inputs; input += INNER)
            for (int64_t pair = 0; pair < INNER; pair += 2)
                for (int64_t column = 0; column < ROWS; ++column, to += 2)
                    memcpy(to, weight + (output + column) * inputs + input + pair, 2 * sizeof(*to));
}

// What the layers make of the newest events of rows (tokens, the newest last): from `items`, -1 where there is none,
// or from `vectors` (rows, tokens, D) of them. `kept` (layers) of (rows, tokens, 2 D) values and keys, or null.
// Returns 1 where an item is none that the model knows, and has then done nothing.
extern "C" int64_t encode(const Encoder *encoder, int64_t rows, int64_t tokens, const int64_t *items, const float *vectors,
                       const int64_t *moments, float *states, Bfloat16 *const *kept) {
    static thread_local Desk desk;
    for (int64_t token = 0; !vectors && token < rows * tokens; ++token)
        if (items[token] >= encoder->items) return 1;
    const Tiles tiles;
    const int64_t width = encoder->heads * encoder->depth;
    for (int64_t row = 0; row < rows; ++row, items += tokens, moments += tokens, states += width) {
        int64_t first = 0;
        while (first < tokens && items[first] < 0) ++first;
        if (first == tokens) {
            std::fill_n(states, width, 0.0f);
            continue;
        }
        const Shape shape{1, tokens - first, encoder->heads, encoder->depth};
        desk.clear(shape.tokens, shape);
        for (int64_t token = first; token < tokens; ++token) {
            const float *from =
                vectors ? vectors + (row * tokens + token) * width : encoder->inputs + items[token] * width;
            std::copy_n(from, width, desk.states + (token - first) * width);
        }
        find_rows(moments + first, shape.tokens, *encoder, desk.ages, desk.rows);
        for (int64_t number = 0; number < encoder->layers; ++number) {
            const Layer &layer = encoder->layer[number];
            const bool last = number + 1 == encoder->layers;
            const Bias bias{desk.rows, layer.tables, encoder->hidden + 1};
            normalise(desk.states, shape.tokens, width, layer.before, desk.normed);
            if (last) newest(desk, layer, bias, shape);
            else every(desk, layer);
            if (kept) desk.keep(kept[number] + (row * tokens + first) * 2 * width);
            const Block block(desk.blocks, shape);
            if (!last) attend(desk.active, desk.keys, desk.rows, bias, shape, layer.after, block, desk.normed);
            desk.contract(layer, last ? shape.tokens - 1 : 0);
        }
        std::copy_n(desk.states + (shape.tokens - 1) * width, width, states);
    }
    return 0;
}

#else

extern "C" int64_t has_tiles() { return 0; }
extern "C" void pack_tiles(const uint16_t *, int64_t, int64_t, uint16_t *) {}
extern "C" int64_t encode(const void *, int64_t, int64_t, const int64_t *, const float *, const int64_t *, float *,
                          Bfloat16 *const *) {
    return 1;
}

#endif
