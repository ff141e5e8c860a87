/* The convolutions of a training and their gradients, for vectors of LANES floats; kernels.c
 * includes this after kernels.h, once an instruction set. Maps are those of correlate.h. */

static inline float NAME(lanes_sum)(NAME(vector) lanes)
{
    float values[LANES];
    memcpy(values, &lanes, sizeof(values));
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            values[lane] += values[lane + half];
    return values[0];
}

static inline float NAME(sum_of)(const float *values, long count)
{
    NAME(vector) lanes = (NAME(vector)){0};
    long x = 0;
    for (; x + LANES <= count; x += LANES)
        lanes += *(const NAME(vector) *)(values + x);
    float total = NAME(lanes_sum)(lanes);
    for (; x < count; x++)
        total += values[x];
    return total;
}

/* Maps laid out in rows of `pitch`, with zeros in between and up to `plane`. */
static void NAME(spread_rows)(const float *maps, int channels, int height, int width, long pitch,
                              long plane, float *out)
{
    for (int channel = 0; channel < channels; channel++, out += plane) {
        for (int row = 0; row < height; row++, maps += width) {
            memcpy(out + row * pitch, maps, width * sizeof(float));
            memset(out + row * pitch + width, 0, (pitch - width) * sizeof(float));
        }
        memset(out + height * pitch, 0, (plane - height * pitch) * sizeof(float));
    }
}

/* Sums over a stretch of the products of `nb` gradients with `nt` shifted inputs. */
static inline __attribute__((always_inline)) void
NAME(products)(const int nb, const int nt, const float *gradients, long gradient_step,
               const float *inputs, long input_step, long length, float *sums, long sums_step)
{
    NAME(vector) sum[MAX_OUTPUTS][MAX_TAPS];
    for (int b = 0; b < nb; b++)
        for (int t = 0; t < nt; t++)
            sum[b][t] = (NAME(vector)){0};
    for (long x = 0; x < length; x += LANES) {
        NAME(vector) values[MAX_OUTPUTS];
        for (int b = 0; b < nb; b++)
            values[b] = *(const NAME(vector) *)(gradients + b * gradient_step + x);
        for (int t = 0; t < nt; t++) {
            NAME(vector) shifted = *(const NAME(vector) *)(inputs + t * input_step + x);
            for (int b = 0; b < nb; b++)
                sum[b][t] += values[b] * shifted;
        }
    }
    for (int b = 0; b < nb; b++)
        for (int t = 0; t < nt; t++)
            sums[b * sums_step + t] += NAME(lanes_sum)(sum[b][t]);
}

#define PRODUCTS(nb, nt)                                                                           \
    NAME(products)(nb, nt, gradients, gradient_step, inputs, input_step, length, sums, sums_step)
#define PRODUCTS_OF(nb)                                                                            \
    case nb:                                                                                       \
        switch (taps) {                                                                            \
        case 1: PRODUCTS(nb, 1); break;                                                            \
        case 2: PRODUCTS(nb, 2); break;                                                            \
        case 3: PRODUCTS(nb, 3); break;                                                            \
        case 4: PRODUCTS(nb, 4); break;                                                            \
        case 5: PRODUCTS(nb, 5); break;                                                            \
        case 6: PRODUCTS(nb, 6); break;                                                            \
        case 7: PRODUCTS(nb, 7); break;                                                            \
        }                                                                                          \
        break;

static void NAME(products_of)(int outputs, int taps, const float *gradients, long gradient_step,
                              const float *inputs, long input_step, long length, float *sums,
                              long sums_step)
{
    switch (outputs) {
        PRODUCTS_OF(1)
        PRODUCTS_OF(2)
        PRODUCTS_OF(3)
        PRODUCTS_OF(4)
        PRODUCTS_OF(5)
        PRODUCTS_OF(6)
    }
}

#undef PRODUCTS
#undef PRODUCTS_OF

