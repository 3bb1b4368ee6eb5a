// A beam search over a trie: which codes may follow its prefixes, what they score, the best of them, level by level.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "trie.h"

namespace {

const float NOTHING = -std::numeric_limits<float>::infinity();

// Which items go through, and what that leaves of the upper levels (item_filter.py).
struct Filter {
    const int64_t *listed;  // ascending; null where there is a mask
    int64_t listed_count;
    const uint8_t *mask;
    int64_t mask_count, beyond;
    const uint64_t *const *bits;  // by level below `head`
    const uint8_t *nodes;
    int64_t any;

    bool allows(int64_t item) const {
        if (listed) return std::binary_search(listed, listed + listed_count, item);
        return item < mask_count ? mask[item] : beyond;
    }
};

struct Asked {
    int64_t rows, most, settles;    // `most`: the largest count
    const int64_t *widths, *counts;  // (rows)
    int64_t pairs;                   // of row and item to leave out, in order of rows
    const int64_t *excluded_rows, *excluded_items;
    const Filter *filters;
    const int64_t *groups;  // (rows) a row's filter, or -1; null where nothing is filtered
};

// What scores steps, as `step_log_probs` of siblings.cpp; not 0 where it failed.
typedef int64_t (*Score)(const void *policy, int64_t level, int64_t rows, int64_t beams, const float *states,
                         const int64_t *prefixes, int64_t steps, const int32_t *origins, const int32_t *codes,
                         float *log_probs);
typedef int64_t (*Wanted)();

struct Scorer {
    Score score;
    const void *policy;
    const float *states;
};

// What one row may be given: all that its filter allows and that is not denied.
struct Admission {
    typedef std::pair<int64_t, int64_t> Child;  // a parent's address, and a code

    const Trie *trie;
    const Filter *filter = nullptr;
    std::vector<int64_t> denied, touched;  // items, and the nodes that hold them, ascending
    std::vector<std::vector<Child>> dead;  // by level below `head`, what leads to denied items alone; ascending
    bool left = true;

    bool is_open() const { return !filter && denied.empty(); }

    bool admits(int64_t item) const {
        return (!filter || filter->allows(item)) && !std::binary_search(denied.begin(), denied.end(), item);
    }
    bool alive(Range entries) const {
        for (int64_t entry = entries.start; entry < entries.stop; ++entry)
            if (admits(trie->items[entry])) return true;
        return false;
    }
    bool looks_into(int64_t node) const {
        return filter || std::binary_search(touched.begin(), touched.end(), node);
    }
    uint64_t word(int64_t level, int64_t address, int64_t at) const {
        const uint64_t bits = trie->children(level, address)[at];
        return filter && level < trie->head ? bits & filter->bits[level][address * trie->words(level) + at] : bits;
    }

    void deny(const int64_t *items, int64_t count) {
        std::vector<int64_t> nodes;
        denied.assign(items, items + count);
        std::sort(denied.begin(), denied.end());
        int64_t kept = 0, newest = -1;
        for (const int64_t item : denied) {
            const int64_t node = item == newest ? -1 : trie->node_of(item);
            if (node < 0) continue;
            denied[kept++] = newest = item;
            touched.push_back(node);
        }
        denied.resize(kept);
        std::sort(touched.begin(), touched.end());
        for (size_t at = 0, end; at < touched.size(); at = end) {
            const int64_t node = touched[at];
            for (end = at; end < touched.size() && touched[end] == node; ++end) {}
            const Range entries = trie->below(node);
            const bool suspect = filter || (int64_t)(end - at) == entries.stop - entries.start;
            if (suspect && !alive(entries) && (!filter || filter->nodes[node])) nodes.push_back(node);
        }
        close(std::move(nodes));
    }

    // Nodes, ascending, that lead nowhere, and what therefore does so above them.
    void close(std::vector<int64_t> addresses) {
        if (!addresses.empty()) dead.resize(trie->head);
        for (int64_t level = trie->head - 1; level >= 0 && !addresses.empty(); --level) {
            std::vector<int64_t> parents;
            for (size_t at = 0; at < addresses.size();) {
                const int64_t parent = addresses[at] / trie->sizes[level];
                int64_t gone = 0, children = 0;
                for (; at < addresses.size() && addresses[at] / trie->sizes[level] == parent; ++at, ++gone)
                    dead[level].push_back({parent, addresses[at] % trie->sizes[level]});
                for (int64_t at = 0; at < trie->words(level); ++at)
                    children += __builtin_popcountll(word(level, parent, at));
                if (gone == children) parents.push_back(parent);
            }
            addresses = std::move(parents);
        }
        left = addresses.empty();
    }
};

// The prefixes that a search holds, in `width` columns a row; start -1 where a row holds fewer.
struct Beams {
    int64_t width = 1;
    std::vector<int64_t> starts, stops, prefixes;
    std::vector<float> log_probs;
};

// Legal steps in order of row, beam and code; row r's stand from offsets[r] to offsets[r + 1].
struct Steps {
    std::vector<int32_t> origins, codes;
    std::vector<int64_t> firsts, lasts, offsets;  // the ranges of entries they lead to, on levels without bitmaps
    std::vector<float> scores;

