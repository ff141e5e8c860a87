/* Convolutions of maps (channels, height, width) without gaps, for vectors of LANES values of type
 * REAL; kernels.c includes this first, once an instruction set and type.
 *
 * A copy of a map with a border of zeros is seen as one run of values for each channel: in it a tap
 * of the kernel is a fixed distance, whatever the row. The `kernel - 1` places at the end of each
 * row give sums that nobody asked for. */

typedef REAL NAME(vector) __attribute__((vector_size(sizeof(REAL) * LANES), aligned(sizeof(REAL)),
                                         may_alias));

/* Sums of `nb` outputs over `nv` vectors of columns. */
static inline __attribute__((always_inline)) void
NAME(sums)(const int nb, const int nv, const REAL *rows, long row_step, long channel_step,
           int terms, int inputs, int taps, const REAL *weights, REAL *out, long out_step)
{
    NAME(vector) sum[MAX_OUTPUTS][VECTORS];
    for (int b = 0; b < nb; b++)
        for (int j = 0; j < nv; j++)
            sum[b][j] = (NAME(vector)){0};
    for (int term = 0; term < terms; term++)
        for (int channel = 0; channel < inputs; channel++) {
            const REAL *place = rows + term * row_step + channel * channel_step;
            for (int tap = 0; tap < taps; tap++, weights += nb) {
                NAME(vector) values[VECTORS];
                for (int j = 0; j < nv; j++)
                    values[j] = *(const NAME(vector) *)(place + tap + j * LANES);
                for (int b = 0; b < nb; b++)
                    for (int j = 0; j < nv; j++)
                        sum[b][j] += weights[b] * values[j];
            }
        }
    for (int b = 0; b < nb; b++)
        for (int j = 0; j < nv; j++)
            *(NAME(vector) *)(out + b * out_step + j * LANES) = sum[b][j];
}

#define SUMS(nb, nv)                                                                               \
    NAME(sums)(nb, nv, rows, row_step, channel_step, terms, inputs, taps, weights, out, out_step)
#define SUMS_OF(nb)                                                                                \
    case nb:                                                                                       \
        if (vectors == VECTORS)                                                                    \
            SUMS(nb, VECTORS);                                                                     \
        else if (vectors == 2)                                                                     \
            SUMS(nb, 2);                                                                           \
        else                                                                                       \
            SUMS(nb, 1);                                                                           \
        break;

static void NAME(block)(int outputs, int vectors, const REAL *rows, long row_step,
                        long channel_step, int terms, int inputs, int taps, const REAL *weights,
                        REAL *out, long out_step)
{
    switch (outputs) {
        SUMS_OF(1)
        SUMS_OF(2)
        SUMS_OF(3)
        SUMS_OF(4)
        SUMS_OF(5)
        SUMS_OF(6)
    }
}

#undef SUMS
#undef SUMS_OF

/* Values of a copy with borders, of one channel. */
static inline long NAME(bordered_plane)(int height, int width, int border)
{
    return round_up((long)(height + 2 * border) * (width + 2 * border), LANES);
}

/* `channels` maps with a border of zeros above, below, left and right, and `slack` zeros at last. */
static void NAME(add_border)(const REAL *maps, int channels, int height, int width, int border,
                             REAL *out)
{
    long pitch = width + 2 * border, plane = NAME(bordered_plane)(height, width, border);
    for (int channel = 0; channel < channels; channel++, out += plane) {
        REAL *to = out + border * pitch + border;
        memset(out, 0, (border * pitch + border) * sizeof(REAL));
        for (int row = 0; row < height; row++, to += pitch, maps += width) {
            memcpy(to, maps, width * sizeof(REAL));
            memset(to + width, 0, 2 * border * sizeof(REAL));
        }
        to -= border;
        memset(to, 0, (out + plane - to) * sizeof(REAL));
    }
}

/* Places `first` on of one output, of which `count` were computed, into its map, with a bias. */
static void NAME(store_places)(const REAL *sums, long first, long count, int height, int width,
                               long pitch, REAL bias, REAL *map)
{
    long row = first / pitch, column = first % pitch;
    while (count > 0 && row < height) {
        long rest = pitch - column < count ? pitch - column : count;
        long wanted = width - column < rest ? width - column : rest;
        REAL *restrict to = map + row * width + column;
        for (long x = 0; x < wanted; x++)
            to[x] = sums[x] + bias;
        sums += rest;
        count -= rest;
        column = 0;
        row++;
    }
}

/* The convolution of one image, of which `bordered` is the copy with borders; `weights` are by
 * block of outputs: (rows of the kernel, inputs, columns of the kernel, block). Channels that
 * stand alone (`depthwise`) are one block each. Places `begin` to `end`. */
