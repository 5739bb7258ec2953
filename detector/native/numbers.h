/* Numbers as JSON writes them, to the nearest double: exactly, or not at all.

Beyond 19 digits or 27 powers of ten nothing is said: the caller has another who reads them. */

#ifndef DETECTOR_NUMBERS_H
#define DETECTOR_NUMBERS_H

#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* digits * 10^scale; whole: written without a fraction and without an exponent. */
typedef struct {
    uint64_t digits;
    int scale;
    bool negative;
    bool whole;
} Decimal;

enum { MOST_DIGITS = 19, MOST_EXPONENT = 9999, MOST_POWER = 27, EXACT_POWER = 22 };

static const double TENS[EXACT_POWER + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The number that begins at p. Returns what follows it, or NULL: it is none, or has too many digits. */
static inline const char *read_decimal(const char *p, const char *end, Decimal *found)
{
    uint64_t digits = 0;
    int count = 0, scale = 0;
    found->negative = p < end && *p == '-';
    p += found->negative;
    if (p == end || !is_digit(*p)) return NULL;
    if (*p == '0') {
        p++;
        if (p < end && is_digit(*p)) return NULL;
    } else {
        const char *first = p;
        for (; p < end && is_digit(*p); p++) {
            if (p - first == MOST_DIGITS) return NULL;
            digits = digits * 10 + (uint64_t)(*p - '0');
        }
        count = (int)(p - first);
    }
    found->whole = true;
    if (p < end && *p == '.') {
        const char *first = ++p;
        found->whole = false;
        for (; p < end && is_digit(*p); p++) {
            if (p - first == MOST_EXPONENT) return NULL;
            digits = digits * 10 + (uint64_t)(*p - '0');
            /* Digits that wrapped to nothing were counted before. */
            if ((count > 0 || digits != 0) && ++count > MOST_DIGITS) return NULL;
        }
        if (p == first) return NULL;
        scale = -(int)(p - first);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        found->whole = false;
        bool below = false;
        int exponent = 0;
        if (++p < end && (*p == '+' || *p == '-')) below = *p++ == '-';
        if (p == end || !is_digit(*p)) return NULL;
        for (; p < end && is_digit(*p); p++) {
            exponent = exponent * 10 + (*p - '0');
            if (exponent > MOST_EXPONENT) return NULL;
        }
        scale += below ? -exponent : exponent;
    }
    found->digits = digits;
    found->scale = scale;
    return p;
}

#ifdef __SIZEOF_INT128__
static const uint64_t FIVES[MOST_POWER + 1] = {
    1u, 5u, 25u, 125u, 625u, 3125u, 15625u, 78125u, 390625u, 1953125u, 9765625u, 48828125u,
    244140625u, 1220703125u, 6103515625u, 30517578125u, 152587890625u, 762939453125u,
    3814697265625u, 19073486328125u, 95367431640625u, 476837158203125u, 2384185791015625u,
    11920928955078125u, 59604644775390625u, 298023223876953125u, 1490116119384765625u,
    7450580596923828125u,
};

/* 2^exponent, for exponents of normal numbers. */
static inline double power_of_two(int exponent)
{
    uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* digits * 10^scale, digits > 0, by whole numbers of 128 bits. What is below the 64 bits kept only
has to be known as nothing or something: the machine's conversion rounds to nearest, ties to even. */
static inline double by_whole_numbers(uint64_t digits, int scale)
{
    if (scale >= 0) {
        unsigned __int128 product = (unsigned __int128)digits * FIVES[scale];
        uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
        if (high == 0) return (double)low * power_of_two(scale);
        int shift = 64 - __builtin_clzll(high);
        uint64_t kept = (uint64_t)(product >> shift);
        bool rest = (low & (((uint64_t)1 << (shift - 1) << 1) - 1)) != 0;
        return (double)(kept | rest) * power_of_two(scale + shift);
    }
    uint64_t divisor = FIVES[-scale];
    int left = __builtin_clzll(digits), right = __builtin_clzll(divisor);
    /* Both with their highest bit set, so that the quotient has 63 or 64 bits. */
    unsigned __int128 dividend = (unsigned __int128)(digits << left) << 63;
    divisor <<= right;
    uint64_t quotient = (uint64_t)(dividend / divisor);
    bool rest = (unsigned __int128)quotient * divisor != dividend;
    return (double)(quotient | rest) * power_of_two(scale - 63 - left + right);
}
#endif

/* Whether the nearest double could be told. A whole zero has no sign, as an integer has none. */
static inline bool nearest_double(const Decimal *from, double *result)
{
    uint64_t digits = from->digits;
    int scale = from->scale;
    double size;
    if (digits == 0) {
        *result = from->negative && !from->whole ? -0.0 : 0.0;
        return true;
    }
    /* Both factors are doubles exactly, and one operation rounds once (Clinger 1990). */
    if (FLT_EVAL_METHOD == 0 && digits <= (uint64_t)1 << 53 && scale >= -EXACT_POWER &&
        scale <= EXACT_POWER) {
        size = scale < 0 ? (double)digits / TENS[-scale] : (double)digits * TENS[scale];
    } else {
#ifdef __SIZEOF_INT128__
        if (scale < -MOST_POWER || scale > MOST_POWER) return false;
        size = by_whole_numbers(digits, scale);
#else
        return false;
#endif
    }
    *result = from->negative ? -size : size;
    return true;
}

#endif
