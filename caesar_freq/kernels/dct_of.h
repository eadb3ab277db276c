/* Body of dct.c for one floating-point type: REAL, LANES to a vector of 32 bytes, NAME(...). The order
 * of all sums is that of transform/axis.py, and part of the format. Rows are STRIP values long, of which
 * the first `wide` count, a multiple of 2 LANES. */

typedef REAL NAME(vector) __attribute__((vector_size(32), aligned(8)));

/* c[r] = sum of a[r][i] b[i] for `rows` rows; rows of c are `step` strips apart. */
CLONES static void NAME(multiply)(const REAL *a, int64_t rows, int64_t inner, const REAL *b,
                                  REAL *c, int64_t step, int64_t wide)
{
    for (int64_t r = 0; r < rows; r += 4) {
        /* the last rows are computed again where the number is no multiple of four */
        const int64_t at[4] = {r, r + 1 < rows ? r + 1 : r, r + 2 < rows ? r + 2 : r,
                               r + 3 < rows ? r + 3 : r};
        for (int64_t x = 0; x < wide; x += 2 * LANES) {
            NAME(vector) sum[4][2] = {0};
            for (int64_t i = 0; i < inner; i++) {
                const NAME(vector) *in = (const NAME(vector) *)(b + i * STRIP + x);
                for (int o = 0; o < 4; o++) {
                    const REAL w = a[at[o] * inner + i];
                    sum[o][0] += w * in[0];
                    sum[o][1] += w * in[1];
                }
            }
            for (int o = 0; o < 4; o++) {
                NAME(vector) *out = (NAME(vector) *)(c + at[o] * step * STRIP + x);
                out[0] = sum[o][0];
                out[1] = sum[o][1];
            }
        }
    }
}

/* Sums and differences of a block's samples, mirrored about its middle. */
CLONES static void NAME(fold)(const REAL *x, int64_t size, REAL *sums, REAL *differences, int64_t wide)
{
    for (int64_t i = 0; i < (size + 1) / 2; i++)
        for (int64_t a = 0; a < wide; a++) {
            const REAL u = x[i * STRIP + a], v = x[(size - 1 - i) * STRIP + a];
            sums[i * STRIP + a] = 2 * i + 1 == size ? u : u + v;
            differences[i * STRIP + a] = u - v;
        }
}

CLONES static void NAME(unfold)(const REAL *sums, const REAL *differences, int64_t size, REAL *x,
                                int64_t wide)
{
    for (int64_t i = 0; i < (size + 1) / 2; i++)
        for (int64_t a = 0; a < wide; a++) {
            const REAL u = sums[i * STRIP + a];
            const REAL v = 2 * i + 1 == size ? 0 : differences[i * STRIP + a];
            x[i * STRIP + a] = u + v;
            x[(size - 1 - i) * STRIP + a] = u - v;
        }
}

/* Rotation across one border (axis.lapped_rotation): butterflies around `v` [half, half]. */
CLONES static void NAME(rotate)(REAL *x, int64_t half, const REAL *v, REAL *work, int64_t wide)
{
    const REAL root = (REAL)0.70710678118654752440;
    REAL *other = work + half * STRIP;
    for (int64_t i = 0; i < half; i++)
        for (int64_t a = 0; a < wide; a++) {
            REAL *left = x + i * STRIP + a, *right = x + (2 * half - 1 - i) * STRIP + a;
            const REAL top = (*left + *right) * root;
            work[(half - 1 - i) * STRIP + a] = (*left - *right) * root;
            *left = top;
        }
    NAME(multiply)(v, half, half, work, other, 1, wide);
    for (int64_t i = 0; i < half; i++)
        for (int64_t a = 0; a < wide; a++) {
            REAL *left = x + i * STRIP + a, *right = x + (2 * half - 1 - i) * STRIP + a;
            const REAL top = *left, bottom = other[(half - 1 - i) * STRIP + a];
            *left = (top + bottom) * root;
            *right = (top - bottom) * root;
        }
}

