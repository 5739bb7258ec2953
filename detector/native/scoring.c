/* The module _scoring: programs that turn windows into numbers. See scoring.h.
 *
 * A program is checked as a whole when it is made: after that nothing it does can leave its arena
 * or its constants, whatever numbers it was made of.
 */

#include <Python.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "scoring.h"

#define FIELDS 35
#define MOST_FLOATS (INT64_C(1) << 30)
#define MOST_OPS 100000
#define MOST_OUTPUTS 64
#define ALIGNMENT 64

enum field {
    KIND, TO, DIMS_AT, A = DIMS_AT + DIMS, B = A + 2 + DIMS, LOW = B + 2 + DIMS, HIGH, REDUCTION,
    ROWS, ROW_STRIDE, K, J, STEPS, STEP_STRIDE, HIDDEN, CELL, FIRST_HIDDEN, FIRST_CELL, USES_RELU,
    W_AT, R_AT, B_AT
};

typedef struct {
    PyObject_HEAD
    const struct kernels *kernels;
    struct op *ops;
    int64_t count, window, arena, outputs, scratch;
    int64_t *output_at, *output_size;
    float *constants;
    _Atomic(float *) spare; /* an arena nobody uses just now */
} Program;

static float *floats(int64_t count)
{
    const size_t bytes = (size_t)rounded_up(count < 1 ? 1 : count, ALIGNMENT) * sizeof(float);
    float *found = aligned_alloc(ALIGNMENT, bytes);
    if (found)
        memset(found, 0, bytes);
    return found;
}

/* -- checking */

static int refused(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}

static int within(int64_t at, int64_t count, int64_t limit)
{
    return at >= 0 && count >= 0 && at <= limit && count <= limit - at;
}

static int positive(int64_t number) { return number >= 1 && number <= MOST_FLOATS; }

/* Their product, or -1 where it is too large. */
static int64_t product(int64_t a, int64_t b)
{
    int64_t found;
    return __builtin_mul_overflow(a, b, &found) || found > MOST_FLOATS ? -1 : found;
}

static int reach_within(const struct operand *o, const int64_t *dims, int64_t limit)
{
    int64_t low = o->at, high = o->at;
    for (int d = 0; d < DIMS; d++) {
        int64_t far;
        if (o->stride[d] < -MOST_FLOATS || o->stride[d] > MOST_FLOATS ||
            __builtin_mul_overflow(dims[d] - 1, o->stride[d], &far))
            return 0;
        if (__builtin_add_overflow(far < 0 ? low : high, far, far < 0 ? &low : &high))
            return 0;
    }
    return low >= 0 && high < limit;
}

static void read_operand(struct operand *o, const int64_t *from)
{
    o->constant = from[0] != 0;
    o->at = from[1];
    for (int d = 0; d < DIMS; d++)
        o->stride[d] = from[2 + d];
}

/* -- packing */

static int pack_for_lanes(struct op *op, int64_t groups, int64_t inputs, const float *w, float **to)
{
    /* w: (inputs, 4, groups) or (inputs, outputs); -> (groups, inputs, 4) */
    *to = floats(product(groups, 4) * inputs);
    if (!*to)
        return 0;
    for (int64_t u = 0; u < groups; u++)
        for (int64_t k = 0; k < inputs; k++)
            for (int64_t g = 0; g < 4; g++) {
                float *place = *to + (u * inputs + k) * 4 + g;
                if (op->kind == LSTM)
                    *place = w[(k * 4 + g) * op->j + u];
                else if (u * 4 + g < op->j)
                    *place = w[k * op->j + u * 4 + g];
            }
    return 1;
}

/* Of an LSTM in its order for one window: column (vector, gate, lane) -> which weight, or -1. */
static int64_t column_of(const struct op *op, int64_t column, int64_t vector)
{
    if (op->kind == MATMUL)
        return column < op->j ? column : -1;
    const int64_t lane = column % vector, gate = column / vector % 4;
    const int64_t unit = column / (4 * vector) * vector + lane;
    return unit < op->j ? gate * op->j + unit : -1;
}

