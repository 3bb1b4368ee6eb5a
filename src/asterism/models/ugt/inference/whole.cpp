// All layers of a row in one go, where the processor multiplies tiles of bfloat16 (AMX): what a row needs stays near.

#include "layers.h"

#if defined(HAS_TILES)
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// Which number of the bias tables each pair of a row's tokens takes (bias.py).
void find_rows(const int64_t *moments, int64_t tokens, const Encoder &encoder, int32_t *ages, int32_t *rows) {
    const int64_t latest = *std::max_element(moments, moments + tokens);
    for (int64_t token = 0; token < tokens; ++token)
        ages[token] = std::min<uint64_t>((uint64_t)latest - moments[token], INT32_MAX);
    for (int64_t query = 0; query < tokens; ++query, rows += tokens) {
        for (int64_t key = 0; key <= query; ++key) {
            const int64_t bucket = bucket_of((int64_t)ages[key] - ages[query]);
            rows[key] = std::min((query - key) * encoder.buckets + bucket, encoder.hidden);
        }
        std::fill(rows + query + 1, rows + tokens, encoder.hidden);
    }
}

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

// A user is remembered as one who came with these events alone, the newest where the ring has room for no more.
void note(const Rings &rings, int64_t slot, const int64_t *prints, const int64_t *moments, int64_t count,
          const float *state, int64_t width) {
    const int64_t events = rings.events, ring = slot * events;
    std::copy_n(prints + events - count, count, rings.prints + ring);
    std::fill_n(rings.prints + ring + count, events - count, 0);
    std::copy_n(moments, count, rings.moments + ring);
    rings.newest[slot] = count - 1, rings.lengths[slot] = count, rings.slides[slot] = 0;
    std::copy_n(state, width, rings.states + slot * width);
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
// or from `vectors` (rows, tokens, D) of them. With `rings`, a row with a slot and with events is remembered there by
// its `prints` (rows, events); -1 stands for no slot.
// Returns 1 where an item is none that the model knows, and has then done nothing.
extern "C" int64_t encode(const Encoder *encoder, int64_t rows, int64_t tokens, const int64_t *items, const float *vectors,
                          const int64_t *moments, float *states, const Rings *rings, const int64_t *slots,
                          const int64_t *prints) {
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
        const int64_t slot = rings ? slots[row] : -1, kept = slot < 0 ? 0 : std::min(shape.tokens, rings->events);
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
            for (int64_t event = 0; event < kept; ++event)
                desk.keep(shape.tokens - kept + event, rings->layers[number] + (slot * rings->events + event) * 2 * width);
            const Block block(desk.blocks, shape);
            if (!last) attend(desk.active, desk.keys, desk.rows, bias, shape, layer.after, block, desk.normed);
            desk.contract(layer, last ? shape.tokens - 1 : 0);
        }
        std::copy_n(desk.states + (shape.tokens - 1) * width, width, states);
        if (kept) note(*rings, slot, prints + row * rings->events, moments + tokens - kept, kept, states, width);
    }
    return 0;
}

#else

extern "C" int64_t has_tiles() { return 0; }
extern "C" void pack_tiles(const uint16_t *, int64_t, int64_t, uint16_t *) {}
extern "C" int64_t encode(const void *, int64_t, int64_t, const int64_t *, const float *, const int64_t *, float *,
                          const void *, const int64_t *, const int64_t *) {
    return 1;
}

#endif