/* Outputs whose products with `taps` shifted inputs the registers hold. */
static inline int NAME(outputs_beside)(int taps)
{
    int fitting = (REGISTERS - 3) / (taps + 1);
    return fitting < 1 ? 1 : fitting > MAX_OUTPUTS ? MAX_OUTPUTS : fitting;
}

/* Add an image's part to the gradient of the weights: `bordered` is the copy of the input with
 * borders, `gradients` those of the output in rows of the same pitch. Outputs `begin` to `end`. */
static void NAME(add_weight_gradient)(const struct layer *layer, const float *bordered,
                                      const float *gradients, float *weight_gradients, int begin,
                                      int end)
{
    int kernel = layer->kernel, border = kernel / 2;
    int inputs = layer->depthwise ? 1 : layer->inputs;
    long pitch = layer->width + 2 * border;
    long plane = NAME(bordered_plane)(layer->height, layer->width, border);
    long places = round_up(layer->height * pitch, LANES);
    /* Taps are neighbours in a row or, in a kernel of 1, channels. */
    int pointwise = kernel == 1 && !layer->depthwise;
    int row_taps = pointwise ? inputs : kernel, most = pointwise ? 4 : MAX_TAPS;
    long tap_step = pointwise ? plane : 1, weights = (long)inputs * kernel * kernel;
    for (long start = 0; start < places; start += STRETCH) {
        long length = places - start < STRETCH ? places - start : STRETCH;
        for (int first = begin; first < end;) {
            int taps = row_taps < most ? row_taps : most;
            int count = layer->depthwise ? 1 : NAME(outputs_beside)(taps);
            count = end - first < count ? end - first : count;
            for (int channel = 0; channel < (pointwise ? 1 : inputs); channel++)
                for (int row = 0; row < kernel; row++)
                    for (int tap = 0; tap < row_taps; tap += most) {
                        int beside = row_taps - tap < most ? row_taps - tap : most;
                        long source = layer->depthwise ? first : channel;
                        NAME(products_of)(count, beside, gradients + first * places + start, places,
                                          bordered + source * plane + start + row * pitch +
                                              tap * tap_step,
                                          tap_step, length,
                                          weight_gradients + first * weights +
                                              (channel * kernel + row) * kernel + tap,
                                          weights);
                    }
            first += count;
        }
    }
}

/* The weights of the convolution that takes gradients of the output to those of the input. */
static void NAME(turned)(const struct layer *layer, const float *weights, float *out)
{
    long taps = (long)layer->kernel * layer->kernel;
    int inputs = layer->depthwise ? 1 : layer->inputs;
    for (int output = 0; output < layer->outputs; output++)
        for (int input = 0; input < inputs; input++)
            for (long tap = 0; tap < taps; tap++) {
                long place = layer->depthwise ? output : (long)input * layer->outputs + output;
                out[place * taps + taps - 1 - tap] = *weights++;
            }
}

/* Gradients of some outputs' weights and biases or, after these, of a stretch of the input. */
static void NAME(backward_piece)(void *data, long piece)
{
    const struct NAME(work) *work = data;
    const struct layer *layer = work->layer;
    long pieces = (layer->outputs + work->outputs - 1) / work->outputs;
    if (piece >= pieces) {
        NAME(correlate_stretch)(work->back, work, work->back_bordered, piece - pieces);
        return;
    }
    long places = round_up((long)layer->height * (layer->width + layer->kernel - 1), LANES);
    int begin = piece * work->outputs, end = begin + work->outputs;
    end = end > layer->outputs ? layer->outputs : end;
    NAME(add_weight_gradient)(layer, work->bordered, work->spread, work->weight_gradients, begin,
                              end);
    for (int output = begin; output < end; output++)
        work->bias_gradients[output] += NAME(sum_of)(work->spread + output * places, places);
}

