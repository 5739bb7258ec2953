/* Formulas over any vector type, and the pieces both ways of running share. */

#define LOG2_E 1.44269504f

/* Farther out a gate is 0 or 1 in single precision; and no product of three overflows. */
#define FARTHEST 30.0f

static inline vf bounded(vf z) { return SMALLER(SET(FARTHEST), z); }

/* The minimax polynomial of 2^f, relative error 7.5e-8; found by iterated least squares. */
static inline vf exp2_of_part(vf f)
{
    vf p = SET(EXP2_5);
    p = FMA(p, f, SET(EXP2_4));
    p = FMA(p, f, SET(EXP2_3));
    p = FMA(p, f, SET(EXP2_2));
    p = FMA(p, f, SET(EXP2_1));
    return FMA(p, f, SET(EXP2_0));
}

static inline vf exp2_of(vf z);

static inline vf tanh_of(vf x)
{
    const vf e = exp2_of(bounded(TIMES(x, SET(-2.0f * LOG2_E)))), one = SET(1.0f);
    return OVER(MINUS(one, e), PLUS(one, e));
}

/* The gates of a cell times -log2(e), the third -2 log2(e); -> the state h, and c its next cell.
 *   c = c sigmoid(f) + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), one division each. */
static inline vf tanh_cell(vf i, vf f, vf g, vf o, vf *c)
{
    const vf one = SET(1.0f);
    const vf ei = PLUS(one, exp2_of(bounded(i))), ef = PLUS(one, exp2_of(bounded(f)));
    const vf e = exp2_of(bounded(g)), eo = PLUS(one, exp2_of(bounded(o)));
    const vf both = TIMES(ei, PLUS(one, e));
    const vf above = FMA(*c, both, TIMES(MINUS(one, e), ef));
    *c = OVER(above, TIMES(both, ef));
    const vf ec = exp2_of(bounded(TIMES(*c, SET(-2.0f * LOG2_E))));
    return OVER(MINUS(one, ec), TIMES(eo, PLUS(one, ec)));
}

/* The same with relu in the place of tanh; the third gate as it is. */
static inline vf relu_cell(vf i, vf f, vf g, vf o, vf *c)
{
    const vf one = SET(1.0f), zero = SET(0.0f);
    const vf ei = PLUS(one, exp2_of(bounded(i))), ef = PLUS(one, exp2_of(bounded(f)));
    const vf eo = PLUS(one, exp2_of(bounded(o)));
    *c = PLUS(OVER(*c, ef), OVER(LARGER(zero, g), ei));
    return OVER(LARGER(zero, *c), eo);
}

/* log(m) for m from sqrt(1/2) to sqrt(2): x - x^2/2 + x^3 p(x), x = m - 1. */
static inline vf log_of_part(vf m)
{
    const vf x = MINUS(m, SET(1.0f)), square = TIMES(x, x);
    vf p = SET(LOG_8);
    p = FMA(p, x, SET(LOG_7));
    p = FMA(p, x, SET(LOG_6));
    p = FMA(p, x, SET(LOG_5));
    p = FMA(p, x, SET(LOG_4));
    p = FMA(p, x, SET(LOG_3));
    p = FMA(p, x, SET(LOG_2));
    p = FMA(p, x, SET(LOG_1));
    p = FMA(p, x, SET(LOG_0));
    return FMA(TIMES(p, x), square, FMA(square, SET(-0.5f), x));
}

/* asinh(x) = log1p(|x| + x^2 / (1 + sqrt(1 + x^2))) with the sign of x. */
static inline vf asinh_of(vf x)
{
    const vf one = SET(1.0f), size = SIZE(x), square = TIMES(size, size);
    const vf y = PLUS(size, OVER(square, PLUS(one, ROOT(PLUS(one, square)))));
    const vf u = PLUS(one, y);
    vf exponent, part;
    split(u, &exponent, &part);
    const vf log = FMA(exponent, SET(0.693147181f), log_of_part(part));
    /* What 1 + y lost of y. */
    const vf lost = OVER(MINUS(y, MINUS(u, one)), u);
    return WITH_SIGN_OF(x, PLUS(log, lost));
}

/* A NaN stays, whichever comes first. */
static inline vf reduced(int reduction, vf all, vf x)
{
    switch (reduction) {
    case LARGEST:
        return NAN_OF(all, LARGER(all, x));
    case SMALLEST:
        return NAN_OF(all, SMALLER(all, x));
    default:
        return PLUS(all, x);
    }
}

static inline vf settled(int reduction, vf all, int64_t count)
{
    if (reduction == MEAN)
        return OVER(all, SET((float)count));
    /* Of two zeros it may be either, as the order has it: without a sign they are the same. */
    return reduction == SUM ? all : PLUS(all, SET(0.0f));
}

static inline int64_t smallest_at(const float *x, int64_t count, int64_t stride)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (x[i * stride] < x[best * stride])
            best = i;
    return best;
}

/* An index that came as a float, made safe. */
static inline int64_t chosen(float index, int64_t count)
{
    const int64_t at = index >= 0.0f && index < 16777216.0f ? (int64_t)index : 0;
    return at < count ? at : count - 1;
}
