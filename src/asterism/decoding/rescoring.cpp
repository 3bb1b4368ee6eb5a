// The best of a row's items by their scores.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

// The best counts[row] of each row's `width` items, best first, of equal scores the lower one, in `columns` columns;
// -1 and -inf where there are no more. An item of score -inf is none. Returns 1 + the first row with a score that is no
// number, or 0; `positions` tells where what was found stood, 0 for nothing.
extern "C" int64_t best_items(int64_t rows, int64_t width, int64_t columns, const int64_t *items, const float *scores,
                              const int64_t *counts, int64_t *found, float *values, int64_t *positions) {
    const float nothing = -std::numeric_limits<float>::infinity();
    std::vector<int64_t> order;
    for (int64_t row = 0; row < rows; ++row, items += width, scores += width) {
        order.clear();
        for (int64_t at = 0; at < width; ++at) {
            if (items[at] < 0) continue;
            if (std::isnan(scores[at])) return row + 1;
            if (scores[at] > nothing) order.push_back(at);
        }
        const int64_t kept = std::min<int64_t>({counts[row], columns, (int64_t)order.size()});
        std::partial_sort(order.begin(), order.begin() + kept, order.end(), [&](int64_t one, int64_t other) {
            return scores[one] != scores[other] ? scores[one] > scores[other] : items[one] < items[other];
        });
        for (int64_t column = 0; column < columns; ++column) {
            const bool there = column < kept;
            *found++ = there ? items[order[column]] : -1;
            *values++ = there ? scores[order[column]] : nothing;
            *positions++ = there ? order[column] : 0;
        }
    }
    return 0;
}
