/* The other operations of a training and their gradients, for vectors of LANES floats; kernels.c
 * includes this last, once an instruction set. Maps are those of correlate.h. */

/* The derivative of GELU from `share`, the normal distribution's Phi(x): it is Phi(x) + x phi(x),
 * with the density phi. */
static inline float NAME(slope_of)(float x, float share)
{
    return share + x * 0.398942280f * NAME(exponential)(-0.5f * x * x);
}

static inline float NAME(gelu_slope)(float x) { return NAME(slope_of)(x, NAME(normal_share)(x)); }

/* GELU and, unless `slopes` is NULL, its derivatives. */
static void NAME(gelu_values)(const float *restrict in, long count, float *restrict out,
                              float *restrict slopes)
{
    if (slopes == NULL) {
        for (long x = 0; x < count; x++)
            out[x] = NAME(gelu)(in[x]);
        return;
    }
    for (long x = 0; x < count; x++) {
        float share = NAME(normal_share)(in[x]);
        out[x] = in[x] * share;
        slopes[x] = NAME(slope_of)(in[x], share);
    }
}

/* What the pieces of an operation are told: of maps that stand alone one piece each, or of `count`
 * places RANGE each. `lines` has `line` values for each piece. */
struct NAME(map_work) {
    const float *in, *other, *given;
    float *out, *more, *lines;
    long count, line;
    int channels, height, width, stride, activate, logit_channels;
};

static long NAME(ranges)(long count) { return (count + RANGE - 1) / RANGE; }

static void NAME(gelu_piece)(void *data, long piece)
{
    const struct NAME(map_work) *work = data;
    long first = piece * RANGE, left = work->count - first;
    NAME(gelu_values)(work->in + first, left < RANGE ? left : RANGE, work->out + first,
                      work->more == NULL ? NULL : work->more + first);
}

static int32_t NAME(gelu_forward)(const float *in, long count, float *out, float *slopes)
{
    struct NAME(map_work) work = {.in = in, .count = count, .out = out, .more = slopes};
    in_pieces(NAME(ranges)(count), NAME(gelu_piece), &work);
    return 0;
}

static void NAME(shuffle_piece)(void *data, long channel)
{
    const struct NAME(map_work) *work = data;
    int stride = work->stride;
    long width = work->width, map = work->height * width, first = channel * stride * stride * map;
    float *out = work->out + first, *line = work->lines + channel * work->line;
    for (int row = 0; row < work->height; row++)
        for (int dy = 0; dy < stride; dy++, out += width * stride)
            for (int dx = 0; dx < stride; dx++) {
                long place = first + (dy * stride + dx) * map + row * width;
                NAME(gelu_values)(work->in + place, width, line,
                                  work->more == NULL ? NULL : work->more + place);
                for (long x = 0; x < width; x++)
                    out[x * stride + dx] = line[x];
            }
}

/* PixelShuffle by `stride` and GELU: (channels * stride^2, height, width) maps to (channels,
 * height * stride, width * stride). Slopes, unless NULL, lie as the input does. */
static int32_t NAME(shuffle_forward)(const float *in, int channels, int height, int width,
                                     int stride, float *out, float *slopes)
{
    struct NAME(map_work) work = {.in = in,
                                  .out = out,
                                  .more = slopes,
                                  .lines = memory_of((long)channels * width),
                                  .line = width,
                                  .height = height,
                                  .width = width,
                                  .stride = stride};
    if (work.lines == NULL)
        return -1;
    in_maps(channels, (long)height * width * stride * stride, NAME(shuffle_piece), &work);
    free(work.lines);
    return 0;
}

static int32_t NAME(shuffle_backward)(const float *slopes, const float *gradients, int channels,
                                      int height, int width, int stride, float *out)
{
    long map = (long)height * width;
    for (int channel = 0; channel < channels; channel++)
        for (int row = 0; row < height; row++)
            for (int dy = 0; dy < stride; dy++, gradients += (long)width * stride)
                for (int dx = 0; dx < stride; dx++) {
                    long place = ((channel * stride + dy) * stride + dx) * map + (long)row * width;
                    const float *restrict slope = slopes + place, *restrict from = gradients + dx;
                    float *restrict to = out + place;
                    for (long x = 0; x < width; x++)
                        to[x] = from[x * stride] * slope[x];
                }
    return 0;
}

