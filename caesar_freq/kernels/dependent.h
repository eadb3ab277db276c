/* Dependent quantiser (entropy/dependent.py) and the encoder's choice of levels (codec/trellis.py). */
#ifndef CAESAR_DEPENDENT_H
#define CAESAR_DEPENDENT_H

#include <stdint.h>

enum { N_PHASES = 8, LARGEST_LEVEL = 1 << 29 };

/* Which of the two grids a phase uses. */
static inline int grid_of(int phase)
{
    return phase & 1;
}

static inline int next_phase(int phase, int32_t level)
{
    const int grid = phase & 1;
    return ((phase >> 1 & 1) ^ grid) | (((phase >> 2) ^ (level & 1)) << 1) | grid << 2;
}

/* The phase before `phase` if the level there was even (odd = 0) or odd. */
static inline int phase_before(int phase, int odd)
{
    const int grid = phase >> 2;
    return grid | ((phase & 1) ^ grid) << 1 | ((phase >> 1 & 1) ^ odd) << 2;
}

/* Value in steps of a level of a grid: even ones, or 0 and the odd ones. */
static inline int32_t value_of(int32_t level, int grid)
{
    const int64_t size = level < 0 ? -(int64_t)level : level;
    if (!size)
        return 0;
    const int32_t value = (int32_t)(2 * (size < LARGEST_LEVEL ? size : LARGEST_LEVEL) - grid);
    return level < 0 ? -value : value;
}

static inline int32_t level_of(int32_t value, int grid)
{
    return value < 0 ? -((-value + grid) >> 1) : (value + grid) >> 1;
}

/* What levels of one time block are chosen by. */
typedef struct {
    const void *planes;
    int64_t is_double;
    double step;
    const int64_t *alphas, *classes;
    int64_t *previous;      /* [bh, bw, nh, nw] */
    const int64_t *price;   /* [160, 17], trellis.prices */
    const double *middle;   /* [20, 4] */
} choice_t;

/* The coefficients of one shell, in coding order. */
typedef struct {
    int64_t n;
    double *sizes;          /* in steps, with their signs */
    uint8_t *bins;
    uint8_t *back;          /* [n, 2], a bit for each phase: the level before was odd; zeros */
    int64_t *at, *inner;
    int32_t *values;        /* result */
} path_t;

static inline double steps_of(const choice_t *choice, int64_t at)
{
    if (choice->is_double)
        return ((const double *)choice->planes)[at] / choice->step;
    return ((const float *)choice->planes)[at] / choice->step;
}

int path_room(path_t *path, int64_t n);
void path_free(path_t *path);
/* Fills path->values from a phase on; returns whether all fit. */
int choose_path(path_t *path, const choice_t *choice, int phase);

#endif
