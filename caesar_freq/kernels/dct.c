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