/* A row of a map of `rows` rows at `stride` times its size. `mixed` has room for a value before
 * and one after its columns. */
static void NAME(upsampled_row)(const float *map, long rows, long columns, int stride, long row,
                                float *mixed, float *out)
{
    long near, far;
    float share = NAME(upsampling)(row, stride, rows, &near, &far);
    const float *restrict one = map + near * columns, *restrict other = map + far * columns;
    for (long x = 0; x < columns; x++)
        mixed[x] = (1.0f - share) * one[x] + share * other[x];
    NAME(widened_row)(mixed, columns, stride, out);
}

/* Add a row of gradients at `stride` times a map's size to those of the map. `sums` has room for a
 * value before and one after the columns. */
static void NAME(add_upsampled_gradient)(const float *gradients, long rows, long columns,
                                         int stride, long row, float *sums, float *map)
{
    if (stride == 2) {
        long last = columns - 1;
        for (long x = 1; x < last; x++) {
            const float *g = gradients + 2 * x;
            sums[x] = 0.75f * (g[0] + g[1]) + 0.25f * (g[-1] + g[2]);
        }
        /* What would go beyond the edges goes to the values there. */
        const float *g = gradients + 2 * last;
        sums[0] = gradients[0] + 0.75f * gradients[1] + (last > 0 ? 0.25f * gradients[2] : 0.0f);
        if (last > 0)
            sums[last] = 0.25f * g[-1] + 0.75f * g[0];
        sums[last] += last > 0 ? g[1] : 0.25f * g[1];
    } else {
        memset(sums - 1, 0, (columns + 2) * sizeof(float));
        for (int phase = 0; phase < stride; phase++) {
            float offset = ((float)phase + 0.5f) / (float)stride - 0.5f;
            float share = offset < 0.0f ? -offset : offset;
            long step = offset < 0.0f ? -1 : 1;
            for (long x = 0; x < columns; x++)
                sums[x] += (1.0f - share) * gradients[x * stride + phase];
            for (long x = 0; x < columns; x++)
                sums[x + step] += share * gradients[x * stride + phase];
        }
        sums[0] += sums[-1];
        sums[columns - 1] += sums[columns];
    }
    long near, far;
    float share = NAME(upsampling)(row, stride, rows, &near, &far);
    float *own = map + near * columns, *other = map + far * columns;
    for (long x = 0; x < columns; x++)
        own[x] += (1.0f - share) * sums[x];
    for (long x = 0; x < columns; x++)
        other[x] += share * sums[x];
}

static void NAME(upsample_piece)(void *data, long channel)
{
    const struct NAME(map_work) *work = data;
    long map = (long)work->height * work->width, wide = (long)work->width * work->stride;
    long rows = (long)work->height * work->stride, first = channel * rows * wide;
    float *out = work->out + first, *mixed = work->lines + channel * work->line + 1;
    float *full = mixed + work->width + 1, *slopes = work->more == NULL ? NULL : work->more + first;
    for (long row = 0; row < rows; row++, out += wide) {
        NAME(upsampled_row)(work->in + channel * map, work->height, work->width, work->stride, row,
                            mixed, work->activate ? full : out);
        if (!work->activate)
            continue;
        NAME(gelu_values)(full, wide, out, slopes);
        slopes = slopes == NULL ? NULL : slopes + wide;
    }
}

/* What the upsampling of so many maps, or its gradient, is told, with lines to be freed. */
static struct NAME(map_work) NAME(upsampling_of)(int channels, int height, int width, int stride)
{
    long line = width + 2 + (long)width * stride;
    return (struct NAME(map_work)){.lines = memory_of(channels * line),
                                   .line = line,
                                   .height = height,
                                   .width = width,
                                   .stride = stride};
}

