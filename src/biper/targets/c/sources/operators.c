/* @section fence */
/* Values of several types share memory in turn: no compiler may move their use past the call of an operator. */
#if defined(__GNUC__)
#define FENCE() __asm__ volatile("" ::: "memory")
#else
#define FENCE() ((void)0)
#endif

/* @section activations */
enum { CLIP = 1, RELU = 2, PRELU = 3 };
enum { FLOOR = 1, FAST = 2, SHORT = 4 };

/* @section taps */
typedef struct {
    int16_t channels, height, width, out_channels, out_height, out_width;
    int16_t kernel_y, kernel_x, step_y, step_x, pad_top, pad_left, dilation_y, dilation_x;
    int16_t ring; /* how many rows of the input are kept: a row lies where the one so many before it lay */
} geometry_t;

typedef struct {
    int32_t first, last;
} range_t;

/* Taps [first, last) of a kernel of which tap t reads position start + t * dilation, for positions in [0, size). */
static range_t taps_inside(int32_t start, int32_t dilation, int32_t taps, int32_t size)
{
    range_t range;
    range.first = 0;
    range.last = taps;
    while (range.first < taps && start + range.first * dilation < 0) ++range.first;
    while (range.last > range.first && start + (range.last - 1) * dilation >= size) --range.last;
    return range;
}

/* @section ring_row */
static int32_t ring_row(const geometry_t *g, int32_t row)
{
    while (row >= g->ring) row -= g->ring;
    return row;
}

/* @section read_pixels */
typedef struct {
    int32_t pixels;
    epilogue_t epilogue;
} read_pixels_t;

static void read_pixels(const read_pixels_t *o, const uint8_t *input)
{
    int32_t pixel, channel;
    for (pixel = 0; pixel < o->pixels; ++pixel)
        for (channel = 0; channel < o->epilogue.channels; ++channel)
            finish(&o->epilogue, pixel, channel, (sum_t)*input++);
}

/* @section convolution */
typedef struct {
    const real_t *in;
    const weight_t *weight; /* [out channel][ky][kx][input channel of the group] */
    int16_t groups;
    geometry_t geometry; /* its channels are those of one group */
    epilogue_t epilogue;
} convolution_t;

static void convolution(const convolution_t *o)
{
    const geometry_t *g = &o->geometry;
    const int32_t inside = g->channels, stride = inside * o->groups;
    int32_t row, column, group, ky, kx, pixel = 0;
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const weight_t *weight = o->weight;
            int32_t channel = 0, last = 0;
            for (group = 0; group < o->groups; ++group)
                for (last += g->out_channels; channel < last; ++channel, weight += g->kernel_y * g->kernel_x * inside) {
                    sum_t sum = 0;
                    for (ky = ys.first; ky < ys.last; ++ky)
                        for (kx = xs.first; kx < xs.last; ++kx) {
                            const int32_t at = ring_row(g, top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                            const real_t *x = o->in + at * stride + group * inside;
                            const weight_t *w = weight + (ky * g->kernel_x + kx) * inside;
                            sum = with_products(sum, x, w, inside);
                        }
                    finish(&o->epilogue, pixel, channel, sum);
                }
        }
    }
}

/* @section signed_convolution */
typedef struct {
    const real_t *in;
    const uint32_t *weight; /* bits [out channel][ky][kx][word] of the input channels of the group */
    int16_t groups, words;
    geometry_t geometry; /* its channels are those of one group */
    epilogue_t epilogue;
} signed_convolution_t;

static void signed_convolution(const signed_convolution_t *o)
{
    const geometry_t *g = &o->geometry;
    const int32_t inside = g->channels, stride = inside * o->groups, words = o->words;
    int32_t row, column, group, ky, kx, i, pixel = 0;
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const uint32_t *weight = o->weight;
            int32_t channel = 0, last = 0;
            for (group = 0; group < o->groups; ++group)
                for (last += g->out_channels; channel < last; ++channel, weight += g->kernel_y * g->kernel_x * words) {
                    sum_t sum = 0;
                    for (ky = ys.first; ky < ys.last; ++ky)
                        for (kx = xs.first; kx < xs.last; ++kx) {
                            const int32_t at = ring_row(g, top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                            const real_t *x = o->in + at * stride + group * inside;
                            const uint32_t *w = weight + (ky * g->kernel_x + kx) * words;
                            for (i = 0; i < inside; ++i)
                                if ((w[i >> 5] >> (i & 31)) & 1u) sum += x[i];
                                else sum -= x[i];
                        }
                    finish(&o->epilogue, pixel, channel, sum);
                }
        }
    }
}

/* @section transfer */
typedef struct {
    const real_t *in;
    int16_t channels, height, width;
    int16_t out_height, out_width; /* the nearest of the input's rows and columns is read */
    int16_t first;                 /* of the result's channels, the one that is the input's channel 0 */
    int16_t begin, end;            /* the result's channels that are written; those beside the input's are 0 */
    uint8_t plain;                 /* whether values stay as they are */
    epilogue_t epilogue;
} transfer_t;

static void transfer(const transfer_t *o)
{
    int32_t row, column, channel, pixel = 0, y = 0, x, y_left = 0, x_left;
    for (row = 0; row < o->out_height; ++row) {
        x = x_left = 0;
        for (column = 0; column < o->out_width; ++column, ++pixel) {
            const real_t *in = o->in + (y * o->width + x) * o->channels;
            real_t *out = o->epilogue.real + pixel * o->epilogue.channels;
            if (o->plain) {
                for (channel = o->begin; channel < o->first; ++channel) out[channel] = 0;
                for (channel = 0; channel < o->channels; ++channel) out[o->first + channel] = in[channel];
                for (channel = o->first + o->channels; channel < o->end; ++channel) out[channel] = 0;
            }
            for (channel = o->plain ? o->end : o->begin; channel < o->end; ++channel) {
                const int32_t c = channel - o->first;
                finish(&o->epilogue, pixel, channel, c >= 0 && c < o->channels ? (sum_t)in[c] : (sum_t)0);
            }
            for (x_left += o->width; x_left >= o->out_width; x_left -= o->out_width) ++x;
        }
        for (y_left += o->height; y_left >= o->out_height; y_left -= o->out_height) ++y;
    }
}

/* @section flatten */
typedef struct {
    const real_t *in;
    int16_t channels;
    int32_t pixels;
    epilogue_t epilogue;
} flatten_t;

static void flatten(const flatten_t *o)
{
    int32_t channel, pixel, at = 0;
    for (channel = 0; channel < o->channels; ++channel)
        for (pixel = 0; pixel < o->pixels; ++pixel) finish(&o->epilogue, 0, at++, (sum_t)o->in[pixel * o->channels + channel]);
}

/* @section row_inside */
static int32_t row_inside(int32_t row, int32_t height) { return row < 0 ? 0 : row > height ? height : row; }
