/* @section types */
/* Real values are int16, in units of 2 to the power of -exponent; biper/targets/c/fixed_point.py defines them. */
typedef int16_t real_t;
typedef int32_t sum_t;
typedef int8_t weight_t;

typedef struct {
    int32_t multiplier, offset;
} affine_t;

/* What is done to a sum, in int32 at one exponent: y = sum * multiplier + offset of `affine`; or else
   floor((sum << up) * multiplier / 65536), or the sum moved by `up` where there is no multiplier, + offset. Then
   + residual, activation; then moved by `down` to the exponent of the result. */
typedef struct {
    const affine_t *affine;
    const int16_t *multiplier, *residual, *slope;
    const int32_t *offset;
    const int32_t *threshold; /* for bits alone: sum >= threshold */
    int32_t low, high;
    int16_t *real;
    uint16_t *bits;
    int16_t channels, units;                  /* units of 16 bits */
    uint16_t real_ring, residual_ring, bits_ring; /* how many pixels are kept, each where one before it lay; 0: all */
    int8_t up, residual_up, slope_up, down;
    uint8_t activation, floor; /* floor: the result is not rounded to nearest but down */
} epilogue_t;

#define PLACE(pixel, ring) kept_at(pixel, ring)
static int32_t kept_at(int32_t pixel, int32_t ring)
{
    if (ring > 0)
        while (pixel >= ring) pixel -= ring;
    return pixel;
}

/* @section finish */
/* floor(x / 2^n); C99 leaves it to the compiler what a shift of a negative number gives. */
static int32_t shifted(int32_t x, int32_t n) { return -1 >> 1 == -1 || x >= 0 ? x >> n : ~(~x >> n); }

/* floor(x * m / 65536) for |m| < 32768, in 32 bits. */
static int32_t scaled(int32_t x, int32_t m) { return shifted(x, 16) * m + shifted((int32_t)((uint32_t)x & 0xffffu) * m, 16); }

/* x * 2^n, rounded where n < 0. */
static int32_t moved(int32_t x, int32_t n)
{
    return n >= 0 ? x * ((int32_t)1 << n) : shifted(x + ((int32_t)1 << (-n - 1)), -n);
}

#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT)
static int16_t saturated(int32_t x)
{
    __asm__("ssat %0, #16, %0" : "+r"(x));
    return (int16_t)x;
}
#else
static int16_t saturated(int32_t x)
{
    x = x < -32768 ? -32768 : x; /* a minimum and a maximum, for which many processors have an instruction */
    x = x > 32767 ? 32767 : x;
    return (int16_t)x;
}
#endif

static void finish(const epilogue_t *e, int32_t pixel, int32_t channel, int32_t y)
{
    if (e->affine) {
        y = y * e->affine[channel].multiplier + e->affine[channel].offset;
    } else {
        y = moved(y, e->up);
        if (e->multiplier) y = scaled(y, e->multiplier[channel]);
        if (e->offset) y += e->offset[channel];
    }
    if (e->residual) y += moved(e->residual[kept_at(pixel, e->residual_ring) * e->channels + channel], e->residual_up);
    if (e->activation == CLIP) {
        if (y < e->low) y = e->low;
        if (y > e->high) y = e->high;
    } else if (e->activation == RELU) {
        if (y < 0) y = 0;
    } else if (e->activation == PRELU) {
        if (y < 0) y = moved(scaled(y, e->slope[channel]), e->slope_up);
    }
    if (e->bits) put_bit(e, pixel, channel, y >= 0);
    if (e->real) {
        y = e->floor && e->down < 0 ? shifted(y, -e->down) : moved(y, e->down);
        e->real[kept_at(pixel, e->real_ring) * e->channels + channel] = saturated(y);
    }
}