/* Maps at `stride` times their size, (channels, height, width) to (channels, height * stride, width
 * * stride): as they are or, where `activate` is set, GELU of them and, unless NULL, its slopes. */
static int32_t NAME(upsample_forward)(const float *in, int channels, int height, int width,
                                      int stride, int activate, float *out, float *slopes)
{
    struct NAME(map_work) work = NAME(upsampling_of)(channels, height, width, stride);
    if (work.lines == NULL)
        return -1;
    work.in = in;
    work.activate = activate;
    work.out = out;
    work.more = slopes;
    in_maps(channels, (long)height * width * stride * stride, NAME(upsample_piece), &work);
    free(work.lines);
    return 0;
}

static void NAME(upsample_backward_piece)(void *data, long channel)
{
    const struct NAME(map_work) *work = data;
    long map = (long)work->height * work->width, wide = (long)work->width * work->stride;
    long rows = (long)work->height * work->stride, first = channel * rows * wide;
    const float *given = work->given + first;
    const float *slopes = work->other == NULL ? NULL : work->other + first;
    float *out = work->out + channel * map, *mixed = work->lines + channel * work->line + 1;
    float *full = mixed + work->width + 1;
    memset(out, 0, map * sizeof(float));
    for (long row = 0; row < rows; row++, given += wide) {
        if (slopes != NULL) {
            for (long x = 0; x < wide; x++)
                full[x] = given[x] * slopes[x];
            slopes += wide;
        }
        NAME(add_upsampled_gradient)(slopes == NULL ? given : full, work->height, work->width,
                                     work->stride, row, mixed, out);
    }
}

/* `slopes` are those of GELU, or NULL where the maps were not activated. */
static int32_t NAME(upsample_backward)(const float *slopes, const float *gradients, int channels,
                                       int height, int width, int stride, float *out)
{
    struct NAME(map_work) work = NAME(upsampling_of)(channels, height, width, stride);
    if (work.lines == NULL)
        return -1;
    work.other = slopes;
    work.given = gradients;
    work.out = out;
    in_maps(channels, (long)height * width * stride * stride, NAME(upsample_backward_piece), &work);
    free(work.lines);
    return 0;
}

/* What a frame has of its logits y: (1 + tanh y) / 2, the logistic function of 2 y. */
static int32_t NAME(range_forward)(const float *restrict in, long count, float *restrict out)
{
    for (long x = 0; x < count; x++)
        out[x] = NAME(sigmoid)(2.0f * in[x]);
    return 0;
}

static int32_t NAME(range_backward)(const float *restrict values, const float *restrict gradients,
                                    long count, float *restrict out)
{
    for (long x = 0; x < count; x++)
        out[x] = gradients[x] * 2.0f * values[x] * (1.0f - values[x]);
    return 0;
}

static void NAME(gate_piece)(void *data, long piece)
{
    const struct NAME(map_work) *work = data;
    long first = piece * RANGE, left = work->count - first, count = left < RANGE ? left : RANGE;
    for (int channel = 0; channel < work->channels; channel++) {
        long place = channel * work->count + first;
        const float *restrict own = work->other + (work->logit_channels == 1 ? first : place);
        const float *restrict values = work->in + place;
        float *restrict out = work->out + place;
        for (long x = 0; x < count; x++)
            out[x] = values[x] * NAME(sigmoid)(own[x]) + values[x];
    }
}

/* out = f * sigmoid(logits) + f; `logits` has one channel for all, or one for each. */
static int32_t NAME(gate_forward)(const float *in, const float *logits, int logit_channels,
                                  int channels, long map, float *out)
{
    struct NAME(map_work) work = {.in = in,
                                  .other = logits,
                                  .out = out,
                                  .count = map,
                                  .channels = channels,
                                  .logit_channels = logit_channels};
    in_pieces(NAME(ranges)(map), NAME(gate_piece), &work);
    return 0;
}

