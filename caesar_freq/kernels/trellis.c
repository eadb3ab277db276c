/* Levels of the dependent quantiser by a Viterbi search, shell by shell: codec/trellis.py in C. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "contexts.h"
#include "dependent.h"
#include "reconstruct.h"

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_X86 1
#include <immintrin.h>
#endif

/* Costs are below 2^18 each, so those of a run fit an int32, and so does NEVER on top of them. */
enum { UNIT = 1 << 12, PRICED = 16, LENGTHS = N_SYMBOLS - 1, RUN = 512, NEVER = 1 << 29 };

/* What levels of one time block are chosen by. */
typedef struct {
    const void *planes;
    int64_t is_double;
    double step;
    const int64_t *alphas, *classes;
    int64_t *previous;      /* [bh, bw, nh, nw] */
    double (*shifts)[8];    /* as `shifts_of` makes them */
    int64_t error;          /* result, see `squared` */
    const int32_t *price;   /* [160, 17], trellis.prices */
    const double *middle;   /* [20, 4] */
    const int32_t *length;  /* [160, LENGTHS], trellis.lengths */
    int64_t bits;           /* result */
} choice_t;

/* The coefficients of one shell, in coding order. */
typedef struct {
    int64_t n;
    double *sizes;          /* in steps, with their signs */
    int32_t *values;        /* result */
    int32_t *at;
    uint8_t *rows;          /* bins; in the result rows of tables */
    uint8_t (*back)[2];     /* a bit for each phase: the level before was odd; zeros of `candidates` */
} path_t;

static int path_room(path_t *path, int64_t n)
{
    n += 1;
    path->sizes = malloc(n * sizeof(double));
    path->values = malloc(n * sizeof(int32_t));
    path->at = malloc(n * sizeof(int32_t));
    path->rows = malloc(n);
    path->back = malloc(n * 2);
    return path->sizes && path->values && path->at && path->rows && path->back;
}

static void path_free(path_t *path)
{
    free(path->sizes), free(path->values), free(path->at);
    free(path->rows), free(path->back);
}

/* Level next to a size in a grid that has the other parity than the one above it. */
static inline int32_t lower(double size, int grid)
{
    return (int32_t)((size + grid) * 0.5);
}

static inline int32_t weighted(double error)
{
    return (int32_t)(error * error * UNIT + 0.5);
}

/* Costs of the cheapest even and odd level of a grid, and whether the even one is a zero that is
 * not next to the value. */
static inline int candidates(double size, int bin, int grid, const choice_t *choice, int32_t *cost)
{
    const int32_t low = lower(size, grid), base = low < PRICED - 1 ? PRICED - 1 : low;
    const int32_t *price = choice->price + (bin + grid * N_BINS) * (PRICED + 1);
    const double *middle = choice->middle + (bin >> 2) * 4;
    for (int32_t level = low; level <= low + 1; level++) {
        const int32_t value = level ? 2 * level - grid : 0;
        const double error = size - (value < 4 ? middle[value] : (double)value);
        cost[level & 1] = weighted(error) + price[level < PRICED ? level : PRICED - 1] +
                          (level > base ? price[PRICED] : 0);
    }
    if (low == 1) {
        const int32_t zero = weighted(size) + price[0];
        if (zero < cost[0]) {
            cost[0] = zero;
            return 1;
        }
    }
    return 0;
}

/* Those of both grids: even and odd of the one, then of the other. */
static inline int all_candidates(double size, int bin, const choice_t *choice, int32_t *cost)
{
    if (!(size < 0.999))
        return candidates(size, bin, 0, choice, cost) |
               candidates(size, bin, 1, choice, cost + 2) << 1;
    /* most are zero or next to it */
    const int32_t *price = choice->price + bin * (PRICED + 1);
    const int32_t *other = price + N_BINS * (PRICED + 1), zero = weighted(size);
    const double *middle = choice->middle + (bin >> 2) * 4;
    cost[0] = zero + price[0];
    cost[1] = weighted(size - middle[2]) + price[1];
    cost[2] = zero + other[0];
    cost[3] = weighted(size - middle[1]) + other[1];
    return 0;
}

/* Moves the costs of all phases on by `n` coefficients, whose decisions it notes. */
static void advance_portable(int32_t *total, int32_t (*cost)[4], int64_t n, uint8_t (*back)[2])
{
    int32_t before[N_PHASES];
    for (int64_t a = 0; a < n; a++) {
        int odd = 0;
        memcpy(before, total, sizeof before);
        for (int p = 0; p < N_PHASES; p++) {
            const int32_t *own = cost[a] + 2 * grid_of(phase_before(p, 0));
            const int32_t even_way = before[phase_before(p, 0)] + own[0];
            const int32_t odd_way = before[phase_before(p, 1)] + own[1];
            odd |= (odd_way < even_way) << p;
            total[p] = odd_way < even_way ? odd_way : even_way;
        }
        back[a][0] = (uint8_t)odd;
    }
}

