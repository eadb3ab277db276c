/* The integer network of entropy/network.py: 17 local features to 16 to 16 to one scale bin.
 * Features and hidden values are 0..127 and weights -127..127, so that sums of two products fit
 * int16 and all sums int32: every instruction set gives the same integers. */
#include "kernels.h"

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_X86 1
#include <immintrin.h>
#endif

static inline int32_t clip(int32_t value, int32_t top)
{
    return value < 0 ? 0 : value > top ? top : value;
}

static void layer(const int8_t w[][HIDDEN][4], int groups, const uint8_t *in, const int32_t *bias,
                  uint8_t *out)
{
    int32_t sum[HIDDEN];
    for (int h = 0; h < HIDDEN; h++)
        sum[h] = bias[h];
    for (int g = 0; g < groups; g++)
        for (int h = 0; h < HIDDEN; h++)
            for (int c = 0; c < 4; c++)
                sum[h] += (int32_t)w[g][h][c] * in[4 * g + c];
    for (int h = 0; h < HIDDEN; h++)
        out[h] = (uint8_t)clip(sum[h] >> 6, 127);
}

static void bins_portable(const network_t *net, const uint8_t *features, int64_t n,
                          const int32_t *bias, uint8_t *bins)
{
    for (int64_t a = 0; a < n; a++) {
        uint8_t first[HIDDEN], second[HIDDEN];
        layer(net->w1, ROW / 4, features + a * ROW, bias, first);
        layer(net->w2, HIDDEN / 4, first, net->b2, second);
        int32_t sum = net->b3;
        for (int h = 0; h < HIDDEN; h++)
            sum += (int32_t)net->w3[h] * second[h];
        bins[a] = (uint8_t)clip((sum >> 7) + 40, N_BINS - 1);
    }
}

#ifdef HAVE_X86
#define AVX2 __attribute__((target("avx2")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

AVX2 static inline __m256i dot4(__m256i sum, __m256i in, __m256i w)
{
    const __m256i ones = _mm256_set1_epi16(1);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(in, w), ones));
}

