// The steps of a beam search: which codes may follow its prefixes, and the best of what they score.
//
// A prefix of up to `head` codes is an address, a longer one a range of entries (trie_layout.py, snapshot.py).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

const int64_t WORD = 64, NODE_PAGE = 6;
const float NOTHING = -std::numeric_limits<float>::infinity();

struct Trie {
    int64_t levels, head, node_bitmaps;
    const int64_t *sizes;          // codes by level
    const uint64_t *const *heads;  // bitmaps of addresses, by level below `head`
    const int32_t *node_table, *bases, *counts;
    const uint64_t *bits;
    const int32_t *items, *starts;
    const void *const *codes;  // of entries, by level from `head` on
    const int64_t *code_bytes;

    int64_t words(int64_t level) const { return (sizes[level] + WORD - 1) / WORD; }
    int64_t node_row(int64_t address) const {
        return ((int64_t)node_table[address >> NODE_PAGE] << NODE_PAGE) + (address & ((1 << NODE_PAGE) - 1));
    }
    const uint64_t *children(int64_t level, int64_t address) const {
        return level < head ? heads[level] + address * words(level) : bits + node_row(address) * words(level);
    }
    int64_t code(int64_t level, int64_t entry) const {
        const void *column = codes[level - head];
        switch (code_bytes[level - head]) {
            case 1: return ((const uint8_t *)column)[entry];
            case 2: return ((const uint16_t *)column)[entry];
            default: return ((const uint32_t *)column)[entry];
        }
    }
};

struct Range {
    int64_t start, stop;
};

// Where a code leads to from an address, on a level with bitmaps.
Range lead(const Trie &trie, int64_t level, int64_t address, int64_t code) {
    if (level < trie.head) {
        const int64_t child = address * trie.sizes[level] + code;
        return {child, child + 1};
    }
    const uint64_t *bits = trie.children(level, address);
    int64_t rank = __builtin_popcountll(bits[code / WORD] & ((1ull << code % WORD) - 1));
    for (int64_t word = 0; word < code / WORD; ++word) rank += __builtin_popcountll(bits[word]);
    const int64_t base = trie.bases[trie.node_row(address)];
    return {base + trie.starts[base + rank], base + trie.starts[base + rank + 1]};
}

}  // namespace

// All legal steps of beams (rows, width), by bitmaps; `narrowed` holds those of the live beams where they are not the
// trie's own. Row r's stand from offsets[r] to offsets[r + 1].
extern "C" void list_bits(const Trie *trie, int64_t level, int64_t rows, int64_t width, const int64_t *starts,
                          const uint64_t *narrowed, int32_t *origins, int32_t *codes, int64_t *offsets) {
    const int64_t words = trie->words(level);
    int64_t found = 0;
    offsets[0] = 0;
    for (int64_t beam = 0; beam < rows * width; ++beam) {
        if (starts[beam] >= 0) {
            const uint64_t *bits = narrowed ? narrowed : trie->children(level, starts[beam]);
            if (narrowed) narrowed += words;
            for (int64_t word = 0; word < words; ++word)
                for (uint64_t left = bits[word]; left; left &= left - 1, ++found) {
                    origins[found] = beam;
                    codes[found] = word * WORD + __builtin_ctzll(left);
                }
        }
        if ((beam + 1) % width == 0) offsets[(beam + 1) / width] = found;
    }
}

// How many entries stand below the beams, on a level without bitmaps; `starts` become ranges where they are addresses.
extern "C" int64_t count_entries(const Trie *trie, int64_t level, int64_t beams, int64_t *starts, int64_t *stops) {
    int64_t total = 0;
    for (int64_t beam = 0; beam < beams; ++beam) {
        if (starts[beam] < 0) continue;
        if (level == trie->head) {
            const int64_t row = trie->node_row(starts[beam]);
            starts[beam] = trie->bases[row];
            stops[beam] = starts[beam] + trie->counts[row];
        }
        total += stops[beam] - starts[beam];
    }
    return total;
}