static void NAME(gate_backward_piece)(void *data, long piece)
{
    const struct NAME(map_work) *work = data;
    long first = piece * RANGE, left = work->count - first, count = left < RANGE ? left : RANGE;
    for (int channel = 0; channel < work->logit_channels; channel++)
        memset(work->more + channel * work->count + first, 0, count * sizeof(float));
    for (int channel = 0; channel < work->channels; channel++) {
        long place = channel * work->count + first, own = work->logit_channels == 1 ? first : place;
        const float *restrict logits = work->other + own, *restrict given = work->given + place;
        const float *restrict values = work->in + place;
        float *restrict to = work->out + place, *restrict sums = work->more + own;
        for (long x = 0; x < count; x++) {
            float share = NAME(sigmoid)(logits[x]);
            to[x] = given[x] * (share + 1.0f);
            sums[x] += given[x] * values[x] * share * (1.0f - share);
        }
    }
}

static int32_t NAME(gate_backward)(const float *in, const float *logits, const float *gradients,
                                   int logit_channels, int channels, long map, float *in_gradients,
                                   float *logit_gradients)
{
    struct NAME(map_work) work = {.in = in,
                                  .other = logits,
                                  .given = gradients,
                                  .out = in_gradients,
                                  .more = logit_gradients,
                                  .count = map,
                                  .channels = channels,
                                  .logit_channels = logit_channels};
    in_pieces(NAME(ranges)(map), NAME(gate_backward_piece), &work);
    return 0;
}

/* Mean 0 and variance 1 over the channels at LANES places, then a scale and a shift a channel. */
static inline void NAME(norm_statistics)(const float *in, int channels, long map, float epsilon,
                                         NAME(vector) *mean, NAME(vector) *factor)
{
    NAME(vector) sum = (NAME(vector)){0}, squares = (NAME(vector)){0};
    for (int c = 0; c < channels; c++)
        sum += *(const NAME(vector) *)(in + c * map);
    *mean = sum / (float)channels;
    for (int c = 0; c < channels; c++) {
        NAME(vector) distance = *(const NAME(vector) *)(in + c * map) - *mean;
        squares += distance * distance;
    }
    for (int lane = 0; lane < LANES; lane++)
        (*factor)[lane] = 1.0f / sqrtf(squares[lane] / channels + epsilon);
}

/* Channels of `count` places, apart from each other by LANES values, with zeros up to that. */
static void NAME(few_places)(const float *in, int channels, long map, long count, float *out)
{
    memset(out, 0, channels * LANES * sizeof(float));
    for (int c = 0; c < channels; c++)
        memcpy(out + c * LANES, in + c * map, count * sizeof(float));
}

static int32_t NAME(norm_forward)(const float *in, const float *scale, const float *shift,
                                  int channels, long map, float epsilon, float *out)
{
    float *copy = memory_of(channels * LANES);
    if (copy == NULL)
        return -1;
    for (long place = 0; place < map; place += LANES) {
        long count = map - place < LANES ? map - place : LANES, step = map;
        const float *from = in + place;
        if (count < LANES) {
            NAME(few_places)(from, channels, map, count, copy);
            from = copy;
            step = LANES;
        }
        NAME(vector) mean, factor;
        NAME(norm_statistics)(from, channels, step, epsilon, &mean, &factor);
        for (int c = 0; c < channels; c++) {
            NAME(vector) value = *(const NAME(vector) *)(from + c * step);
            value = (value - mean) * factor * scale[c] + shift[c];
            memcpy(out + c * map + place, &value, count * sizeof(float));
        }
    }
    free(copy);
    return 0;
}

