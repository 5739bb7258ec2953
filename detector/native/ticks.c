/* Records of JSON ticks to columns in one pass, without an object a tick.

What is told of a record is told exactly as detector/core/objects.py tells it; a record with anything
unusual in it is left to that, whole. Every input may be hostile: nothing is read beyond a record. */

#include <Python.h>
#include <math.h>

#include "numbers.h"
#include "table.h"
#include "text.h"

enum { MOST_FIELDS = 4096, UNKNOWN = -1 };

typedef struct {
    const char *text;
    ptrdiff_t length;
} Text;

/* Byte strings in a buffer of size bytes: starts and lengths of n. */
typedef struct {
    const char *buffer;
    Py_ssize_t size;
    const int64_t *start, *length;
} Column;

typedef struct {
    /* What is looked for: the time, then the series unless the key names it, then the values.
       into: the column of values for each, -1: none. */
    const Text *names;
    const int32_t *into;
    Py_ssize_t wanted, columns;
    bool by_key;
    int64_t factor, largest_record, longest_name;
    /* What is found: n ticks of at most room. */
    int64_t *time_ns, *row;
    double *values;
    int32_t *index, *code;
    Py_ssize_t room, ticks;
    Table series;
    bool no_memory;
    /* In which tick each was seen last, counted from 1, and which is likely to be next. */
    int64_t *seen, tick;
    Py_ssize_t next;
} Reader;

/* Which wanted field the string behind an opening quote is; *p: to its closing quote. */
static Py_ssize_t find_field(Reader *reader, const char **p, const char *end)
{
    Py_ssize_t which = reader->next;
    for (Py_ssize_t tried = 0; tried < reader->wanted; tried++) {
        const Text *name = &reader->names[which];
        if (end - *p > name->length && (*p)[name->length] == '"' &&
            memcmp(*p, name->text, (size_t)name->length) == 0) {
            *p += name->length;
            reader->next = which + 1 == reader->wanted ? 0 : which + 1;
            return which;
        }
        if (++which == reader->wanted) which = 0;
    }
    return UNKNOWN;
}

/* Nanoseconds of a time in units of factor, as moments.py counts them. */
static bool time_of(const Reader *reader, const Decimal *from, double number, int64_t *time_ns)
{
    const int64_t latest = INT64_MAX / reader->factor, exact = (int64_t)1 << 53;
    if (from->whole) {
        if (from->digits > (uint64_t)latest) return false;
        int64_t whole = (int64_t)from->digits;
        *time_ns = (from->negative ? -whole : whole) * reader->factor;
        return true;
    }
    if (!(fabs(number) < (double)(latest < exact ? latest : exact))) return false;
    double whole = floor(number);
    int64_t rest = (int64_t)rint((number - whole) * (double)reader->factor);
    *time_ns = (int64_t)whole * reader->factor + rest;
    return true;
}

/* The number of the series with the name from p to end; -1: it is none for here. */
static int32_t series_of(Reader *reader, const char *p, ptrdiff_t length, ptrdiff_t characters)
{
    if (length == 0 || characters > reader->longest_name) return -1;
    if (reader->ticks > 0) { /* often the one before */
        int32_t last = reader->code[reader->ticks - 1];
        if (same_name(&reader->series.names[last], p, length)) return last;
    }
    int32_t number = number_of(&reader->series, p, length);
    if (number == NO_MEMORY) reader->no_memory = true;
    return number < 0 ? -1 : number;
}

static const char *read_series(Reader *reader, const char *p, const char *end, int32_t *code)
{
    ptrdiff_t characters;
    if (*p != '"') return NULL;
    const char *close = plain_string(++p, end, &characters);
    if (close == NULL) return NULL;
    *code = series_of(reader, p, close - p, characters);
    return *code < 0 ? NULL : close + 1;
}

static const char *read_number(Reader *reader, const char *p, const char *end, Py_ssize_t which)
{
    Decimal decimal;
    double number;
    p = read_decimal(p, end, &decimal);
    if (p == NULL || !nearest_double(&decimal, &number)) return NULL;
    if (which == 0 && !time_of(reader, &decimal, number, &reader->time_ns[reader->ticks]))
        return NULL;
    int32_t into = reader->into[which];
    if (into >= 0) reader->values[reader->ticks * reader->columns + into] = number;
    return p;
}