static int32_t NAME(plain_gradients)(const struct layer *layer, const float *in,
                                    const float *weights, const float *gradients,
                                    float *in_gradients, float *weight_gradients,
                                    float *bias_gradients)
{
    struct layer back = *layer;
    back.inputs = layer->outputs;
    back.outputs = layer->inputs;
    int border = layer->kernel / 2;
    long map = (long)layer->height * layer->width, pitch = layer->width + 2 * border;
    long places = round_up(layer->height * pitch, LANES), count = NAME(weight_count)(layer);
    long size = NAME(bordered_size)(layer, layer->inputs);
    long back_size = NAME(bordered_size)(layer, layer->outputs);
    float *bordered = memory_of(size + back_size + layer->outputs * places + 2 * count);
    if (bordered == NULL)
        return -1;
    float *back_bordered = bordered + size, *spread = back_bordered + back_size;
    float *factors = spread + layer->outputs * places, *turned = factors + count;
    memset(bordered, 0, (size + back_size) * sizeof(float));
    if (in_gradients != NULL) {
        NAME(turned)(layer, weights, turned);
        NAME(in_blocks)(&back, turned, factors);
    }
    memset(weight_gradients, 0, count * sizeof(float));
    memset(bias_gradients, 0, layer->outputs * sizeof(float));
    struct NAME(work) work = {.layer = layer,
                              .back = &back,
                              .bordered = bordered,
                              .back_bordered = back_bordered,
                              .weights = factors,
                              .spread = spread,
                              .weight_gradients = weight_gradients,
                              .bias_gradients = bias_gradients,
                              .stretches = NAME(stretches)(layer)};
    int taps = layer->kernel > 1 ? layer->kernel : layer->inputs < 4 ? layer->inputs : 4;
    work.outputs = work.stretches == 1 ? layer->outputs
                                       : NAME(outputs_beside)(taps < MAX_TAPS ? taps : MAX_TAPS);
    long pieces = (layer->outputs + work.outputs - 1) / work.outputs;
    for (int image = 0; image < layer->images; image++) {
        const float *given = gradients + image * layer->outputs * map;
        NAME(add_border)(in + image * layer->inputs * map, layer->inputs, layer->height,
                         layer->width, border, bordered);
        NAME(spread_rows)(given, layer->outputs, layer->height, layer->width, pitch, places,
                          spread);
        if (in_gradients != NULL) {
            NAME(add_border)(given, layer->outputs, layer->height, layer->width, border,
                             back_bordered);
            work.out = in_gradients + image * layer->inputs * map;
        }
        in_pieces(pieces + (in_gradients == NULL ? 0 : work.stretches), NAME(backward_piece),
                  &work);
    }
    free(bordered);
    return 0;
}


static struct map NAME(whole_map)(const float *values, const struct layer *layer)
{
    return (struct map){.values = (float *)values,
                        .height = layer->height,
                        .width = layer->width,
                        .pitch = layer->width,
                        .plane = (int64_t)layer->height * layer->width};
}

/* Tiles of rows that Winograd's way cuts a map into. */
static long NAME(tiles_of)(const struct layer *layer)
{
    return (layer->height + layer->winograd->step - 1) / layer->winograd->step;
}

/* Weights as `convolve` takes them, transformed, in room for them; before them, as the plain way
 * takes them. */
static const float *NAME(transformed)(const struct layer *layer, const float *weights, float *room)
{
    const struct winograd *plan = layer->winograd;
    NAME(in_blocks)(layer, weights, room);
    const float *from = room;
    float *out = room + NAME(weight_count)(layer);
    for (int first = 0; first < layer->outputs;) {
        int count = block_size(layer->outputs, first);
        long length = (long)count * layer->inputs * layer->kernel;
        for (int product = 0; product < plan->products; product++, out += length) {
            const float *factors = plan->factors + product * layer->kernel;
            memset(out, 0, length * sizeof(float));
            for (int row = 0; row < layer->kernel; row++) {
                const float *restrict values = from + row * length;
                for (long x = 0; x < length; x++)
                    out[x] += factors[row] * values[x];
            }
        }
        from += layer->kernel * length;
        first += count;
    }
    return room + NAME(weight_count)(layer);
}

