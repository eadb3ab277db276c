/* Space-time block DCT of transform/blocks.py (kinds dct and lot), fused with the regrouping by
 * frequency. Fields are worked on in strips of STRIP values, which stay in the cache. */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { STRIP = 64, GAP = 16 };

/* transform/axis.BlockDCT: the first `n_large` of `count` blocks hold `slots` samples, the others
 * one less. Matrices belong to these two sizes; `lap` and its transpose to half of each. */
typedef struct {
    int64_t length, count, slots, n_large, lapped;
    const void *even[2], *odd[2], *even_t[2], *odd_t[2], *lap[2], *lap_t[2];
} axis_t;

static inline int64_t size_of(const axis_t *axis, int64_t block)
{
    return axis->slots - (block >= axis->n_large);
}

#define REAL float
#define LANES 8
#define NAME(name) name##_f32
#include "dct_of.h"
#undef REAL
#undef LANES
#undef NAME

#define REAL double
#define LANES 4
#define NAME(name) name##_f64
#include "dct_of.h"
