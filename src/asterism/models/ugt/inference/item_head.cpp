// The item head for candidates: cosines of states and items over a temperature, in fp32.

#include <cmath>

#include "simd.h"

namespace {

struct Head {
    int64_t width, items, is_pooled;  // pooled states are twice as wide, what was pooled behind
    float temperature;
    const float *turn, *shift;  // (D, D) and (D) of what is added to a state
    const float *directions;    // (items, D) of length 1
};

INLINE float product(const float *one, const float *other, int64_t width) {
    Floats total{};
    for (int64_t at = 0; at < width; at += LANES) total += load(one + at) * load(other + at);
    return sum(total);
}

void normalise(float *vector, int64_t width, float length) {
    const float factor = length / std::fmax(std::sqrt(product(vector, vector, width)), 1e-12f);
    for (int64_t at = 0; at < width; ++at) vector[at] *= factor;
}

void ask(const Head &head, const float *state, float *query) {
    for (int64_t out = 0; out < head.width; ++out)
        query[out] = state[out] + (product(head.turn + out * head.width, state, head.width) + head.shift[out]);
    const float length = 1.0f / head.temperature;
    normalise(query, head.width, head.is_pooled ? 1.0f : length);
    if (!head.is_pooled) return;
    for (int64_t at = 0; at < head.width; ++at) query[at] += state[head.width + at];
    normalise(query, head.width, length);
}

}  // namespace

// (rows, candidates) scores; 1 where an item is none that the head knows.
extern "C" int64_t item_scores(const Head *head, int64_t rows, int64_t candidates, const float *states,
                               const int64_t *items, float *scores) {
    static thread_local std::vector<float> kept_room;
    float *query = room(kept_room, head->width);
    for (int64_t row = 0; row < rows; ++row, states += head->width << head->is_pooled) {
        ask(*head, states, query);
        for (int64_t at = row * candidates; at < (row + 1) * candidates; ++at) {
            if (items[at] < 0 || items[at] >= head->items) return 1;
            scores[at] = product(query, head->directions + items[at] * head->width, head->width);
        }
    }
    return 0;
}