/* Values of `transformed`'s room. */
static long NAME(transformed_size)(const struct layer *layer)
{
    long weights = NAME(weight_count)(layer);
    return weights + weights / layer->kernel * layer->winograd->products;
}

struct NAME(tile_work) {
    const struct layer *layer;
    const struct convolution *forward; /* the layer's, or what gives the gradients of its input */
    struct map in, out;
    long tiles, at_once; /* of `forward`, at once in one piece */
    /* Of the weights' gradients, in so many parts of the image, each with sums of its own: */
    struct map values, gradients;
    float *sums;
    long parts;
    atomic_int failed;
};

static void NAME(convolve_tiles)(struct NAME(tile_work) *work, long number)
{
    long first = number * work->at_once, last = first + work->at_once;
    last = last < work->tiles ? last : work->tiles;
    if (NAME(convolve)(work->forward, &work->in, &work->out, PLAIN, NULL, 1, first, last) != 0)
        atomic_store(&work->failed, 1);
}

static void NAME(forward_tiles)(void *data, long piece)
{
    NAME(convolve_tiles)(data, piece);
}

/* The convolution that computes `layer` with transformed weights. */
static struct convolution NAME(tiled)(const struct layer *layer, const float *weights,
                                      const float *bias)
{
    const struct winograd *plan = layer->winograd;
    return (struct convolution){.inputs = layer->inputs,
                                .outputs = layer->outputs,
                                .taps = layer->kernel,
                                .rows = plan->products,
                                .step = plan->step,
                                .products = plan->products,
                                .terms = 1,
                                .input_transform = plan->before,
                                .output_transform = plan->after,
                                .weights = weights,
                                .bias = bias};
}

/* Tiles that are one piece of work: all of them where the work is little. */
static long NAME(tiles_at_once)(const struct layer *layer)
{
    if ((long)layer->height * layer->width * NAME(weight_count)(layer) < LEAST_WORK)
        return NAME(tiles_of)(layer);
    return 1 + STRETCH / ((long)layer->winograd->step * layer->width);
}

static long NAME(pieces)(const struct NAME(tile_work) *work)
{
    return (work->tiles + work->at_once - 1) / work->at_once;
}

static int32_t NAME(layer_values)(const struct layer *layer, const float *in, const float *weights,
                                  const float *bias, float *out)
{
    if (layer->winograd == NULL)
        return NAME(layer_forward)(layer, in, weights, bias, out);
    float *room = memory_of(NAME(transformed_size)(layer));
    if (room == NULL)
        return -1;
    const struct convolution conv =
        NAME(tiled)(layer, NAME(transformed)(layer, weights, room), bias);
    struct NAME(tile_work) work = {.layer = layer,
                                   .forward = &conv,
                                   .tiles = NAME(tiles_of)(layer),
                                   .at_once = NAME(tiles_at_once)(layer)};
    long map = (long)layer->height * layer->width;
    for (int image = 0; image < layer->images; image++) {
        work.in = NAME(whole_map)(in + image * layer->inputs * map, layer);
        work.out = NAME(whole_map)(out + image * layer->outputs * map, layer);
        in_pieces(NAME(pieces)(&work), NAME(forward_tiles), &work);
    }
    free(room);
    return atomic_load(&work.failed) ? -1 : 0;
}

/* Transformed rows of all channels of some tiles, one tile behind the other in one run of values
 * for each product and channel, in which a tap of the kernel is a fixed distance: `border` zeros
 * come before a tile's columns, and zeros up to kernel - 1 in all after them. */
