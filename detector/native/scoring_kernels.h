/* The operations of a program, over any vector type. Included once for each instruction set and
 * number of vectors side by side (SIDE), with so many units of an LSTM at once that the registers
 * are full (TOGETHER); what is included before defines vf, V and the functions on vectors.
 *
 * The formulas: sigmoid(x) = 1 / (1 + e), tanh(x) = (1 - e^2) / (1 + e^2), e = 2^(-x log2(e)). The
 * factor is in the weights, and a cell has one division for its three gates.
 */

#define LANES (SIDE * V)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, SIDE)

static inline vf NAME(operand_)(const struct operand *o, int64_t at, int v, const float *constants,
                                const float *arena)
{
    return o->constant ? SET(constants[o->at + at]) : LOAD(arena + (o->at + at) * LANES + v * V);
}

#define EACH(EXPRESSION)                                                                           \
    for (int64_t i = 0; i < op->dims[0]; i++)                                                      \
        for (int64_t j = 0; j < op->dims[1]; j++)                                                  \
            for (int64_t k = 0; k < op->dims[2]; k++)                                              \
                for (int64_t l = 0; l < op->dims[3]; l++) {                                        \
                    const int64_t at_a = i * op->a.stride[0] + j * op->a.stride[1] +               \
                                         k * op->a.stride[2] + l * op->a.stride[3];                \
                    const int64_t at_b = i * op->b.stride[0] + j * op->b.stride[1] +               \
                                         k * op->b.stride[2] + l * op->b.stride[3];                \
                    (void)at_b;                                                                    \
                    for (int v = 0; v < SIDE; v++) {                                               \
                        const vf a = NAME(operand_)(&op->a, at_a, v, constants, arena);            \
                        STORE(to + v * V, EXPRESSION);                                             \
                    }                                                                              \
                    to += LANES;                                                                   \
                }

#define OPERAND_B NAME(operand_)(&op->b, at_b, v, constants, arena)

static void NAME(reduce_)(const struct op *op, float *arena)
{
    float *to = arena + op->to * LANES;
    for (int64_t i = 0; i < op->dims[0]; i++)
        for (int64_t j = 0; j < op->dims[1]; j++, to += LANES)
            for (int v = 0; v < SIDE; v++) {
                const float *from =
                    arena + (op->a.at + i * op->a.stride[0] + j * op->a.stride[1]) * LANES + v * V;
                vf all = LOAD(from);
                for (int64_t k = 1; k < op->dims[2]; k++)
                    all = reduced(op->reduction, all, LOAD(from + k * op->a.stride[2] * LANES));
                STORE(to + v * V, settled(op->reduction, all, op->dims[2]));
            }
}

/* Four outputs at once, and a part of the inputs at a time that stays in the first cache. */
#define PART 128

/* Four outputs of one row, over some of its inputs. */
static inline __attribute__((always_inline)) void
NAME(products_)(const float *w, const float *x, int64_t inputs, vf sum[4][SIDE])
{
    for (int64_t k = 0; k < inputs; k++) {
        vf in[SIDE];
        for (int v = 0; v < SIDE; v++)
            in[v] = LOAD(x + k * LANES + v * V);
        for (int g = 0; g < 4; g++) {
            const vf weight = SET(w[k * 4 + g]);
            for (int v = 0; v < SIDE; v++)
                sum[g][v] = FMA(weight, in[v], sum[g][v]);
        }
    }
}

/* The smallest output of each row alone. */
static void NAME(smallest_)(const struct op *op, float *arena)
{
    for (int64_t row = 0; row < op->rows; row++) {
        const float *x = arena + (op->a.at + row * op->row_stride) * LANES;
        vf all[SIDE];
        for (int v = 0; v < SIDE; v++)
            all[v] = SET(0.0f);
        for (int64_t first = 0; first < op->j; first += 4) {
            const int outputs = op->j - first < 4 ? (int)(op->j - first) : 4;
            vf sum[4][SIDE];
            for (int g = 0; g < 4; g++)
                for (int v = 0; v < SIDE; v++)
                    sum[g][v] = SET(op->lanes_b[first + g]);
            NAME(products_)(op->lanes_w + first * op->k, x, op->k, sum);
            for (int g = 0; g < outputs; g++)
                for (int v = 0; v < SIDE; v++)
                    all[v] = first + g ? reduced(SMALLEST, all[v], sum[g][v]) : sum[g][v];
        }
        for (int v = 0; v < SIDE; v++)
            STORE(arena + (op->to + row) * LANES + v * V, settled(SMALLEST, all[v], op->j));
    }
}

