/* The network's arithmetic on planar float32 maps, for CPUs.
 *
 * kernels.h holds all of it and is compiled once for each instruction set; this file chooses
 * among them when it is called. Python reaches it through ctypes (library.py), which lets go of
 * the interpreter's lock, so that threads work on bands of rows side by side.
 *
 * A map is channels of height rows of pitch values: pitch is the width rounded up to PITCH, and
 * what lies beyond the width, or between two channels, is not defined. Functions work on the
 * rows that they are told.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PITCH 16 /* values; the widest vector has so many */
#define PLANE_UNIT 1024
#define PLANE_SHIFT 144
#define TILE 192 /* columns of a tile of a convolution, so that a tile stays in the caches */
#define SPAN 64   /* places that are treated together where each stands alone */
#define MAX_ROWS 16
#define MAX_OUTPUTS 6 /* computed together: with 4 vectors of columns they fill 32 registers */

#define NOT_A_NUMBER 1

enum epilogue { PLAIN, GELU, ADD, SHUFFLE_GELU };

/* A convolution as network.py prepares it: products of transformed rows, combined to rows. */
struct convolution {
    int32_t inputs, outputs, taps;
    int32_t rows;     /* of input that a tile takes */
    int32_t step;     /* rows of output that it gives */
    int32_t products; /* sums that are taken of the transformed rows */
    int32_t terms;    /* rows that each of them spans */
    /* Winograd's for 6 rows of a kernel of 3 or 5 and 4 of one of 7, or NULL for none: */
    const float *input_transform;  /* (rows, rows) */
    const float *output_transform; /* (step, products) */
    const float *weights; /* by block of outputs: (products, terms, inputs, taps, block) */
    const float *bias;    /* (outputs) */
};

struct map {
    float *values;
    int32_t height, width;
};

static long round_up(long value, long unit) { return (value + unit - 1) / unit * unit; }

static long pitch_of(const struct map *map) { return round_up(map->width, PITCH); }

/* Values from one channel to the next. Planes of 640 x 1280 values, one behind the other, would
 * all begin in the same set of a cache; so each is shifted by a few lines against the last. */
static long plane_of(const struct map *map)
{
    return round_up(map->height * pitch_of(map), PLANE_UNIT) + PLANE_SHIFT;
}

static float *row_of(const struct map *map, long channel, long row)
{
    return map->values + channel * plane_of(map) + row * pitch_of(map);
}

/* Outputs of the block that begins at `first`: as many as fit, in blocks as equal as can be. */
static int block_size(int outputs, int first)
{
    int blocks = (outputs + MAX_OUTPUTS - 1) / MAX_OUTPUTS;
    int base = outputs / blocks, longer = outputs % blocks;
    return first < longer * (base + 1) ? base + 1 : base;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAS_VARIANTS 1
#endif

#define LANES 4
#define VECTORS 2
#define NAME(name) name##_plain
#include "kernels.h"
#undef LANES
#undef VECTORS
#undef NAME

#ifdef HAS_VARIANTS
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LANES 8
#define VECTORS 2
#define NAME(name) name##_avx2
#include "kernels.h"
#undef LANES
#undef VECTORS
#undef NAME
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,prefer-vector-width=512")
#define LANES 16
#define VECTORS 4
#define NAME(name) name##_avx512
#include "kernels.h"
#undef LANES
#undef VECTORS
#undef NAME
#pragma GCC pop_options
#endif

/* 0 for any CPU, 1 for AVX2, 2 for AVX-512: the most that this CPU has. */
int32_t hfsv_level(void)
{
#ifdef HAS_VARIANTS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

#ifdef HAS_VARIANTS
#define DISPATCH(level, name, ...)                                                                 \
    ((level) == 2   ? name##_avx512(__VA_ARGS__)                                                   \
     : (level) == 1 ? name##_avx2(__VA_ARGS__)                                                     \
                    : name##_plain(__VA_ARGS__))
#else
#define DISPATCH(level, name, ...) name##_plain(__VA_ARGS__)
#endif

/* Tiles of rows `first` to `last` of a convolution. `extra` is what ADD adds, as large as `out`;
 * with SHUFFLE_GELU `out` is `stride` times as high and wide. -1 where memory is wanting. */
int32_t hfsv_convolve(int32_t level, const struct convolution *conv, const struct map *in,
                      const struct map *out, int32_t epilogue, const struct map *extra,
                      int32_t stride, int32_t first, int32_t last)
{
    return DISPATCH(level, convolve, conv, in, out, epilogue, extra, stride, first, last);
}

/* Channel attention of rows `first` to `last`: out = in * sigmoid(W2 gelu(W1 in)) + in. The two
 * convolutions have a kernel of 1 and a step of 1. */
int32_t hfsv_channel_attention(int32_t level, const struct convolution *reduce,
                               const struct convolution *expand, const struct map *in,
                               const struct map *out, int32_t first, int32_t last)
{
    return DISPATCH(level, channel_attention, reduce, expand, in, out, first, last);
}

/* gelu([X, B_LL, B_HL, B_LH, B_HH]) of `channels` maps X, row pairs `first` to `last`. */
int32_t hfsv_band_features(int32_t level, const struct map *in, const struct map *out,
                           int32_t channels, const float *phi, int32_t first, int32_t last)
{
    return DISPATCH(level, band_features, in, out, channels, phi, first, last);
}

/* out = f * sigmoid(logits) + f of rows `first` to `last`, gelu of it where `activate` is set;
 * `logits` has one channel for all, or one for each. */
int32_t hfsv_gate(int32_t level, const struct map *in, const struct map *logits,
                  int32_t logit_channels, const struct map *out, int32_t channels,
                  int32_t activate, int32_t first, int32_t last)
{
    return DISPATCH(level, gate, in, logits, logit_channels, out, channels, activate, first, last);
}

/* out += in, rows `first` to `last`. */
int32_t hfsv_add(int32_t level, const struct map *in, const struct map *out, int32_t channels,
                 int32_t first, int32_t last)
{
    return DISPATCH(level, add, in, out, channels, first, last);
}

/* Samples 0..peak of rows `first` to `last` of a frame, (3, height, width), of 1 or 2 bytes:
 * (1 + tanh(y)) / 2 of the logits y, to which `added`, unless it is NULL, is added at the frame's
 * size, before the tanh or, where `after` is set, after it. NOT_A_NUMBER where a value is none. */
int32_t hfsv_samples(int32_t level, const struct map *logits, const struct map *added,
                     int32_t after, float peak, void *out, int32_t bytes, int32_t height,
                     int32_t width, int32_t first, int32_t last)
{
    return DISPATCH(level, samples, logits, added, after, peak, out, bytes, height, width, first,
                    last);
}