#ifdef HAVE_X86
__attribute__((target("avx2"))) static void advance_avx2(int32_t *total, int32_t (*cost)[4],
                                                         int64_t n, uint8_t (*back)[2])
{
    int32_t from[2][N_PHASES], own[2][N_PHASES];
    for (int odd = 0; odd < 2; odd++)
        for (int p = 0; p < N_PHASES; p++) {
            from[odd][p] = phase_before(p, odd);
            own[odd][p] = 2 * grid_of(from[odd][p]) + odd;
        }
    const __m256i from_even = _mm256_loadu_si256((const __m256i *)from[0]);
    const __m256i from_odd = _mm256_loadu_si256((const __m256i *)from[1]);
    const __m256i own_even = _mm256_loadu_si256((const __m256i *)own[0]);
    const __m256i own_odd = _mm256_loadu_si256((const __m256i *)own[1]);
    __m256i now = _mm256_loadu_si256((const __m256i *)total);
    for (int64_t a = 0; a < n; a++) {
        const __m256i costs = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)cost[a]));
        const __m256i even_way = _mm256_add_epi32(_mm256_permutevar8x32_epi32(now, from_even),
                                                  _mm256_permutevar8x32_epi32(costs, own_even));
        const __m256i odd_way = _mm256_add_epi32(_mm256_permutevar8x32_epi32(now, from_odd),
                                                 _mm256_permutevar8x32_epi32(costs, own_odd));
        const __m256i odd = _mm256_cmpgt_epi32(even_way, odd_way);
        back[a][0] = (uint8_t)_mm256_movemask_ps(_mm256_castsi256_ps(odd));
        now = _mm256_min_epi32(even_way, odd_way);
    }
    _mm256_storeu_si256((__m256i *)total, now);
}
#endif

static void advance(int32_t *total, int32_t (*cost)[4], int64_t n, uint8_t (*back)[2])
{
#ifdef HAVE_X86
    if (instruction_set() >= 1) {
        advance_avx2(total, cost, n, back);
        return;
    }
#endif
    advance_portable(total, cost, n, back);
}

static int cheapest(const int32_t *total)
{
    int found = 0;
    for (int p = 1; p < N_PHASES; p++)
        if (total[p] < total[found])
            found = p;
    return found;
}

/* Values and rows of tables from *phase on, which is moved on; returns whether all fit. */
static int choose_path(path_t *path, const choice_t *choice, int *phase)
{
    int32_t total[N_PHASES], cost[RUN][4];
    int fits = 1;
    for (int p = 0; p < N_PHASES; p++)
        total[p] = p == *phase ? 0 : NEVER;
    for (int64_t start = 0; start < path->n; start += RUN) {
        const int64_t n = path->n - start < RUN ? path->n - start : RUN;
        for (int64_t a = 0; a < n; a++) {
            double size = fabs(path->sizes[start + a]);
            if (!(size < LARGEST_LEVEL)) {
                fits = 0;
                path->sizes[start + a] = size = 0;
            }
            path->back[start + a][1] =
                (uint8_t)all_candidates(size, path->rows[start + a], choice, cost[a]);
        }
        advance(total, cost, n, path->back + start);
        const int32_t least = total[cheapest(total)];
        for (int p = 0; p < N_PHASES; p++)
            total[p] -= least;
    }
    int end = cheapest(total);
    *phase = end;
    for (int64_t a = path->n - 1; a >= 0; a--) {
        const int odd = path->back[a][0] >> end & 1, from = phase_before(end, odd);
        const int grid = grid_of(from);
        int32_t level = lower(fabs(path->sizes[a]), grid);
        if ((level & 1) != odd)
            level = path->back[a][1] >> grid & 1 && !odd ? 0 : level + 1;
        const int32_t value = level ? 2 * level - grid : 0;
        path->values[a] = path->sizes[a] < 0 ? -value : value;
        path->rows[a] += (uint8_t)(grid * N_BINS);
        end = from;
    }
    return fits;
}

static inline double coefficient(const choice_t *choice, int64_t at)
{
    if (choice->is_double)
        return ((const double *)choice->planes)[at];
    float value; /* q may be in the same memory */
    memcpy(&value, (const char *)choice->planes + at * sizeof value, sizeof value);
    return value;
}

/* Prediction of a coefficient of plane f, one of the temporal means. */
static inline int64_t predicted(const block_t *b, const choice_t *choice, int64_t f, int64_t at)
{
    const int64_t alpha = b->first ? 0 : choice->alphas[choice->classes[f]];
    return (alpha * choice->previous[at] + 32) >> 6;
}