static void NAME(correlate)(const struct layer *layer, const REAL *bordered, const REAL *weights,
                            const REAL *bias, REAL *out, long begin, long end)
{
    int kernel = layer->kernel, border = kernel / 2;
    int inputs = layer->depthwise ? 1 : layer->inputs;
    long pitch = layer->width + 2 * border;
    long plane = NAME(bordered_plane)(layer->height, layer->width, border);
    long map = (long)layer->height * layer->width;
    REAL sums[MAX_OUTPUTS * VECTORS * LANES] __attribute__((aligned(64)));
    for (long place = begin; place < end; place += VECTORS * LANES) {
        long left = end - place;
        int vectors = left > 2 * LANES ? VECTORS : left > LANES ? 2 : 1;
        const REAL *factors = weights;
        for (int first = 0; first < layer->outputs;) {
            int count = layer->depthwise ? 1 : block_size(layer->outputs, first);
            const REAL *source = bordered + place + (layer->depthwise ? first * plane : 0);
            NAME(block)(count, vectors, source, pitch, plane, kernel, inputs, kernel, factors, sums,
                        VECTORS * LANES);
            for (int b = 0; b < count; b++)
                NAME(store_places)(sums + b * VECTORS * LANES, place, vectors * LANES,
                                   layer->height, layer->width, pitch,
                                   bias == NULL ? 0 : bias[first + b], out + (first + b) * map);
            factors += (long)count * kernel * inputs * kernel;
            first += count;
        }
    }
}

/* Weights (outputs, inputs, kernel, kernel) by block of outputs as `correlate` takes them. */
static void NAME(in_blocks)(const struct layer *layer, const REAL *weights, REAL *out)
{
    int kernel = layer->kernel, inputs = layer->depthwise ? 1 : layer->inputs;
    long step = (long)inputs * kernel * kernel;
    for (int first = 0; first < layer->outputs;) {
        int count = layer->depthwise ? 1 : block_size(layer->outputs, first);
        for (int row = 0; row < kernel; row++)
            for (int channel = 0; channel < inputs; channel++)
                for (int column = 0; column < kernel; column++)
                    for (int b = 0; b < count; b++)
                        *out++ = weights[(first + b) * step +
                                         ((long)channel * kernel + row) * kernel + column];
        first += count;
    }
}

static long NAME(weight_count)(const struct layer *layer)
{
    return (long)layer->outputs * (layer->depthwise ? 1 : layer->inputs) * layer->kernel *
           layer->kernel;
}

/* Room for a copy with borders, and what `correlate` reads beyond it. */
static long NAME(bordered_size)(const struct layer *layer, int channels)
{
    int border = layer->kernel / 2;
    long pitch = layer->width + 2 * border;
    return channels * NAME(bordered_plane)(layer->height, layer->width, border) +
           round_up(layer->kernel * (pitch + 1), LANES) + VECTORS * LANES;
}

/* Stretches of places that are one piece of work: all of them where the work is little. */
static long NAME(stretches)(const struct layer *layer)
{
    long places = (long)layer->height * (layer->width + layer->kernel - 1);
    long work = places * NAME(weight_count)(layer);
    return work < LEAST_WORK ? 1 : (places + STRETCH - 1) / STRETCH;
}

struct NAME(work) {
    const struct layer *layer, *back;
    const REAL *bordered, *back_bordered, *weights, *bias, *spread;
    REAL *out, *weight_gradients, *bias_gradients;
    long stretches;
    int outputs; /* whose weights' gradients are one piece */
};

static void NAME(correlate_stretch)(const struct layer *layer, const struct NAME(work) *work,
                                    const REAL *bordered, long number)
{
    long places = (long)layer->height * (layer->width + layer->kernel - 1);
    long begin = work->stretches == 1 ? 0 : number * STRETCH;
    long end = work->stretches == 1 || begin + STRETCH > places ? places : begin + STRETCH;
    NAME(correlate)(layer, bordered, work->weights, work->bias, work->out, begin, end);
}

static void NAME(forward_piece)(void *data, long piece)
{
    const struct NAME(work) *work = data;
    NAME(correlate_stretch)(work->layer, work, work->bordered, piece);
}

static int32_t NAME(layer_forward)(const struct layer *layer, const REAL *in, const REAL *weights,
                                   const REAL *bias, REAL *out)
{
    long size = NAME(bordered_size)(layer, layer->inputs);
    long map = (long)layer->height * layer->width;
    REAL *bordered = allocate((size + NAME(weight_count)(layer)) * sizeof(REAL));
    if (bordered == NULL)
        return -1;
    REAL *factors = bordered + size;
    NAME(in_blocks)(layer, weights, factors);
    memset(bordered, 0, size * sizeof(REAL));
    for (int image = 0; image < layer->images; image++) {
        NAME(add_border)(in + image * layer->inputs * map, layer->inputs, layer->height,
                         layer->width, layer->kernel / 2, bordered);
        struct NAME(work) work = {.layer = layer,
                                  .bordered = bordered,
                                  .weights = factors,
                                  .bias = bias,
                                  .out = out + image * layer->outputs * map,
                                  .stretches = NAME(stretches)(layer)};
        in_pieces(work.stretches, NAME(forward_piece), &work);
    }
    free(bordered);
    return 0;
}