    void add(int64_t origin, int64_t code) {
        origins.push_back(origin);
        codes.push_back(code);
    }
};

class Search {
  public:
    Search(const Trie &trie, const Asked &asked, const Scorer &scorer) : trie(trie), asked(asked), scorer(scorer) {
        rows.resize(asked.rows);
        const int64_t *end = asked.excluded_rows + asked.pairs, *first = asked.excluded_rows;
        for (int64_t row = 0; row < asked.rows; ++row) {
            Admission &one = rows[row];
            one.trie = &trie;
            if (asked.groups && asked.groups[row] >= 0) one.filter = asked.filters + asked.groups[row];
            const int64_t *stop = std::upper_bound(first, end, row);
            if (stop > first) one.deny(asked.excluded_items + (first - asked.excluded_rows), stop - first);
            first = stop;
            if (one.filter && !one.filter->any) one.left = false;
            beams.starts.push_back(one.left ? 0 : -1);
            beams.stops.push_back(one.left ? 1 : 0);
            beams.log_probs.push_back(one.left ? 0.0f : NOTHING);
        }
    }

    bool has_left() const {
        return std::any_of(rows.begin(), rows.end(), [](const Admission &one) { return one.left; });
    }

    // Whether no row's beams have more below them than is asked for; then `items` are these, ascending.
    bool settled(int64_t level, int64_t *items) const {
        if (level <= trie.head) return false;
        std::vector<std::vector<int64_t>> found(asked.rows);
        for (int64_t row = 0; row < asked.rows; ++row)
            for (int64_t beam = row * beams.width; beam < (row + 1) * beams.width; ++beam)
                for (int64_t entry = beams.starts[beam]; entry >= 0 && entry < beams.stops[beam]; ++entry) {
                    const int64_t item = trie.items[entry];
                    if (!rows[row].is_open() && !rows[row].admits(item)) continue;
                    if ((int64_t)found[row].size() == asked.counts[row]) return false;
                    found[row].push_back(item);
                }
        for (int64_t row = 0; row < asked.rows; ++row) {
            std::sort(found[row].begin(), found[row].end());
            std::copy(found[row].begin(), found[row].end(), items + row * asked.most);
        }
        return true;
    }

    void expand(int64_t level) {
        steps.origins.clear(), steps.codes.clear(), steps.firsts.clear(), steps.lasts.clear();
        steps.offsets.assign(1, 0);
        for (int64_t row = 0; row < asked.rows; ++row) {
            for (int64_t beam = row * beams.width; beam < (row + 1) * beams.width; ++beam)
                if (beams.starts[beam] >= 0) {
                    if (trie.has_bitmaps(level)) by_bitmap(level, rows[row], beam);
                    else by_entry(level, rows[row], beam);
                }
            steps.offsets.push_back(steps.codes.size());
        }
    }

    bool score(int64_t level) {
        const int64_t count = steps.codes.size();
        steps.scores.assign(count, 0.0f);
        if (trie.sizes[level] > 1 &&
            scorer.score(scorer.policy, level, asked.rows, beams.width, scorer.states, beams.prefixes.data(), count,
                         steps.origins.data(), steps.codes.data(), steps.scores.data()))
            return false;
        for (int64_t step = 0; step < count; ++step) steps.scores[step] += beams.log_probs[steps.origins[step]];
        return true;
    }

    // The best steps of each row become its beams, best first; of equal scores the first step, on the last level the
    // lowest item, wins. Returns 1 + the first row with a score that is no number, or 0.
    int64_t select(int64_t level) {
        const bool last = level + 1 == trie.levels;
        const int64_t *kept = last ? asked.counts : asked.widths;
        const float *scores = steps.scores.data();
        const auto better = [&](int32_t one, int32_t other) {
            if (scores[one] != scores[other]) return scores[one] > scores[other];
            return last ? trie.items[range(level, one).start] < trie.items[range(level, other).start] : one < other;
        };
        Beams next;
        for (int64_t row = 0; row < asked.rows; ++row)
            next.width = std::max(next.width, std::min(kept[row], steps.offsets[row + 1] - steps.offsets[row]));
        const int64_t places = asked.rows * next.width;
        next.starts.assign(places, -1), next.stops.assign(places, -1), next.prefixes.assign(places * (level + 1), 0);
        next.log_probs.assign(places, NOTHING);
        for (int64_t row = 0; row < asked.rows; ++row) {
            order.clear();
            for (int64_t step = steps.offsets[row]; step < steps.offsets[row + 1]; ++step) {
                if (std::isnan(scores[step])) return row + 1;
                if (scores[step] > NOTHING) order.push_back(step);
            }
            const int64_t count = std::min<int64_t>(kept[row], order.size());
            std::partial_sort(order.begin(), order.begin() + count, order.end(), better);
            for (int64_t column = 0; column < count; ++column) {
                const int64_t step = order[column], to = row * next.width + column, from = steps.origins[step];
                const Range found = range(level, step);
                next.starts[to] = found.start, next.stops[to] = found.stop, next.log_probs[to] = scores[step];
                int64_t *prefix = next.prefixes.data() + to * (level + 1);
                std::copy_n(beams.prefixes.data() + from * level, level, prefix)[0] = steps.codes[step];
            }
        }
        beams = std::move(next);
        return 0;
    }

