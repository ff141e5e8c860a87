/* The kernels for vectors of LANES floats; kernels.c includes this once an instruction set. */

/* NaN passes through all of these: a file whose network gives one is refused. */

static inline float NAME(exponential)(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2**23: adding it rounds to an integer */
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + magic;
    float whole = shifted - magic;
    float rest = x - whole * 0.693145752f;
    rest = rest - whole * 1.42860677e-6f;
    float sum = 1.0f / 5040;
    sum = sum * rest + 1.0f / 720;
    sum = sum * rest + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits + 127u) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return sum * power;
}

static inline float NAME(sigmoid)(float x) { return 1.0f / (1.0f + NAME(exponential)(-x)); }

/* (1 + erf(x / sqrt 2)) / 2; erf(z) / z is a fraction of polynomials of z**2, within 5e-7 of the
 * true erf in float32, and 1 beyond 4. */
static inline float NAME(normal_share)(float x)
{
    float z = x * 0.707106781f;
    z = z > 4.0f ? 4.0f : z;
    z = z < -4.0f ? -4.0f : z;
    float u = z * z;
    float p = 1.921723047e-08f;
    p = p * u - 1.990325472e-06f;
    p = p * u + 1.555373310e-04f;
    p = p * u + 4.293070640e-03f;
    p = p * u + 5.243352801e-02f;
    p = p * u + 2.139450610e-01f;
    p = p * u + 1.128378630e+00f;
    float q = 1.098042587e-03f;
    q = q * u + 1.555112842e-02f;
    q = q * u + 1.207997799e-01f;
    q = q * u + 5.229315162e-01f;
    q = q * u + 1.0f;
    return 0.5f + 0.5f * (z * p / q);
}

static inline float NAME(gelu)(float x) { return x * NAME(normal_share)(x); }

/* Rows of a tile of one channel from column `left` on, zero outside the map: pointers into the
 * map where it holds them whole, else copies in `lines`. */
static void NAME(gather)(const struct map *in, int channel, long top, int rows, long left,
                         long width, float *lines, const float **pointers)
{
    for (int row = 0; row < rows; row++) {
        long y = top + row;
        float *line = lines + row * width;
        pointers[row] = line;
        if (y < 0 || y >= in->height) {
            memset(line, 0, width * sizeof(float));
            continue;
        }
        const float *source = row_of(in, channel, y);
        if (left >= 0 && left + width <= in->width) {
            pointers[row] = source + left;
            continue;
        }
        long begin = left < 0 ? -left : 0;
        long end = in->width - left < width ? in->width - left : width;
        memset(line, 0, begin * sizeof(float));
        memcpy(line + begin, source + left + begin, (end - begin) * sizeof(float));
        memset(line + end, 0, (width - end) * sizeof(float));
    }
}

/* Transformed rows of one channel. Points lie at 0, at pairs p and -p, and at infinity; so the
 * rows of the matrix for p and -p differ in the signs of every other factor, the first has factors
 * at even places alone, and the last at odd ones. */
static inline __attribute__((always_inline)) void
NAME(transform_rows)(const int rows, const float **pointers, const float *matrix, long width,
                     float *out, long out_step)
{
    for (long x = 0; x < width; x += LANES) {
        NAME(vector) values[MAX_ROWS];
        for (int row = 0; row < rows; row++)
            values[row] = *(const NAME(vector) *)(pointers[row] + x);
        for (int k = 0; k < rows; k += k ? 2 : 1) {
            const float *factors = matrix + k * rows;
            NAME(vector) even = factors[0] * values[0], odd = factors[1] * values[1];
            for (int row = 2; row < rows; row += 2) {
                even += factors[row] * values[row];
                odd += factors[row + 1] * values[row + 1];
            }
            if (k == 0 || k == rows - 1) {
                *(NAME(vector) *)(out + k * out_step + x) = k == 0 ? even : odd;
            } else {
                *(NAME(vector) *)(out + k * out_step + x) = even + odd;
                *(NAME(vector) *)(out + (k + 1) * out_step + x) = even - odd;
            }
        }
    }
}