/* Appends the coefficients of frequency c of shell s. */
static void extend(path_t *path, const block_t *b, const choice_t *choice, plane_t *plane,
                   int64_t s, int64_t c)
{
    const int64_t f = next_plane(b, plane, s, c), cells = b->nh * b->nw, space = b->bh * b->bw;
    for (int64_t a = 0; a < plane->n; a++, path->n++) {
        const int64_t at = f * cells + plane->cells[2 * a];
        double size = coefficient(choice, at) / choice->step;
        if (f < space)
            size -= (double)predicted(b, choice, f, at);
        path->sizes[path->n] = size;
        path->at[path->n] = (int32_t)at;
        path->rows[path->n] = plane->bins[a];
    }
}

/* Bits of a value as a level of the grid that its row of tables belongs to. */
static inline int32_t length_of(const choice_t *choice, int32_t value, uint8_t row)
{
    int32_t level = (abs(value) + (row >= N_BINS)) >> 1, octave = 0;
    while (level >> octave >= PRICED)
        octave++;
    /* class_of */
    const int32_t symbol = octave ? PRICED + 8 * (octave - 1) + (level >> octave & 7) : level;
    return choice->length[row * LENGTHS + (symbol < LENGTHS ? symbol : LENGTHS - 1)];
}

/* Writes down what was chosen, and adds up errors and bits. */
CLONES static void settle(const path_t *path, const block_t *b, choice_t *choice)
{
    const int64_t cells = b->nh * b->nw, means = b->bh * b->bw * cells;
    for (int64_t a = 0; a < path->n; a++) {
        const int64_t at = path->at[a];
        const int32_t value = path->values[a];
        const int64_t mu = at < means ? predicted(b, choice, at / cells, at) : 0;
        const double *shifts = choice->shifts[path->rows[a] >> 2];
        choice->error += squared(coefficient(choice, at), value, mu, shifts, choice->step);
        choice->bits += length_of(choice, value, path->rows[a]);
        b->q[at] = value;
        b->rows[at] = path->rows[a];
        remember(b, at, value);
    }
}

/* The same for what is behind its cell's end, and zero. */
CLONES static void settle_rest(const block_t *b, choice_t *choice)
{
    const int64_t cells = b->nh * b->nw, space = b->bh * b->bw;
    for (int64_t f = 0; f < b->bt * space; f++) {
        const int64_t i = f / space, j = f / b->bw % b->bh, k = f % b->bw;
        for (int64_t v = 0; v < b->nh; v++)
            for (int64_t u = 0; u < b->nw; u++) {
                const int64_t at = f * cells + v * b->nw + u;
                if (b->used[v * b->nw + u] > i + j + k && b->time_ok[i] &&
                    b->row_ok[v * b->bh + j] && b->column_ok[u * b->bw + k])
                    continue;
                const int64_t mu = f < space ? predicted(b, choice, f, at) : 0;
                const double y = coefficient(choice, at);
                choice->error += squared(y, 0, mu, choice->shifts[0], choice->step);
                if (b->q[at]) /* zeros may be memory that was never written to */
                    b->q[at] = 0;
            }
    }
}

/* Chooses the levels of one time block, shell by shell: fills q and rows. `planes` are those of the
 * block, in memory of their own or that of q; `previous` is the reconstruction of the temporal mean
 * plane before it, which is moved on. Adds squared errors and bits to choice->error and choice->bits. Returns 1 if all values fit, 0 if not, -1 if there is no memory. */
EXPORT int cf_choose_block(const block_t *b, choice_t *choice)
{
    plane_t plane = {0};
    path_t path = {0};
    int fits = 1, phase = 0;
    const int64_t cells = b->nh * b->nw, space = b->bh * b->bw;
    const int32_t last = last_shell(b);
    int64_t largest = 0;
    for (int64_t s = 0; s < last; s++)
        if (b->shell_starts[s + 1] - b->shell_starts[s] > largest)
            largest = b->shell_starts[s + 1] - b->shell_starts[s];
    if (!make_room(&plane, b) || !path_room(&path, largest * cells)) {
        give_back(&plane);
        path_free(&path);
        return -1;
    }
    for (int64_t s = 0; s < last; s++) {
        path.n = 0;
        for (int64_t c = b->shell_starts[s]; c < b->shell_starts[s + 1]; c++)
            extend(&path, b, choice, &plane, s, c);
        fits &= choose_path(&path, choice, &phase);
        settle(&path, b, choice);
    }
    settle_rest(b, choice);
    for (int64_t f = 0; f < space; f++)
        for (int64_t at = f * cells; at < (f + 1) * cells; at++)
            choice->previous[at] = b->q[at] + predicted(b, choice, f, at);
    give_back(&plane);
    path_free(&path);
    return fits;
}