/* Gradients are added to those of scale and shift. */
static int32_t NAME(norm_backward)(const float *in, const float *scale, const float *gradients,
                                   int channels, long map, float epsilon, float *in_gradients,
                                   float *scale_gradients, float *shift_gradients)
{
    float *copy = memory_of(4 * channels * LANES);
    if (copy == NULL)
        return -1;
    float *given_copy = copy + channels * LANES, *sums = given_copy + channels * LANES;
    memset(sums, 0, 2 * channels * LANES * sizeof(float));
    for (long place = 0; place < map; place += LANES) {
        long count = map - place < LANES ? map - place : LANES, step = map;
        const float *from = in + place, *given = gradients + place;
        if (count < LANES) {
            NAME(few_places)(from, channels, map, count, copy);
            NAME(few_places)(given, channels, map, count, given_copy);
            from = copy;
            given = given_copy;
            step = LANES;
        }
        NAME(vector) mean, factor, first = (NAME(vector)){0}, second = (NAME(vector)){0};
        NAME(norm_statistics)(from, channels, step, epsilon, &mean, &factor);
        for (int c = 0; c < channels; c++) {
            NAME(vector) scaled = *(const NAME(vector) *)(given + c * step) * scale[c];
            first += scaled;
            second += scaled * (*(const NAME(vector) *)(from + c * step) - mean);
        }
        first /= (float)channels;
        second *= factor * factor / (float)channels;
        for (int c = 0; c < channels; c++) {
            NAME(vector) own = *(const NAME(vector) *)(given + c * step);
            NAME(vector) distance = *(const NAME(vector) *)(from + c * step) - mean;
            NAME(vector) result = factor * (own * scale[c] - first - distance * second);
            memcpy(in_gradients + c * map + place, &result, count * sizeof(float));
            *(NAME(vector) *)(sums + 2 * c * LANES) += own * distance * factor;
            *(NAME(vector) *)(sums + (2 * c + 1) * LANES) += own;
        }
    }
    for (int c = 0; c < channels; c++)
        for (int lane = 0; lane < LANES; lane++) {
            scale_gradients[c] += sums[2 * c * LANES + lane];
            shift_gradients[c] += sums[(2 * c + 1) * LANES + lane];
        }
    free(copy);
    return 0;
}

/* One Haar step with averages of one map, edges repeated: four bands of half its size, HL, LH and
 * HH after LL. */
static void NAME(haar_bands)(const float *map, int height, int width, float *bands)
{
    long rows = (height + 1) / 2, columns = (width + 1) / 2, size = rows * columns;
    for (long row = 0; row < rows; row++) {
        const float *top = map + 2 * row * width;
        const float *bottom = 2 * row + 1 < height ? top + width : top;
        float *restrict to = bands + row * columns;
        for (long x = 0; x < columns; x++) {
            long right = 2 * x + 1 < width ? 2 * x + 1 : 2 * x;
            float a = top[2 * x], b = top[right], c = bottom[2 * x], d = bottom[right];
            to[x] = ((a + b) + (c + d)) * 0.25f;
            to[x + size] = ((a - b) + (c - d)) * 0.25f;
            to[x + 2 * size] = ((a + b) - (c + d)) * 0.25f;
            to[x + 3 * size] = ((a - b) - (c - d)) * 0.25f;
        }
    }
}

static void NAME(bands_piece)(void *data, long channel)
{
    const struct NAME(map_work) *work = data;
    int height = work->height, width = work->width;
    long rows = (height + 1) / 2, columns = (width + 1) / 2, map = (long)height * width;
    float *bands = work->lines + channel * work->line;
    float *mixed = bands + 4 * rows * columns + 1, *line = mixed + columns + 1;
    const float *in = work->in + channel * map;
    float *out = work->out + channel * map;
    NAME(haar_bands)(in, height, width, bands);
    NAME(gelu_values)(in, map, out, NULL);
    for (int band = 0; band < 4; band++)
        for (long row = 0; row < height; row++) {
            NAME(upsampled_row)(bands + band * rows * columns, rows, columns, 2, row, mixed, line);
            const float *restrict from = in + row * width;
            float *restrict to = out + (band + 1) * work->channels * map + row * width;
            for (long x = 0; x < width; x++)
                to[x] = NAME(gelu)(work->other[band] * line[x] + from[x]);
        }
}