    // 1 + the first row that has something left and no beam, or 0.
    int64_t stuck() const {
        for (int64_t row = 0; row < asked.rows; ++row)
            if (rows[row].left && beams.starts[row * beams.width] < 0) return row + 1;
        return 0;
    }

    void answer(int64_t *items, float *log_probs) const {
        for (int64_t row = 0; row < asked.rows; ++row)
            for (int64_t column = 0; column < beams.width; ++column) {
                const int64_t from = row * beams.width + column, to = row * asked.most + column;
                if (beams.starts[from] < 0) break;
                items[to] = trie.items[beams.starts[from]];
                log_probs[to] = beams.log_probs[from];
            }
    }

  private:
    const Trie &trie;
    const Asked &asked;
    const Scorer &scorer;
    std::vector<Admission> rows;
    Beams beams;
    Steps steps;
    std::vector<int32_t> order;

    Range range(int64_t level, int64_t step) const {
        if (!steps.firsts.empty()) return {steps.firsts[step], steps.lasts[step]};
        return trie.lead(level, beams.starts[steps.origins[step]], steps.codes[step]);
    }

    void by_bitmap(int64_t level, const Admission &row, int64_t beam) {
        const int64_t address = beams.starts[beam];
        if (level == trie.head && row.looks_into(address)) {
            const Range entries = trie.below(address);
            int64_t newest = -1;
            for (int64_t entry = entries.start; entry < entries.stop; ++entry) {
                const int64_t code = trie.code(level, entry);
                if (code != newest && row.admits(trie.items[entry])) steps.add(beam, newest = code);
            }
            return;
        }
        const Admission::Child *dead = nullptr, *end = nullptr;
        if (level < trie.head && !row.dead.empty()) {
            const auto &of_level = row.dead[level];
            end = of_level.data() + of_level.size();
            dead = std::lower_bound(of_level.data(), end, Admission::Child(address, 0));
        }
        for (int64_t word = 0; word < trie.words(level); ++word)
            for (uint64_t bits = row.word(level, address, word); bits; bits &= bits - 1) {
                const int64_t code = word * WORD + __builtin_ctzll(bits);
                while (dead < end && *dead < Admission::Child(address, code)) ++dead;
                if (dead == end || *dead != Admission::Child(address, code)) steps.add(beam, code);
            }
    }

    void by_entry(int64_t level, const Admission &row, int64_t beam) {
        const Range entries =
            level == trie.head ? trie.below(beams.starts[beam]) : Range{beams.starts[beam], beams.stops[beam]};
        int64_t newest = -1;
        for (int64_t entry = entries.start; entry < entries.stop; ++entry) {
            if (!row.is_open() && !row.admits(trie.items[entry])) continue;
            const int64_t code = trie.code(level, entry);
            if (code == newest) {
                steps.lasts.back() = entry + 1;
                continue;
            }
            steps.add(beam, newest = code);
            steps.firsts.push_back(entry);
            steps.lasts.push_back(entry + 1);
        }
    }
};

enum Outcome { FOUND, SETTLED, ABANDONED, NO_NUMBER, DEAD_END, FAILED };

}  // namespace

// The best `counts` items of each row, -1 and -inf in the other columns; `where` is told the level and the row of what
// went wrong.
extern "C" int64_t beam_search(const Trie *trie, const Asked *asked, const Scorer *scorer, Wanted wanted,
                               int64_t *items, float *log_probs, int64_t *where) {
    std::fill_n(items, asked->rows * asked->most, -1);
    std::fill_n(log_probs, asked->rows * asked->most, NOTHING);
    Search search(*trie, *asked, *scorer);
    for (int64_t level = 0; level < trie->levels; ++level) {
        where[0] = level;
        if (wanted && !wanted()) return ABANDONED;
        if (asked->settles && search.settled(level, items)) return SETTLED;
        if (!search.has_left()) return FOUND;
        search.expand(level);
        if (!search.score(level)) return FAILED;
        if ((where[1] = search.select(level))) return NO_NUMBER;
        if ((where[1] = search.stuck())) return DEAD_END;
    }
    search.answer(items, log_probs);
    return FOUND;
}
