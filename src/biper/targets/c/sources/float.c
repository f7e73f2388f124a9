/* @section types */
typedef float real_t;
typedef float sum_t;
typedef float weight_t;

/* What is done to a sum: (sum * multiplier + offset) + residual, activation, and where the result is stored. A null
   pointer leaves the step out. */
typedef struct {
    const float *multiplier, *offset, *residual, *slope;
    const int32_t *threshold; /* for bits alone: sum >= threshold */
    int32_t products;         /* of signs in a sum, where no tap lies outside the image */
    float low, high;
    float *real;
    uint16_t *bits;
    int16_t channels, units; /* units of 16 bits */
    uint8_t activation;
} epilogue_t;

/* All rows of a value are kept. */
#define PLACE(pixel, ring) (pixel)

/* @section finish */
static void finish(const epilogue_t *e, int32_t pixel, int32_t channel, float y)
{
    const int32_t at = pixel * e->channels + channel;
    if (e->multiplier) y *= e->multiplier[channel];
    if (e->offset) y += e->offset[channel];
    if (e->residual) y += e->residual[at];
    if (HAS_CLIP && e->activation == CLIP) {
        if (y < e->low) y = e->low;
        if (y > e->high) y = e->high;
    } else if (HAS_RELU && e->activation == RELU) {
        if (y < 0) y = 0;
    } else if (HAS_PRELU && e->activation == PRELU) {
        if (y < 0) y *= e->slope[channel];
    }
    if (e->real) e->real[at] = y;
    if (HAS_BITS && e->bits) put_bit(e, pixel, channel, y >= 0);
}

/* @section finish_counts */
/* 16 channels of a pixel, or those that there are. */
typedef struct {
    const epilogue_t *epilogue;
    int32_t pixel, first;
} sixteen_t;

static void begin_sixteen(sixteen_t *s, const epilogue_t *e, int32_t pixel, int32_t first)
{
    s->epilogue = e, s->pixel = pixel, s->first = first;
}

/* Finishes the channels, and goes to the next pixel; see `finish_each` for the counts. */
static void finish_counts(sixteen_t *s, int32_t odd, const uint32_t *counts)
{
    finish_each(s->epilogue, s->pixel++, s->first, odd, counts);
}

/* @section products */
/* sum + the products of numbers and weights */
static float with_products(float sum, const float *x, const float *w, int32_t count)
{
    int32_t i;
    for (i = 0; i < count; ++i) sum += x[i] * w[i];
    return sum;
}

/* @section pool */
typedef struct {
    const float *in;
    uint8_t maximum, count_padding;
    geometry_t geometry;
    epilogue_t epilogue;
} pool_t;

static int32_t extent(int32_t start, int32_t window, int32_t end) { return (start + window < end ? start + window : end) - start; }

static void pool(const pool_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    int32_t row, column, channel, ky, kx, pixel = from * g->out_width;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, 1, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, 1, g->kernel_x, g->width);
            int32_t count = (ys.last - ys.first) * (xs.last - xs.first);
            if (o->count_padding)
                count = extent(top, g->kernel_y, g->height + g->pad_top) * extent(left, g->kernel_x, g->width + g->pad_left);
            for (channel = 0; channel < g->channels; ++channel) {
                float y = 0;
                for (ky = ys.first; ky < ys.last; ++ky)
                    for (kx = xs.first; kx < xs.last; ++kx) {
                        const float x = o->in[(ring_row(g, top + ky) * g->width + left + kx) * g->channels + channel];
                        if (!o->maximum) y += x;
                        else if (x > y || (ky == ys.first && kx == xs.first)) y = x;
                    }
                finish(&o->epilogue, pixel, channel, o->maximum ? y : y / (float)count);
            }
        }
    }
}

/* @section levels_convolution */
typedef struct {
    const float *in;
    uint8_t *levels; /* [row][column][channel] of the input, rounded */
    const int8_t *weight;
    float factor;
    int16_t zero;
    geometry_t geometry;
    epilogue_t epilogue;
} levels_convolution_t;

/* round(clip(x, low, high)); halves go to the even integer. */
static int32_t rounded(float x, float low, float high)
{
    int32_t whole;
    float rest;
    if (x < low) x = low;
    if (x > high) x = high;
    whole = (int32_t)x;
    rest = x - (float)whole;
    if (rest > 0.5f || (rest == 0.5f && whole % 2)) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && whole % 2)) return whole - 1;
    return whole;
}

static void levels_convolution(const levels_convolution_t *o)
{
    const geometry_t *g = &o->geometry;
    const float low = (float)-o->zero, high = (float)(255 - o->zero);
    const int32_t size = g->height * g->width * g->channels;
    int32_t row, column, channel, ky, kx, i, pixel = 0;
    for (i = 0; i < size; ++i) o->levels[i] = (uint8_t)(o->zero + rounded(o->in[i] * o->factor, low, high));
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const int8_t *weight = o->weight;
            for (channel = 0; channel < g->out_channels; ++channel, weight += g->kernel_y * g->kernel_x * g->channels) {
                int32_t sum = 0;
                for (ky = ys.first; ky < ys.last; ++ky)
                    for (kx = xs.first; kx < xs.last; ++kx) {
                        const int32_t at = ring_row(g, top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                        const uint8_t *x = o->levels + at * g->channels;
                        const int8_t *w = weight + (ky * g->kernel_x + kx) * g->channels;
                        for (i = 0; i < g->channels; ++i) sum += ((int32_t)x[i] - o->zero) * w[i];
                    }
                finish(&o->epilogue, pixel, channel, (float)sum);
            }
        }
    }
}
