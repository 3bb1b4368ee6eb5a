// Batches as the service sends them (messages.py) straight into arrays, and answers back: MessagePack without objects.

#include <cstdint>
#include <cstring>

namespace {

// The catalogue's ids: where the text of each stands, and a table of them by hash, twice as long at least.
struct Ids {
    int64_t count, slots;  // a power of two
    const int64_t *offsets;
    const char *text;
    int32_t *places;  // (slots) an id, or -1
    uint32_t *tags;   // (slots) more of its hash
};

struct Text {
    const char *at = nullptr;
    int64_t length = 0;
    bool is(const char *other, int64_t size) const { return length == size && !memcmp(at, other, size); }
    template <int64_t SIZE>
    bool is(const char (&other)[SIZE]) const {
        return is(other, SIZE - 1);
    }
};

uint64_t hash(Text text) {
    const uint64_t odd = 0x9e3779b97f4a7c15ull;
    uint64_t found = text.length * odd, part = 0;
    int64_t at = 0;
    for (; at + 8 <= text.length; at += 8) {
        memcpy(&part, text.at + at, 8);
        found = (found ^ part) * odd;
        found ^= found >> 29;
    }
    part = 0;
    memcpy(&part, text.at + at, text.length - at);
    found = (found ^ part) * odd;
    return found ^ found >> 32;
}

int64_t find(const Ids &ids, Text text) {
    const uint64_t hashed = hash(text);
    const uint32_t tag = hashed >> 32;
    for (uint64_t slot = hashed & (ids.slots - 1);; slot = (slot + 1) & (ids.slots - 1)) {
        const int32_t one = ids.places[slot];
        if (one < 0) return -1;
        if (ids.tags[slot] == tag && text.is(ids.text + ids.offsets[one], ids.offsets[one + 1] - ids.offsets[one]))
            return one;
    }
}

// Reads forwards; what is not as expected leaves it failed.
struct Reader {
    const uint8_t *at, *end;
    bool failed = false;

    uint8_t byte() {
        if (at < end) return *at++;
        failed = true;
        return 0xc1;  // which no value begins with
    }
    uint64_t big(int size) {
        uint64_t found = 0;
        for (; size; --size) found = found << 8 | byte();
        return found;
    }
    int64_t fail() {
        failed = true;
        return 0;
    }
    int64_t array() {
        const uint8_t head = byte();
        return head >> 4 == 9 ? head & 15 : head == 0xdc ? big(2) : head == 0xdd ? big(4) : fail();
    }
    int64_t map() {
        const uint8_t head = byte();
        return head >> 4 == 8 ? head & 15 : head == 0xde ? big(2) : head == 0xdf ? big(4) : fail();
    }
    Text text() {
        const uint8_t head = byte();
        const int64_t length = head >> 5 == 5    ? head & 31
                               : head == 0xd9 ? big(1)
                               : head == 0xda ? big(2)
                               : head == 0xdb ? big(4)
                                              : fail();
        if (failed || length > end - at) return fail(), Text();
        at += length;
        return {(const char *)at - length, length};
    }
    int64_t whole() {
        const uint8_t head = byte();
        if (head < 0x80 || head >= 0xe0) return (int8_t)head;
        switch (head) {
            case 0xcc: return big(1);
            case 0xcd: return big(2);
            case 0xce: return big(4);
            case 0xcf: {
                const uint64_t found = big(8);
                return found >> 63 ? fail() : found;
            }
            case 0xd0: return (int8_t)big(1);
            case 0xd1: return (int16_t)big(2);
            case 0xd2: return (int32_t)big(4);
            case 0xd3: return (int64_t)big(8);
            default: return fail();
        }
    }
    double real() {
        if (byte() != 0xcb) return fail();
        const uint64_t bits = big(8);
        double found;
        memcpy(&found, &bits, 8);
        return found;
    }
    bool nothing() {
        if (at == end || *at != 0xc0) return false;
        ++at;
        return true;
    }
    void pass_text() {
        if (!nothing()) text();
    }
    void pass_number() {
        if (nothing()) return;
        if (at < end && *at == 0xcb) real();
        else whole();
    }
    void pass_flag() {
        if ((byte() | 1) != 0xc3) failed = true;
    }
};

// What a batch is read into; each array has room for so many.
struct Batch {
    int64_t most_rows, most_events, most_excluded;
    int64_t number, beam, rows, events, excluded;
    int64_t *offsets, *counts, *users, *user_lengths;  // users: where their ids begin in the message, -1 for none
    double *deadlines;                                 // infinite where there is none
    int32_t *items;
    int64_t *timestamps;
    int8_t *actions;
    int64_t *excluded_rows, *excluded_items;
};

struct Actions {
    int64_t count;
    const char *const *names;
    const int64_t *codes;
};

void read_history(Reader &reader, const Ids &ids, const Actions &actions, Batch &batch) {
    for (int64_t left = reader.array(); left && !reader.failed; --left) {
        if (reader.array() != 6) reader.fail();
        const int64_t timestamp = reader.whole();
        const int64_t item = find(ids, reader.text());
        const Text name = reader.text();
        int64_t code = -1;
        for (int64_t one = 0; one < actions.count; ++one)
            if (name.is(actions.names[one], strlen(actions.names[one]))) code = actions.codes[one];
        reader.pass_number(), reader.pass_text(), reader.pass_text();  // value, scene, device
        if (code < 0 || batch.events == batch.most_events) reader.fail();
        if (item < 0 || reader.failed) continue;
        batch.items[batch.events] = item;
        batch.timestamps[batch.events] = timestamp;
        batch.actions[batch.events++] = code;
    }
}

void read_excluded(Reader &reader, const Ids &ids, Batch &batch) {
    for (int64_t left = reader.array(); left && !reader.failed; --left) {
        const int64_t item = find(ids, reader.text());
        if (batch.excluded == batch.most_excluded) reader.fail();
        if (item < 0 || reader.failed) continue;
        batch.excluded_rows[batch.excluded] = batch.rows;
        batch.excluded_items[batch.excluded++] = item;
    }
}

void read_request(Reader &reader, const uint8_t *body, const Ids &ids, const Actions &actions, Batch &batch) {
    const int64_t row = batch.rows;
    batch.counts[row] = 0, batch.users[row] = -1, batch.user_lengths[row] = 0;
    batch.deadlines[row] = __builtin_inf();
    for (int64_t left = reader.map(); left && !reader.failed; --left) {
        const Text key = reader.text();
        if (key.is("history")) read_history(reader, ids, actions, batch);
        else if (key.is("excluded")) read_excluded(reader, ids, batch);
        else if (key.is("count")) batch.counts[row] = reader.whole();
        else if (key.is("user_id")) {
            if (reader.nothing()) continue;
            const Text user = reader.text();
            batch.users[row] = (const uint8_t *)user.at - body, batch.user_lengths[row] = user.length;
        } else if (key.is("deadline")) {
            if (!reader.nothing()) batch.deadlines[row] = reader.real();
        } else if (key.is("wanted") || key.is("allowed")) {
            if (!reader.nothing()) reader.fail();
        } else if (key.is("timestamp")) reader.pass_number();
        else if (key.is("scene") || key.is("device") || key.is("trace")) reader.pass_text();
        else if (key.is("background")) reader.pass_flag();
        else reader.fail();
    }
    if (batch.counts[row] < 1) reader.fail();
    batch.offsets[++batch.rows] = batch.events;
}

struct Writer {
    uint8_t *at;