static int pack(struct op *op, const float *w, const float *r, const float *bias, int64_t vector)
{
    const int lstm = op->kind == LSTM;
    const int64_t outputs = lstm ? 4 * op->j : op->j;
    const int64_t padded = lstm ? 4 * rounded_up(op->j, vector) : rounded_up(op->j, vector);
    const int64_t groups = lstm ? op->j : rounded_up(op->j, 4) / 4;
    if (product(padded, op->k) < 0 || product(padded, op->j) < 0)
        return refused("weights are too large");
    op->lanes_b = floats(groups * 4);
    op->one_w = floats(padded * op->k);
    op->one_b = floats(padded);
    if (!op->lanes_b || !op->one_w || !op->one_b ||
        !pack_for_lanes(op, groups, op->k, w, &op->lanes_w))
        return PyErr_NoMemory() != NULL;
    const int64_t block = BLOCK_VECTORS * vector;
    for (int64_t first = 0; first < padded; first += block) {
        const int64_t width = padded - first < block ? padded - first : block;
        for (int64_t k = 0; k < op->k; k++)
            for (int64_t c = 0; c < width; c++) {
                const int64_t column = column_of(op, first + c, vector);
                if (column >= 0)
                    op->one_w[first * op->k + k * width + c] = w[k * outputs + column];
            }
    }
    if (bias) {
        for (int64_t c = 0; c < padded; c++) {
            const int64_t column = column_of(op, c, vector);
            if (column >= 0)
                op->one_b[c] = bias[column];
        }
        for (int64_t i = 0; i < outputs; i++)
            op->lanes_b[lstm ? i % op->j * 4 + i / op->j : i] = bias[i];
    }
    if (!lstm)
        return 1;
    op->one_r = floats(padded * op->j);
    if (!op->one_r || !pack_for_lanes(op, groups, op->j, r, &op->lanes_r))
        return PyErr_NoMemory() != NULL;
    for (int64_t c = 0; c < padded; c++) {
        const int64_t column = column_of(op, c, vector), four = 4 * vector;
        for (int64_t k = 0; k < op->j && column >= 0; k++)
            op->one_r[(c / four * op->j + k) * four + c % four] = r[k * outputs + column];
    }
    return 1;
}

/* -- one operation */

static int state_within(int64_t at, int64_t units, int64_t arena)
{
    return at == -1 || within(at, units, arena);
}

static int read_lstm(Program *self, struct op *op, const int64_t *f, int64_t constants)
{
    op->steps = f[STEPS];
    op->step_stride = f[STEP_STRIDE];
    op->hidden = f[HIDDEN];
    op->cell = f[CELL];
    op->first_hidden = f[FIRST_HIDDEN];
    op->first_cell = f[FIRST_CELL];
    op->relu = f[USES_RELU] != 0;
    const int64_t units = op->j, gates = product(4, units);
    if (!positive(op->steps) || !positive(op->k) || !positive(units) || op->step_stride < 0 ||
        product(op->steps, units) < 0 || product(gates, op->k) < 0 || product(gates, units) < 0 ||
        product(op->steps - 1, op->step_stride) < 0)
        return refused("an LSTM with impossible sizes");
    const int64_t reach = (op->steps - 1) * op->step_stride + op->k;
    if (op->a.constant || !within(op->a.at, reach, self->arena) ||
        !(op->to == -1 || within(op->to, op->steps * units, self->arena)) ||
        !state_within(op->hidden, units, self->arena) ||
        !state_within(op->cell, units, self->arena) ||
        !state_within(op->first_hidden, units, self->arena) ||
        !state_within(op->first_cell, units, self->arena))
        return refused("an LSTM outside of the arena");
    if (!within(f[W_AT], gates * op->k, constants) || !within(f[R_AT], gates * units, constants) ||
        !within(f[B_AT], gates, constants))
        return refused("an LSTM without its weights");
    const int64_t vector = self->kernels->vector, padded = rounded_up(units, vector);
    const int64_t given = product(op->step_stride == 0 ? 1 : op->steps, 4 * padded);
    const int64_t among = product(7 * units, self->kernels->lanes);
    if (given < 0 || among < 0)
        return refused("an LSTM that is too large");
    const int64_t needed = given + 3 * padded > among ? given + 3 * padded : among;
    if (needed > self->scratch)
        self->scratch = needed;
    return pack(op, self->constants + f[W_AT], self->constants + f[R_AT], self->constants + f[B_AT],
                vector);
}