// All steps by entries, and where they lead to.
extern "C" void list_entries(const Trie *trie, int64_t level, int64_t rows, int64_t width, const int64_t *starts,
                             const int64_t *stops, int32_t *origins, int32_t *codes, int64_t *firsts, int64_t *lasts,
                             int64_t *offsets) {
    int64_t found = 0;
    offsets[0] = 0;
    for (int64_t beam = 0; beam < rows * width; ++beam) {
        for (int64_t entry = starts[beam]; entry >= 0 && entry < stops[beam]; ++found) {
            const int64_t code = trie->code(level, entry);
            origins[found] = beam;
            codes[found] = code;
            firsts[found] = entry++;
            while (entry < stops[beam] && trie->code(level, entry) == code) ++entry;
            lasts[found] = entry;
        }
        if ((beam + 1) % width == 0) offsets[(beam + 1) / width] = found;
    }
}

// Log-probabilities of steps from those of all codes (beams, size).
extern "C" void pick(int64_t steps, const int32_t *origins, const int32_t *codes, const float *dense, int64_t size,
                     float *log_probs) {
    for (int64_t step = 0; step < steps; ++step) log_probs[step] = dense[origins[step] * size + codes[step]];
}

// Add what beams have to what their steps have.
extern "C" void add_up(int64_t steps, const int32_t *origins, const float *of_beams, float *log_probs) {
    for (int64_t step = 0; step < steps; ++step) log_probs[step] += of_beams[origins[step]];
}

// The best widths[r] steps of each row become the beams of the next level, best first, in `columns` columns; of equal
// scores the first step, on the last level the lowest item, wins. Returns 1 + the first row with a score that is no
// number, or 0.
extern "C" int64_t select_steps(const Trie *trie, int64_t level, int64_t rows, const int64_t *starts,
                                const int64_t *prefixes, const int32_t *origins, const int32_t *codes,
                                const float *scores, const int64_t *offsets, const int64_t *firsts,
                                const int64_t *lasts, const int64_t *widths, int64_t columns, int64_t *new_starts,
                                int64_t *new_stops, int64_t *new_prefixes, float *new_scores, int64_t *new_items) {
    static thread_local std::vector<int32_t> order;
    const bool last = level + 1 == trie->levels;
    const auto range = [&](int64_t step) -> Range {
        return firsts ? Range{firsts[step], lasts[step]} : lead(*trie, level, starts[origins[step]], codes[step]);
    };
    const auto better = [&](int32_t one, int32_t other) {
        if (scores[one] != scores[other]) return scores[one] > scores[other];
        return last ? trie->items[range(one).start] < trie->items[range(other).start] : one < other;
    };
    for (int64_t row = 0; row < rows; ++row) {
        order.clear();
        for (int64_t step = offsets[row]; step < offsets[row + 1]; ++step) {
            if (std::isnan(scores[step])) return row + 1;
            if (scores[step] > NOTHING) order.push_back(step);
        }
        const int64_t kept = std::min<int64_t>({widths[row], columns, (int64_t)order.size()});
        std::partial_sort(order.begin(), order.begin() + kept, order.end(), better);
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t to = row * columns + column;
            int64_t *codes_to = new_prefixes + to * (level + 1);
            if (column >= kept) {
                new_starts[to] = new_stops[to] = -1;
                new_scores[to] = NOTHING;
                if (new_items) new_items[to] = -1;
                std::fill(codes_to, codes_to + level + 1, 0);
                continue;
            }
            const int64_t step = order[column];
            const Range found = range(step);
            new_starts[to] = found.start;
            new_stops[to] = found.stop;
            new_scores[to] = scores[step];
            if (new_items) new_items[to] = trie->items[found.start];
            std::copy_n(prefixes + origins[step] * level, level, codes_to);
            codes_to[level] = codes[step];
        }
    }
    return 0;
}