static void NAME(matmul_)(const struct op *op, float *arena)
{
    const int64_t blocks = rounded_up(op->j, 4) / 4;
    for (int64_t row = 0; row < op->rows; row++) {
        const float *x = arena + (op->a.at + row * op->row_stride) * LANES;
        float *to = arena + (op->to + row * op->j) * LANES;
        for (int64_t first = 0; first < op->k; first += PART) {
            const int64_t end = first + PART < op->k ? first + PART : op->k;
            for (int64_t block = 0; block < blocks; block++) {
                const float *w = op->lanes_w + (block * op->k + first) * 4;
                float *out = to + block * 4 * LANES;
                const int outputs = op->j - block * 4 < 4 ? (int)(op->j - block * 4) : 4;
                vf sum[4][SIDE];
                for (int g = 0; g < 4; g++)
                    for (int v = 0; v < SIDE; v++)
                        sum[g][v] = first == 0        ? SET(op->lanes_b[block * 4 + g])
                                    : g < outputs ? LOAD(out + g * LANES + v * V)
                                                  : SET(0.0f);
                NAME(products_)(w, x + first * LANES, end - first, sum);
                for (int g = 0; g < outputs; g++)
                    for (int v = 0; v < SIDE; v++)
                        STORE(out + g * LANES + v * V, sum[g][v]);
            }
        }
    }
}

/* Several units at once, `together` a constant where it is called: products of inputs with the
 * gates of each, added to what is there. */
static inline __attribute__((always_inline)) void
NAME(add_products_)(const int together, vf sum[][4][SIDE], const float *w, const float *x,
                    int64_t count)
{
    for (int64_t k = 0; k < count; k++) {
        vf in[SIDE];
        for (int v = 0; v < SIDE; v++)
            in[v] = LOAD(x + k * LANES + v * V);
        for (int s = 0; s < together; s++)
            for (int g = 0; g < 4; g++) {
                const vf weight = SET(w[(s * count + k) * 4 + g]);
                for (int v = 0; v < SIDE; v++)
                    sum[s][g][v] = FMA(weight, in[v], sum[s][g][v]);
            }
    }
}

/* What the inputs x, or NULL, give to the gates of some units; else it stands in `given`. */
static inline __attribute__((always_inline)) void
NAME(gates_)(const struct op *op, const int together, int64_t unit, const float *x,
             const float *given, vf sum[][4][SIDE])
{
    for (int s = 0; s < together; s++)
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < SIDE; v++)
                sum[s][g][v] = x ? SET(op->lanes_b[(unit + s) * 4 + g])
                                 : LOAD(given + ((unit + s) * 4 + g) * LANES + v * V);
    if (x)
        NAME(add_products_)(together, sum, op->lanes_w + unit * op->k * 4, x, op->k);
}

static inline __attribute__((always_inline)) void
NAME(units_)(const struct op *op, const int together, int64_t unit, const float *x,
             const float *given, const float *before, float *cell, float *after)
{
    vf sum[4][4][SIDE];
    NAME(gates_)(op, together, unit, x, given, sum);
    if (before)
        NAME(add_products_)(together, sum, op->lanes_r + unit * op->j * 4, before, op->j);
    for (int s = 0; s < together; s++)
        for (int v = 0; v < SIDE; v++) {
            float *at = cell + (unit + s) * LANES + v * V;
            vf c = LOAD(at);
            const vf h = op->relu
                             ? relu_cell(sum[s][0][v], sum[s][1][v], sum[s][2][v], sum[s][3][v], &c)
                             : tanh_cell(sum[s][0][v], sum[s][1][v], sum[s][2][v], sum[s][3][v], &c);
            STORE(at, c);
            STORE(after + (unit + s) * LANES + v * V, h);
        }
}

