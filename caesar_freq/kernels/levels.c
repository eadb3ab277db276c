/* Predictive coding of one frame of integer levels: entropy/levels.py, logistic.py and binary.py in
 * C, with the same names and the same integers. Shifts of negative numbers round down. */
#include "integers.h"
#include "least_squares.h"
#include "range_coder.h"

enum {
    FINE = 3,
    N_NEIGHBOURS = 17,
    N_PREDICTORS = 8, /* the last by least squares, where it is used */
    N_CONTEXTS = 8,
    N_NODES = 160,
    MIX_SETS = 12,
    ZERO = 0, SIGN = 1, EXPONENT = 2, LOWER = 32, FIRST = 64, SECOND = 96,
    LARGEST = 28,
    ROOM = 160,
    FILLED = 1,
    LONGEST = 400,
    LIMIT = 2943,
};

/* Everything that coding a frame reads or changes. */
typedef struct {
    int64_t height, width, top, shift, slot_count;
    int64_t *frame;
    const int64_t *before, *older;
    int64_t *errors;
    const int64_t *errors_before;
    const uint8_t *skip;
    int64_t *weights, *bias, *costs, *mixer;
    double *sums;
    int64_t *fit;
    uint32_t *slots;
    const int32_t *squash, *stretch;
    const int64_t *rates;
    state_t *state;
    uint8_t *data;
    int64_t length;
    int64_t decoding;
    int64_t fitted; /* whether there is a predictor by least squares */
} levels_t;

/* The contexts of one level. */
typedef struct {
    uint64_t hashes[N_CONTEXTS];
    int64_t set;
} context_t;

static inline int code_mixed(levels_t *l, int bit, int64_t probability)
{
    const uint64_t ones = (l->state->range >> 16) * (uint64_t)probability;
    return code_split(l->state, l->data, l->length, (int)l->decoding, bit, ones);
}

static inline void learn(levels_t *l, uint32_t *slot, int bit)
{
    const int64_t count = *slot & 1023;
    int64_t probability = *slot >> 10;
    probability += ((bit ? 4194303 : 0) - probability) * l->rates[count] >> 16;
    *slot = (uint32_t)(probability << 10 | smaller(count + 1, LONGEST));
}

static inline int code(levels_t *l, const context_t *c, int bit, int64_t node)
{
    int64_t *weights = l->mixer + (c->set * N_NODES + node) * N_CONTEXTS, total = 0;
    int64_t logits[N_CONTEXTS];
    uint32_t *slots[N_CONTEXTS];
    for (int k = 0; k < N_CONTEXTS; k++) {
        const uint64_t hash = c->hashes[k] + (uint64_t)node * 0xD6E8FEB86659FD93ull;
        slots[k] = l->slots + k * l->slot_count + ((hash * 0x9E3779B97F4A7C15ull) >> l->shift);
        logits[k] = l->stretch[*slots[k] >> 18];
        total += weights[k] * logits[k];
    }
    const int64_t probability = l->squash[clip(total >> 16, -LIMIT, LIMIT) + LIMIT];
    bit = code_mixed(l, bit, probability);
    const int64_t error = (((int64_t)bit << 16) - probability) * (l->fitted ? 6 : 10);
    for (int k = 0; k < N_CONTEXTS; k++) {
        weights[k] += (logits[k] * error + (1 << 17)) >> 18;
        learn(l, slots[k], bit);
    }
    return bit;
}

/* Ask for the slots of a decision that comes soon: they lie anywhere in some megabytes. */
static inline void ahead(const levels_t *l, const context_t *c, int64_t node, int64_t sign)
{
    const uint64_t more = (uint64_t)node * 0xD6E8FEB86659FD93ull + (uint64_t)(sign * 7919);
    for (int k = 0; k < N_CONTEXTS; k++)
        __builtin_prefetch(l->slots + k * l->slot_count +
                           (((c->hashes[k] + more) * 0x9E3779B97F4A7C15ull) >> l->shift), 1);
}