static void NAME(transform)(const struct convolution *conv, const float **pointers, long width,
                            float *out, long out_step)
{
    if (conv->input_transform == NULL) {
        for (int row = 0; row < conv->rows; row++)
            memcpy(out + row * out_step, pointers[row], width * sizeof(float));
    } else if (conv->rows == 8) {
        NAME(transform_rows)(8, pointers, conv->input_transform, width, out, out_step);
    } else {
        NAME(transform_rows)(10, pointers, conv->input_transform, width, out, out_step);
    }
}

/* Rows of output from the sums of the products, by the same symmetry. */
static inline __attribute__((always_inline)) void
NAME(combine_rows)(const int step, const int products, const float *matrix, const float *sums,
                   long sums_step, long width, float *out)
{
    for (long x = 0; x < width; x += LANES) {
        NAME(vector) values[MAX_ROWS];
        for (int k = 0; k < products; k++)
            values[k] = *(const NAME(vector) *)(sums + k * sums_step + x);
        for (int k = 1; k < products - 1; k += 2) {
            NAME(vector) sum = values[k] + values[k + 1];
            values[k + 1] = values[k] - values[k + 1];
            values[k] = sum;
        }
        for (int row = 0; row < step; row++) {
            NAME(vector) sum = row == 0          ? values[0]
                               : row == step - 1 ? values[products - 1]
                                                 : (NAME(vector)){0};
            for (int k = 1; k < products - 1; k += 2)
                sum += matrix[row * products + k] * values[k + row % 2];
            *(NAME(vector) *)(out + row * width + x) = sum;
        }
    }
}

static void NAME(combine)(const struct convolution *conv, int outputs, const float *sums,
                          long width, float *out)
{
    long step = outputs * width;
    const float *matrix = conv->output_transform;
    for (int output = 0; output < outputs; output++) {
        const float *from = sums + output * width;
        float *to = out + output * conv->step * width;
        if (conv->products == 8)
            NAME(combine_rows)(6, 8, matrix, from, step, width, to);
        else if (conv->step == 6)
            NAME(combine_rows)(6, 10, matrix, from, step, width, to);
        else
            NAME(combine_rows)(4, 10, matrix, from, step, width, to);
    }
}

/* Bias and what follows, of a tile's rows, into the map. */
static void NAME(finish)(const struct convolution *conv, const float *tile, long width,
                         const struct map *out, int epilogue, const struct map *extra, long top,
                         long left)
{
    long columns = out->pitch - left < width ? out->pitch - left : width;
    for (int output = 0; output < conv->outputs; output++)
        for (int row = 0; row < conv->step && top + row < out->height; row++) {
            const float *restrict from = tile + (output * conv->step + row) * width;
            float *restrict to = row_of(out, output, top + row) + left;
            float bias = conv->bias[output];
            if (epilogue == GELU) {
                for (long x = 0; x < columns; x++)
                    to[x] = NAME(gelu)(from[x] + bias);
            } else if (epilogue == ADD) {
                const float *restrict other = row_of(extra, output, top + row) + left;
                for (long x = 0; x < columns; x++)
                    to[x] = from[x] + bias + other[x];
            } else {
                for (long x = 0; x < columns; x++)
                    to[x] = from[x] + bias;
            }
        }
}

/* PixelShuffle and GELU of a tile's rows; `line` has room for one row of output. */
static void NAME(finish_shuffled)(const struct convolution *conv, const float *tile, long width,
                                  const struct map *in, const struct map *out, int stride,
                                  long top, long left, float *line)
{
    long columns = in->width - left < width ? in->width - left : width;
    for (int channel = 0; channel < conv->outputs / (stride * stride); channel++)
        for (int row = 0; row < conv->step && top + row < in->height; row++)
            for (int dy = 0; dy < stride; dy++) {
                int first = (channel * stride + dy) * stride;
                if (stride == 2) {
                    const float *restrict even = tile + (first * conv->step + row) * width;
                    const float *restrict odd = even + conv->step * width;
                    for (long x = 0; x < columns; x++) {
                        line[2 * x] = even[x] + conv->bias[first];
                        line[2 * x + 1] = odd[x] + conv->bias[first + 1];
                    }
                } else {
                    for (int dx = 0; dx < stride; dx++) {
                        const float *from = tile + ((first + dx) * conv->step + row) * width;
                        for (long x = 0; x < columns; x++)
                            line[x * stride + dx] = from[x] + conv->bias[first + dx];
                    }
                }
                float *restrict to = row_of(out, channel, (top + row) * stride + dy) + left * stride;
                for (long x = 0; x < columns * stride; x++)
                    to[x] = NAME(gelu)(line[x]);
            }
}

