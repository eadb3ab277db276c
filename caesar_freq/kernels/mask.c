/* Context coding of one frame of a mask: entropy/mask.py and entropy/binary.py in C. */
#include <string.h>

#include "integers.h"
#include "range_coder.h"

enum {
    FRAME = 0,
    ABOVE = 1, /* a row repeated, where the one above was not or was */
    PIXEL = 3,
    LEAST = 16,
    MEMORY = 160, /* bits seen after which a context forgets at a constant rate */
    BORDER = 2,
};

static inline int code_bit(coder_t *c, int bit, int64_t context)
{
    int64_t *slot = c->contexts[context];
    const int64_t p = clip(slot[0] >> 1, LEAST, (1 << 15) - LEAST);
    bit = split(c, bit, (c->s.range >> 15) * (uint64_t)p);
    slot[0] += floor_div(((int64_t)bit << 16) - slot[0], slot[1] + 2);
    slot[1] = smaller(slot[1] + 1, MEMORY);
    return bit;
}

/* Number of the neighbourhood of the pixels at f and, in the frame before, b. */
static inline int64_t context_of(const uint8_t *f, const uint8_t *b, int64_t width)
{
    const uint8_t *up = f - width;
    return b[-width] + 2 * b[-1] + 4 * b[0] + 8 * b[1] + 16 * b[width] + 32 * f[-1] + 64 * f[-2] +
           128 * up[-1] + 256 * up[0] + 512 * up[1] + 1024 * up[2];
}

/* Code or fill in `frame`; both frames are [height, width] with a border of 2 zeros. */
EXPORT void cf_mask_frame(uint8_t *frame, const uint8_t *before, int64_t (*contexts)[2],
                          state_t *state, uint8_t *data, int64_t length, int64_t height,
                          int64_t width, int decoding)
{
    coder_t c = {*state, data, length, contexts, decoding};
    int above = 1;
    if (code_bit(&c, !decoding && !memcmp(frame, before, height * width), FRAME)) {
        memcpy(frame, before, height * width);
    } else {
        for (int64_t y = BORDER; y < height - BORDER; y++) {
            uint8_t *f = frame + y * width;
            const uint8_t *b = before + y * width;
            above = code_bit(&c, !decoding && !memcmp(f, b, width), ABOVE + above);
            if (above)
                memcpy(f, b, width);
            else
                for (int64_t x = BORDER; x < width - BORDER; x++)
                    f[x] = (uint8_t)code_bit(&c, f[x], PIXEL + context_of(f + x, b + x, width));
        }
    }
    *state = c.s;
}