static inline int64_t code_error(levels_t *l, context_t *c, int64_t error, int64_t likely, int one_sided)
{
    ahead(l, c, SIGN, 0);
    ahead(l, c, EXPONENT + likely, 0);
    ahead(l, c, EXPONENT + likely, 1);
    if (code(l, c, error == 0, ZERO))
        return 0;
    const int negative = one_sided ? 0 : code(l, c, error < 0, SIGN);
    const int64_t size = size_of(error), exponent = bit_length(size) - 1;
    for (int k = 0; k < N_CONTEXTS; k++)
        c->hashes[k] += (uint64_t)(negative * 7919);
    int64_t n = likely;
    ahead(l, c, EXPONENT + n + 1, 0);
    ahead(l, c, LOWER + n, 0);
    ahead(l, c, FIRST + n, 0);
    if (code(l, c, exponent > n, EXPONENT + n)) {
        n++;
        ahead(l, c, EXPONENT + n + 1, 0);
        ahead(l, c, FIRST + n, 0);
        while (n < LARGEST && code(l, c, exponent > n, EXPONENT + n)) {
            n++;
            ahead(l, c, EXPONENT + n + 1, 0);
            ahead(l, c, FIRST + n, 0);
        }
    } else {
        while (n > 0 && code(l, c, exponent < n, LOWER + n)) {
            n--;
            ahead(l, c, LOWER + n, 0);
            ahead(l, c, FIRST + n, 0);
        }
    }
    int64_t value = 1;
    for (int64_t i = 0; i < n; i++) {
        int bit = size >> (n - 1 - i) & 1;
        if (i == 0) {
            ahead(l, c, SECOND + 2 * n, 0);
            ahead(l, c, SECOND + 2 * n + 1, 0);
        }
        if (i == 0)
            bit = code(l, c, bit, FIRST + n);
        else if (i == 1)
            bit = code(l, c, bit, SECOND + 2 * n + (value & 1));
        else
            bit = code_mixed(l, bit, 32768);
        value = 2 * value + bit;
    }
    return negative ? -value : value;
}

/* Levels around a place: its own frame f, the one before b, the one before that. */
typedef struct {
    int64_t w, ww, n, nn, nw, ne, c, texture;
    int64_t guess[N_PREDICTORS], inputs[N_NEIGHBOURS], energy, learned, base;
    double near[N_COLUMNS];
} around_t;

INLINED void predict(const levels_t *l, around_t *r, int64_t at, int64_t wide, int64_t column)
{
    const int64_t stripe = column / STRIPE;
    const int64_t *f = l->frame + at, *b = l->before + at;
    const int64_t w = f[-1], ww = f[-2], n = f[-wide], nn = f[-2 * wide], nw = f[-wide - 1],
                  ne = f[-wide + 1], nne = f[-2 * wide + 1], c = b[0], pw = b[-1], pn = b[-wide],
                  pe = b[1], ps = b[wide], pnw = b[-wide - 1], pne = b[-wide + 1],
                  psw = b[wide - 1], pse = b[wide + 1], old = l->older[at];
    int64_t *guess = r->guess;
    r->w = w, r->ww = ww, r->n = n, r->nn = nn, r->nw = nw, r->ne = ne, r->c = c;
    r->texture = median(w, n, nw);
    guess[0] = r->texture * 8;
    guess[1] = (w + n) * 4 + (ne - nw) * 2;
    guess[2] = c * 8;
    guess[3] = (c + median(w - pw, n - pn, nw - pnw)) * 8;
    guess[4] = c * 8 + (w - pw + n - pn) * 4;
    guess[5] = w + n + ne + nw + c + c + ps + pe;
    const int64_t base = (w + n + c + c) >> 2;
    const int64_t near[N_NEIGHBOURS] = {w, ww, n, nn, nw, ne, nne, c, pw,
                                        pn, pe, ps, pnw, pne, psw, pse, old};
    int64_t total = 0, energy = 0;
    for (int k = 0; k < N_NEIGHBOURS; k++) {
        const int64_t d = near[k] - base;
        r->inputs[k] = d;
        total += l->weights[k] * d;
        energy += d * d;
    }
    r->energy = energy;
    r->learned = base * 8 + (total >> (16 - FINE));
    guess[6] = clip(r->learned, 0, l->top << FINE);
    if (l->fitted) {
        r->base = gather(f, b, l->older + at, wide, r->near);
        const int64_t found = predict_fitted(r->base, r->near, l->sums + stripe * N_TAPS * N_COLUMNS,
                                             l->fit + stripe * N_COLUMNS, column % STRIPE == 0);
        guess[7] = clip(found, 0, l->top << FINE);
    }
}