static void NAME(rotate_all)(const axis_t *axis, REAL *x, int inverse, REAL *work, int64_t wide)
{
    int64_t end = 0;
    for (int64_t block = 0; block + 1 < axis->count; block++) {
        end += size_of(axis, block);
        const int small = block + 1 >= axis->n_large;
        const int64_t half = size_of(axis, block + 1) / 2;
        const void *v = inverse ? axis->lap_t[small] : axis->lap[small];
        if (half)
            NAME(rotate)(x + (end - half) * STRIP, half, v, work, wide);
    }
}

/* One block of samples [size, STRIP] to coefficients [slots, STRIP]. */
static void NAME(block_forward)(const axis_t *axis, int64_t size, const REAL *x, REAL *y, REAL *work,
                                int64_t wide)
{
    const int64_t slots = axis->slots;
    const int small = size < slots;
    REAL *differences = work + (slots + 1) / 2 * STRIP;
    NAME(fold)(x, size, work, differences, wide);
    NAME(multiply)(axis->even[small], (size + 1) / 2, (size + 1) / 2, work, y, 2, wide);
    NAME(multiply)(axis->odd[small], size / 2, size / 2, differences, y + STRIP, 2, wide);
    memset(y + size * STRIP, 0, (slots - size) * STRIP * sizeof(REAL));
}

static void NAME(block_inverse)(const axis_t *axis, int64_t size, const REAL *y, REAL *x, REAL *work,
                                int64_t wide)
{
    const int64_t half = (axis->slots + 1) / 2;
    const int small = size < axis->slots;
    REAL *even = work, *odd = work + half * STRIP, *sums = work + 2 * half * STRIP,
         *differences = work + 3 * half * STRIP;
    for (int64_t k = 0; k < size; k++)
        memcpy((k & 1 ? odd : even) + k / 2 * STRIP, y + k * STRIP, STRIP * sizeof(REAL));
    NAME(multiply)(axis->even_t[small], (size + 1) / 2, (size + 1) / 2, even, sums, 1, wide);
    NAME(multiply)(axis->odd_t[small], size / 2, size / 2, odd, differences, 1, wide);
    NAME(unfold)(sums, differences, size, x, wide);
}

/* One strip of samples [size of all blocks, STRIP] to coefficients [count * slots, STRIP]; x is
 * destroyed. */
static void NAME(blocks_forward)(const axis_t *axis, REAL *x, REAL *y, REAL *work, int64_t wide)
{
    if (axis->lapped)
        NAME(rotate_all)(axis, x, 0, work, wide);
    for (int64_t block = 0; block < axis->count; block++, y += axis->slots * STRIP) {
        NAME(block_forward)(axis, size_of(axis, block), x, y, work, wide);
        x += size_of(axis, block) * STRIP;
    }
}

static void NAME(blocks_inverse)(const axis_t *axis, const REAL *y, REAL *x, REAL *work, int64_t wide)
{
    REAL *out = x;
    for (int64_t block = 0; block < axis->count; block++, y += axis->slots * STRIP) {
        NAME(block_inverse)(axis, size_of(axis, block), y, out, work, wide);
        out += size_of(axis, block) * STRIP;
    }
    if (axis->lapped)
        NAME(rotate_all)(axis, x, 1, work, wide);
}

/* The same with a wavelet split before it. Slots of the high half run downwards. */
static void NAME(strip_forward)(const axis_t *axis, REAL *x, REAL *y, REAL *work, int64_t wide)
{
    if (!axis->wavelet) {
        NAME(blocks_forward)(axis, x, y, work, wide);
        return;
    }
    const int64_t m = (axis->length + 1) / 2, slots = axis->slots, rows = axis->count * slots;
    REAL *half[2] = {work, work + m * STRIP}, *c = work + 2 * m * STRIP, *rest = c + rows * STRIP;
    NAME(split)((int)axis->wavelet, x, axis->length, half[0], half[1], rest);
    for (int high = 0; high < 2; high++) {
        NAME(blocks_forward)(axis, half[high], c, rest, wide);
        for (int64_t r = 0; r < rows; r++) {
            const int64_t block = r / slots, k = r % slots;
            const int64_t to = 2 * slots * block + (high ? 2 * slots - 1 - k : k);
            memcpy(y + to * STRIP, c + r * STRIP, STRIP * sizeof(REAL));
        }
    }
}

