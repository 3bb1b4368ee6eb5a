// What tells events apart, and how many of a history are new to what is remembered of it.

#include <algorithm>
#include <cstdint>

namespace {

const uint64_t MULTIPLIER = -7046029254386353131;  // of SplitMix64

}  // namespace

// (rows, events) fingerprints of `tokens` events a row, right-aligned, zero where there is none; `columns` (number) of
// what is read of an event, the items first.
extern "C" void fingerprints(int64_t rows, int64_t tokens, int64_t events, int64_t number,
                             const int64_t *const *columns, int64_t *prints) {
    for (int64_t row = 0; row < rows; ++row, prints += events) {
        std::fill_n(prints, events - tokens, 0);
        for (int64_t token = 0; token < tokens; ++token) {
            int64_t total = 0;
            for (int64_t column = 0; column < number; ++column) {
                const int64_t mixed = total ^ (total >> 29) ^ columns[column][row * tokens + token];
                total = (int64_t)((uint64_t)mixed * MULTIPLIER + 1);
            }
            prints[events - tokens + token] = columns[0][row * tokens + token] < 0 ? 0 : total == 0 ? 1 : total;
        }
    }
}

// How many events each of `users` rows has beyond those remembered in its slot, at most `most`; -1 where the others are
// none of these, or where more than `most_slides` would have left the ring with these.
extern "C" void count_new(int64_t users, int64_t events, int64_t most, int64_t most_slides, const int64_t *rows,
                          const int64_t *prints, const int64_t *slots, const int64_t *remembered,
                          const int64_t *newest, const int64_t *lengths, const int64_t *slides, int64_t *counts) {
    for (int64_t user = 0; user < users; ++user) {
        const int64_t slot = slots[user];
        const int64_t *now = prints + rows[user] * events, *ring = remembered + slot * events;
        const int64_t first = (newest[slot] + 1) % events;  // where the oldest event stands
        counts[user] = -1;
        for (int64_t count = 0; count <= most && count < events && counts[user] < 0; ++count) {
            const int64_t leaving = slides[slot] + std::max<int64_t>(0, lengths[slot] + count - events);
            if (count && leaving > most_slides) break;
            int64_t alike = 0;
            for (int64_t at = first + count; alike < events - count && now[alike] == ring[at % events]; ++at) ++alike;
            if (alike == events - count) counts[user] = count;
        }
    }
}
