/* Batches of records, as Kafka keeps them, to columns, without an object a record.

   Reads message format 2 (kafka.apache.org/documentation/#recordbatch) and takes nothing on trust:
   what it does not know, or what is not whole, it leaves to whoever called, with no error of its
   own. A batch is taken entirely or not at all. */

#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#define HARDWARE_CRC 1
#endif

/* -- CRC-32C (Castagnoli), RFC 3720 appendix B.4 */

static uint32_t table[8][256];

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xFF];
}

/* Eight bytes a step, of eight tables: about 1.5 bytes a cycle. */
static uint32_t crc_of_tables(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (; n >= 8; n -= 8, p += 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = table[7][crc & 0xFF] ^ table[6][crc >> 8 & 0xFF] ^ table[5][crc >> 16 & 0xFF] ^
              table[4][crc >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n; n--, p++)
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 0xFF];
    return ~crc;
}

#ifdef HARDWARE_CRC
__attribute__((target("sse4.2"))) static uint32_t crc_of_hardware(const uint8_t *p, size_t n)
{
    uint64_t crc = 0xFFFFFFFFu, eight;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&eight, p, 8);
        crc = _mm_crc32_u64(crc, eight);
    }
    for (; n; n--, p++)
        crc = _mm_crc32_u8((uint32_t)crc, *p);
    return ~(uint32_t)crc;
}
#endif

static uint32_t (*crc32c)(const uint8_t *, size_t) = crc_of_tables;

/* -- numbers of the format */

static uint64_t big_endian(const uint8_t *p, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | p[i];
    return value;
}

/* A zigzag varint of at most 64 bits. Returns where it ends, NULL where there is none. */
static inline const uint8_t *varint(const uint8_t *p, const uint8_t *end, int64_t *value)
{
    uint64_t bits = 0;
    for (int shift = 0; p < end && shift < 64; shift += 7) {
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1)
            return NULL;
        bits |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *value = (int64_t)(bits >> 1 ^ (0 - (bits & 1)));
            return p;
        }
    }
    return NULL;
}

/* -- a batch */

enum { OFFSET, TIMESTAMP, KEY_START, KEY_LENGTH, VALUE_START, VALUE_LENGTH, SIZE, COLUMNS };

#define LOG_OVERHEAD 12 /* base offset and length */
#define HEADER 61
#define LEAST_RECORD 7 /* bytes: each of its fields takes one */

enum { CODEC = 0x07, APPEND_TIME = 0x08, CONTROL = 0x20 };

typedef struct {
    int64_t base_offset, first_timestamp, max_timestamp, next_offset;
    int32_t leader_epoch, count, attributes;
    uint32_t crc;
    size_t size; /* of all of it, in bytes */
} Batch;

/* The header of a batch that is here entirely, and that can be read without Python. */
static int header(const uint8_t *p, size_t left, Batch *batch)
{
    if (left < HEADER)
        return 0;
    int32_t length = (int32_t)big_endian(p + 8, 4);
    if (length < HEADER - LOG_OVERHEAD || (size_t)length > left - LOG_OVERHEAD)
        return 0;
    if (p[16] != 2)
        return 0;
    batch->size = (size_t)length + LOG_OVERHEAD;
    batch->base_offset = (int64_t)big_endian(p, 8);
    batch->leader_epoch = (int32_t)big_endian(p + 12, 4);
    batch->crc = (uint32_t)big_endian(p + 17, 4);
    batch->attributes = (int32_t)big_endian(p + 21, 2);
    batch->first_timestamp = (int64_t)big_endian(p + 27, 8);
    batch->max_timestamp = (int64_t)big_endian(p + 35, 8);
    batch->count = (int32_t)big_endian(p + 57, 4);
    int64_t last_delta = (int32_t)big_endian(p + 23, 4);
    if (__builtin_add_overflow(batch->base_offset, last_delta + 1, &batch->next_offset))
        return 0;
    return !(batch->attributes & (CODEC | CONTROL)) && batch->count >= 0 &&
           (size_t)batch->count <= (batch->size - HEADER) / LEAST_RECORD;
}