static int read_matmul(Program *self, struct op *op, const int64_t *f, int64_t constants)
{
    op->rows = f[ROWS];
    op->row_stride = f[ROW_STRIDE];
    if (!positive(op->rows) || !positive(op->k) || !positive(op->j) || op->row_stride < 0 ||
        product(op->k, op->j) < 0 || product(op->rows, op->j) < 0 ||
        product(op->rows - 1, op->row_stride) < 0)
        return refused("a product with impossible sizes");
    const int64_t reach = (op->rows - 1) * op->row_stride + op->k;
    op->reduction = f[REDUCTION] == SMALLEST ? SMALLEST : SUM;
    const int64_t written = op->reduction == SMALLEST ? op->rows : op->rows * op->j;
    if (op->j > self->scratch)
        self->scratch = op->j;
    if (op->a.constant || !within(op->a.at, reach, self->arena) ||
        !within(op->to, written, self->arena))
        return refused("a product outside of the arena");
    if (!within(f[W_AT], op->k * op->j, constants) ||
        !(f[B_AT] == -1 || within(f[B_AT], op->j, constants)))
        return refused("a product without its weights");
    return pack(op, self->constants + f[W_AT], NULL,
                f[B_AT] < 0 ? NULL : self->constants + f[B_AT], self->kernels->vector);
}

static int read_op(Program *self, struct op *op, const int64_t *f, int64_t constants)
{
    op->kind = f[KIND] < COPY || f[KIND] > GATHER ? -1 : (int)f[KIND];
    op->to = f[TO];
    read_operand(&op->a, f + A);
    read_operand(&op->b, f + B);
    op->k = f[K];
    op->j = f[J];
    int64_t all = 1;
    for (int d = 0; d < DIMS; d++) {
        op->dims[d] = f[DIMS_AT + d];
        all = positive(op->dims[d]) && all > 0 ? product(all, op->dims[d]) : -1;
    }
    switch (op->kind) {
    case LSTM:
        return read_lstm(self, op, f, constants);
    case MATMUL:
        return read_matmul(self, op, f, constants);
    case ARGMIN:
        if (!positive(op->k) || op->a.constant || !within(op->a.at, op->k, self->arena) ||
            !within(op->to, 1, self->arena))
            return refused("a search outside of the arena");
        return 1;
    case GATHER:
        if (!positive(op->k) || !positive(op->j) || product(op->k, op->j) < 0 ||
            !within(op->a.at, op->k * op->j, constants) || !within(op->b.at, 1, self->arena) ||
            !within(op->to, op->j, self->arena))
            return refused("a choice outside of the arena");
        return 1;
    case REDUCE:
        op->reduction = (int)f[REDUCTION];
        if (all < 0 || f[REDUCTION] < SUM || f[REDUCTION] > SMALLEST || op->dims[3] != 1 ||
            op->a.constant || !reach_within(&op->a, op->dims, self->arena) ||
            !within(op->to, op->dims[0] * op->dims[1], self->arena))
            return refused("a reduction outside of the arena");
        return 1;
    case CLIP:
        if (!within(f[LOW], 1, constants) || !within(f[HIGH], 1, constants))
            return refused("bounds that are not there");
        op->low = self->constants[f[LOW]];
        op->high = self->constants[f[HIGH]];
        break;
    case -1:
        return refused("an operation nobody knows");
    default:
        break;
    }
    const int two = op->kind == ADD || op->kind == SUB || op->kind == MUL;
    if (!two)
        memset(&op->b, 0, sizeof op->b);
    if (all < 0 || !within(op->to, all, self->arena) ||
        !reach_within(&op->a, op->dims, op->a.constant ? constants : self->arena) ||
        (two && !reach_within(&op->b, op->dims, op->b.constant ? constants : self->arena)))
        return refused("an operation outside of the arena");
    return 1;
}

/* -- instruction sets */

