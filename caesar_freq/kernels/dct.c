/* Space-time transform of transform/blocks.py, fused with the regrouping by frequency. Fields are worked on in strips of STRIP values, which stay in the cache. */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { STRIP = 64, GAP = 16 };
enum { HAAR = 1, CDF97 = 2 };

/* transform/axis.BlockDCT: the first `n_large` of `count` blocks hold `slots` samples, the others
 * one less. Matrices belong to these two sizes; `lap` and its transpose to half of each. With a wavelet
 * (axis.WaveletDCT) blocks are those of either half. */
typedef struct {
    int64_t length, count, slots, n_large, lapped, wavelet;
    const void *even[2], *odd[2], *even_t[2], *odd_t[2], *lap[2], *lap_t[2];
} axis_t;

static inline int64_t size_of(const axis_t *axis, int64_t block)
{
    return axis->slots - (block >= axis->n_large);
}

/* Sample with which a block begins. */
static inline int64_t start_of(const axis_t *axis, int64_t block)
{
    return block * axis->slots - (block > axis->n_large ? block - axis->n_large : 0);
}

/* Whether blocks of an axis are worked on beside one another, as it has few lines. */
static inline int is_narrow(const axis_t *axis, int64_t wide)
{
    return wide <= STRIP / 2 && axis->count > 1 && !axis->wavelet;
}

/* Frequencies of a block, those of both halves together. */
static inline int64_t slots_of(const axis_t *axis)
{
    return axis->wavelet ? 2 * axis->slots : axis->slots;
}

#define REAL float
#define LANES 8
#define NAME(name) name##_f32
#include "wavelet_of.h"
#include "dct_of.h"
#undef REAL
#undef LANES
#undef NAME

#define REAL double
#define LANES 4
#define NAME(name) name##_f64
#include "wavelet_of.h"
#include "dct_of.h"

/* Along the first axis of x [length, wide] alone, which is what cf_forward has left to do if its blocks
 * had one frame each. -1 without memory. */
EXPORT int cf_in_time(const axis_t *time, const float *x, int64_t wide, float *y)
{
    float *room = malloc(room_f32(time, wide) * sizeof(float));
    if (room)
        along_f32(time, x, wide, y, wide, wide, 0, room);
    free(room);
    return -!room;
}

/* cf_log2_bits of what cf_in_time makes, which is not kept. */
EXPORT int64_t cf_bits_in_time(const axis_t *time, const float *x, int64_t wide, float scale,
                                float more)
{
    const int64_t row = wide < STRIP ? wide : STRIP, size = time->count * time->slots * row;
    float *room = malloc(room_f32(time, wide) * sizeof(float)), *y = malloc(size * sizeof(float));
    const int failed = !room || !y;
    int64_t bits = failed ? -1 : 0;
    for (int64_t a = 0; a < wide && !failed; a += row) {
        const int64_t n = wide - a < row ? wide - a : row;
        if (n < row)
            memset(y, 0, size * sizeof(float));
        along_f32(time, x + a, wide, y, row, n, 0, room);
        bits += cf_log2_bits(y, size, scale, more);
    }
    free(room), free(y);
    return bits;
}
