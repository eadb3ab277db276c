/* rANS of values whose bins are known: entropy/rans.py in C. */
#include "kernels.h"

typedef struct {
    uint64_t state;
    uint32_t *words;
    int64_t used;
} sink_t;

static inline void push(sink_t *out, uint32_t start, uint64_t count)
{
    if (out->state >= count << 47) {
        out->words[out->used++] = (uint32_t)out->state;
        out->state >>= 32;
    }
    out->state = ((out->state / count) << PRECISION) + out->state % count + start;
}

static inline void push_raw(sink_t *out, int64_t value, int bits)
{
    const int shift = PRECISION - bits;
    if (out->state >= 1ull << (47 + shift)) {
        out->words[out->used++] = (uint32_t)out->state;
        out->state >>= 32;
    }
    out->state = ((out->state >> shift) << PRECISION) + (out->state & ((1ull << shift) - 1)) +
                 ((uint64_t)value << shift);
}

static void push_escaped(sink_t *out, int64_t m, int negative)
{
    int length = 1;
    while (m >> length)
        length++;
    push_raw(out, negative, 1);
    if (length > 16) {
        push_raw(out, m & 65535, 16);
        push_raw(out, m >> 16, length - 16);
    } else {
        push_raw(out, m, length);
    }
    push_raw(out, length, 5);
}

static inline int class_of(int64_t m)
{
    if (m < DIRECT)
        return (int)m;
    int octave = 4;
    while (m >> (octave + 1))
        octave++;
    return DIRECT + (octave - 4) * 8 + (int)((m >> (octave - 3)) & 7);
}

/* rANS of n values under their bins, backwards; words receives at most 2 n + 2. */
EXPORT int64_t cf_write(const int32_t *values, const uint8_t *scale_bins, int64_t n,
                        const int32_t *cumulative, const int32_t *escape, const int32_t *class_low,
                        const int32_t *class_bits, uint32_t *words, uint64_t *state)
{
    sink_t out = {1ull << 31, words, 0};
    for (int64_t a = n - 1; a >= 0; a--) {
        const int bin = scale_bins[a], negative = values[a] < 0;
        const int64_t m = negative ? -(int64_t)values[a] : values[a];
        int symbol = class_of(m);
        if (symbol >= escape[bin]) {
            symbol = escape[bin];
            push_escaped(&out, m, negative);
        } else if (m) {
            push_raw(&out, (m - class_low[symbol]) << 1 | negative, class_bits[symbol] + 1);
        }
        const int32_t start = cumulative[bin * N_SYMBOLS + symbol];
        push(&out, (uint32_t)start, (uint64_t)(cumulative[bin * N_SYMBOLS + symbol + 1] - start));
    }
    *state = out.state;
    return out.used;
}