/* 16 sums in two registers to 16 bytes, shifted and clipped. */
AVX2 static inline __m128i narrow(__m256i low, __m256i high)
{
    const __m256i top = _mm256_set1_epi32(127), zero = _mm256_setzero_si256();
    low = _mm256_min_epi32(_mm256_max_epi32(_mm256_srai_epi32(low, 6), zero), top);
    high = _mm256_min_epi32(_mm256_max_epi32(_mm256_srai_epi32(high, 6), zero), top);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

AVX2 static inline uint8_t last_layer(const network_t *net, __m128i hidden)
{
    __m128i w = _mm_loadu_si128((const __m128i *)net->w3);
    __m128i sum = _mm_madd_epi16(_mm_maddubs_epi16(hidden, w), _mm_set1_epi16(1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
    return (uint8_t)clip(((_mm_cvtsi128_si32(sum) + net->b3) >> 7) + 40, N_BINS - 1);
}

AVX2 static inline int32_t four(const uint8_t *at)
{
    int32_t word;
    __builtin_memcpy(&word, at, 4);
    return word;
}

AVX2 static void bins_avx2(const network_t *net, const uint8_t *features, int64_t n,
                           const int32_t *bias, uint8_t *bins)
{
    const __m256i *w1 = (const __m256i *)net->w1, *w2 = (const __m256i *)net->w2;
    const __m256i b1[2] = {_mm256_loadu_si256((const __m256i *)bias),
                           _mm256_loadu_si256((const __m256i *)(bias + 8))};
    const __m256i b2[2] = {_mm256_loadu_si256((const __m256i *)net->b2),
                           _mm256_loadu_si256((const __m256i *)(net->b2 + 8))};
    for (int64_t a = 0; a < n; a += 2) {
        __m256i sum[2][2];
        for (int c = 0; c < 2; c++)
            sum[c][0] = b1[0], sum[c][1] = b1[1];
        for (int g = 0; g < ROW / 4; g++) {
            __m256i low = _mm256_loadu_si256(w1 + 2 * g), high = _mm256_loadu_si256(w1 + 2 * g + 1);
            for (int c = 0; c < 2; c++) {
                __m256i in = _mm256_set1_epi32(four(features + (a + c) * ROW + 4 * g));
                sum[c][0] = dot4(sum[c][0], in, low);
                sum[c][1] = dot4(sum[c][1], in, high);
            }
        }
        __m256i in[2];
        for (int c = 0; c < 2; c++) {
            in[c] = _mm256_broadcastsi128_si256(narrow(sum[c][0], sum[c][1]));
            sum[c][0] = b2[0], sum[c][1] = b2[1];
        }
#define GROUP(g, lanes)                                                                            \
    {                                                                                              \
        __m256i low = _mm256_loadu_si256(w2 + 2 * g), high = _mm256_loadu_si256(w2 + 2 * g + 1);   \
        for (int c = 0; c < 2; c++) {                                                              \
            __m256i part = _mm256_shuffle_epi32(in[c], lanes);                                     \
            sum[c][0] = dot4(sum[c][0], part, low);                                                \
            sum[c][1] = dot4(sum[c][1], part, high);                                               \
        }                                                                                          \
    }
        GROUP(0, 0x00) GROUP(1, 0x55) GROUP(2, 0xAA) GROUP(3, 0xFF)
#undef GROUP
        for (int c = 0; c < 2; c++)
            bins[a + c] = last_layer(net, narrow(sum[c][0], sum[c][1]));
    }
}

VNNI static inline __m128i narrow512(__m512i sum)
{
    sum = _mm512_max_epi32(_mm512_srai_epi32(sum, 6), _mm512_setzero_si512());
    return _mm512_cvtepi32_epi8(_mm512_min_epi32(sum, _mm512_set1_epi32(127)));
}

VNNI static void bins_vnni(const network_t *net, const uint8_t *features, int64_t n,
                           const int32_t *bias, uint8_t *bins)
{
    __m512i w1[ROW / 4], w2[HIDDEN / 4];
    for (int g = 0; g < ROW / 4; g++)
        w1[g] = _mm512_loadu_si512(net->w1[g]);
    for (int g = 0; g < HIDDEN / 4; g++)
        w2[g] = _mm512_loadu_si512(net->w2[g]);
    const __m512i b1 = _mm512_loadu_si512(bias), b2 = _mm512_loadu_si512(net->b2);
    const __m128i w3 = _mm_loadu_si128((const __m128i *)net->w3);
    for (int64_t a = 0; a < n; a += 4) {
        __m512i sum[4];
        for (int c = 0; c < 4; c++) {
            sum[c] = b1;
            for (int g = 0; g < ROW / 4; g++) {
                __m512i in = _mm512_set1_epi32(four(features + (a + c) * ROW + 4 * g));
                sum[c] = _mm512_dpbusd_epi32(sum[c], in, w1[g]);
            }
        }
        __m128i last[4];
        for (int c = 0; c < 4; c++) {
            __m512i in = _mm512_broadcast_i32x4(narrow512(sum[c]));
            __m512i two = _mm512_dpbusd_epi32(b2, _mm512_shuffle_epi32(in, 0x00), w2[0]);
            two = _mm512_dpbusd_epi32(two, _mm512_shuffle_epi32(in, 0x55), w2[1]);
            two = _mm512_dpbusd_epi32(two, _mm512_shuffle_epi32(in, 0xAA), w2[2]);
            two = _mm512_dpbusd_epi32(two, _mm512_shuffle_epi32(in, 0xFF), w2[3]);
            last[c] = _mm_dpbusd_epi32(_mm_setzero_si128(), narrow512(two), w3);
        }
        __m128i sums = _mm_hadd_epi32(_mm_hadd_epi32(last[0], last[1]),
                                      _mm_hadd_epi32(last[2], last[3]));
        sums = _mm_srai_epi32(_mm_add_epi32(sums, _mm_set1_epi32(net->b3)), 7);
        sums = _mm_max_epi32(_mm_add_epi32(sums, _mm_set1_epi32(40)), _mm_setzero_si128());
        sums = _mm_min_epi32(sums, _mm_set1_epi32(N_BINS - 1));
        int32_t packed = _mm_cvtsi128_si32(_mm_cvtepi32_epi8(sums));
        __builtin_memcpy(bins + a, &packed, 4);
    }
}
#endif

static int chosen = 0;

int instruction_set(void)
{
    return chosen;
}

/* Best instruction set of this processor, at most `limit`. */
EXPORT int cf_instruction_set(int limit)
{
    chosen = 0;
#ifdef HAVE_X86
    __builtin_cpu_init();
    if (limit >= 1 && __builtin_cpu_supports("avx2"))
        chosen = 1;
    if (limit >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        chosen = 2;
#else
    (void)limit;
#endif
    return chosen;
}

void network_bins(const network_t *net, const uint8_t *features, int64_t n, const int32_t *bias,
                  uint8_t *bins)
{
#ifdef HAVE_X86
    if (chosen == 2) {
        bins_vnni(net, features, n, bias, bins);
        return;
    }
    if (chosen == 1) {
        bins_avx2(net, features, n, bias, bins);
        return;
    }
#endif
    bins_portable(net, features, n, bias, bins);
}
