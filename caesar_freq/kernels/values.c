/* Values of an array to normalised ones and back, without float64 copies of the whole. */
#include "kernels.h"

#define DEFINE_NORMALISE(name, from, to)                                                           \
    /* (value - offset) / range, 0 where `mask`. */                                                \
    CLONES EXPORT void name(const from *x, const uint8_t *mask, int64_t n, double offset,          \
                            double range, to *y)                                                   \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const double value = mask[i] ? offset : (double)x[i];                                  \
            y[i] = (to)((value - offset) / range);                                                 \
        }                                                                                          \
    }

DEFINE_NORMALISE(cf_normalise_f32_f32, float, float)
DEFINE_NORMALISE(cf_normalise_f32_f64, float, double)
DEFINE_NORMALISE(cf_normalise_f64_f32, double, float)
DEFINE_NORMALISE(cf_normalise_f64_f64, double, double)

#define DEFINE_RESTORE(name, from, to)                                                             \
    /* value * range + offset, at most `limit` in size; y may be x. */                             \
    CLONES EXPORT void name(const from *x, int64_t n, double offset, double range, double limit,   \
                            to *y)                                                                 \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            double value = (double)x[i] * range;                                                   \
            value = value + offset;                                                                \
            value = value > limit ? limit : value;                                                 \
            y[i] = (to)(value < -limit ? -limit : value);                                          \
        }                                                                                          \
    }

DEFINE_RESTORE(cf_restore_f32_f32, float, float)
DEFINE_RESTORE(cf_restore_f32_f64, float, double)
DEFINE_RESTORE(cf_restore_f64_f32, double, float)
DEFINE_RESTORE(cf_restore_f64_f64, double, double)