/* Errors of a predictor around column x. */
static inline int64_t cost_of(const int64_t *above, const int64_t *row, int64_t x)
{
    return above[x] + above[x + 1] + row[x - 1] + ((above[x - 1] + row[x - 2]) >> 1);
}

static inline int64_t blended(const int64_t *guess, const int64_t *above, const int64_t *row,
                              int64_t x, int64_t wide)
{
    int64_t sum = 0, weighted = 0;
    for (int k = 0; k < N_PREDICTORS - 1; k++, above += wide, row += wide) {
        const int64_t cost = smaller(cost_of(above, row, x), 1 << 15);
        /* exact: a quotient of such small numbers is further from the next integer than it errs */
        const int64_t weight = (int64_t)(4294967296.0 / (double)(cost * cost + 8));
        sum += weight;
        weighted += weight * (guess[k] - guess[0]);
    }
    return guess[0] + quotient(weighted, sum);
}

/* The same with all predictors and weights that fall with the third power of the errors. */
INLINED int64_t blended_sharply(const int64_t *guess, const int64_t *above,
                                      const int64_t *row, int64_t x, int64_t wide)
{
    int64_t costs[N_PREDICTORS], least = INT64_MAX, sum = 0, weighted = 0;
    for (int k = 0; k < N_PREDICTORS; k++, above += wide, row += wide) {
        costs[k] = cost_of(above, row, x) + 2;
        least = smaller(least, costs[k]);
    }
    for (int k = 0; k < N_PREDICTORS; k++) {
        const int64_t part = (int64_t)((double)(least << 16) / (double)costs[k]); /* exact */
        const int64_t weight = (part * part >> 16) * part >> 16;
        sum += weight;
        weighted += weight * (guess[k] - guess[0]);
    }
    return guess[0] + quotient(weighted, sum);
}

static inline void adapt(levels_t *l, around_t *r, int64_t true_, int64_t *row, int64_t wide,
                         int64_t stripe)
{
    if (l->fitted)
        learn_level(true_ >> FINE, r->base, r->near, l->sums + stripe * N_TAPS * N_COLUMNS,
                    l->fit + stripe * N_COLUMNS);
    for (int k = 0; k < N_PREDICTORS - !l->fitted; k++)
        row[k * wide] = size_of(r->guess[k] - true_);
    const int64_t off = clip(true_ - r->learned, -(1 << 14), 1 << 14);
    const int64_t gain = quotient(off * (1 << 20), r->energy + 4);
    for (int k = 0; k < N_NEIGHBOURS; k++)
        l->weights[k] =
            clip(l->weights[k] + ((gain * r->inputs[k]) >> 14), -(1 << 19), 1 << 19);
}

/* Codes or fills in a frame from row *y and column *x on (padded indices). Returns 1 when done, or 0
 * where the next level might not fit into the buffer: then call again with a larger one. */
