// A trie as one reader sees it (trie_layout.py, snapshot.py).
//
// A prefix of up to `head` codes is an address, a longer one a range of entries.
#pragma once

#include <cstdint>

const int64_t WORD = 64, NODE_PAGE = 6, ITEM_PAGE = 10;
const uint8_t PRESENT = 1;

inline int64_t located(const int32_t *table, int64_t row, int64_t shift) {
    return ((int64_t)table[row >> shift] << shift) + (row & ((1ll << shift) - 1));
}

inline int64_t number(const void *column, int64_t bytes, int64_t at) {
    switch (bytes) {
        case 1: return ((const uint8_t *)column)[at];
        case 2: return ((const uint16_t *)column)[at];
        default: return ((const uint32_t *)column)[at];
    }
}

struct Range {
    int64_t start, stop;
};

struct Trie {
    int64_t levels, head, node_bitmaps;
    const int64_t *sizes;          // codes by level
    const uint64_t *const *heads;  // bitmaps of addresses, by level below `head`
    const int32_t *node_table, *bases, *counts;
    const uint64_t *bits;
    const int32_t *items, *starts;
    const void *const *codes;  // of entries, by level from `head` on
    const int64_t *code_bytes;
    const int32_t *item_table;  // where items stand that are or were there
    const uint8_t *item_states;
    const void *item_codes;  // (places, levels)
    int64_t item_code_bytes, known_items;

    int64_t words(int64_t level) const { return (sizes[level] + WORD - 1) / WORD; }
    int64_t node_row(int64_t address) const { return located(node_table, address, NODE_PAGE); }
    bool has_bitmaps(int64_t level) const { return level < head || (level == head && node_bitmaps); }
    const uint64_t *children(int64_t level, int64_t address) const {
        return level < head ? heads[level] + address * words(level) : bits + node_row(address) * words(level);
    }
    int64_t code(int64_t level, int64_t entry) const {
        return number(codes[level - head], code_bytes[level - head], entry);
    }
    Range below(int64_t address) const {
        const int64_t row = node_row(address);
        return {bases[row], bases[row] + counts[row]};
    }
    // The node of an item that is there, or -1.
    int64_t node_of(int64_t item) const {
        if (item < 0 || item >= known_items) return -1;
        const int64_t place = located(item_table, item, ITEM_PAGE);
        if (item_states[place] != PRESENT) return -1;
        int64_t address = 0;
        for (int64_t level = 0; level < head; ++level)
            address = address * sizes[level] + number(item_codes, item_code_bytes, place * levels + level);
        return address;
    }
    // Where a code leads to from an address, on a level with bitmaps.
    Range lead(int64_t level, int64_t address, int64_t code) const {
        if (level < head) {
            const int64_t child = address * sizes[level] + code;
            return {child, child + 1};
        }
        const uint64_t *set = children(level, address);
        int64_t rank = __builtin_popcountll(set[code / WORD] & ((1ull << code % WORD) - 1));
        for (int64_t word = 0; word < code / WORD; ++word) rank += __builtin_popcountll(set[word]);
        const int64_t base = bases[node_row(address)];
        return {base + starts[base + rank], base + starts[base + rank + 1]};
    }
};
