/* Body of dct.c for axes of few lines, for one floating-point type: blocks beside one another fill the
 * rows of a strip, so that nothing is worked on that is not there. Sums are those of dct_of.h. */

/* `size` rows of `n` lines from each of so many places, `apart` rows from one to the next, to a strip
 * [size, STRIP], or back. */
static void NAME(gather)(const REAL *from, int64_t from_wide, int64_t places, int64_t apart, int64_t size,
                         int64_t n, REAL *strip)
{
    for (int64_t i = 0; i < size; i++)
        for (int64_t p = 0; p < places; p++)
            for (int64_t a = 0; a < n; a++)
                strip[i * STRIP + p * n + a] = from[(p * apart + i) * from_wide + a];
}

static void NAME(scatter)(const REAL *strip, int64_t places, int64_t apart, int64_t size, int64_t n,
                          REAL *to, int64_t to_wide)
{
    for (int64_t p = 0; p < places; p++)
        for (int64_t i = 0; i < size; i++)
            for (int64_t a = 0; a < n; a++)
                to[(p * apart + i) * to_wide + a] = strip[i * STRIP + p * n + a];
}

/* How many blocks from `block` on are of its size and have room in a strip. */
static int64_t NAME(alike)(const axis_t *axis, int64_t block, int64_t n)
{
    const int64_t end = block < axis->n_large ? axis->n_large : axis->count, fit = STRIP / n;
    return end - block < fit ? end - block : fit;
}

/* Vectors that so many values of a strip fill, in values. */
static int64_t NAME(filled)(int64_t values)
{
    return (values + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
}

/* rotate_all for x [length, x_wide], of which n lines. */
static void NAME(narrow_rotate)(const axis_t *axis, REAL *x, int64_t x_wide, int64_t n, int inverse,
                                REAL *strip, REAL *work)
{
    for (int64_t block = 1, many; block < axis->count; block += many) {
        const int small = block >= axis->n_large;
        const int64_t size = size_of(axis, block), half = size / 2;
        REAL *first = x + (start_of(axis, block) - half) * x_wide;
        many = NAME(alike)(axis, block, n);
        if (!half)
            continue;
        NAME(gather)(first, x_wide, many, size, 2 * half, n, strip);
        NAME(rotate)(strip, half, inverse ? axis->lap_t[small] : axis->lap[small], work,
                     NAME(filled)(many * n));
        NAME(scatter)(strip, many, size, 2 * half, n, first, x_wide);
    }
}

static int64_t NAME(narrow_room)(const axis_t *axis, int64_t wide)
{
    return (axis->lapped ? axis->length * wide : 0) + (4 * axis->slots + 4) * STRIP;
}

/* `along` for n lines from samples to coefficients. */
static void NAME(narrow_forward)(const axis_t *axis, const REAL *from, int64_t from_wide, REAL *to,
                                 int64_t to_wide, int64_t n, REAL *room)
{
    const int64_t slots = axis->slots;
    REAL *in = room, *out = in + slots * STRIP, *work = out + slots * STRIP;
    REAL *rotated = work + (2 * slots + 4) * STRIP;
    memset(in, 0, slots * STRIP * sizeof(REAL));
    if (axis->lapped) {
        for (int64_t r = 0; r < axis->length; r++)
            memcpy(rotated + r * n, from + r * from_wide, n * sizeof(REAL));
        NAME(narrow_rotate)(axis, rotated, n, n, 0, in, work);
        from = rotated, from_wide = n;
    }
    for (int64_t block = 0, many; block < axis->count; block += many) {
        const int64_t size = size_of(axis, block);
        many = NAME(alike)(axis, block, n);
        NAME(gather)(from + start_of(axis, block) * from_wide, from_wide, many, size, size, n, in);
        NAME(block_forward)(axis, size, in, out, work, NAME(filled)(many * n));
        NAME(scatter)(out, many, slots, slots, n, to + block * slots * to_wide, to_wide);
    }
}

static void NAME(narrow_inverse)(const axis_t *axis, const REAL *from, int64_t from_wide, REAL *to,
                                 int64_t to_wide, int64_t n, REAL *room)
{
    const int64_t slots = axis->slots;
    REAL *in = room, *out = in + slots * STRIP, *work = out + slots * STRIP;
    memset(in, 0, slots * STRIP * sizeof(REAL));
    for (int64_t block = 0, many; block < axis->count; block += many) {
        const int64_t size = size_of(axis, block);
        many = NAME(alike)(axis, block, n);
        NAME(gather)(from + block * slots * from_wide, from_wide, many, slots, size, n, in);
        NAME(block_inverse)(axis, size, in, out, work, NAME(filled)(many * n));
        NAME(scatter)(out, many, size, size, n, to + start_of(axis, block) * to_wide, to_wide);
    }
    if (axis->lapped)
        NAME(narrow_rotate)(axis, to, to_wide, n, 1, in, work);
}
