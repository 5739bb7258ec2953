#include "scoring.h"

#ifdef DETECTOR_X86
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#include <immintrin.h>
#include <string.h>

typedef __m512 vf;
#define V 16
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, x) _mm512_storeu_ps(p, x)
#define SET(x) _mm512_set1_ps(x)
#define PLUS(a, b) _mm512_add_ps(a, b)
#define MINUS(a, b) _mm512_sub_ps(a, b)
#define TIMES(a, b) _mm512_mul_ps(a, b)
#define OVER(a, b) _mm512_div_ps(a, b)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SMALLER(a, b) _mm512_min_ps(a, b)
#define LARGER(a, b) _mm512_max_ps(a, b)
#define ROOT(a) _mm512_sqrt_ps(a)
#define SIZE(a) _mm512_abs_ps(a)
#define WITH_SIGN_OF(a, x) _mm512_or_ps(x, _mm512_and_ps(a, SET(-0.0f)))
#define NAN_OF(a, x) _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a)

/* Of 2^f for f from 0 to 1. */
#define EXP2_0 0.9999999251f
#define EXP2_1 0.6931530731f
#define EXP2_2 0.2401536174f
#define EXP2_3 0.05582631742f
#define EXP2_4 0.008989340472f
#define EXP2_5 0.001877576639f

static inline void split(vf u, vf *exponent, vf *part)
{
    const __m512i bits = _mm512_castps_si512(u);
    const __m512i whole =
        _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
    *exponent = _mm512_cvtepi32_ps(whole);
    *part = _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(whole, 23)));
}

#include "scoring_log.h"
#include "scoring_math.h"

static inline vf exp2_of(vf z)
{
    return _mm512_scalef_ps(exp2_of_part(_mm512_reduce_ps(z, 0x09)), z);
}

#include "scoring_one.h"
#define SIDE 4
#define TOGETHER 1
#include "scoring_kernels.h"
#undef SIDE
#undef TOGETHER
#define SIDE 1
#define TOGETHER 4
#include "scoring_kernels.h"

const struct kernels detector_avx512 = {"avx512", V, 4 * V, V, run_4, run_1, run_one};
#endif
