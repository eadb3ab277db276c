/* Integer arithmetic that C has no name for. */
#ifndef CAESAR_FREQ_INTEGERS_H
#define CAESAR_FREQ_INTEGERS_H

#include <stdint.h>

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t clip(int64_t a, int64_t low, int64_t high)
{
    return smaller(larger(a, low), high);
}

static inline int64_t size_of(int64_t a)
{
    return a < 0 ? -a : a;
}

/* a / b rounded down as Python does; b > 0. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static inline int64_t bit_length(int64_t a)
{
    return a ? 64 - __builtin_clzll((uint64_t)a) : 0;
}

/* Quotient rounded down, as Python has it; b > 0. */
static inline int64_t quotient(int64_t a, int64_t b)
{
    const int64_t q = a / b;
    return q - (a % b < 0);
}

static inline int64_t half_octave(int64_t a)
{
    if (a < 4)
        return a;
    const int64_t n = bit_length(a);
    return 2 * n - 2 + ((a >> (n - 2)) & 1);
}

static inline int64_t eighth_octave(int64_t a)
{
    const int64_t n = bit_length(a);
    return n < 4 ? a : 8 * n + (a >> (n - 4) & 7);
}

static inline int64_t signed_octave(int64_t a, int64_t most)
{
    const int64_t q = smaller(half_octave(size_of(a)), most);
    return a > 0 ? most + q : most - q;
}

static inline int64_t median(int64_t west, int64_t north, int64_t northwest)
{
    return clip(west + north - northwest, smaller(west, north), larger(west, north));
}

#endif