/* @section finish_values */
/* Finishes some channels of a pixel, at most 16, whose sums are given. */
static void finish_values(const epilogue_t *e, int32_t pixel, int32_t first, int32_t channels, const int32_t *sums)
{
    int32_t i;
    if (e->real && !e->affine && !e->multiplier && !e->residual && !e->activation && e->up == 0 && e->down < 0) {
        const int32_t by = -e->down, half = e->floor ? 0 : (int32_t)1 << (by - 1);
        const int32_t *offset = e->offset ? e->offset + first : 0;
        int16_t *real = e->real + kept_at(pixel, e->real_ring) * e->channels + first;
        uint32_t negative = 0;
        for (i = channels; i-- > 0;) {
            const int32_t y = offset ? sums[i] + offset[i] : sums[i];
            negative = negative << 1 | (uint32_t)y >> 31;
            MODEL_BIT(e, pixel, first + i, y >= 0);
            real[i] = saturated(shifted(y + half, by));
        }
        if (e->bits) e->bits[kept_at(pixel, e->bits_ring) * e->units + (first >> 4)] = (uint16_t)(~negative & ((1u << channels) - 1u));
        return;
    }
    for (i = 0; i < channels; ++i) finish(e, pixel, first + i, sums[i]);
}

/* @section finish_counts */
/* Finishes 16 channels of a pixel, or those that there are; a sum is twice the count of what agrees, two channels in a
   word, less `products`. */
static void finish_counts(const epilogue_t *e, int32_t pixel, int32_t first, int32_t products, const uint32_t *counts)
{
    const int32_t channels = e->channels - first < 16 ? e->channels - first : 16;
    int32_t i;
    if (channels == 16 && e->affine && e->residual && e->real && !e->activation && e->down < 0 && e->residual_up >= 0) {
        const int32_t by = -e->down, half = e->floor ? 0 : (int32_t)1 << (by - 1);
        const int32_t one = (int32_t)1 << e->residual_up;
        const affine_t *affine = e->affine + first;
        const int16_t *residual = e->residual + kept_at(pixel, e->residual_ring) * e->channels + first;
        int16_t *real = e->real + kept_at(pixel, e->real_ring) * e->channels + first;
        uint32_t negative = 0;
#if defined(__SSE2__) || defined(__aarch64__) /* loops that compilers turn into instructions of several numbers */
        static const uint32_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
        int32_t y[16];
        for (i = 0; i < 8; ++i) y[2 * i] = (int32_t)(counts[i] & 0xffffu), y[2 * i + 1] = (int32_t)(counts[i] >> 16);
        for (i = 0; i < 16; ++i) y[i] = 2 * y[i] - products;
        for (i = 0; i < 16; ++i) MODEL_SUM(e, pixel, first + i, y[i]);
        for (i = 0; i < 16; ++i) y[i] = y[i] * affine[i].multiplier + affine[i].offset + residual[i] * one;
        for (i = 0; i < 16; ++i) MODEL_BIT(e, pixel, first + i, y[i] >= 0);
        for (i = 0; i < 16; ++i) negative |= y[i] < 0 ? places[i] : 0u;
        for (i = 0; i < 16; ++i) real[i] = saturated(shifted(y[i] + half, by));
#else
#define FINISH(at, count)                                                                                            \
    do {                                                                                                             \
        const int32_t sum = 2 * (int32_t)(count)-products;                                                           \
        const int32_t y = sum * affine[at].multiplier + affine[at].offset + residual[at] * one;                      \
        MODEL_SUM(e, pixel, first + (at), sum);                                                                      \
        MODEL_BIT(e, pixel, first + (at), y >= 0);                                                                   \
        negative = negative << 1 | (uint32_t)y >> 31;                                                                \
        real[at] = saturated(shifted(y + half, by));                                                                 \
    } while (0)
        for (i = 14, counts += 8; i >= 0; i -= 2) {
            const uint32_t both = *--counts;
            FINISH(i + 1, both >> 16);
            FINISH(i, both & 0xffffu);
        }
#undef FINISH
#endif
        if (e->bits) e->bits[kept_at(pixel, e->bits_ring) * e->units + (first >> 4)] = (uint16_t)~negative;
        return;
    }
    for (i = 0; i < channels; ++i)
        finish_sum(e, pixel, first + i, 2 * (int32_t)(counts[i >> 1] >> 16 * (i & 1) & 0xffffu) - products);
}