CLONES EXPORT int cf_levels_frame(levels_t *l, int64_t *y_, int64_t *x_)
{
    const int64_t wide = l->width + 4;
    for (int64_t y = *y_, x = *x_; y < l->height + 2; y++, x = 2) {
        int64_t *f = l->frame + y * wide, *errors = l->errors + y * wide;
        const int64_t *e = l->errors_before + y * wide;
        int64_t *above = l->costs + ((y + 1) & 1) * N_PREDICTORS * wide,
                *row = l->costs + (y & 1) * N_PREDICTORS * wide;
        if (x == 2)
            f[0] = f[1] = f[2 - wide];
        for (; x < l->width + 2; x++) {
            around_t r;
            predict(l, &r, y * wide + x, wide, x - 2);
            int64_t blend = l->fitted ? blended_sharply(r.guess, above, row, x, wide)
                                      : blended(r.guess, above, row, x, wide);
            const int64_t ew = errors[x - 1], en = errors[x - wide], ec = e[x],
                          enw = errors[x - wide - 1], ene = errors[x - wide + 1],
                          eww = errors[x - 2];
            const int64_t local = 2 * (size_of(ew) + size_of(en)) + size_of(enw) + size_of(ene) +
                                  size_of(eww);
            const int64_t earlier = 2 * size_of(ec) + size_of(e[x + 1]) + size_of(e[x + wide]) +
                                    size_of(e[x + wide + 1]) + size_of(e[x - 1]);
            const int64_t slope = size_of(r.w - r.nw) + size_of(r.n - r.nw) + size_of(r.n - r.ne) +
                                  size_of(r.w - r.ww);
            const int64_t activity = smaller(half_octave(local), 24);
            int64_t pattern = (r.w > r.texture) + 2 * (r.n > r.texture) + 4 * (r.c > r.texture) +
                              8 * (r.ne > r.texture) + 16 * (r.c == r.texture) +
                              32 * (r.nw > r.texture);
            int64_t *bias = l->bias + 2 * (pattern * 12 + smaller(activity, 11));
            const int64_t seen = bias[1];
            blend += quotient(bias[0], seen + 1);
            const int64_t fine = clip(blend, 0, l->top << FINE);
            const int64_t centre = (fine + 4) >> FINE;
            const int left = l->skip[(y - 2) * l->width + x - 2];
            if (left) {
                if (left == FILLED)
                    f[x] = centre;
                errors[x] = 0;
                for (int k = 0; k < N_PREDICTORS; k++)
                    row[k * wide + x] = above[k * wide + x];
                continue;
            }
            const int64_t part = fine - centre * 8 + 4, quick = smaller(half_octave(earlier), 20);
            const int64_t w = r.w - centre, n = r.n - centre, c = r.c - centre;
            context_t now;
            uint64_t *h = now.hashes;
            h[0] = (uint64_t)(activity * 8 + part);
            h[1] = (uint64_t)((activity >> 1) * 32 + quick) * 64 +
                   (uint64_t)smaller(half_octave(slope), 20);
            h[2] = (uint64_t)(signed_octave(w, 8) * 17 + signed_octave(n, 8)) * 32 +
                   (uint64_t)signed_octave(c, 6);
            h[3] = (uint64_t)(signed_octave(c, 9) * 19 + signed_octave(ec, 9)) * 32 +
                   (uint64_t)(activity >> 1);
            h[4] = (uint64_t)(signed_octave(r.guess[0] - fine, 9) * 19 +
                              signed_octave(r.guess[3] - fine, 9)) * 32 +
                   (uint64_t)signed_octave(r.guess[6] - fine, 9);
            h[5] = (uint64_t)(clip(w, -60, 60) + 64) * (1 << 14) +
                   (uint64_t)((clip(n, -60, 60) + 64) * 128 + clip(c, -60, 60) + 64);
            h[6] = (uint64_t)centre * 32 + (uint64_t)smaller(activity, 8);
            if (l->fitted) {
                int64_t low = r.guess[0], high = low;
                for (int k = 1; k < N_PREDICTORS; k++) {
                    low = smaller(low, r.guess[k]);
                    high = larger(high, r.guess[k]);
                }
                h[4] = (uint64_t)(smaller(half_octave((high - low) >> 1), 24) * 32 + activity) * 32 +
                       (uint64_t)signed_octave(r.guess[7] - fine, 9);
                h[6] = (uint64_t)eighth_octave(centre) * 32 + (uint64_t)activity;
            }
            h[7] = (uint64_t)(signed_octave(ew, 9) * 19 + signed_octave(en, 9)) * 512 +
                   (uint64_t)(signed_octave(ene, 6) * 19 + signed_octave(ec, 9));
            now.set = smaller(activity >> 1, MIX_SETS - 1);
            if (!l->decoding && (int64_t)l->state->at + ROOM > l->length) {
                *y_ = y, *x_ = x;
                return 0;
            }
            const int64_t likely = larger(bit_length(local / 7) - 1, 0);
            const int64_t error = code_error(l, &now, f[x] - centre, likely, centre == 0);
            const int64_t value = clip(centre + error, 0, l->top);
            f[x] = value;
            errors[x] = value - centre;
            adapt(l, &r, value * 8, row + x, wide, (x - 2) / STRIPE);
            bias[0] += clip(value * 8 - blend, -(1 << 10), 1 << 10);
            bias[1]++;
            if (seen > 254) {
                bias[0] >>= 1;
                bias[1] >>= 1;
            }
        }
        f[l->width + 2] = f[l->width + 3] = f[l->width + 1];
        for (int k = 0; k < N_PREDICTORS; k++) {
            row[k * wide + 1] = row[k * wide + 2];
            row[k * wide + l->width + 2] = row[k * wide + l->width + 1];
        }
    }
    return 1;
}
