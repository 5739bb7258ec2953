/* Without any instruction set of its own: four floats as the compiler sees fit. */

#include <math.h>
#include <string.h>

#include "scoring.h"

#define V 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf LOAD(const float *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void STORE(float *p, vf x) { memcpy(p, &x, sizeof x); }
static inline vf SET(float x) { return (vf){x, x, x, x}; }
static inline vf PLUS(vf a, vf b) { return a + b; }
static inline vf MINUS(vf a, vf b) { return a - b; }
static inline vf TIMES(vf a, vf b) { return a * b; }
static inline vf OVER(vf a, vf b) { return a / b; }
static inline vf FMA(vf a, vf b, vf c) { return a * b + c; }

/* Where the mask is set a, elsewhere b. */
static inline vf either(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf SMALLER(vf a, vf b) { return either(a < b, a, b); }
static inline vf LARGER(vf a, vf b) { return either(a > b, a, b); }
static inline vf NAN_OF(vf a, vf x) { return either(a != a, a, x); }
static inline vf ROOT(vf a) { return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }

#define SIGN ((vi)SET(-0.0f))
static inline vf SIZE(vf a) { return (vf)((vi)a & ~SIGN); }
static inline vf WITH_SIGN_OF(vf a, vf x) { return (vf)((vi)x | ((vi)a & SIGN)); }

#include "scoring_exp2.h"

static inline void split(vf u, vf *exponent, vf *part)
{
    const vi whole = ((vi)u - 0x3f3504f3) >> 23;
    *exponent = __builtin_convertvector(whole, vf);
    *part = (vf)((vi)u - (whole << 23));
}

#include "scoring_log.h"
#include "scoring_math.h"

static inline vf exp2_of(vf z)
{
    const vf low = LARGER(SET(LOWEST_EXPONENT), z), sum = PLUS(low, SET(ROUNDS_TO_ONES));
    const vf part = exp2_of_part(MINUS(low, MINUS(sum, SET(ROUNDS_TO_ONES))));
    return NAN_OF(z, (vf)((vi)part + ((vi)sum << 23)));
}

#include "scoring_one.h"
#define SIDE 4
#define TOGETHER 1
#include "scoring_kernels.h"
#undef SIDE
#undef TOGETHER
#define SIDE 1
#define TOGETHER 1
#include "scoring_kernels.h"

const struct kernels detector_plain = {"plain", V, 4 * V, V, run_4, run_1, run_one};
