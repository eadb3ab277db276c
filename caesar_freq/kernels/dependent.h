/* Dependent quantiser: entropy/dependent.py in C. */
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

#endif