/* One tick, from its brace to behind the closing one. NULL: it is none, or unusual. */
static const char *read_tick(Reader *reader, const char *p, const char *end, int64_t row,
                             Py_ssize_t index, int32_t code)
{
    Py_ssize_t found = 0;
    if (p == end || *p != '{' || reader->ticks == reader->room || index > INT32_MAX) return NULL;
    reader->tick++;
    reader->next = 0;
    for (;;) {
        p = skip_space(p + 1, end);
        if (p == end || *p != '"') return NULL; /* as for {}: a time at least is wanted */
        p++;
        Py_ssize_t which = find_field(reader, &p, end);
        if (which == UNKNOWN) {
            ptrdiff_t ignored;
            p = plain_string(p, end, &ignored);
            if (p == NULL) return NULL;
        }
        p = skip_space(p + 1, end);
        if (p == end || *p != ':') return NULL;
        p = skip_space(p + 1, end);
        if (p == end) return NULL;
        if (which == UNKNOWN) {
            p = skip_value(p, end, 0);
        } else {
            if (reader->seen[which] == reader->tick) return NULL; /* twice: the last one counts */
            reader->seen[which] = reader->tick;
            found++;
            p = which == 1 && !reader->by_key ? read_series(reader, p, end, &code)
                                              : read_number(reader, p, end, which);
        }
        if (p == NULL) return NULL;
        p = skip_space(p, end);
        if (p == end) return NULL;
        if (*p == '}') break;
        if (*p != ',') return NULL;
    }
    if (found != reader->wanted) return NULL;
    reader->row[reader->ticks] = row;
    reader->index[reader->ticks] = (int32_t)index;
    reader->code[reader->ticks] = code;
    reader->ticks++;
    return p + 1;
}

/* Whether all of a record is ticks. */
static bool read_record(Reader *reader, const char *p, const char *end, int64_t row, int32_t code)
{
    p = skip_space(p, end);
    if (p == end) return false;
    if (*p == '[') {
        p = skip_space(p + 1, end);
        if (p < end && *p == ']') return skip_space(p + 1, end) == end;
        for (Py_ssize_t index = 0;; index++) {
            p = read_tick(reader, p, end, row, index, code);
            if (p == NULL) return false;
            p = skip_space(p, end);
            if (p == end) return false;
            if (*p == ']') break;
            if (*p != ',') return false;
            p = skip_space(p + 1, end);
        }
        p++;
    } else {
        p = read_tick(reader, p, end, row, 0, code);
        if (p == NULL) return false;
    }
    return skip_space(p, end) == end;
}

/* One of a column; NULL: there is none, or not in the buffer. */
static const char *text_at(const Column *column, Py_ssize_t row, int64_t *length)
{
    int64_t start = column->start[row];
    *length = column->length[row];
    if (start < 0 || *length < 0 || start > column->size || *length > column->size - start)
        return NULL;
    return column->buffer + start;
}

/* The series in the key of a record; -1: none for here. */
static int32_t key_of(Reader *reader, const Column *keys, Py_ssize_t row)
{
    int64_t length;
    ptrdiff_t characters = 0;
    const char *p = text_at(keys, row, &length);
    if (p == NULL) return -1;
    for (const char *at = p, *end = p + length; at < end; characters++) {
        int bytes = (unsigned char)*at < 0x80 ? 1 : utf8_bytes(at, end);
        if (bytes == 0) return -1;
        at += bytes;
    }
    return series_of(reader, p, length, characters);
}

/* left: (n,) set where a record is left to the other reader. */
static void read_all(Reader *reader, const Column *values, const Column *keys, Py_ssize_t n,
                     uint8_t *left)
{
    for (Py_ssize_t row = 0; row < n && !reader->no_memory; row++) {
        int64_t length;
        const char *p = text_at(values, row, &length);
        Py_ssize_t before = reader->ticks;
        int32_t code = 0;
        bool good = p != NULL && length <= reader->largest_record;
        if (good && reader->by_key) good = (code = key_of(reader, keys, row)) >= 0;
        if (good) good = read_record(reader, p, p + length, row, code);
        if (!good) reader->ticks = before;
        left[row] = !good;
    }
}

/* -- what Python sees */

enum { VALUES, STARTS, LENGTHS, KEYS, KEY_STARTS, KEY_LENGTHS, INTO, LEFT, TIMES, NUMBERS, ROWS,
       INDEXES, CODES, BUFFERS };

static bool fits(const Py_buffer *buffer, Py_ssize_t count, size_t each)
{
    return buffer->len == count * (Py_ssize_t)each && (uintptr_t)buffer->buf % each == 0;
}

static PyObject *names_of(const Table *table)
{
    PyObject *list = PyList_New(table->count);
    for (int32_t i = 0; list != NULL && i < table->count; i++) {
        const Name *name = &table->names[i];
        PyObject *one = PyUnicode_DecodeUTF8(name->text, name->length, "strict");
        if (one == NULL || PyList_SetItem(list, i, one) < 0) Py_CLEAR(list);
    }
    return list;
}

