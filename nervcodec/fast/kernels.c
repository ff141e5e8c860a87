/* The network's arithmetic on planar float32 maps, for CPUs.
 *
 * kernels.h holds that of decoding, layers.h and training.h that of training, correlate.h what both
 * are made of; they are compiled once for each instruction set, and this file chooses among them
 * when it is called. Python reaches it through ctypes (library.py), which lets go of the
 * interpreter's lock, so that threads work on bands of rows side by side.
 *
 * A map is channels of height rows of pitch values. In decoding pitch is the width rounded up to
 * PITCH, and what lies beyond the width, or between two channels, is not defined; a training's maps
 * have no gaps. Functions work on the rows that they are told.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PITCH 16 /* values; the widest vector has so many */
#define TILE 192 /* columns of a tile of a convolution, so that a tile stays in the caches */
#define SPAN 64   /* places that are treated together where each stands alone */
#define MAX_ROWS 16
#define MAX_OUTPUTS 6 /* computed together: with 4 vectors of columns they fill 32 registers */

/* Places whose products are summed before they are added to a weight's gradient, and which are one
 * piece of work: so many places of MAX_OUTPUTS channels stay in the first cache. */
#define STRETCH 1024
#define RANGE 8192        /* places that are one piece of work where each stands alone */
#define LEAST_VALUES 16384 /* of maps that are worth a second thread */
#define LEAST_WORK 200000 /* multiplications of a training that are worth a second thread */
#define MOST_PARTS 8 /* sums of a weight's gradient over parts of an image that are added at last */
#define MAX_TAPS 7 /* shifted inputs that are multiplied together for a gradient */

/* As nervcodec/training/rate.py has them: */
#define LOWEST_SYMBOL -128.0f
#define HIGHEST_SYMBOL 127.0f
#define LEAST_DEVIATION 0.1f
#define LEAST_PROBABILITY 1e-9f

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

/* How `step` rows of output are had of `products` transformed rows of input, as winograd.py says:
 * rows of matrices, for the input, for the weights, for the output, and for the output's gradients,
 * which are as many rows as those of the input, the last ones times 0. */
struct winograd {
    int32_t step, products;
    const float *before;    /* (products, products) */
    const float *factors;   /* (products, kernel) */
    const float *after;     /* (step, products) */
    const float *gradients; /* (products, products) */
};

/* A convolution of a training: (outputs, inputs, kernel, kernel) weights, kernel odd. Where it is
 * `depthwise`, as many outputs as inputs stand alone; `winograd` is NULL where that does not pay. */
struct layer {
    int32_t images, inputs, outputs, height, width, kernel, depthwise;
    const struct winograd *winograd;
};

struct map {
    float *values;
    int32_t height, width, pitch;
    int64_t plane; /* values from one channel to the next */
};

static long round_up(long value, long unit) { return (value + unit - 1) / unit * unit; }

#include "threads.h"

static void *allocate(long bytes) { return aligned_alloc(64, round_up(bytes, 64)); }

static float *memory_of(long values) { return allocate(values * sizeof(float)); }