static int32_t NAME(convolve)(const struct convolution *conv, const struct map *in,
                              const struct map *out, int epilogue, const struct map *extra,
                              int stride, int first, int last)
{
    long tiles = (in->width + TILE - 1) / TILE;
    long width = round_up((in->width + tiles - 1) / tiles, VECTORS * LANES);
    /* The last vector of columns reads as far beyond the tile as there are taps. */
    long row_width = round_up(width + conv->taps - 1, LANES);
    int direct = conv->output_transform == NULL;
    int block_outputs = direct ? conv->outputs * conv->step : conv->outputs;
    long sizes[] = {conv->rows * row_width, conv->rows * conv->inputs * row_width,
                    (long)conv->products * MAX_OUTPUTS * width,
                    (long)conv->outputs * conv->step * width, stride * width};
    long total = 0;
    for (int i = 0; i < 5; i++)
        total += sizes[i];
    float *lines = aligned_alloc(64, round_up(total * sizeof(float), 64));
    if (lines == NULL)
        return -1;
    float *rows = lines + sizes[0], *sums = rows + sizes[1], *tile = sums + sizes[2];
    float *line = tile + sizes[3];
    long row_step = conv->inputs * row_width;
    const float *pointers[MAX_ROWS];
    for (int number = first; number < last; number++)
        for (long left = 0; left < in->width; left += width) {
            long top = (long)number * conv->step;
            long columns = round_up(in->width - left, LANES);
            columns = columns < width ? columns : width;
            for (int channel = 0; channel < conv->inputs; channel++) {
                NAME(gather)(in, channel, top - conv->taps / 2, conv->rows, left - conv->taps / 2,
                             row_width, lines, pointers);
                NAME(transform)(conv, pointers, row_width, rows + channel * row_width, row_step);
            }
            const float *weights = conv->weights;
            for (int begin = 0; begin < block_outputs;) {
                int count = block_size(block_outputs, begin);
                for (int product = 0; product < conv->products; product++) {
                    float *target = direct ? tile + begin * width : sums + product * count * width;
                    const float *source = rows + product * row_step;
                    for (long x = 0; x < columns;) {
                        int vectors = x + VECTORS * LANES <= columns ? VECTORS
                                      : x + 2 * LANES <= columns     ? 2
                                                                     : 1;
                        NAME(block)(count, vectors, source + x, row_step, row_width, conv->terms,
                                    conv->inputs, conv->taps, weights, target + x, width);
                        x += vectors * LANES;
                    }
                    weights += (long)count * conv->terms * conv->inputs * conv->taps;
                }
                if (!direct)
                    NAME(combine)(conv, count, sums, width, tile + begin * conv->step * width);
                begin += count;
            }
            if (epilogue == SHUFFLE_GELU)
                NAME(finish_shuffled)(conv, tile, width, in, out, stride, top, left, line);
            else
                NAME(finish)(conv, tile, width, out, epilogue, extra, top, left);
        }
    free(lines);
    return 0;
}

/* All outputs of a convolution of kernel 1 at SPAN places that lie one behind the other. */
static void NAME(mix_channels)(const struct convolution *conv, const float *values, long step,
                               float *out)
{
    const float *weights = conv->weights;
    for (int begin = 0; begin < conv->outputs;) {
        int count = block_size(conv->outputs, begin);
        for (long x = 0; x < SPAN; x += VECTORS * LANES)
            NAME(block)(count, VECTORS, values + x, 0, step, 1, conv->inputs, 1, weights,
                        out + begin * SPAN + x, SPAN);
        weights += (long)count * conv->inputs;
        begin += count;
    }
}