static void NAME(transform_tiles)(const struct layer *layer, const struct map *map, int channels,
                                  const float *matrix, int border, long first, long last,
                                  float *lines, float *out, long run)
{
    const struct winograd *plan = layer->winograd;
    const struct convolution transform = {.rows = plan->products, .input_transform = matrix};
    int gap = layer->kernel - 1;
    long width = round_up(map->width, LANES), filled = (last - first) * (map->width + gap);
    const float *end = map->values + channels * map->plane, *pointers[MAX_ROWS];
    for (int channel = 0; channel < channels; channel++) {
        float *to = out + channel * run + border;
        for (long tile = first; tile < last; tile++, to += map->width + gap) {
            for (int row = 0; row < plan->products; row++) {
                long y = tile * plan->step - border + row;
                float *line = lines + row * width;
                pointers[row] = line;
                if (y < 0 || y >= map->height)
                    memset(line, 0, width * sizeof(float));
                else if (row_of(map, channel, y) + width <= end)
                    pointers[row] = row_of(map, channel, y);
                else
                    memcpy(line, row_of(map, channel, y), map->width * sizeof(float));
            }
            NAME(transform)(&transform, pointers, width, to, channels * run);
            /* What went beyond the columns becomes zeros, or is where the next tile comes. */
            for (int product = 0; product < plan->products; product++)
                for (int x = 0; x < gap; x++)
                    to[product * channels * run + map->width + x] = 0.0f;
        }
        for (int product = 0; product < plan->products; product++) {
            float *values = out + (product * channels + channel) * run;
            memset(values, 0, border * sizeof(float));
            memset(values + filled, 0, (run - filled) * sizeof(float));
        }
    }
}

/* Tiles whose places fill a stretch. */
static long NAME(tiles_in_a_run)(const struct layer *layer)
{
    return 1 + STRETCH / (layer->width + layer->kernel - 1);
}

/* Add the part of some tiles to `sums`, (products, outputs, inputs, taps): gradients of the
 * transformed weights. -1 where memory is wanting. */
static int32_t NAME(add_products)(const struct layer *layer, const struct map *in,
                                  const struct map *gradients, long first, long last, float *sums)
{
    const struct winograd *plan = layer->winograd;
    int kernel = layer->kernel, inputs = layer->inputs, outputs = layer->outputs;
    long pitch = layer->width + kernel - 1, at_once = NAME(tiles_in_a_run)(layer);
    at_once = at_once < last - first ? at_once : last - first;
    /* A tap, and the last vector of a tile's columns, go beyond the places. */
    long length = round_up(at_once * pitch, LANES), run = length + round_up(kernel, LANES);
    long lines = plan->products * round_up(layer->width, LANES);
    float *room = memory_of(lines + plan->products * (inputs + outputs) * run);
    if (room == NULL)
        return -1;
    float *values = room + lines, *spread = values + plan->products * inputs * run;
    int blocks = (outputs + NAME(outputs_beside)(kernel) - 1) / NAME(outputs_beside)(kernel);
    int beside = (outputs + blocks - 1) / blocks;
    for (; first < last; first += at_once) {
        long end = first + at_once < last ? first + at_once : last;
        NAME(transform_tiles)(layer, in, inputs, plan->before, kernel / 2, first, end, room,
                              values, run);
        NAME(transform_tiles)(layer, gradients, outputs, plan->gradients, 0, first, end, room,
                              spread, run);
        for (int product = 0; product < plan->products; product++)
            for (int output = 0; output < outputs; output += beside) {
                int count = outputs - output < beside ? outputs - output : beside;
                for (int input = 0; input < inputs; input++)
                    NAME(products_of)(count, kernel, spread + (product * outputs + output) * run,
                                      run, values + (product * inputs + input) * run, 1, length,
                                      sums + ((long)(product * outputs + output) * inputs + input) *
                                                 kernel,
                                      (long)inputs * kernel);
            }
    }
    free(room);
    return 0;
}