static float *row_of(const struct map *map, long channel, long row)
{
    return map->values + channel * map->plane + row * map->pitch;
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

#define REAL float
#define LANES 4
#define VECTORS 2
#define REGISTERS 16
#define NAME(name) name##_plain
#include "correlate.h"
#include "kernels.h"
#include "layers.h"
#include "training.h"
#undef REAL
#undef LANES
#undef NAME
#define REAL double
#define LANES 2
#define NAME(name) name##_double_plain
#include "correlate.h"
#undef REAL
#undef LANES
#undef VECTORS
#undef REGISTERS
#undef NAME

#ifdef HAS_VARIANTS
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define REAL float
#define LANES 8
#define VECTORS 2
#define REGISTERS 16
#define NAME(name) name##_avx2
#include "correlate.h"
#include "kernels.h"
#include "layers.h"
#include "training.h"
#undef REAL
#undef LANES
#undef NAME
#define REAL double
#define LANES 4
#define NAME(name) name##_double_avx2
#include "correlate.h"
#undef REAL
#undef LANES
#undef VECTORS
#undef REGISTERS
#undef NAME
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,prefer-vector-width=512")
#define REAL float
#define LANES 16
#define VECTORS 4
#define REGISTERS 32
#define NAME(name) name##_avx512
#include "correlate.h"
#include "kernels.h"
#include "layers.h"
#include "training.h"
#undef REAL
#undef LANES
#undef NAME
#define REAL double
#define LANES 8
#define NAME(name) name##_double_avx512
#include "correlate.h"
#undef REAL
#undef LANES
#undef VECTORS
#undef REGISTERS
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

/* gelu of `channels` maps at `stride` times their size, rows `first` to `last` of the smaller
 * ones; bilinear between the centres of samples. */
int32_t hfsv_upsample(int32_t level, const struct map *in, const struct map *out, int32_t channels,
                      int32_t stride, int32_t first, int32_t last)
{
    return DISPATCH(level, upsample, in, out, channels, stride, first, last);
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

/* How many threads compute one operation of a training, from 1 to MAX_THREADS. */
int32_t hfsv_use_threads(int32_t level, int32_t threads)
{
    (void)level;
    atomic_store(&pool.wanted, threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads);
    return 0;
}

/* A training's convolution of (images, inputs, height, width) to (images, outputs, height, width),
 * with zeros around the maps. -1 where memory is wanting. */
int32_t hfsv_layer_forward(int32_t level, const struct layer *layer, const float *in,
                           const float *weights, const float *bias, float *out)
{
    return DISPATCH(level, layer_values, layer, in, weights, bias, out);
}

/* The same in float64. */
int32_t hfsv_layer_forward_double(int32_t level, const struct layer *layer, const double *in,
                                  const double *weights, const double *bias, double *out)
{
    return DISPATCH(level, layer_forward_double, layer, in, weights, bias, out);
}

/* Gradients of its input, unless that is NULL, its weights and its bias, from those of its
 * output. -1 where memory is wanting. */
int32_t hfsv_layer_backward(int32_t level, const struct layer *layer, const float *in,
                            const float *weights, const float *gradients, float *in_gradients,
                            float *weight_gradients, float *bias_gradients)
{
    return DISPATCH(level, layer_gradients, layer, in, weights, gradients, in_gradients,
                    weight_gradients, bias_gradients);
}

/* GELU and, unless NULL, its derivatives. */
int32_t hfsv_gelu_forward(int32_t level, const float *in, int64_t count, float *out, float *slopes)
{
    return DISPATCH(level, gelu_forward, in, count, out, slopes);
}

/* PixelShuffle by `stride` and GELU: (channels * stride^2, height, width) to (channels, height *
 * stride, width * stride); GELU's derivatives, unless NULL, lie as the input does. -1 where memory
 * is wanting. */
int32_t hfsv_shuffle_forward(int32_t level, const float *in, int32_t channels, int32_t height,
                             int32_t width, int32_t stride, float *out, float *slopes)
{
    return DISPATCH(level, shuffle_forward, in, channels, height, width, stride, out, slopes);
}

int32_t hfsv_shuffle_backward(int32_t level, const float *slopes, const float *gradients,
                              int32_t channels, int32_t height, int32_t width, int32_t stride,
                              float *out)
{
    return DISPATCH(level, shuffle_backward, slopes, gradients, channels, height, width, stride,
                    out);
}

/* Maps at `stride` times their size: (channels, height, width) to (channels, height * stride, width
 * * stride), bilinear; where `activate` is set GELU of them and, unless NULL, its derivatives. -1
 * where memory is wanting. */
int32_t hfsv_upsample_forward(int32_t level, const float *in, int32_t channels, int32_t height,
                              int32_t width, int32_t stride, int32_t activate, float *out,
                              float *slopes)
{
    return DISPATCH(level, upsample_forward, in, channels, height, width, stride, activate, out,
                    slopes);
}

/* `slopes` are GELU's derivatives, or NULL. -1 where memory is wanting. */
int32_t hfsv_upsample_backward(int32_t level, const float *slopes, const float *gradients,
                               int32_t channels, int32_t height, int32_t width, int32_t stride,
                               float *out)
{
    return DISPATCH(level, upsample_backward, slopes, gradients, channels, height, width, stride,
                    out);
}

/* (1 + tanh(y)) / 2. */
int32_t hfsv_range_forward(int32_t level, const float *in, int64_t count, float *out)
{
    return DISPATCH(level, range_forward, in, count, out);
}

/* Gradients of y, by the `values` that it gave. */
int32_t hfsv_range_backward(int32_t level, const float *values, const float *gradients,
                            int64_t count, float *out)
{
    return DISPATCH(level, range_backward, values, gradients, count, out);
}

/* out = f * sigmoid(logits) + f of maps of `map` values; `logits` has one for all, or one each. */
int32_t hfsv_gate_forward(int32_t level, const float *in, const float *logits,
                          int32_t logit_channels, int32_t channels, int64_t map, float *out)
{
    return DISPATCH(level, gate_forward, in, logits, logit_channels, channels, map, out);
}

int32_t hfsv_gate_backward(int32_t level, const float *in, const float *logits,
                           const float *gradients, int32_t logit_channels, int32_t channels,
                           int64_t map, float *in_gradients, float *logit_gradients)
{
    return DISPATCH(level, gate_backward, in, logits, gradients, logit_channels, channels, map,
                    in_gradients, logit_gradients);
}

/* Mean 0 and variance 1 over the channels at every place, then a scale and a shift a channel.
 * -1 where memory is wanting. */
int32_t hfsv_norm_forward(int32_t level, const float *in, const float *scale, const float *shift,
                          int32_t channels, int64_t map, float epsilon, float *out)
{
    return DISPATCH(level, norm_forward, in, scale, shift, channels, map, epsilon, out);
}

/* Gradients are added to those of scale and shift. -1 where memory is wanting. */
int32_t hfsv_norm_backward(int32_t level, const float *in, const float *scale,
                           const float *gradients, int32_t channels, int64_t map, float epsilon,
                           float *in_gradients, float *scale_gradients, float *shift_gradients)
{
    return DISPATCH(level, norm_backward, in, scale, gradients, channels, map, epsilon,
                    in_gradients, scale_gradients, shift_gradients);
}

/* gelu([X, B_LL, B_HL, B_LH, B_HH]) of HFSCM. -1 where memory is wanting. */
int32_t hfsv_bands_forward(int32_t level, const float *in, const float *phi, int32_t channels,
                           int32_t height, int32_t width, float *out)
{
    return DISPATCH(level, bands_forward, in, phi, channels, height, width, out);
}

/* Gradients are added to those of phi. -1 where memory is wanting. */
int32_t hfsv_bands_backward(int32_t level, const float *in, const float *phi,
                            const float *gradients, int32_t channels, int32_t height,
                            int32_t width, float *in_gradients, float *phi_gradients)
{
    return DISPATCH(level, bands_backward, in, phi, gradients, channels, height, width,
                    in_gradients, phi_gradients);
}

/* Values of tensors, tensor t from bounds[t] to bounds[t + 1], rounded to multiples of its step,
 * and their bits; the gradients of the bits by each value and step. -1 where memory is wanting. */
int32_t hfsv_rate_forward(int32_t level, const float *values, const int64_t *bounds,
                          int32_t tensors, const float *steps, float *rounded, float *slopes,
                          float *step_slopes, float *bits)
{
    return DISPATCH(level, rate_forward, values, bounds, tensors, steps, rounded, slopes,
                    step_slopes, bits);
}

/* Gradients by values and steps (in `step_slopes`), from `given` by the rounded values and `price`
 * by each bit. */
int32_t hfsv_rate_backward(int32_t level, const float *values, const int64_t *bounds,
                           int32_t tensors, const float *steps, const float *rounded,
                           const float *slopes, const float *given, float price, float *gradients,
                           float *step_slopes)
{
    return DISPATCH(level, rate_backward, values, bounds, tensors, steps, rounded, slopes, given,
                    price, gradients, step_slopes);
}