static int32_t NAME(channel_attention)(const struct convolution *reduce,
                                       const struct convolution *expand, const struct map *in,
                                       const struct map *out, int first, int last)
{
    long pitch = in->pitch, plane = in->plane, channels = reduce->inputs;
    long inner = reduce->outputs;
    float *hidden = aligned_alloc(64, (inner + 2 * channels) * SPAN * sizeof(float));
    if (hidden == NULL)
        return -1;
    float *gates = hidden + inner * SPAN, *copy = gates + channels * SPAN;
    /* Rows lie one behind the other, so that they are one run of values. */
    for (long start = first * pitch; start < last * pitch; start += SPAN) {
        long count = last * pitch - start < SPAN ? last * pitch - start : SPAN;
        const float *source = in->values + start;
        long step = plane;
        if (count < SPAN) {
            memset(copy, 0, channels * SPAN * sizeof(float));
            for (long c = 0; c < channels; c++)
                memcpy(copy + c * SPAN, source + c * plane, count * sizeof(float));
            source = copy;
            step = SPAN;
        }
        NAME(mix_channels)(reduce, source, step, hidden);
        for (long i = 0; i < inner; i++) {
            float *restrict values = hidden + i * SPAN;
            for (int x = 0; x < SPAN; x++)
                values[x] = NAME(gelu)(values[x] + reduce->bias[i]);
        }
        NAME(mix_channels)(expand, hidden, SPAN, gates);
        for (long c = 0; c < channels; c++) {
            const float *restrict values = source + c * step, *restrict gate = gates + c * SPAN;
            float *restrict result = out->values + start + c * plane;
            float bias = expand->bias[c];
            for (int x = 0; x < count; x++)
                result[x] = values[x] * NAME(sigmoid)(gate[x] + bias) + values[x];
        }
    }
    free(hidden);
    return 0;
}

/* Which rows of `rows` a row of a map `stride` times as high lies between, the nearer one first,
 * and the share of the other: bilinear between the centres of samples, edges clamped. */
static float NAME(upsampling)(long row, int stride, long rows, long *near, long *far)
{
    float offset = ((float)(row % stride) + 0.5f) / (float)stride - 0.5f;
    *near = row / stride;
    *far = offset < 0.0f ? *near - 1 : *near + 1;
    *far = *far < 0 ? 0 : *far >= rows ? rows - 1 : *far;
    return offset < 0.0f ? -offset : offset;
}

/* A row of `columns` values `stride` times as wide; mixed[-1] and mixed[columns] are set to the
 * values at the edges. */
static inline void NAME(widened_row)(float *mixed, long columns, int stride, float *out)
{
    mixed[-1] = mixed[0];
    mixed[columns] = mixed[columns - 1];
    if (stride == 2) {
        for (long x = 0; x < columns; x++) {
            out[2 * x] = 0.75f * mixed[x] + 0.25f * mixed[x - 1];
            out[2 * x + 1] = 0.75f * mixed[x] + 0.25f * mixed[x + 1];
        }
        return;
    }
    for (int phase = 0; phase < stride; phase++) {
        float offset = ((float)phase + 0.5f) / (float)stride - 0.5f;
        const float *other = offset < 0.0f ? mixed - 1 : mixed + 1;
        float share = offset < 0.0f ? -offset : offset;
        for (long x = 0; x < columns; x++)
            out[x * stride + phase] = (1.0f - share) * mixed[x] + share * other[x];
    }
}

/* gelu of maps at `stride` times their size, rows `first` to `last` of the smaller ones. */
static int32_t NAME(upsample)(const struct map *in, const struct map *out, int channels, int stride,
                              int first, int last)
{
    long pitch = out->pitch;
    float *line = allocate((in->pitch + 2 * PITCH + pitch + stride) * sizeof(float));
    if (line == NULL)
        return -1;
    float *mixed = line + PITCH, *wide = mixed + in->pitch + PITCH;
    for (int channel = 0; channel < channels; channel++)
        for (long row = (long)first * stride; row < (long)last * stride; row++) {
            long near, far;
            float share = NAME(upsampling)(row, stride, in->height, &near, &far);
            const float *restrict one = row_of(in, channel, near);
            const float *restrict other = row_of(in, channel, far);
            for (long x = 0; x < in->width; x++)
                mixed[x] = (1.0f - share) * one[x] + share * other[x];
            NAME(widened_row)(mixed, in->width, stride, wide);
            float *restrict to = row_of(out, channel, row);
            for (long x = 0; x < out->width; x++)
                to[x] = NAME(gelu)(wide[x]);
        }
    free(line);
    return 0;
}