/* gelu([X, B_LL, B_HL, B_LH, B_HH]) with B_i = phi_i * Up2(Haar(X))_i + X: (channels, height,
 * width) maps to five times as many. */
static int32_t NAME(bands_forward)(const float *in, const float *phi, int channels, int height,
                                   int width, float *out)
{
    long rows = (height + 1) / 2, columns = (width + 1) / 2;
    long line = 4 * rows * columns + columns + 2 + 2 * columns;
    struct NAME(map_work) work = {.in = in,
                                  .other = phi,
                                  .out = out,
                                  .lines = memory_of(channels * line),
                                  .line = line,
                                  .channels = channels,
                                  .height = height,
                                  .width = width};
    if (work.lines == NULL)
        return -1;
    in_maps(channels, (long)height * width, NAME(bands_piece), &work);
    free(work.lines);
    return 0;
}

/* Add to a map's gradients those that its four bands give it. */
static void NAME(add_haar_gradient)(const float *bands, int height, int width, float *map)
{
    long rows = (height + 1) / 2, columns = (width + 1) / 2, size = rows * columns;
    for (long row = 0; row < rows; row++) {
        float *top = map + 2 * row * width;
        float *bottom = 2 * row + 1 < height ? top + width : top;
        for (long x = 0; x < columns; x++) {
            long place = row * columns + x, right = 2 * x + 1 < width ? 2 * x + 1 : 2 * x;
            float ll = bands[place] * 0.25f, hl = bands[place + size] * 0.25f;
            float lh = bands[place + 2 * size] * 0.25f, hh = bands[place + 3 * size] * 0.25f;
            top[2 * x] += ll + hl + lh + hh;
            top[right] += ll - hl + lh - hh;
            bottom[2 * x] += ll + hl - lh - hh;
            bottom[right] += ll - hl - lh + hh;
        }
    }
}

/* A row of a lifted band: `line` is the band at the map's size, and becomes what phi's gradient is
 * the sum of. Gradients are added to the map's; `slopes` are those of the band. */
static void NAME(band_slopes)(const float *restrict values, const float *restrict given, float phi,
                              long width, float *restrict line, float *restrict gradients,
                              float *restrict slopes)
{
    for (long x = 0; x < width; x++) {
        float slope = given[x] * NAME(gelu_slope)(phi * line[x] + values[x]);
        gradients[x] += slope;
        slopes[x] = phi * slope;
        line[x] *= slope;
    }
}

/* The gradients of phi from one channel are the first four of its lines. */
static void NAME(bands_backward_piece)(void *data, long channel)
{
    const struct NAME(map_work) *work = data;
    int height = work->height, width = work->width;
    long rows = (height + 1) / 2, columns = (width + 1) / 2, map = (long)height * width;
    long size = rows * columns;
    float *sums = work->lines + channel * work->line, *bands = sums + 4;
    float *band_gradients = bands + 4 * size, *mixed = band_gradients + 4 * size + 1;
    float *line = mixed + columns + 1, *slopes = line + 2 * columns;
    memset(sums, 0, 4 * sizeof(float));
    slopes[2 * columns - 1] = 0.0f; /* beyond an odd width */
    const float *values = work->in + channel * map, *given = work->given + channel * map;
    float *to = work->out + channel * map;
    NAME(haar_bands)(values, height, width, bands);
    memset(band_gradients, 0, 4 * size * sizeof(float));
    for (long x = 0; x < map; x++)
        to[x] = given[x] * NAME(gelu_slope)(values[x]);
    for (int band = 0; band < 4; band++) {
        given += work->channels * map;
        for (long row = 0; row < height; row++) {
            NAME(upsampled_row)(bands + band * size, rows, columns, 2, row, mixed, line);
            NAME(band_slopes)(values + row * width, given + row * width, work->other[band], width,
                              line, to + row * width, slopes);
            sums[band] += NAME(sum_of)(line, width);
            NAME(add_upsampled_gradient)(slopes, rows, columns, 2, row, mixed,
                                         band_gradients + band * size);
        }
    }
    NAME(add_haar_gradient)(band_gradients, height, width, to);
}