static void NAME(strip_inverse)(const axis_t *axis, const REAL *y, REAL *x, REAL *work, int64_t wide)
{
    if (!axis->wavelet) {
        NAME(blocks_inverse)(axis, y, x, work, wide);
        return;
    }
    const int64_t m = (axis->length + 1) / 2, slots = axis->slots, rows = axis->count * slots;
    REAL *half[2] = {work, work + m * STRIP}, *c = work + 2 * m * STRIP, *rest = c + rows * STRIP;
    for (int high = 0; high < 2; high++) {
        for (int64_t r = 0; r < rows; r++) {
            const int64_t block = r / slots, k = r % slots;
            const int64_t from = 2 * slots * block + (high ? 2 * slots - 1 - k : k);
            memcpy(c + r * STRIP, y + from * STRIP, STRIP * sizeof(REAL));
        }
        NAME(blocks_inverse)(axis, c, half[high], rest, wide);
    }
    NAME(join)((int)axis->wavelet, half[0], half[1], axis->length, x);
}

#include "narrow_of.h"

/* Along the first axis of x [rows, wide] and back; both arrays have their own row length. */
static void NAME(along)(const axis_t *axis, const REAL *from, int64_t from_wide, REAL *to,
                        int64_t to_wide, int64_t wide, int inverse, REAL *room)
{
    if (is_narrow(axis, wide)) {
        (inverse ? NAME(narrow_inverse) : NAME(narrow_forward))(axis, from, from_wide, to, to_wide, wide,
                                                                room);
        return;
    }
    const int64_t samples = axis->length, slots = axis->count * slots_of(axis);
    const int64_t rows_in = inverse ? slots : samples, rows_out = inverse ? samples : slots;
    REAL *in = room, *out = in + rows_in * STRIP, *work = out + rows_out * STRIP;
    for (int64_t x = 0; x < wide; x += STRIP) {
        const int64_t n = wide - x < STRIP ? wide - x : STRIP;
        for (int64_t r = 0; r < rows_in; r++) {
            memcpy(in + r * STRIP, from + r * from_wide + x, n * sizeof(REAL));
            memset(in + r * STRIP + n, 0, (STRIP - n) * sizeof(REAL));
        }
        if (inverse)
            NAME(strip_inverse)(axis, in, out, work, NAME(filled)(n));
        else
            NAME(strip_forward)(axis, in, out, work, NAME(filled)(n));
        for (int64_t r = 0; r < rows_out; r++)
            memcpy(to + r * to_wide + x, out + r * STRIP, n * sizeof(REAL));
    }
}

static int64_t NAME(room)(const axis_t *axis, int64_t wide)
{
    if (is_narrow(axis, wide))
        return NAME(narrow_room)(axis, wide);
    const int64_t slots = slots_of(axis), dct = axis->length + axis->count * slots + 2 * slots + 4;
    /* halves, their coefficients, and even and odd samples */
    const int64_t split = 2 * (axis->length + 1) + axis->count * axis->slots;
    return (dct + (axis->wavelet ? split : 0)) * STRIP;
}

/* Memory that serves `along` each of the axes with so many lines; null without. */
static REAL *NAME(rooms)(const axis_t *const axes[3], const int64_t wide[3])
{
    int64_t need = 0;
    for (int a = 0; a < 3; a++)
        need = NAME(room)(axes[a], wide[a]) > need ? NAME(room)(axes[a], wide[a]) : need;
    return malloc(need * sizeof(REAL));
}

/* Samples x [T, H, W] to planes y [nt, bt, bh, bw, nh, nw] through frames [nt, bt, H, W]; -1 without
 * memory. */
