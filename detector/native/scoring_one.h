/* The operations of a program for one window: its own floats side by side, in the same order of
 * every sum as among lanes. Tails shorter than a vector go through a vector of their own. */

static inline vf some(const float *from, int64_t stride, int64_t count)
{
    float values[V];
    if (stride == 1 && count == V)
        return LOAD(from);
    for (int64_t i = 0; i < V; i++)
        values[i] = i < count ? from[i * stride] : 0.0f;
    return LOAD(values);
}

static inline void put(float *to, vf x, int64_t count)
{
    if (count == V) {
        STORE(to, x);
    } else {
        float values[V];
        STORE(values, x);
        memcpy(to, values, (size_t)count * sizeof(float));
    }
}

static void elementwise_one(const struct op *op, const float *constants, float *arena)
{
    const float *base_a = op->a.constant ? constants : arena;
    const float *base_b = op->b.constant ? constants : arena;
    const int two = op->kind == ADD || op->kind == SUB || op->kind == MUL;
    const vf low = SET(op->low), high = SET(op->high), zero = SET(0.0f);
    float *to = arena + op->to;
    for (int64_t i = 0; i < op->dims[0]; i++)
        for (int64_t j = 0; j < op->dims[1]; j++)
            for (int64_t k = 0; k < op->dims[2]; k++) {
                const float *from_a = base_a + op->a.at + i * op->a.stride[0] +
                                      j * op->a.stride[1] + k * op->a.stride[2];
                const float *from_b = base_b + op->b.at + i * op->b.stride[0] +
                                      j * op->b.stride[1] + k * op->b.stride[2];
                for (int64_t l = 0; l < op->dims[3]; l += V) {
                    const int64_t count = op->dims[3] - l < V ? op->dims[3] - l : V;
                    const vf a = some(from_a + l * op->a.stride[3], op->a.stride[3], count);
                    vf b = zero, x = a;
                    if (two)
                        b = some(from_b + l * op->b.stride[3], op->b.stride[3], count);
                    switch (op->kind) {
                    case ADD: x = PLUS(a, b); break;
                    case SUB: x = MINUS(a, b); break;
                    case MUL: x = TIMES(a, b); break;
                    case CLIP: x = SMALLER(high, LARGER(low, a)); break;
                    case ASINH: x = asinh_of(a); break;
                    case SQRT: x = ROOT(a); break;
                    case RELU: x = LARGER(zero, a); break;
                    case TANH: x = tanh_of(a); break;
                    default: break;
                    }
                    put(to + l, x, count);
                }
                to += op->dims[3];
            }
}

static inline float reduced_scalar(int reduction, float all, float x)
{
    switch (reduction) {
    case LARGEST:
        return all != all || all > x ? all : x;
    case SMALLEST:
        return all != all || all < x ? all : x;
    default:
        return all + x;
    }
}

/* The largest or smallest of floats in a row: the order makes no difference. */
static float extreme(int reduction, const float *x, int64_t count)
{
    int64_t k = 0;
    float all = x[0];
    if (count >= V) {
        float lanes[V];
        vf several = LOAD(x);
        for (k = V; k + V <= count; k += V)
            several = reduced(reduction, several, LOAD(x + k));
        STORE(lanes, several);
        all = lanes[0];
        for (int lane = 1; lane < V; lane++)
            all = reduced_scalar(reduction, all, lanes[lane]);
    }
    for (; k < count; k++)
        all = reduced_scalar(reduction, all, x[k]);
    return all;
}

