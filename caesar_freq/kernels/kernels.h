/* Native kernels of the frequency codec. Each does what a numba function of the same name in
 * caesar_freq/entropy or caesar_freq/codec does, and gives the same bits. */
#ifndef CAESAR_KERNELS_H
#define CAESAR_KERNELS_H

#include <stdint.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Loops that gain from wider vectors are compiled for each; the loader picks. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

enum {
    HIDDEN = 16,    /* entropy/network.py */
    N_LOCAL = 17,   /* entropy/context.py */
    ROW = 20,       /* bytes of a row of local features, zeros behind the last */
    N_BINS = 80,    /* entropy/tables.py */
    N_SYMBOLS = 114,
    DIRECT = 16,
    PRECISION = 16,
};

/* Weights of entropy/network.py, rearranged so that four inputs of a hidden unit lie together. */
typedef struct {
    int8_t w1[ROW / 4][HIDDEN][4];
    int8_t w2[HIDDEN / 4][HIDDEN][4];
    int8_t w3[HIDDEN];
    int32_t b2[HIDDEN];
    int32_t b3;
} network_t;

/* Best instruction set that may be used: 0 portable, 1 AVX2, 2 AVX-512 VNNI. */
int instruction_set(void);

/* Scale bins of n rows of features; `bias` is the first layer's for the whole plane. `features`
 * and `bins` must have room for the next multiple of four rows. */
void network_bins(const network_t *net, const uint8_t *features, int64_t n, const int32_t *bias,
                  uint8_t *bins);

/* errors.c */
int64_t cf_log2_bits(const float *y, int64_t n, float scale, float more);

#endif
