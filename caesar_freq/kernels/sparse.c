/* Context coding of one frame of a sparse volume: entropy/sparse.py and entropy/binary.py in C. */
#include "integers.h"
#include "range_coder.h"

enum {
    BITS = 22,
    SLOWEST = 768, /* bits seen after which a context forgets at a constant rate */
    NEAR = 6,
    SIGNS = 24 * NEAR,
    SIZES = SIGNS + 27,
    UNARY = 12,
    LENGTHS = SIZES + 4 * UNARY,
    LARGEST = 31,
};

static inline int code_bit(coder_t *c, int bit, int64_t context)
{
    int64_t *slot = c->contexts[context], p = slot[0] >> (BITS - 16);
    p = p < 1 ? 1 : p > 65535 ? 65535 : p;
    bit = split(c, bit, (c->s.range >> 16) * (uint64_t)p);
    const int64_t seen = slot[1], move = ((int64_t)bit << BITS) - slot[0];
    if (seen < 30) {
        slot[0] += floor_div(2 * move, 2 * seen + 3);
    } else {
        slot[0] += move >> (5 + (seen >= 96) + (seen >= 192) + (seen >= 384) + (seen >= SLOWEST));
    }
    slot[1] = seen + 1 < SLOWEST ? seen + 1 : SLOWEST;
    return bit;
}

static inline int64_t sign(int64_t value)
{
    return 1 + (value > 0) - (value < 0);
}

/* Sign and size of a value that is not 0; 0 if its size is impossible. */
static int64_t code_value(coder_t *c, int64_t value, int64_t left, int64_t above, int64_t behind)
{
    const int negative =
        code_bit(c, value < 0, SIGNS + 9 * sign(left) + 3 * sign(above) + sign(behind));
    int64_t largest = size_of(left), size = 1;
    const int64_t goal = size_of(value);
    largest = size_of(above) > largest ? size_of(above) : largest;
    largest = size_of(behind) > largest ? size_of(behind) : largest;
    const int64_t context = SIZES + UNARY * (largest < 3 ? largest : 3);
    for (; size <= UNARY; size++)
        if (!code_bit(c, goal > size, context + size - 1))
            return negative ? -size : size;
    const int64_t rest = goal - UNARY;
    int length = 0;
    while (code_bit(c, rest >> (length + 1) != 0, LENGTHS + length))
        if (++length == LARGEST)
            return 0;
    int64_t found = 1;
    for (int i = length - 1; i >= 0; i--)
        found = 2 * found + split(c, rest >> i & 1, c->s.range >> 1);
    size = UNARY + found;
    if (size >= (int64_t)1 << 31)
        return 0;
    return negative ? -size : size;
}

/* Code or fill in `frame`; frames and densities are [height, width] with a border of 1. Returns
 * whether all sizes are possible. */
EXPORT int cf_sparse_frame(int64_t *frame, const int64_t *before, int64_t *density,
                           int64_t (*contexts)[2], const int64_t *levels, state_t *state,
                           uint8_t *data, int64_t length, int64_t height, int64_t width,
                           int decoding)
{
    coder_t c = {*state, data, length, contexts, decoding};
    for (int64_t y = 1; y < height - 1; y++) {
        int64_t *d = density + y * width, *f = frame + y * width;
        const int64_t *up = f - width, *b = before + y * width;
        d[0] = d[1];
        for (int64_t x = 1; x < width - 1; x++) {
            const int64_t expected = (d[x - 1] + d[x - width] + 2 * d[x]) >> 2;
            int64_t near = 2 * (f[x - 1] != 0) + 2 * (up[x] != 0) + 2 * (b[x] != 0);
            near += (up[x - 1] != 0) + (up[x + 1] != 0) + (b[x - 1] != 0) + (b[x + 1] != 0);
            near += (b[x - width] != 0) + (b[x + width] != 0);
            near = near < NEAR - 1 ? near : NEAR - 1;
            const int flag = code_bit(&c, f[x] != 0, levels[expected >> 10] * NEAR + near);
            d[x] = expected + ((((int64_t)flag << BITS) - expected) >> 4);
            if (flag) {
                f[x] = code_value(&c, f[x], f[x - 1], up[x], b[x]);
                if (f[x] == 0)
                    return 0;
            }
        }
    }
    *state = c.s;
    return 1;
}