/* Bytes after their length; fewer than none stand for null. Returns where they end, or NULL. */
static inline const uint8_t *bytes_of(const uint8_t *p, const uint8_t *end, int64_t *length)
{
    if (!(p = varint(p, end, length)))
        return NULL;
    if (*length < 0) {
        *length = -1;
        return p;
    }
    return *length <= end - p ? p + *length : NULL;
}

/* Skips headers. Names beyond ASCII are left to Python: somebody has to look whether it is UTF-8. */
static const uint8_t *skip_headers(const uint8_t *p, const uint8_t *end)
{
    int64_t number, length;
    if (!(p = varint(p, end, &number)) || number < 0)
        return NULL;
    for (; number; number--) { /* each takes a byte at least: as many as there are bytes, at most */
        if (!(p = bytes_of(p, end, &length)) || length < 0)
            return NULL;
        for (const uint8_t *name = p - length; name < p; name++)
            if (*name & 0x80)
                return NULL;
        if (!(p = bytes_of(p, end, &length)))
            return NULL;
    }
    return p;
}

/* The records of a batch into rows from `row` on. Starts are counted from `origin`. Whether they
   are whole, and end where the batch ends. */
static int records(const Batch *batch, const uint8_t *origin, const uint8_t *p, const uint8_t *end,
                   int64_t *columns, size_t capacity, size_t row)
{
    for (int32_t i = 0; i < batch->count; i++, row++) {
        int64_t size, attributes, timestamp, offset, key, value;
        if (!(p = varint(p, end, &size)))
            return 0;
        const uint8_t *begin = p;
        if (!(p = varint(p, end, &attributes)) || !(p = varint(p, end, &timestamp)) ||
            !(p = varint(p, end, &offset)) || !(p = bytes_of(p, end, &key)))
            return 0;
        if (batch->attributes & APPEND_TIME)
            timestamp = batch->max_timestamp;
        else if (__builtin_add_overflow(batch->first_timestamp, timestamp, &timestamp))
            return 0;
        if (__builtin_add_overflow(batch->base_offset, offset, &offset) || offset == INT64_MAX)
            return 0;
        int64_t *at = columns + row;
        at[OFFSET * capacity] = offset;
        at[TIMESTAMP * capacity] = timestamp;
        at[KEY_START * capacity] = p - origin - (key < 0 ? 0 : key);
        at[KEY_LENGTH * capacity] = key;
        if (!(p = bytes_of(p, end, &value)))
            return 0;
        at[VALUE_START * capacity] = p - origin - (value < 0 ? 0 : value);
        at[VALUE_LENGTH * capacity] = value;
        at[SIZE * capacity] = size;
        if (!(p = skip_headers(p, end)) || p - begin != size)
            return 0;
    }
    return p == end;
}

/* -- what Python calls */

static PyObject *room(size_t capacity, int64_t **columns)
{
    if (capacity > (size_t)(PY_SSIZE_T_MAX / (COLUMNS * 8)))
        return PyErr_NoMemory();
    PyObject *made = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(capacity * COLUMNS * 8));
    if (made)
        *columns = (int64_t *)(void *)PyByteArray_AsString(made);
    return made;
}

PyDoc_STRVAR(run_doc,
"run(buffer, at, most) -> (end, next_offset, leader_epoch, records, columns)\n\n"
"The batches from `at` on that are whole, sound, not compressed, no control batches and of one\n"
"leader epoch, up to `end`; at most `most` records, but one batch always. end == at: none is.\n"
"columns: int64 of (7, capacity), the first `records` of each set: offset, timestamp, start and\n"
"length of the key and of the value in the buffer (length -1: null), size.");