    void byte(uint8_t value) { *at++ = value; }
    void big(uint64_t value, int size) {
        while (size--) byte(value >> 8 * size);
    }
    void copy(const void *from, int64_t size) {
        memcpy(at, from, size);
        at += size;
    }
    void array(int64_t size) {
        if (size < 16) byte(0x90 | size);
        else if (size < 1 << 16) byte(0xdc), big(size, 2);
        else byte(0xdd), big(size, 4);
    }
    void text(const char *from, int64_t size) {
        if (size < 32) byte(0xa0 | size);
        else if (size < 1 << 8) byte(0xd9), big(size, 1);
        else if (size < 1 << 16) byte(0xda), big(size, 2);
        else byte(0xdb), big(size, 4);
        copy(from, size);
    }
    void whole(uint32_t value) {
        if (value < 128) byte(value);
        else if (value < 1 << 8) byte(0xcc), big(value, 1);
        else if (value < 1 << 16) byte(0xcd), big(value, 2);
        else byte(0xce), big(value, 4);
    }
    void real(double value) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        byte(0xcb), big(bits, 8);
    }
};

}  // namespace

extern "C" void index_ids(const Ids *ids) {
    for (int64_t slot = 0; slot < ids->slots; ++slot) ids->places[slot] = -1;
    for (int64_t one = 0; one < ids->count; ++one) {
        const uint64_t hashed = hash({ids->text + ids->offsets[one], ids->offsets[one + 1] - ids->offsets[one]});
        uint64_t slot = hashed & (ids->slots - 1);
        while (ids->places[slot] >= 0) slot = (slot + 1) & (ids->slots - 1);
        ids->places[slot] = one;
        ids->tags[slot] = hashed >> 32;
    }
}

// Whether the message is a batch of requests that ask for nothing but what `Batch` holds, now read.
extern "C" int64_t read_batch(const uint8_t *body, int64_t length, const Ids *ids, const Actions *actions,
                              Batch *batch) {
    Reader reader{body, body + length};
    if (reader.array() != 4 || !reader.text().is("Batch")) return 0;
    batch->number = reader.whole();
    batch->rows = batch->events = batch->excluded = 0;
    batch->offsets[0] = 0;
    const int64_t requests = reader.array();
    if (requests > batch->most_rows) return 0;
    while (batch->rows < requests && !reader.failed) read_request(reader, body, *ids, *actions, *batch);
    batch->beam = reader.nothing() ? 0 : reader.whole();
    return !reader.failed && reader.at == reader.end;
}

struct Answers {
    int64_t rows, columns, levels;
    const int64_t *counts, *items;  // (rows), and (rows, columns), -1 where there are no more
    const float *scores;
    const int32_t *codes;  // (items, levels)
    const char *head, *tail;  // of an answer, before and after its items
    int64_t head_length, tail_length;
};

// The answers as `messages.Reply` holds them; returns how many bytes they take.
extern "C" int64_t write_answers(const Answers *answers, const Ids *ids, uint8_t *to) {
    Writer writer{to};
    writer.array(answers->rows);
    for (int64_t row = 0; row < answers->rows; ++row) {
        const int64_t *items = answers->items + row * answers->columns;
        int64_t count = 0;
        while (count < answers->columns && count < answers->counts[row] && items[count] >= 0) ++count;
        writer.copy(answers->head, answers->head_length);
        writer.array(count);
        for (int64_t column = 0; column < count; ++column) {
            const int64_t item = items[column], *span = ids->offsets + item;
            writer.array(3);
            writer.text(ids->text + span[0], span[1] - span[0]);
            writer.real(answers->scores[row * answers->columns + column]);
            writer.array(answers->levels);
            for (int64_t level = 0; level < answers->levels; ++level)
                writer.whole(answers->codes[item * answers->levels + level]);
        }
        writer.copy(answers->tail, answers->tail_length);
    }
    return writer.at - to;
}