/* Gradients are added to those of phi. */
static int32_t NAME(bands_backward)(const float *in, const float *phi, const float *gradients,
                                    int channels, int height, int width, float *in_gradients,
                                    float *phi_gradients)
{
    long rows = (height + 1) / 2, columns = (width + 1) / 2;
    long line = 4 + 8 * rows * columns + columns + 2 + 4 * columns;
    struct NAME(map_work) work = {.in = in,
                                  .other = phi,
                                  .given = gradients,
                                  .out = in_gradients,
                                  .lines = memory_of(channels * line),
                                  .line = line,
                                  .channels = channels,
                                  .height = height,
                                  .width = width};
    if (work.lines == NULL)
        return -1;
    in_maps(channels, (long)height * width, NAME(bands_backward_piece), &work);
    for (int channel = 0; channel < channels; channel++)
        for (int band = 0; band < 4; band++)
            phi_gradients[band] += work.lines[channel * line + band];
    free(work.lines);
    return 0;
}

/* The complementary error function within 5e-7 of itself: exp(-z^2) times a polynomial, fitted to
 * exp(z^2) erfc(z) from 0 to 9. */
static inline float NAME(erfc)(float z)
{
    float positive = z < 0.0f ? -z : z;
    float u = (positive - 2.5f) / (positive + 2.5f);
    float sum = 2.890769876e-04f;
    sum = sum * u + 7.867531039e-04f;
    sum = sum * u - 2.700294221e-03f;
    sum = sum * u - 3.969222972e-03f;
    sum = sum * u + 3.993736202e-02f;
    sum = sum * u - 1.250362829e-01f;
    sum = sum * u + 2.517120578e-01f;
    sum = sum * u - 3.717365864e-01f;
    sum = sum * u + 2.108063754e-01f;
    float tail = sum * NAME(exponential)(-positive * positive);
    return z < 0.0f ? 2.0f - tail : tail;
}

/* Natural, of a normal positive number. */
static inline float NAME(logarithm)(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    /* x = part * 2**exponent with part from 0.707 to 1.414. */
    uint32_t shifted = bits - 0x3f3504f3u;
    int32_t exponent = (int32_t)shifted >> 23;
    bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
    float part;
    memcpy(&part, &bits, 4);
    float s = (part - 1.0f) / (part + 1.0f), square = s * s;
    float sum = 1.0f / 9;
    sum = sum * square + 1.0f / 7;
    sum = sum * square + 1.0f / 5;
    sum = sum * square + 1.0f / 3;
    sum = sum * square + 1.0f;
    return 2.0f * s * sum + (float)exponent * 0.693147181f;
}

/* Bits of values rounded to multiples of a step, by a Gaussian of their own deviation:
 * -log2 of its mass within half a step. `rounded`: what a decoder has; `slopes`: the gradient of
 * the bits by each value; `step_slope`: that by the step. Returns the bits. `scratch` has room for
 * four times as many values. */