static PyObject *run(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer view;
    Py_ssize_t at, most;
    if (!PyArg_ParseTuple(args, "y*nn", &view, &at, &most))
        return NULL;
    const uint8_t *buffer = view.buf;
    size_t size = (size_t)view.len, begin = at < 0 || at > view.len ? size : (size_t)at;
    size_t limit = most < 0 ? 0 : (size_t)most, end = begin, capacity = 0, found = 0;
    int32_t epoch = -1;
    int64_t next_offset = -1, *columns = NULL;
    Batch batch;
    /* How far it goes, so that there is room. */
    for (; header(buffer + end, size - end, &batch); end += batch.size) {
        if (end == begin)
            epoch = batch.leader_epoch;
        else if (batch.leader_epoch != epoch || capacity + (size_t)batch.count > limit)
            break;
        capacity += (size_t)batch.count;
    }
    PyObject *made = room(capacity, &columns);
    if (!made) {
        PyBuffer_Release(&view);
        return NULL;
    }
    size_t until = end;
    for (end = begin; end < until; end += batch.size) {
        const uint8_t *p = buffer + end;
        if (!header(p, until - end, &batch) || crc32c(p + 21, batch.size - 21) != batch.crc ||
            !records(&batch, buffer, p + HEADER, p + batch.size, columns, capacity, found))
            break;
        found += (size_t)batch.count;
        next_offset = batch.next_offset;
    }
    PyBuffer_Release(&view);
    return Py_BuildValue("nLinN", end == begin ? at : (Py_ssize_t)end, (long long)next_offset, (int)epoch,
                         (Py_ssize_t)found, made);
}

PyDoc_STRVAR(body_doc,
"body(buffer, count, attributes, base_offset, first_timestamp, max_timestamp) -> columns | None\n\n"
"The records of one batch that fill the buffer, as run() gives them; None: they do not.");

static PyObject *body(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer view;
    long long base_offset, first_timestamp, max_timestamp;
    Batch batch = {0};
    int count, attributes;
    if (!PyArg_ParseTuple(args, "y*iiLLL", &view, &count, &attributes, &base_offset, &first_timestamp,
                          &max_timestamp))
        return NULL;
    batch.count = count, batch.attributes = attributes;
    batch.base_offset = base_offset;
    batch.first_timestamp = first_timestamp, batch.max_timestamp = max_timestamp;
    PyObject *made = NULL;
    int64_t *columns = NULL;
    int whole = count >= 0 && count <= view.len / LEAST_RECORD;
    if (whole && (made = room((size_t)count, &columns))) {
        const uint8_t *buffer = view.buf;
        whole = records(&batch, buffer, buffer, buffer + view.len, columns, (size_t)count, 0);
    }
    PyBuffer_Release(&view);
    if (whole || PyErr_Occurred())
        return made;
    Py_XDECREF(made);
    Py_RETURN_NONE;
}

static PyObject *crc_by(PyObject *args, uint32_t (*way)(const uint8_t *, size_t))
{
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "y*", &view))
        return NULL;
    uint32_t crc = way(view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLong(crc);
}

static PyObject *crc(PyObject *self, PyObject *args)
{
    (void)self;
    return crc_by(args, crc32c);
}

static PyObject *crc_plain(PyObject *self, PyObject *args)
{
    (void)self;
    return crc_by(args, crc_of_tables);
}

static PyMethodDef methods[] = {
    {"run", run, METH_VARARGS, run_doc},
    {"body", body, METH_VARARGS, body_doc},
    {"crc32c", crc, METH_VARARGS, "CRC-32C, by the processor's instruction where it has one."},
    {"crc32c_plain", crc_plain, METH_VARARGS, "CRC-32C, as on any processor."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_batches", "Batches of records to columns.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__batches(void)
{
    fill_table();
#ifdef HARDWARE_CRC
    if (__builtin_cpu_supports("sse4.2"))
        crc32c = crc_of_hardware;
#endif
    return PyModule_Create(&module);
}
