// Returning users' newest events through all layers in one go (AMX), against what is remembered of the events before.

#include "layers.h"

#if defined(HAS_TILES)

namespace {

// One of a user's events on its way into their ring.
struct Place {
    int64_t slot, event;         // where it stands
    int64_t first, count;        // what it reads: all events that are there, or the whole ring where these go around its end
    std::vector<int32_t> rows;   // of the bias, of each that it reads
};

// Write down that an event has come, and find what it reads. A full ring loses its oldest event.
void enter(const Rings &rings, const Encoder &encoder, int64_t slot, int64_t moment, int64_t print, Place &place) {
    const int64_t events = rings.events;
    int64_t &newest = rings.newest[slot], &length = rings.lengths[slot], *moments = rings.moments + slot * events;
    newest = (newest + 1) % events;
    if (length == events) ++rings.slides[slot];
    else ++length;
    rings.prints[slot * events + newest] = print, moments[newest] = moment;
    const bool around = newest + 1 < length;
    place.slot = slot, place.event = newest;
    place.first = around ? 0 : newest + 1 - length, place.count = around ? events : length;
    place.rows.resize(place.count);
    for (int64_t at = 0; at < place.count; ++at) {
        const int64_t key = place.first + at, distance = (newest - key + events) % events;
        const int64_t gap = std::min<int64_t>(moment - moments[key], INT32_MAX);
        place.rows[at] = distance < length ? distance * encoder.buckets + bucket_of(gap) : encoder.hidden;
    }
}

}  // namespace

// Take an event each of `users` into their `slots`, which differ: of `items`, or their `vectors` (users, D). Their
// rings' states become what the layers make of these events.
// Returns 1 where an item is none that the model knows, and has then done nothing.
extern "C" int64_t advance(const Encoder *encoder, int64_t users, const int64_t *items, const float *vectors,
                           const int64_t *moments, const int64_t *prints, const Rings *rings, const int64_t *slots) {
    static thread_local Desk desk;
    static thread_local std::vector<Place> places;
    static thread_local std::vector<float> kept_room;
    for (int64_t user = 0; !vectors && user < users; ++user)
        if (items[user] < 0 || items[user] >= encoder->items) return 1;
    const Tiles tiles;
    const Shape shape{1, users, encoder->heads, encoder->depth};
    const int64_t width = shape.width();
    desk.clear(users, shape);
    if ((int64_t)places.size() < users) places.resize(users);
    for (int64_t user = 0; user < users; ++user) {
        const float *from = vectors ? vectors + user * width : encoder->inputs + items[user] * width;
        std::copy_n(from, width, desk.states + user * width);
        enter(*rings, *encoder, slots[user], moments[user], prints[user], places[user]);
    }
    float *attended = room(kept_room, width + rings->events + LANES), *scores = attended + width;
    for (int64_t number = 0; number < encoder->layers; ++number) {
        const Layer &layer = encoder->layer[number];
        normalise(desk.states, users, width, layer.before, desk.normed);
        multiply(desk.normed, desk.tiles, width, layer.expand, 0, 4 * width, desk.active, 4 * width);
        desk.activate(layer.expand.bias, 0, users, 0, 4 * width);
        for (int64_t user = 0; user < users; ++user) {
            const Place &place = places[user];
            const float *own = desk.active + 4 * user * width;
            Bfloat16 *ring = rings->layers[number] + place.slot * rings->events * 2 * width;
            desk.keep(user, ring + place.event * 2 * width);
            const Bfloat16 *first = ring + place.first * 2 * width;
            const Bias bias{place.rows.data(), layer.tables, encoder->hidden + 1};
            read(own + 2 * width, first, first + width, 2 * width, bias.rows, bias,
                 {1, place.count, encoder->heads, encoder->depth}, scores, attended);
            finish(attended, own, width, layer.after, desk.normed + user * width);
        }
        desk.contract(layer, 0);
    }
    for (int64_t user = 0; user < users; ++user)
        std::copy_n(desk.states + user * width, width, rings->states + slots[user] * width);
    return 0;
}

#else

extern "C" int64_t advance(const void *, int64_t, const int64_t *, const float *, const int64_t *, const int64_t *,
                           const void *, const int64_t *) {
    return 1;
}

#endif
