/* A program of the scoring engine: what its operations are, shared by the kernels.
 *
 * A program works on one window at a time, in an arena of floats; every operation reads and writes
 * stretches of it, or constants. It is run in two ways, that give the same bits: many windows side
 * by side, each float of the arena a row of lanes, one lane a window; or one window, its own floats
 * side by side. Every sum is made one term after the other in the same order in both.
 */

#ifndef DETECTOR_SCORING_H
#define DETECTOR_SCORING_H

#include <stddef.h>
#include <stdint.h>

enum kind { COPY, ADD, SUB, MUL, CLIP, ASINH, SQRT, RELU, TANH, REDUCE, MATMUL, LSTM, ARGMIN, GATHER };
enum reduction { SUM, MEAN, LARGEST, SMALLEST };

#define DIMS 4

/* Where an operand stands: in the arena or among the constants, with a stride a dimension. */
struct operand {
    int constant;
    int64_t at;
    int64_t stride[DIMS];
};

struct op {
    int kind;
    int64_t to;          /* in the arena; what is written there is contiguous, row by row */
    int64_t dims[DIMS];  /* of what is written; of REDUCE (outer, inner, reduced, 1) */
    struct operand a, b;
    float low, high; /* CLIP */
    int reduction;

    /* MATMUL: (rows, k) x (k, j) + bias, or the smallest of each row alone (reduction); GATHER: (k, j) rows to choose from; ARGMIN: of k */
    int64_t rows, row_stride, k, j;

    /* LSTM: k inputs, j units; -1 where something is not there */
    int64_t steps, step_stride, hidden, cell, first_hidden, first_cell;
    int relu;

    /* Packed for lanes and for one window; owned by the program, aligned. */
    float *lanes_w, *lanes_r, *lanes_b, *one_w, *one_r, *one_b;
};

/* Kernels of one instruction set. */
struct kernels {
    const char *name;
    int vector;   /* floats in a vector */
    int lanes;    /* windows side by side in a full block */
    int few;      /* and in a small one */
    void (*run_lanes)(const struct op *, const float *constants, float *arena, float *scratch);
    void (*run_few)(const struct op *, const float *constants, float *arena, float *scratch);
    void (*run_one)(const struct op *, const float *constants, float *arena, float *scratch);
};

#if defined(__x86_64__) && defined(__GNUC__)
#define DETECTOR_X86 1
extern const struct kernels detector_avx512, detector_avx2;
#endif
extern const struct kernels detector_plain;

static inline int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Weights of one window stand in blocks of so many vectors, each contiguous. */
#define BLOCK_VECTORS 8

#endif