static const struct kernels *available(int which)
{
#ifdef DETECTOR_X86
    __builtin_cpu_init();
    if (which == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("fma")
                   ? &detector_avx512
                   : NULL;
    if (which == 1)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &detector_avx2
                                                                              : NULL;
#endif
    return which == 2 ? &detector_plain : NULL;
}

static const struct kernels *kernels_named(const char *name)
{
    for (int i = 0; i < 3; i++) {
        const struct kernels *found = available(i);
        if (found && (!*name || strcmp(found->name, name) == 0))
            return found;
    }
    PyErr_Format(PyExc_ValueError, "this processor has no %s", name);
    return NULL;
}

static PyObject *instruction_sets(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    PyObject *names = PyList_New(0);
    for (int i = 0; names && i < 3; i++)
        if (available(i)) {
            PyObject *name = PyUnicode_FromString(available(i)->name);
            if (!name || PyList_Append(names, name) < 0)
                Py_CLEAR(names);
            Py_XDECREF(name);
        }
    return names;
}

/* -- the type */

static void program_free(PyObject *object)
{
    Program *self = (Program *)object;
    for (int64_t i = 0; self->ops && i < self->count; i++) {
        struct op *op = &self->ops[i];
        free(op->lanes_w), free(op->lanes_r), free(op->lanes_b);
        free(op->one_w), free(op->one_r), free(op->one_b);
    }
    free(self->ops), free(self->output_at), free(self->constants);
    free(atomic_load(&self->spare));
    PyTypeObject *type = Py_TYPE(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int fill(Program *self, const Py_buffer *code, const Py_buffer *constants,
                const Py_buffer *outputs, const char *name)
{
    if (!(self->kernels = kernels_named(name)))
        return 0;
    const int64_t record = FIELDS * (int64_t)sizeof(int64_t), pair = 2 * (int64_t)sizeof(int64_t);
    const int64_t known = constants->len / (int64_t)sizeof(float);
    if (!positive(self->window) || !positive(self->arena) || self->window > self->arena ||
        product(self->arena, self->kernels->lanes) < 0 || known > MOST_FLOATS)
        return refused("an arena of impossible size");
    if (code->len % record || outputs->len % pair || code->len / record > MOST_OPS ||
        outputs->len / pair > MOST_OUTPUTS)
        return refused("a program cut short");
    self->constants = floats(known);
    self->ops = calloc((size_t)(code->len / record) + 1, sizeof(struct op));
    self->outputs = outputs->len / pair;
    self->output_at = malloc((size_t)outputs->len + 1);
    if (!self->constants || !self->ops || !self->output_at)
        return PyErr_NoMemory() != NULL;
    memcpy(self->constants, constants->buf, (size_t)known * sizeof(float));
    memcpy(self->output_at, outputs->buf, (size_t)outputs->len);
    for (int64_t i = 0; i < self->outputs; i++)
        if (self->output_at[2 * i + 1] < 1 ||
            !within(self->output_at[2 * i], self->output_at[2 * i + 1], self->arena))
            return refused("an output outside of the arena");
    int64_t fields[FIELDS];
    for (int64_t i = 0; i < code->len / record; i++) {
        memcpy(fields, (const char *)code->buf + i * record, (size_t)record);
        self->count = i + 1;
        if (!read_op(self, &self->ops[i], fields, known))
            return 0;
    }
    return 1;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"code", "constants", "outputs", "window", "arena", "instructions", NULL};
    Py_buffer code, constants, outputs;
    long long window, arena;
    const char *name = "";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*y*LL|s", names, &code, &constants, &outputs,
                                     &window, &arena, &name))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Program *self = (Program *)alloc(type, 0);
    if (self) {
        self->window = window;
        self->arena = arena;
        if (!fill(self, &code, &constants, &outputs, name))
            Py_CLEAR(self);
    }
    PyBuffer_Release(&code), PyBuffer_Release(&constants), PyBuffer_Release(&outputs);
    return (PyObject *)self;
}

/* -- running */

/* The next `lanes` windows, of which `given` are there; the last one fills up the others. */
static void run_block(const Program *self, const float *windows, float **outputs, int lanes,
                      int given, float *arena, float *scratch)
{
    const struct kernels *k = self->kernels;
    for (int64_t e = 0; e < self->window; e++)
        for (int w = 0; w < lanes; w++)
            arena[e * lanes + w] = windows[(w < given ? w : given - 1) * self->window + e];
    for (int64_t i = 0; i < self->count; i++)
        if (lanes == k->lanes)
            k->run_lanes(&self->ops[i], self->constants, arena, scratch);
        else if (lanes == k->few)
            k->run_few(&self->ops[i], self->constants, arena, scratch);
        else
            k->run_one(&self->ops[i], self->constants, arena, scratch);
    for (int64_t o = 0; o < self->outputs; o++) {
        const int64_t at = self->output_at[2 * o], size = self->output_at[2 * o + 1];
        for (int w = 0; w < given; w++)
            for (int64_t e = 0; e < size; e++)
                outputs[o][w * size + e] = arena[(at + e) * lanes + w];
        outputs[o] += given * size;
    }
}

