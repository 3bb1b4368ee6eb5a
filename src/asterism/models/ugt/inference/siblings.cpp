// Log-probabilities of listed codes under prefixes: a softmax over the known siblings below each prefix alone.

#include <algorithm>
#include <cmath>

#include "simd.h"

namespace {

struct Level {
    int64_t size;              // codes
    const int64_t *first;      // (parents) where a parent's children begin, side by side and in order of code
    const int64_t *counts;     // (parents) how many there are
    const int64_t *codes;      // (nodes)
    const float *of_unseen;    // (parents) log-probability of each code that a parent was not seen with
    const float *of_seen;      // (parents) of all together that it was seen with
    const void *vectors;       // (nodes, D), null where no parent has two children
    int64_t is_bfloat16;
    const float *turn, *shift; // (D, D) and (D) from a state to its query
};

int64_t child(const Level &level, int64_t parent, int64_t code) {
    if (parent < 0) return -1;
    int64_t low = level.first[parent], high = low + level.counts[parent];
    const int64_t end = high;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (level.codes[middle] < code) low = middle + 1;
        else high = middle;
    }
    return low < end && level.codes[low] == code ? low : -1;
}

// A state (D) as the level asks with it: turned, of length 1 / temperature.
void ask(const Level &level, const float *state, int64_t width, float temperature, float *query) {
    float squares = 0;
    for (int64_t out = 0; out < width; ++out) {
        Floats total{};
        for (int64_t at = 0; at < width; at += LANES) total += load(level.turn + out * width + at) * load(state + at);
        query[out] = sum(total) + level.shift[out];
        squares += query[out] * query[out];
    }
    const float factor = 1.0f / (std::fmax(std::sqrt(squares), 1e-12f) * temperature);
    for (int64_t at = 0; at < width; ++at) query[at] *= factor;
}

// Products of a query and vectors that lie side by side.
template <class Number>
INLINE void products(const float *query, const Number *vectors, int64_t count, int64_t width, float *scores) {
    int64_t one = 0;
    for (; one + 4 <= count; one += 4, vectors += 4 * width) {
        Floats totals[4] = {};
        for (int64_t at = 0; at < width; at += LANES) {
            const Floats asked = load(query + at);
            for (int v = 0; v < 4; ++v) totals[v] += asked * load(vectors + v * width + at);
        }
        for (int v = 0; v < 4; ++v) scores[one + v] = sum(totals[v]);
    }
    for (; one < count; ++one, vectors += width) {
        Floats total{};
        for (int64_t at = 0; at < width; at += LANES) total += load(query + at) * load(vectors + at);
        scores[one] = sum(total);
    }
}

// Steps from one beam.
struct Family {
    int64_t parent, row, first, stop;
};

float log_sum_exp(float *scores, int64_t count) {
    float most = scores[0];
    for (int64_t at = 1; at < count; ++at) most = scores[at] > most ? scores[at] : most;
    for (int64_t at = count; at % LANES; ++at) scores[at] = -1e30f;
    Floats total{};
    for (int64_t at = 0; at < count; at += LANES) {
        const Floats apart = load(scores + at) - most;
        total += apart < -87.0f ? Floats{} : exponential(apart);
    }
    return std::log(sum(total)) + most;
}

void answer(const Level &level, const Family &family, const float *query, int64_t width, const int32_t *codes,
            float *scores, float *log_probs) {
    const int64_t parent = family.parent;
    if (parent < 0) {
        for (int64_t step = family.first; step < family.stop; ++step) log_probs[step] = -std::log((float)level.size);
        return;
    }
    const int64_t begin = level.first[parent], count = level.counts[parent];
    float below = 0;
    if (level.vectors && count > 1) {
        if (level.is_bfloat16) products(query, (const Bfloat16 *)level.vectors + begin * width, count, width, scores);
        else products(query, (const float *)level.vectors + begin * width, count, width, scores);
        below = log_sum_exp(scores, count);
    } else {
        for (int64_t at = 0; at < count; ++at) scores[at] = 0;
        below = count ? std::log((float)count) : 0;
    }
    int64_t at = 0;
    for (int64_t step = family.first; step < family.stop; ++step) {
        while (at < count && level.codes[begin + at] < codes[step]) ++at;
        const bool known = at < count && level.codes[begin + at] == codes[step];
        log_probs[step] = known ? scores[at] - below + level.of_seen[parent] : level.of_unseen[parent];
    }
}

}  // namespace

struct Decoder {
    const Level *levels;
    int64_t width;
    float temperature;
};

// Steps in order of origins (row * beams + beam); `prefixes` (rows, beams, number) lead through the levels before.
extern "C" int64_t step_log_probs(const Decoder *decoder, int64_t number, int64_t rows, int64_t beams,
                                  const float *states, const int64_t *prefixes, int64_t steps, const int32_t *origins,
                                  const int32_t *codes, float *log_probs) {
    static thread_local std::vector<float> kept_room;
    static thread_local std::vector<Family> families;
    const Level *levels = decoder->levels, &level = levels[number];
    const int64_t width = decoder->width;
    float *queries = room(kept_room, rows * width + level.size + LANES), *scores = queries + rows * width;
    families.clear();
    for (int64_t first = 0, stop; first < steps; first = stop) {
        const int64_t origin = origins[first];
        for (stop = first; stop < steps && origins[stop] == origin; ++stop) {}
        int64_t parent = 0;
        for (int64_t above = 0; above < number; ++above)
            parent = child(levels[above], parent, prefixes[origin * number + above]);
        families.push_back({parent, origin / beams, first, stop});
    }
    int64_t asking = -1;
    for (const Family &one : families) {
        const bool scored = level.vectors && one.parent >= 0 && level.counts[one.parent] > 1;
        if (!scored || asking == one.row) continue;
        asking = one.row;
        ask(level, states + asking * width, width, decoder->temperature, queries + asking * width);
    }
    // Beams of several rows often share a parent: one after the other they find its children in the nearest cache.
    std::sort(families.begin(), families.end(), [](auto &one, auto &other) { return one.parent < other.parent; });
    for (const Family &one : families) answer(level, one, queries + one.row * width, width, codes, scores, log_probs);
    return 0;
}