/* Row `row` of the four Haar bands of one channel, columns [0, half); edges are repeated. */
static void NAME(haar_row)(const struct map *in, int channel, long row, long half, float *bands,
                           long step)
{
    long bottom_row = 2 * row + 1 < in->height ? 2 * row + 1 : in->height - 1;
    const float *restrict top = row_of(in, channel, 2 * row);
    const float *restrict bottom = row_of(in, channel, bottom_row);
    float *restrict ll = bands, *restrict hl = bands + step, *restrict lh = bands + 2 * step;
    float *restrict hh = bands + 3 * step;
    long whole = in->width / 2;
    for (long x = 0; x < whole; x++) {
        float a = top[2 * x], b = top[2 * x + 1], c = bottom[2 * x], d = bottom[2 * x + 1];
        ll[x] = ((a + b) + (c + d)) * 0.25f;
        hl[x] = ((a - b) + (c - d)) * 0.25f;
        lh[x] = ((a + b) - (c + d)) * 0.25f;
        hh[x] = ((a - b) - (c - d)) * 0.25f;
    }
    if (half > whole) {
        float a = top[2 * whole], c = bottom[2 * whole];
        ll[whole] = (a + c) * 0.5f;
        lh[whole] = (a - c) * 0.5f;
        hl[whole] = hh[whole] = 0;
    }
}

static int32_t NAME(band_features)(const struct map *in, const struct map *out, int channels,
                                   const float *phi, int first, int last)
{
    long half = (in->width + 1) / 2, half_rows = (in->height + 1) / 2;
    long step = round_up(half, PITCH), pitch = in->pitch;
    /* Haar rows above, at and below; one row between; one at full width. */
    long total = 12 * step + step + 2 * PITCH + 2 * step + pitch;
    float *haar = aligned_alloc(64, round_up(total * sizeof(float), 64));
    if (haar == NULL)
        return -1;
    float *mixed = haar + 12 * step + PITCH, *full = mixed + step + PITCH;
    for (int channel = 0; channel < channels; channel++)
        for (long pair = first; pair < last; pair++) {
            long above = pair > 0 ? pair - 1 : 0;
            long below = pair + 1 < half_rows ? pair + 1 : pair;
            NAME(haar_row)(in, channel, above, half, haar, step);
            NAME(haar_row)(in, channel, pair, half, haar + 4 * step, step);
            NAME(haar_row)(in, channel, below, half, haar + 8 * step, step);
            for (long dy = 0; dy < 2 && 2 * pair + dy < in->height; dy++) {
                long y = 2 * pair + dy;
                const float *restrict x_row = row_of(in, channel, y);
                float *restrict plain = row_of(out, channel, y);
                for (long x = 0; x < pitch; x++)
                    plain[x] = NAME(gelu)(x_row[x]);
                for (int band = 0; band < 4; band++) {
                    const float *restrict near = haar + (4 + band) * step;
                    const float *restrict far = haar + (dy ? 8 + band : band) * step;
                    for (long x = 0; x < half; x++)
                        mixed[x] = (near[x] * 0.75f + far[x] * 0.25f) * phi[band];
                    NAME(widened_row)(mixed, half, 2, full);
                    float *restrict to = row_of(out, channels * (band + 1) + channel, y);
                    for (long x = 0; x < in->width; x++)
                        to[x] = NAME(gelu)(full[x] + x_row[x]);
                }
            }
        }
    free(haar);
    return 0;
}

static int32_t NAME(gate)(const struct map *in, const struct map *logits, int logit_channels,
                          const struct map *out, int channels, int activate, int first, int last)
{
    long pitch = in->pitch;
    float *factors = aligned_alloc(64, round_up(pitch * sizeof(float), 64));
    if (factors == NULL)
        return -1;
    for (int row = first; row < last; row++)
        for (int channel = 0; channel < channels; channel++) {
            if (channel < logit_channels) {
                const float *restrict logit = row_of(logits, channel, row);
                for (long x = 0; x < pitch; x++)
                    factors[x] = NAME(sigmoid)(logit[x]);
            }
            const float *from = row_of(in, channel, row);
            float *to = row_of(out, channel, row);
            if (activate)
                for (long x = 0; x < pitch; x++)
                    to[x] = NAME(gelu)(from[x] * factors[x] + from[x]);
            else
                for (long x = 0; x < pitch; x++)
                    to[x] = from[x] * factors[x] + from[x];
        }
    free(factors);
    return 0;
}