EXPORT int NAME(cf_forward)(const axis_t *time, const axis_t *rows, const axis_t *columns,
                            const REAL *x, REAL *y, REAL *frames)
{
    const int64_t high = rows->length, wide = columns->length;
    const int64_t bh = slots_of(rows), bw = slots_of(columns);
    const int64_t lines = rows->count * bh, slots = columns->count * bw;
    const int64_t planes = time->count * time->slots, tall = lines < GAP ? lines : lines + GAP;
    const int single = high * wide * bh * bw == 1;
    const axis_t *const axes[] = {time, rows, columns};
    const int64_t widths[] = {high * wide, wide, lines};
    REAL *room = NAME(rooms)(axes, widths), *z = malloc(lines * wide * sizeof(REAL));
    REAL *turned = malloc(wide * tall * sizeof(REAL)), *c = malloc(slots * tall * sizeof(REAL));
    const int failed = !room || !z || !turned || !c;
    /* blocks of one frame are the frames themselves */
    const REAL *in_time = time->slots > 1 ? frames : x;
    if (!failed && time->slots > 1)
        NAME(along)(time, x, high * wide, frames, high * wide, high * wide, 0, room);
    /* a frame of one value is its only coefficient; the sum over it has no negative zero */
    if (single)
        for (int64_t f = 0; f < planes && !failed; f++)
            y[f] = 0 + in_time[f];
    for (int64_t f = 0; f < planes && !failed && !single; f++) {
        NAME(along)(rows, in_time + f * high * wide, wide, z, wide, wide, 0, room);
        for (int64_t r = 0; r < lines; r++)
            for (int64_t a = 0; a < wide; a++)
                turned[a * tall + r] = z[r * wide + a];
        NAME(along)(columns, turned, tall, c, tall, lines, 0, room);
        for (int64_t j = 0; j < bh; j++)
            for (int64_t k = 0; k < bw; k++)
                for (int64_t v = 0; v < rows->count; v++)
                    for (int64_t u = 0; u < columns->count; u++)
                        *y++ = c[(u * bw + k) * tall + v * bh + j];
    }
    free(room), free(z), free(turned), free(c);
    return -failed;
}

/* Inverse of cf_forward. */
EXPORT int NAME(cf_inverse)(const axis_t *time, const axis_t *rows, const axis_t *columns,
                            const REAL *y, REAL *x, REAL *frames)
{
    const int64_t high = rows->length, wide = columns->length;
    const int64_t bh = slots_of(rows), bw = slots_of(columns);
    const int64_t lines = rows->count * bh, slots = columns->count * bw;
    const int64_t planes = time->count * time->slots, tall = lines < GAP ? lines : lines + GAP;
    const int single = high * wide * bh * bw == 1;
    const axis_t *const axes[] = {time, rows, columns};
    const int64_t widths[] = {high * wide, wide, lines};
    REAL *room = NAME(rooms)(axes, widths), *z = malloc(lines * wide * sizeof(REAL));
    REAL *turned = malloc(wide * tall * sizeof(REAL)), *c = malloc(slots * tall * sizeof(REAL));
    const int failed = !room || !z || !turned || !c;
    if (single)
        for (int64_t f = 0; f < planes && !failed; f++)
            frames[f] = 0 + y[f];
    for (int64_t f = 0; f < planes && !failed && !single; f++) {
        for (int64_t j = 0; j < bh; j++)
            for (int64_t k = 0; k < bw; k++)
                for (int64_t v = 0; v < rows->count; v++)
                    for (int64_t u = 0; u < columns->count; u++)
                        c[(u * bw + k) * tall + v * bh + j] = *y++;
        NAME(along)(columns, c, tall, turned, tall, lines, 1, room);
        for (int64_t r = 0; r < lines; r++)
            for (int64_t a = 0; a < wide; a++)
                z[r * wide + a] = turned[a * tall + r];
        NAME(along)(rows, z, wide, frames + f * high * wide, wide, wide, 1, room);
    }
    if (!failed)
        NAME(along)(time, frames, high * wide, x, high * wide, high * wide, 1, room);
    free(room), free(z), free(turned), free(c);
    return -failed;
}