static void reduce_one(const struct op *op, float *arena)
{
    float *to = arena + op->to;
    const int64_t inner = op->dims[1], count = op->dims[2], step = op->a.stride[2];
    const int extremes = op->reduction == LARGEST || op->reduction == SMALLEST;
    for (int64_t i = 0; i < op->dims[0]; i++, to += inner) {
        const float *from = arena + op->a.at + i * op->a.stride[0];
        int64_t j = 0;
        for (; op->a.stride[1] == 1 && j + V <= inner; j += V) {
            vf all = LOAD(from + j);
            for (int64_t k = 1; k < count; k++)
                all = reduced(op->reduction, all, LOAD(from + j + k * step));
            STORE(to + j, settled(op->reduction, all, count));
        }
        for (; j < inner; j++) {
            const float *first = from + j * op->a.stride[1];
            float all = first[0];
            if (extremes && step == 1)
                all = extreme(op->reduction, first, count);
            else
                for (int64_t k = 1; k < count; k++)
                    all = reduced_scalar(op->reduction, all, first[k * step]);
            to[j] = op->reduction == MEAN ? all / (float)count : extremes ? all + 0.0f : all;
        }
    }
}

/* rows x (side vectors) outputs at once; both are constants where it is called. */
static inline __attribute__((always_inline)) void
products_one(const int rows, const int side, const float *x, int64_t row_stride, int64_t inputs,
             const float *w, int64_t width, const float *bias, float *to, int64_t to_stride,
             int64_t count)
{
    vf sum[4][BLOCK_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < side; v++)
            sum[r][v] = LOAD(bias + v * V);
    for (int64_t k = 0; k < inputs; k++) {
        vf weight[BLOCK_VECTORS];
        for (int v = 0; v < side; v++)
            weight[v] = LOAD(w + k * width + v * V);
        for (int r = 0; r < rows; r++) {
            const vf in = SET(x[r * row_stride + k]);
            for (int v = 0; v < side; v++)
                sum[r][v] = FMA(weight[v], in, sum[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < side; v++) {
            const int64_t left = count - v * V;
            if (left > 0)
                put(to + r * to_stride + v * V, sum[r][v], left < V ? left : V);
        }
}

/* x (rows, inputs) with the packed weights of one window; to (rows, outputs), to_stride apart. */
static void matmul_one(const float *x, int64_t rows, int64_t row_stride, int64_t inputs,
                       int64_t outputs, const float *w, const float *bias, float *to,
                       int64_t to_stride)
{
    const int64_t padded = rounded_up(outputs, V);
    for (int64_t first = 0; first < padded; first += BLOCK_VECTORS * V) {
        const int64_t width =
            padded - first < BLOCK_VECTORS * V ? padded - first : BLOCK_VECTORS * V;
        const float *block = w + first * inputs;
        int64_t row = 0;
#define PRODUCTS(ROWS, SIDES)                                                                      \
    products_one(ROWS, SIDES, x + row * row_stride, row_stride, inputs, block + at, width,         \
                 bias + first + at, to + row * to_stride + first + at, to_stride,                  \
                 outputs - first - at)
        for (; row + 4 <= rows; row += 4) {
            int64_t at = 0;
            for (; at + 4 * V <= width; at += 4 * V)
                PRODUCTS(4, 4);
            for (; at < width; at += V)
                PRODUCTS(4, 1);
        }
        for (; row < rows; row++) {
            int64_t at = 0;
            for (; at + 8 * V <= width; at += 8 * V)
                PRODUCTS(1, 8);
            for (; at + 4 * V <= width; at += 4 * V)
                PRODUCTS(1, 4);
            for (; at + 2 * V <= width; at += 2 * V)
                PRODUCTS(1, 2);
            for (; at < width; at += V)
                PRODUCTS(1, 1);
        }
#undef PRODUCTS
    }
}

/* scratch: the outputs of a row. */
static void smallest_one(const struct op *op, float *arena, float *scratch)
{
    for (int64_t row = 0; row < op->rows; row++) {
        matmul_one(arena + op->a.at + row * op->row_stride, 1, op->row_stride, op->k, op->j,
                   op->one_w, op->one_b, scratch, op->j);
        arena[op->to + row] = extreme(SMALLEST, scratch, op->j) + 0.0f;
    }
}

/* The gates of `side` vectors of units: what the input gave, and the products of the state. */
static inline __attribute__((always_inline)) void
units_one(const struct op *op, const int side, const float *given, const float *before,
          int64_t unit, float *cell, float *after)
{
    vf sum[2][4];
    for (int s = 0; s < side; s++)
        for (int g = 0; g < 4; g++)
            sum[s][g] = LOAD(given + (unit / V + s) * 4 * V + g * V);
    if (before) {
        const float *w = op->one_r + unit * 4 * op->j;
        for (int64_t k = 0; k < op->j; k++) {
            const vf in = SET(before[k]);
            for (int s = 0; s < side; s++)
                for (int g = 0; g < 4; g++)
                    sum[s][g] = FMA(LOAD(w + (s * op->j + k) * 4 * V + g * V), in, sum[s][g]);
        }
    }
    for (int s = 0; s < side; s++) {
        vf c = LOAD(cell + unit + s * V);
        const vf h = op->relu ? relu_cell(sum[s][0], sum[s][1], sum[s][2], sum[s][3], &c)
                              : tanh_cell(sum[s][0], sum[s][1], sum[s][2], sum[s][3], &c);
        STORE(cell + unit + s * V, c);
        STORE(after + unit + s * V, h);
    }
}

/* scratch: the gates of every step, 4 padded units each; the cell; two states. */
static void lstm_one(const struct op *op, float *arena, float *scratch)
{
    const int64_t units = op->j, padded = rounded_up(units, V);
    const int repeated = op->step_stride == 0;
    float *given = scratch, *cell = given + (repeated ? 1 : op->steps) * 4 * padded;
    float *states[2] = {cell + padded, cell + 2 * padded}, *before = NULL;
    memset(cell, 0, (size_t)(3 * padded) * sizeof(float));
    if (op->first_cell >= 0)
        memcpy(cell, arena + op->first_cell, (size_t)units * sizeof(float));
    if (op->first_hidden >= 0) {
        before = states[1];
        memcpy(before, arena + op->first_hidden, (size_t)units * sizeof(float));
    }
    matmul_one(arena + op->a.at, repeated ? 1 : op->steps, op->step_stride, op->k, 4 * padded,
               op->one_w, op->one_b, given, 4 * padded);
    for (int64_t t = 0; t < op->steps; t++) {
        float *after = states[t & 1];
        const float *gates = given + (repeated ? 0 : t * 4 * padded);
        int64_t unit = 0;
        for (; unit + 2 * V <= padded; unit += 2 * V)
            units_one(op, 2, gates, before, unit, cell, after);
        for (; unit < padded; unit += V)
            units_one(op, 1, gates, before, unit, cell, after);
        if (op->to >= 0)
            memcpy(arena + op->to + t * units, after, (size_t)units * sizeof(float));
        before = after;
    }
    if (op->hidden >= 0)
        memcpy(arena + op->hidden, before, (size_t)units * sizeof(float));
    if (op->cell >= 0)
        memcpy(arena + op->cell, cell, (size_t)units * sizeof(float));
}

static void run_one(const struct op *op, const float *constants, float *arena, float *scratch)
{
    switch (op->kind) {
    case REDUCE:
        reduce_one(op, arena);
        break;
    case MATMUL:
        if (op->reduction == SMALLEST) {
            smallest_one(op, arena, scratch);
            break;
        }
        matmul_one(arena + op->a.at, op->rows, op->row_stride, op->k, op->j, op->one_w, op->one_b,
                   arena + op->to, op->j);
        break;
    case LSTM:
        lstm_one(op, arena, scratch);
        break;
    case ARGMIN:
        arena[op->to] = (float)smallest_at(arena + op->a.at, op->k, 1);
        break;
    case GATHER:
        memcpy(arena + op->to,
               constants + op->a.at + chosen(arena[op->b.at], op->k) * op->j,
               (size_t)op->j * sizeof(float));
        break;
    default:
        elementwise_one(op, constants, arena);
    }
}