/* @section pool */
typedef struct {
    const int16_t *in;
    uint8_t maximum;
    const int16_t *row_factor, *column_factor; /* of the sums of cut windows; null where none is cut */
    geometry_t geometry;
    epilogue_t epilogue;
} pool_t;

static void pool(const pool_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    int32_t row, column, first, channel, ky, kx, pixel = from * g->out_width;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, 1, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, 1, g->kernel_x, g->width);
            const int32_t factor = o->row_factor ? (int32_t)o->row_factor[row] * o->column_factor[column] : 1;
            for (first = 0; first < g->channels; first += 16) {
                const int32_t channels = g->channels - first < 16 ? g->channels - first : 16;
                int32_t sums[16];
                for (channel = 0; channel < channels; ++channel) sums[channel] = o->maximum ? -32768 : 0;
                for (ky = ys.first; ky < ys.last; ++ky) {
                    const int32_t at = ring_row(g, top + ky) * g->width + left + xs.first;
                    const int16_t *in = o->in + at * g->channels + first;
                    for (kx = xs.first; kx < xs.last; ++kx, in += g->channels)
                        if (!o->maximum) {
                            for (channel = 0; channel < channels; ++channel) sums[channel] += in[channel];
                        } else {
                            for (channel = 0; channel < channels; ++channel)
                                if (in[channel] > sums[channel]) sums[channel] = in[channel];
                        }
                }
                if (factor != 1)
                    for (channel = 0; channel < channels; ++channel) sums[channel] *= factor;
                finish_values(&o->epilogue, pixel, first, channels, sums);
            }
        }
    }
}

/* @section pixel_convolution */
typedef struct {
    const int32_t *weight;  /* [8 output channels][ky][kx][channel][output channel] */
    const int32_t *missing; /* [output channel][ky][kx]: what a tap outside the image adds */
    geometry_t geometry;
    epilogue_t epilogue;
} pixel_convolution_t;

static void pixel_convolution(const pixel_convolution_t *o, const uint8_t *input, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t size = g->kernel_y * g->kernel_x, inside = g->channels;
    int32_t row, column, first, channel, ky, kx, i, pixel = from * g->out_width;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const int32_t taps = xs.last - xs.first, whole = (ys.last - ys.first) * taps == size;
            const int32_t parts = g->dilation_x == 1 ? taps > 0 : taps, run = g->dilation_x == 1 ? taps * inside : inside;
            const int32_t *weight = o->weight;
            for (first = 0; first < g->out_channels; first += 16) {
                const int32_t channels = g->out_channels - first < 16 ? g->out_channels - first : 16;
                int32_t sums[16];
                for (channel = 0; channel < channels; channel += 8, weight += 8 * size * inside) {
                    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
                    for (ky = ys.first; ky < ys.last; ++ky) {
                        const int32_t y = (top + ky * g->dilation_y) * g->width + left;
                        const uint8_t *in = input + (y + xs.first * g->dilation_x) * inside;
                        const int32_t *w = weight + 8 * (ky * g->kernel_x + xs.first) * inside;
                        for (kx = 0; kx < parts; ++kx, in += (g->dilation_x - 1) * inside)
                            for (i = run; i > 0; --i, w += 8) {
                                const int32_t x = *in++;
                                s0 += x * w[0], s1 += x * w[1], s2 += x * w[2], s3 += x * w[3];
                                s4 += x * w[4], s5 += x * w[5], s6 += x * w[6], s7 += x * w[7];
                            }
                    }
                    sums[channel] = s0, sums[channel + 1] = s1, sums[channel + 2] = s2, sums[channel + 3] = s3;
                    sums[channel + 4] = s4, sums[channel + 5] = s5, sums[channel + 6] = s6, sums[channel + 7] = s7;
                }
                if (!whole)
                    for (channel = 0; channel < channels; ++channel)
                        for (ky = 0; ky < g->kernel_y; ++ky)
                            for (kx = 0; kx < g->kernel_x; ++kx)
                                if (ky < ys.first || ky >= ys.last || kx < xs.first || kx >= xs.last)
                                    sums[channel] += o->missing[(first + channel) * size + ky * g->kernel_x + kx];
                finish_values(&o->epilogue, pixel, first, channels, sums);
            }
        }
    }
}