static int32_t NAME(add)(const struct map *in, const struct map *out, int channels, int first,
                         int last)
{
    for (int channel = 0; channel < channels; channel++)
        for (int row = first; row < last; row++) {
            const float *restrict from = row_of(in, channel, row);
            float *restrict to = row_of(out, channel, row);
            for (long x = 0; x < in->pitch; x++)
                to[x] += from[x];
        }
    return 0;
}

/* Values between which value `number` of `count` lies if there were `of` values, and the share of
 * the second: bilinear resizing between the centres of samples. */
static float NAME(between)(long number, long count, long of, int32_t *first, int32_t *second)
{
    float place = ((float)number + 0.5f) * ((float)of / (float)count) - 0.5f;
    place = place > 0 ? place : 0;
    *first = (int32_t)place;
    *second = *first + 1 < of ? *first + 1 : *first;
    return place - (float)*first;
}

static int32_t NAME(samples)(const struct map *logits, const struct map *added, int after,
                             float peak, void *out, int bytes, int height, int width, int first,
                             int last)
{
    long pitch = logits->pitch, step = bytes * (long)width;
    float *line = aligned_alloc(64, round_up(7 * pitch * sizeof(float), 64));
    if (line == NULL)
        return -1;
    float *reused = line + pitch, *shares = reused + pitch, *wide_rows = shares + pitch;
    int32_t *left = (int32_t *)(wide_rows + 2 * pitch), *right = left + pitch;
    if (added != NULL)
        for (long x = 0; x < width; x++)
            shares[x] = NAME(between)(x, logits->width, added->width, left + x, right + x);
    int32_t failed = 0;
    for (int channel = 0; channel < 3; channel++) {
        int32_t widened[2] = {-1, -1}; /* which rows wide_rows holds, even and odd ones apart */
        for (int row = first; row < last; row++) {
            const float *restrict from = row_of(logits, channel, row);
            if (added != NULL) {
                int32_t rows[2];
                float share = NAME(between)(row, logits->height, added->height, rows, rows + 1);
                for (int i = 0; i < 2; i++) {
                    int place = rows[i] % 2;
                    if (widened[place] == rows[i])
                        continue;
                    const float *restrict narrow = row_of(added, channel, rows[i]);
                    float *restrict wide = wide_rows + place * pitch;
                    for (long x = 0; x < width; x++)
                        wide[x] = narrow[left[x]] + shares[x] * (narrow[right[x]] - narrow[left[x]]);
                    widened[place] = rows[i];
                }
                const float *restrict upper = wide_rows + rows[0] % 2 * pitch;
                const float *restrict lower = wide_rows + rows[1] % 2 * pitch;
                for (long x = 0; x < width; x++)
                    reused[x] = upper[x] + share * (lower[x] - upper[x]);
            }
            if (added == NULL) {
                for (long x = 0; x < width; x++)
                    line[x] = NAME(sigmoid)(2.0f * from[x]);
            } else if (after) {
                for (long x = 0; x < width; x++) {
                    float value = NAME(sigmoid)(2.0f * from[x]) + reused[x];
                    value = value > 1.0f ? 1.0f : value;
                    line[x] = value < 0.0f ? 0.0f : value;
                }
            } else {
                for (long x = 0; x < width; x++)
                    line[x] = NAME(sigmoid)(2.0f * (from[x] + reused[x]));
            }
            char *to = (char *)out + (channel * (long)height + row) * step;
            uint8_t *restrict narrow = (uint8_t *)to;
            uint16_t *restrict wide = (uint16_t *)to;
            int32_t numbers = 1;
            for (long x = 0; x < width; x++)
                numbers &= line[x] == line[x];
            if (!numbers)
                failed = NOT_A_NUMBER;
            else if (bytes == 1)
                for (long x = 0; x < width; x++)
                    narrow[x] = (uint8_t)(int32_t)(line[x] * peak + 0.5f);
            else
                for (long x = 0; x < width; x++)
                    wide[x] = (uint16_t)(int32_t)(line[x] * peak + 0.5f);
        }
    }
    free(line);
    return failed;
}