/* A part of the weights' gradients or, after these, of those of the input. */
static void NAME(backward_tiles)(void *data, long piece)
{
    struct NAME(tile_work) *work = data;
    const struct layer *layer = work->layer;
    if (piece >= work->parts) {
        NAME(convolve_tiles)(work, piece - work->parts);
        return;
    }
    long sums = NAME(weight_count)(layer) / layer->kernel * layer->winograd->products;
    long first = work->tiles * piece / work->parts, last = work->tiles * (piece + 1) / work->parts;
    if (NAME(add_products)(layer, &work->values, &work->gradients, first, last,
                           work->sums + piece * sums) != 0)
        atomic_store(&work->failed, 1);
}

/* Gradients of the weights (outputs, inputs, kernel, kernel) from all parts' sums; `room` has it
 * for one row of them all. */
static void NAME(gather_gradients)(const struct layer *layer, const float *sums, long parts,
                                   float *restrict room, float *restrict weight_gradients)
{
    const struct winograd *plan = layer->winograd;
    int kernel = layer->kernel;
    long length = NAME(weight_count)(layer) / kernel;
    for (int row = 0; row < kernel; row++) {
        memset(room, 0, length * sizeof(float));
        for (long product = 0; product < parts * plan->products; product++) {
            float factor = plan->factors[product % plan->products * kernel + row];
            const float *restrict values = sums + product * length;
            for (long x = 0; x < length; x++)
                room[x] += factor * values[x];
        }
        for (long pair = 0; pair < length / kernel; pair++)
            for (int tap = 0; tap < kernel; tap++)
                weight_gradients[(pair * kernel + row) * kernel + tap] = room[pair * kernel + tap];
    }
}

static int32_t NAME(layer_gradients)(const struct layer *layer, const float *in,
                                     const float *weights, const float *gradients,
                                     float *in_gradients, float *weight_gradients,
                                     float *bias_gradients)
{
    if (layer->winograd == NULL)
        return NAME(plain_gradients)(layer, in, weights, gradients, in_gradients,
                                     weight_gradients, bias_gradients);
    struct layer back = *layer;
    back.inputs = layer->outputs;
    back.outputs = layer->inputs;
    struct NAME(tile_work) work = {.layer = layer,
                                   .tiles = NAME(tiles_of)(layer),
                                   .at_once = NAME(tiles_at_once)(layer)};
    long runs = (work.tiles - 1) / NAME(tiles_in_a_run)(layer) + 1;
    work.parts = runs < MOST_PARTS ? runs : MOST_PARTS;
    long count = NAME(weight_count)(layer), map = (long)layer->height * layer->width;
    long sums = work.parts * (count / layer->kernel * layer->winograd->products);
    work.sums = memory_of(sums + count + NAME(transformed_size)(layer) + layer->inputs);
    if (work.sums == NULL)
        return -1;
    float *turned = work.sums + sums, *room = turned + count;
    float *no_bias = room + NAME(transformed_size)(layer);
    memset(work.sums, 0, sums * sizeof(float));
    memset(no_bias, 0, layer->inputs * sizeof(float));
    memset(bias_gradients, 0, layer->outputs * sizeof(float));
    struct convolution conv;
    if (in_gradients != NULL) {
        NAME(turned)(layer, weights, turned);
        conv = NAME(tiled)(&back, NAME(transformed)(&back, turned, room), no_bias);
        work.forward = &conv;
    }
    for (int image = 0; image < layer->images; image++) {
        const float *given = gradients + image * layer->outputs * map;
        work.values = NAME(whole_map)(in + image * layer->inputs * map, layer);
        work.gradients = work.in = NAME(whole_map)(given, layer);
        if (in_gradients != NULL)
            work.out = NAME(whole_map)(in_gradients + image * layer->inputs * map, layer);
        long pieces = in_gradients == NULL ? 0 : NAME(pieces)(&work);
        in_pieces(work.parts + pieces, NAME(backward_tiles), &work);
        for (int output = 0; output < layer->outputs; output++)
            bias_gradients[output] += NAME(sum_of)(given + output * map, map);
    }
    NAME(gather_gradients)(layer, work.sums, work.parts, turned, weight_gradients);
    free(work.sums);
    return atomic_load(&work.failed) ? -1 : 0;
}