static float NAME(rate_of)(const float *restrict values, long count, float step,
                           float *restrict rounded, float *restrict slopes, float *step_slope,
                           float *restrict scratch)
{
    const float magic = 12582912.0f; /* 1.5 * 2**23: adding it rounds to an integer */
    float *restrict scaled = scratch, *restrict bits = scratch + count;
    float *restrict wider = scratch + 2 * count, *restrict inside = scratch + 3 * count;
    for (long i = 0; i < count; i++) {
        float value = values[i] / step;
        float limited = value < LOWEST_SYMBOL ? LOWEST_SYMBOL : value;
        limited = limited > HIGHEST_SYMBOL ? HIGHEST_SYMBOL : limited;
        scaled[i] = limited;
        inside[i] = limited == value ? 1.0f : 0.0f;
        rounded[i] = (limited + magic - magic) * step;
        bits[i] = limited * limited;
    }
    float own = sqrtf(NAME(sum_of)(bits, count) / count + 1e-12f);
    float deviation = own < LEAST_DEVIATION ? LEAST_DEVIATION : own;
    float width = 0.707106781f / deviation, density = 0.398942280f / deviation;
    for (long i = 0; i < count; i++) {
        float distance = scaled[i] < 0.0f ? -scaled[i] : scaled[i];
        float near = distance - 0.5f, far = distance + 0.5f;
        float z = near * width, y = far * width;
        float mass = 0.5f * (NAME(erfc)(z) - NAME(erfc)(y));
        int likely = mass > LEAST_PROBABILITY;
        mass = likely ? mass : LEAST_PROBABILITY;
        float at_near = density * NAME(exponential)(-z * z);
        float at_far = density * NAME(exponential)(-y * y);
        float factor = likely ? -1.442695041f / mass : 0.0f; /* of -log2 */
        float by_distance = factor * (at_far - at_near);
        slopes[i] = scaled[i] < 0.0f ? -by_distance : by_distance;
        wider[i] = factor * (near * at_near - far * at_far) / deviation;
        bits[i] = -1.442695041f * NAME(logarithm)(mass);
    }
    float total = NAME(sum_of)(bits, count);
    float through = own < LEAST_DEVIATION ? 0.0f : NAME(sum_of)(wider, count) / (count * own);
    for (long i = 0; i < count; i++) {
        float slope = (slopes[i] + through * scaled[i]) * inside[i] / step;
        bits[i] = -slope * scaled[i];
        slopes[i] = slope;
    }
    *step_slope = NAME(sum_of)(bits, count);
    return total;
}

/* All tensors of a network, one behind the other: tensor t from bounds[t] to bounds[t + 1]. */
static int32_t NAME(rate_forward)(const float *values, const int64_t *bounds, int tensors,
                                  const float *steps, float *rounded, float *slopes,
                                  float *step_slopes, float *bits)
{
    long most = 0;
    for (int t = 0; t < tensors; t++)
        most = bounds[t + 1] - bounds[t] > most ? bounds[t + 1] - bounds[t] : most;
    float *scratch = memory_of(4 * most);
    if (scratch == NULL)
        return -1;
    for (int t = 0; t < tensors; t++)
        bits[t] = NAME(rate_of)(values + bounds[t], bounds[t + 1] - bounds[t], steps[t],
                                rounded + bounds[t], slopes + bounds[t], step_slopes + t, scratch);
    free(scratch);
    return 0;
}

/* Gradients by values and steps, from `given` by the rounded values, to which rounding is
 * transparent, and `price` by each bit. `step_slopes` becomes the gradient of the steps. */
static int32_t NAME(rate_backward)(const float *values, const int64_t *bounds, int tensors,
                                   const float *steps, const float *rounded, const float *slopes,
                                   const float *given, float price, float *gradients,
                                   float *step_slopes)
{
    for (int t = 0; t < tensors; t++) {
        float step = steps[t], lowest = LOWEST_SYMBOL * step, highest = HIGHEST_SYMBOL * step;
        NAME(vector) sums = (NAME(vector)){0};
        float total = 0.0f, line[LANES];
        for (long first = bounds[t]; first < bounds[t + 1]; first += LANES) {
            long count = bounds[t + 1] - first < LANES ? bounds[t + 1] - first : LANES;
            memset(line, 0, sizeof line);
            for (long i = 0; i < count; i++) {
                float value = values[first + i];
                float inside = value < lowest || value > highest ? 0.0f : 1.0f;
                gradients[first + i] = given[first + i] * inside + price * slopes[first + i];
                line[i] = given[first + i] * (rounded[first + i] - value * inside);
            }
            sums += *(const NAME(vector) *)line;
        }
        for (int lane = 0; lane < LANES; lane++)
            total += sums[lane];
        step_slopes[t] = price * step_slopes[t] + total / step;
    }
    return 0;
}