static PyObject *read_into(Reader *reader, PyObject *names, Py_buffer *b, Py_ssize_t n)
{
    const Column values = {b[VALUES].buf, b[VALUES].len, b[STARTS].buf, b[LENGTHS].buf};
    const Column keys = {b[KEYS].buf, b[KEYS].len, b[KEY_STARTS].buf, b[KEY_LENGTHS].buf};
    PyObject *result = NULL;
    Text *wanted = calloc((size_t)reader->wanted, sizeof(Text));
    reader->seen = calloc((size_t)reader->wanted, sizeof(int64_t));
    bool memory = open_table(&reader->series) && wanted != NULL && reader->seen != NULL;
    for (Py_ssize_t i = 0; memory && i < reader->wanted; i++) {
        char *text;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(names, i), &text, &wanted[i].length) < 0)
            goto done;
        wanted[i].text = text;
    }
    if (memory) {
        reader->names = wanted;
        Py_BEGIN_ALLOW_THREADS
        read_all(reader, &values, &keys, n, b[LEFT].buf);
        Py_END_ALLOW_THREADS
    }
    if (!memory || reader->no_memory) {
        PyErr_NoMemory();
        goto done;
    }
    PyObject *distinct = names_of(&reader->series);
    if (distinct != NULL) result = Py_BuildValue("nN", reader->ticks, distinct);
done:
    close_table(&reader->series);
    free(reader->seen);
    free(wanted);
    return result;
}

static PyObject *fill(PyObject *names, bool by_key, int64_t factor, int64_t largest_record,
                      int64_t longest_name, Py_buffer *b)
{
    Py_ssize_t n = b[LEFT].len, room = b[TIMES].len / 8, wanted = PyTuple_Size(names);
    Py_ssize_t columns = room == 0 ? 0 : b[NUMBERS].len / 8 / room;
    bool good = wanted >= 2 - by_key && wanted <= MOST_FIELDS && factor > 0 && room <= INT32_MAX &&
                fits(&b[STARTS], n, 8) && fits(&b[LENGTHS], n, 8) &&
                fits(&b[KEY_STARTS], by_key ? n : 0, 8) && fits(&b[KEY_LENGTHS], by_key ? n : 0, 8) &&
                fits(&b[INTO], wanted, 4) && fits(&b[TIMES], room, 8) && fits(&b[ROWS], room, 8) &&
                fits(&b[NUMBERS], room * columns, 8) && fits(&b[INDEXES], room, 4) &&
                fits(&b[CODES], room, 4);
    const int32_t *into = b[INTO].buf;
    for (Py_ssize_t i = 0; good && i < wanted; i++)
        good = into[i] >= -1 && (room == 0 || into[i] < columns);
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "columns that do not belong together");
        return NULL;
    }
    Reader reader = {
        .into = into, .wanted = wanted, .columns = columns, .by_key = by_key,
        .factor = factor, .largest_record = largest_record, .longest_name = longest_name,
        .time_ns = b[TIMES].buf, .row = b[ROWS].buf, .values = b[NUMBERS].buf,
        .index = b[INDEXES].buf, .code = b[CODES].buf, .room = room,
    };
    return read_into(&reader, names, b, n);
}

static const char READ_DOC[] =
    "read_json(names, by_key, factor, largest_record, longest_name, values, starts, lengths, keys,\n"
    "          key_starts, key_lengths, into, left, times, numbers, rows, indexes, codes)\n"
    "-> how many ticks, their distinct series\n\n"
    "names: of the time, of the series unless by_key, of the values, as UTF-8 that JSON need not\n"
    "escape; into: int32, the column of each in numbers, -1: none. From left on they are written:\n"
    "left (n,) uint8 tells the records that were not read; times, rows int64, numbers (room,\n"
    "columns) float64, indexes, codes int32 hold the ticks. Records beyond room are left.";

static PyObject *read_json(PyObject *self, PyObject *args)
{
    PyObject *names, *objects[BUFFERS], *result = NULL;
    int by_key, held = 0;
    long long factor, largest_record, longest_name;
    Py_buffer b[BUFFERS];
    (void)self;
    if (!PyArg_ParseTuple(args, "O!pLLLOOOOOOOOOOOOO", &PyTuple_Type, &names, &by_key, &factor,
                          &largest_record, &longest_name, &objects[0], &objects[1], &objects[2],
                          &objects[3], &objects[4], &objects[5], &objects[6], &objects[7],
                          &objects[8], &objects[9], &objects[10], &objects[11], &objects[12]))
        return NULL;
    for (; held < BUFFERS; held++) {
        int flags = held >= LEFT ? PyBUF_WRITABLE : PyBUF_SIMPLE;
        if (PyObject_GetBuffer(objects[held], &b[held], flags) < 0) break;
    }
    if (held == BUFFERS)
        result = fill(names, by_key != 0, factor, largest_record, longest_name, b);
    while (held-- > 0) PyBuffer_Release(&b[held]);
    return result;
}

static PyMethodDef methods[] = {
    {"read_json", read_json, METH_VARARGS, READ_DOC},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_ticks", "Records of ticks to columns.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__ticks(void)
{
    return PyModule_Create(&module);
}