/* scratch: 7 j rows of lanes: the cell, two hidden states, four gates of a repeated input. */
static void NAME(lstm_)(const struct op *op, float *arena, float *scratch)
{
    const int64_t units = op->j;
    float *cell = scratch, *states[2] = {scratch + units * LANES, scratch + 2 * units * LANES};
    float *given = scratch + 3 * units * LANES;
    const int repeated = op->step_stride == 0 && op->steps > 1;
    const float *before = op->first_hidden < 0 ? NULL : arena + op->first_hidden * LANES;
    if (op->first_cell < 0)
        memset(cell, 0, (size_t)(units * LANES) * sizeof(float));
    else
        memcpy(cell, arena + op->first_cell * LANES, (size_t)(units * LANES) * sizeof(float));
    if (repeated)
        for (int64_t u = 0; u < units; u++) {
            vf sum[1][4][SIDE];
            NAME(gates_)(op, 1, u, arena + op->a.at * LANES, NULL, sum);
            for (int g = 0; g < 4; g++)
                for (int v = 0; v < SIDE; v++)
                    STORE(given + (u * 4 + g) * LANES + v * V, sum[0][g][v]);
        }
    for (int64_t t = 0; t < op->steps; t++) {
        const float *x = repeated ? NULL : arena + (op->a.at + t * op->step_stride) * LANES;
        float *after = op->to < 0 ? states[t & 1] : arena + (op->to + t * units) * LANES;
        int64_t u = 0;
        for (; u + TOGETHER <= units; u += TOGETHER)
            NAME(units_)(op, TOGETHER, u, x, given, before, cell, after);
        for (; u < units; u++)
            NAME(units_)(op, 1, u, x, given, before, cell, after);
        before = after;
    }
    if (op->hidden >= 0)
        memcpy(arena + op->hidden * LANES, before, (size_t)(units * LANES) * sizeof(float));
    if (op->cell >= 0)
        memcpy(arena + op->cell * LANES, cell, (size_t)(units * LANES) * sizeof(float));
}

static void NAME(run_)(const struct op *op, const float *constants, float *arena, float *scratch)
{
    float *to = arena + op->to * LANES;
    switch (op->kind) {
    case COPY:
        EACH(a)
        break;
    case ADD:
        EACH(PLUS(a, OPERAND_B))
        break;
    case SUB:
        EACH(MINUS(a, OPERAND_B))
        break;
    case MUL:
        EACH(TIMES(a, OPERAND_B))
        break;
    case CLIP: {
        const vf low = SET(op->low), high = SET(op->high);
        EACH(SMALLER(high, LARGER(low, a))) /* a second that is NaN stays */
        break;
    }
    case ASINH:
        EACH(asinh_of(a))
        break;
    case SQRT:
        EACH(ROOT(a))
        break;
    case RELU:
        EACH(LARGER(SET(0.0f), a))
        break;
    case TANH:
        EACH(tanh_of(a))
        break;
    case REDUCE:
        NAME(reduce_)(op, arena);
        break;
    case MATMUL:
        if (op->reduction == SMALLEST)
            NAME(smallest_)(op, arena);
        else
            NAME(matmul_)(op, arena);
        break;
    case LSTM:
        NAME(lstm_)(op, arena, scratch);
        break;
    case ARGMIN:
        for (int lane = 0; lane < LANES; lane++) {
            const float *x = arena + op->a.at * LANES + lane;
            to[lane] = (float)smallest_at(x, op->k, LANES);
        }
        break;
    case GATHER:
        for (int lane = 0; lane < LANES; lane++) {
            const int64_t row = chosen(arena[op->b.at * LANES + lane], op->k);
            for (int64_t j = 0; j < op->j; j++)
                to[j * LANES + lane] = constants[op->a.at + row * op->j + j];
        }
        break;
    }
}

#undef EACH
#undef OPERAND_B
#undef PART
#undef LANES
#undef NAME
#undef JOIN
#undef JOIN_
