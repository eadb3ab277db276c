/* The binary range coder of entropy/binary.py: one function codes and decodes. */
#ifndef CAESAR_RANGE_CODER_H
#define CAESAR_RANGE_CODER_H

#include "kernels.h"

typedef struct {
    uint64_t low, range, code, at; /* entropy/binary.py keeps them in this order */
} state_t;

/* Code `bit`, or decode it from data [length], where a 1 takes `ones` of the range. */
static inline int code_split(state_t *s, uint8_t *data, int64_t length, int decoding, int bit,
                             uint64_t ones)
{
    if (decoding)
        bit = s->code < ones;
    if (bit) {
        s->range = ones;
    } else {
        s->range -= ones;
        if (decoding)
            s->code -= ones;
        else
            s->low += ones;
    }
    if (s->low > 0xFFFFFFFF) {
        uint64_t at = s->at - 1;
        while (data[at] == 255)
            data[at--] = 0;
        data[at]++;
        s->low &= 0xFFFFFFFF;
    }
    while (s->range < 1 << 24) {
        s->range <<= 8;
        if (decoding) {
            const uint64_t byte = s->at < (uint64_t)length ? data[s->at] : 0;
            s->code = (s->code << 8 | byte) & 0xFFFFFFFF;
        } else {
            data[s->at] = (uint8_t)(s->low >> 24);
            s->low = s->low << 8 & 0xFFFFFFFF;
        }
        s->at++;
    }
    return bit;
}

/* A coder with contexts that it learns in, each a probability of 1 and the number of bits seen. */
typedef struct {
    state_t s;
    uint8_t *data;
    int64_t length, (*contexts)[2];
    int decoding;
} coder_t;

static inline int split(coder_t *c, int bit, uint64_t ones)
{
    return code_split(&c->s, c->data, c->length, c->decoding, bit, ones);
}

#endif
