#include "scoring.h"

#ifdef DETECTOR_X86
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#include <string.h>

typedef __m256 vf;
#define V 8
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, x) _mm256_storeu_ps(p, x)
#define SET(x) _mm256_set1_ps(x)
#define PLUS(a, b) _mm256_add_ps(a, b)
#define MINUS(a, b) _mm256_sub_ps(a, b)
#define TIMES(a, b) _mm256_mul_ps(a, b)
#define OVER(a, b) _mm256_div_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SMALLER(a, b) _mm256_min_ps(a, b)
#define LARGER(a, b) _mm256_max_ps(a, b)
#define ROOT(a) _mm256_sqrt_ps(a)
#define SIZE(a) _mm256_andnot_ps(SET(-0.0f), a)
#define WITH_SIGN_OF(a, x) _mm256_or_ps(x, _mm256_and_ps(a, SET(-0.0f)))
#define NAN_OF(a, x) _mm256_blendv_ps(x, a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q))

#include "scoring_exp2.h"

static inline void split(vf u, vf *exponent, vf *part)
{
    const __m256i bits = _mm256_castps_si256(u);
    const __m256i whole =
        _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
    *exponent = _mm256_cvtepi32_ps(whole);
    *part = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(whole, 23)));
}

#include "scoring_log.h"
#include "scoring_math.h"

static inline vf exp2_of(vf z)
{
    /* The sum with a number so large rounds to whole ones; its last bits are the exponent. */
    const vf low = LARGER(SET(LOWEST_EXPONENT), z), sum = PLUS(low, SET(ROUNDS_TO_ONES));
    const vf part = exp2_of_part(MINUS(low, MINUS(sum, SET(ROUNDS_TO_ONES))));
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(sum), 23);
    const vf power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(part), exponent));
    return NAN_OF(z, power);
}

#include "scoring_one.h"
#define SIDE 2
#define TOGETHER 1
#include "scoring_kernels.h"
#undef SIDE
#undef TOGETHER
#define SIDE 1
#define TOGETHER 2
#include "scoring_kernels.h"

const struct kernels detector_avx2 = {"avx2", V, 2 * V, V, run_2, run_1, run_one};
#endif
