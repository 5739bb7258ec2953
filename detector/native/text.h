/* JSON gone over without being kept, and no byte beyond its end. Whatever is unusual is refused
with NULL: the caller has another who reads it. */

#ifndef DETECTOR_TEXT_H
#define DETECTOR_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "numbers.h"

enum { DEEPEST = 32 };

static inline const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
    return p;
}

/* Bytes of the UTF-8 character of more than one byte that begins at p; 0: it is none
(The Unicode Standard, table 3-7: nothing overlong, no surrogates, none above 10FFFF). */
static inline int utf8_bytes(const char *at, const char *end)
{
    const unsigned char *p = (const unsigned char *)at;
    ptrdiff_t left = end - at;
    unsigned char least = 0x80, most = 0xBF;
    int more;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) more = 1;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF) more = 2;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4) more = 3;
    else return 0;
    if (left <= more) return 0;
    if (p[0] == 0xE0) least = 0xA0;
    if (p[0] == 0xED) most = 0x9F;
    if (p[0] == 0xF0) least = 0x90;
    if (p[0] == 0xF4) most = 0x8F;
    if (p[1] < least || p[1] > most) return 0;
    for (int i = 2; i <= more; i++)
        if (p[i] < 0x80 || p[i] > 0xBF) return 0;
    return more + 1;
}

/* From behind the opening quote to the closing one. NULL: there is none, or an escape before it.
characters: so many, not bytes. */
static inline const char *plain_string(const char *p, const char *end, ptrdiff_t *characters)
{
    ptrdiff_t count = 0;
    for (; p < end; count++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            *characters = count;
            return p;
        }
        if (c < 0x20 || c == '\\') return NULL;
        int bytes = c < 0x80 ? 1 : utf8_bytes(p, end);
        if (bytes == 0) return NULL;
        p += bytes;
    }
    return NULL;
}

static inline int hex_digit(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* From behind a backslash to behind its escape. Surrogates, even in pairs, are unusual. */
static inline const char *skip_escape(const char *p, const char *end)
{
    if (p == end) return NULL;
    if (*p != 'u') return *p != '\0' && strchr("\"\\/bfnrt", *p) ? p + 1 : NULL;
    if (end - p < 5) return NULL;
    int code = 0;
    for (int i = 1; i <= 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0) return NULL;
        code = code * 16 + digit;
    }
    return code >= 0xD800 && code <= 0xDFFF ? NULL : p + 5;
}

/* From behind the opening quote to behind the closing one. */
static const char *skip_string(const char *p, const char *end)
{
    while (p < end) {
        unsigned char c = (unsigned char)*p;
        if (c == '"') return p + 1;
        if (c < 0x20) return NULL;
        if (c == '\\') {
            p = skip_escape(p + 1, end);
            if (p == NULL) return NULL;
        } else {
            int bytes = c < 0x80 ? 1 : utf8_bytes(p, end);
            if (bytes == 0) return NULL;
            p += bytes;
        }
    }
    return NULL;
}

static inline const char *skip_word(const char *p, const char *end, const char *word, int length)
{
    return end - p >= length && memcmp(p, word, (size_t)length) == 0 ? p + length : NULL;
}

static const char *skip_value(const char *p, const char *end, int depth);

/* From behind the opening bracket to behind the closing one. */
static const char *skip_inside(const char *p, const char *end, bool object, int depth)
{
    const char close = object ? '}' : ']';
    if (depth == DEEPEST) return NULL;
    p = skip_space(p, end);
    if (p < end && *p == close) return p + 1;
    for (;;) {
        if (object) {
            if (p == end || *p != '"') return NULL;
            p = skip_string(p + 1, end);
            if (p == NULL) return NULL;
            p = skip_space(p, end);
            if (p == end || *p != ':') return NULL;
            p = skip_space(p + 1, end);
        }
        p = skip_value(p, end, depth + 1);
        if (p == NULL) return NULL;
        p = skip_space(p, end);
        if (p == end) return NULL;
        if (*p == close) return p + 1;
        if (*p != ',') return NULL;
        p = skip_space(p + 1, end);
    }
}

/* Any value, from its first byte to behind its last. */
static const char *skip_value(const char *p, const char *end, int depth)
{
    Decimal ignored;
    if (p == end) return NULL;
    switch (*p) {
    case '"': return skip_string(p + 1, end);
    case '{': return skip_inside(p + 1, end, true, depth);
    case '[': return skip_inside(p + 1, end, false, depth);
    case 't': return skip_word(p, end, "true", 4);
    case 'f': return skip_word(p, end, "false", 5);
    case 'n': return skip_word(p, end, "null", 4);
    default: return read_decimal(p, end, &ignored);
    }
}

#endif
