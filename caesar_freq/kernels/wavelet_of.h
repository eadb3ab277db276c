/* transform/wavelets.py for one floating-point type, on strips [samples, STRIP] of REAL; all sums in
 * the same order as there. */

static const REAL NAME(low_taps)[] = {
    (REAL)0.8526986790088938, (REAL)0.37740285561283066, (REAL)-0.11062440441843718,
    (REAL)-0.023849465019556843, (REAL)0.03782845550726404};
static const REAL NAME(high_taps)[] = {(REAL)-0.7884856164055829, (REAL)0.41809227322161724,
                                       (REAL)0.04068941760916406, (REAL)-0.06453888262869706};

/* Rows of `x` [m, STRIP] left and right of row n, at a distance in samples; see wavelets._pair. */
static inline const REAL *NAME(left_of)(const REAL *x, int64_t n, int64_t m, int distance, int shifted)
{
    const int64_t steps = distance % 2 ? (distance + 1 - shifted) / 2 : distance / 2;
    return x + ((n - steps) % m + m) % m * STRIP;
}

static inline const REAL *NAME(right_of)(const REAL *x, int64_t n, int64_t m, int distance, int shifted)
{
    const int64_t steps = distance % 2 ? (distance + shifted) / 2 : distance / 2;
    return x + (n + steps) % m * STRIP;
}

CLONES static void NAME(add_pair)(REAL tap, const REAL *left, const REAL *right, REAL *total)
{
    for (int64_t a = 0; a < STRIP; a++)
        total[a] = total[a] + tap * (left[a] + right[a]);
}

CLONES static void NAME(times)(REAL tap, const REAL *x, REAL *total)
{
    for (int64_t a = 0; a < STRIP; a++)
        total[a] = tap * x[a];
}

CLONES static void NAME(times_pair)(REAL tap, const REAL *left, const REAL *right, REAL *total)
{
    for (int64_t a = 0; a < STRIP; a++)
        total[a] = tap * (left[a] + right[a]);
}

CLONES static void NAME(add)(const REAL *x, REAL *total)
{
    for (int64_t a = 0; a < STRIP; a++)
        total[a] = total[a] + x[a];
}

/* low = (a + b) * root, high = (a - b) * root: the Haar split, and its inverse. */
CLONES static void NAME(butterfly)(const REAL *a, const REAL *b, REAL *sum, REAL *difference)
{
    const REAL root = (REAL)0.70710678118654752440;
    for (int64_t i = 0; i < STRIP; i++) {
        const REAL u = a[i], v = b[i];
        sum[i] = (u + v) * root;
        difference[i] = (u - v) * root;
    }
}

static void NAME(filter)(const REAL *taps, int n_taps, const REAL *own, const REAL *other,
                         int64_t m, int shifted, REAL *out)
{
    for (int64_t n = 0; n < m; n++, out += STRIP) {
        NAME(times)(taps[0], own + n * STRIP, out);
        for (int d = 1; d < n_taps; d++) {
            const REAL *x = d % 2 ? other : own;
            NAME(add_pair)(taps[d], NAME(left_of)(x, n, m, d, shifted),
                           NAME(right_of)(x, n, m, d, shifted), out);
        }
    }
}

/* Row n of wavelets._alternate; taps at even distance change their sign. */
static void NAME(alternate)(const REAL *taps, int n_taps, const REAL *x, int64_t n, int64_t m,
                            int first, int shifted, REAL *total)
{
    if (first)
        NAME(times_pair)(taps[1], NAME(left_of)(x, n, m, 1, shifted),
                         NAME(right_of)(x, n, m, 1, shifted), total);
    else
        NAME(times)(-taps[0], x + n * STRIP, total);
    for (int d = first + 2; d < n_taps; d += 2)
        NAME(add_pair)(d % 2 ? taps[d] : -taps[d], NAME(left_of)(x, n, m, d, shifted),
                       NAME(right_of)(x, n, m, d, shifted), total);
}

/* Samples x [samples, STRIP] to halves of m rows each; `work` has room for 2 m rows. */
static void NAME(split)(int wavelet, const REAL *x, int64_t samples, REAL *low, REAL *high, REAL *work)
{
    const int64_t m = (samples + 1) / 2;
    REAL *even = work, *odd = work + m * STRIP;
    for (int64_t n = 0; n < m; n++) {
        const int64_t next = 2 * n + 1 < samples ? 2 * n + 1 : 2 * n;
        if (wavelet == HAAR) {
            NAME(butterfly)(x + 2 * n * STRIP, x + next * STRIP, low + n * STRIP, high + n * STRIP);
            continue;
        }
        memcpy(even + n * STRIP, x + 2 * n * STRIP, STRIP * sizeof(REAL));
        memcpy(odd + n * STRIP, x + next * STRIP, STRIP * sizeof(REAL));
    }
    if (wavelet == HAAR)
        return;
    NAME(filter)(NAME(low_taps), 5, even, odd, m, 0, low);
    NAME(filter)(NAME(high_taps), 4, odd, even, m, 1, high);
}

/* Inverse of split. */
static void NAME(join)(int wavelet, const REAL *low, const REAL *high, int64_t samples, REAL *x)
{
    const int64_t m = (samples + 1) / 2;
    REAL even[STRIP], odd[STRIP], part[STRIP];
    for (int64_t n = 0; n < m; n++) {
        if (wavelet == HAAR) {
            NAME(butterfly)(low + n * STRIP, high + n * STRIP, even, odd);
        } else {
            NAME(alternate)(NAME(high_taps), 4, low, n, m, 0, 0, even);
            NAME(alternate)(NAME(low_taps), 5, high, n, m, 1, 0, part);
            NAME(add)(part, even);
            NAME(alternate)(NAME(high_taps), 4, low, n, m, 1, 1, odd);
            NAME(alternate)(NAME(low_taps), 5, high, n, m, 0, 1, part);
            NAME(add)(part, odd);
        }
        memcpy(x + 2 * n * STRIP, even, STRIP * sizeof(REAL));
        if (2 * n + 1 < samples)
            memcpy(x + (2 * n + 1) * STRIP, odd, STRIP * sizeof(REAL));
    }
}