static void run_all(const Program *self, const float *windows, int64_t n, float **outputs,
                    float *arena)
{
    const struct kernels *k = self->kernels;
    float *scratch = arena + rounded_up(self->arena * k->lanes, ALIGNMENT);
    while (n > 0) {
        /* A block that is not full takes as long as a full one; a window alone about twice its
         * part of a small block. */
        const int lanes = n > k->lanes - k->few ? k->lanes : n > k->few / 2 ? k->few : 1;
        const int given = n < lanes ? (int)n : lanes;
        run_block(self, windows, outputs, lanes, given, arena, scratch);
        windows += given * self->window;
        n -= given;
    }
}

static PyObject *program_run(PyObject *object, PyObject *args)
{
    Program *self = (Program *)object;
    Py_buffer windows, results[MOST_OUTPUTS];
    PyObject *into;
    int held = 0;
    if (!PyArg_ParseTuple(args, "y*O!", &windows, &PyTuple_Type, &into))
        return NULL;
    const int64_t row = self->window * (int64_t)sizeof(float), n = windows.len / row;
    float *outputs[MOST_OUTPUTS];
    PyObject *result = NULL;
    if (windows.len % row || PyTuple_Size(into) != self->outputs) {
        refused("windows or outputs of another shape");
        goto done;
    }
    for (; held < self->outputs; held++) {
        PyObject *one = PyTuple_GetItem(into, held);
        if (PyObject_GetBuffer(one, &results[held], PyBUF_WRITABLE) < 0)
            goto done;
        outputs[held] = results[held].buf;
        if (results[held].len != n * self->output_at[2 * held + 1] * (int64_t)sizeof(float)) {
            held++;
            refused("an output of another size");
            goto done;
        }
    }
    float *arena = atomic_exchange(&self->spare, NULL);
    if (!arena)
        arena = floats(rounded_up(self->arena * self->kernels->lanes, ALIGNMENT) + self->scratch);
    if (!arena) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    run_all(self, windows.buf, n, outputs, arena);
    free(atomic_exchange(&self->spare, arena));
    Py_END_ALLOW_THREADS
    result = Py_None;
    Py_INCREF(result);
done:
    for (int i = 0; i < held; i++)
        PyBuffer_Release(&results[i]);
    PyBuffer_Release(&windows);
    return result;
}

static PyObject *program_about(PyObject *object, void *nothing)
{
    (void)nothing;
    const struct kernels *k = ((Program *)object)->kernels;
    return Py_BuildValue("sii", k->name, k->vector, k->lanes);
}

static PyMethodDef program_methods[] = {
    {"run", program_run, METH_VARARGS,
     "run(windows, outputs): float32 buffers, n windows and n times each output"},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef program_getters[] = {
    {"about", program_about, NULL, "instruction set, floats in a vector, windows side by side", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot program_slots[] = {{Py_tp_new, program_new},
                                      {Py_tp_dealloc, program_free},
                                      {Py_tp_methods, program_methods},
                                      {Py_tp_getset, program_getters},
                                      {0, NULL}};

static PyType_Spec program_spec = {"detector.native._scoring.Program", sizeof(Program), 0,
                                   Py_TPFLAGS_DEFAULT, program_slots};

static PyMethodDef methods[] = {
    {"instruction_sets", instruction_sets, METH_NOARGS, "those this processor has, best first"},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_scoring", "Windows to numbers.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__scoring(void)
{
    PyObject *found = PyModule_Create(&module), *type = PyType_FromSpec(&program_spec);
    if (!found || !type || PyModule_AddIntConstant(found, "FIELDS", FIELDS) < 0 ||
        PyModule_AddObjectRef(found, "Program", type) < 0)
        Py_CLEAR(found);
    Py_XDECREF(type);
    return found;
}
