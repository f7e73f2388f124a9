/* @section activations */
enum { CLIP = 1, RELU = 2, PRELU = 3 };

/* @section put_bit */
/* Tests define these to record every integer sum of a binary convolution and every bit, in the order they are made. */
#ifndef MODEL_SUM
#define MODEL_SUM(sum) ((void)0)
#endif
#ifndef MODEL_BIT
#define MODEL_BIT(bit) ((void)0)
#endif

/* The bits of a pixel are written from channel 0 up; the first bit of a word clears the word. */
static void put_bit(const epilogue_t *e, int32_t pixel, int32_t channel, int bit)
{
    uint32_t *word = e->bits + pixel * e->words + (channel >> 5);
    MODEL_BIT(bit);
    *word = (channel & 31 ? *word : 0u) | (uint32_t)bit << (channel & 31);
}

/* @section finish_sum */
static void finish_sum(const epilogue_t *e, int32_t pixel, int32_t channel, int32_t sum)
{
    MODEL_SUM(sum);
    if (e->threshold) put_bit(e, pixel, channel, sum >= e->threshold[channel]);
    else finish(e, pixel, channel, (sum_t)sum);
}

/* @section taps */
typedef struct {
    int16_t channels, height, width, out_channels, out_height, out_width;
    int16_t kernel_y, kernel_x, step_y, step_x, pad_top, pad_left, dilation_y, dilation_x;
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

/* @section count */
/* How many bits of a word are 1. Define MODEL_POPCOUNT where the processor has an instruction for it. */
#if !defined(MODEL_POPCOUNT) && defined(__GNUC__) && (defined(__POPCNT__) || defined(__riscv_zbb))
#define MODEL_POPCOUNT(word) __builtin_popcount(word)
#endif

#ifdef MODEL_POPCOUNT
static int32_t count_differing(const uint32_t *x, const uint32_t *w, int32_t words)
{
    int32_t i, count = 0;
    for (i = 0; i < words; ++i) count += (int32_t)MODEL_POPCOUNT(x[i] ^ w[i]);
    return count;
}
#else
/* Counting the bits of words: in every nibble, then in every byte, then all of them. */
static uint32_t in_nibbles(uint32_t x)
{
    x -= (x >> 1) & 0x55555555u;
    return (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
}
static uint32_t in_bytes(uint32_t x) { return (x & 0x0f0f0f0fu) + ((x >> 4) & 0x0f0f0f0fu); }
static int32_t in_all(uint32_t x)
{
    x = (x & 0x00ff00ffu) + ((x >> 8) & 0x00ff00ffu);
    return (int32_t)((x & 0xffffu) + (x >> 16));
}

/* Full adders turn nine words into four, whose bits count one, two, four and four; or three words into two. */
static int32_t count_differing(const uint32_t *x, const uint32_t *w, int32_t words)
{
    int32_t count = 0;
    for (; words >= 9; words -= 9, x += 9, w += 9) {
        uint32_t a = x[0] ^ w[0], b = x[1] ^ w[1], c = x[2] ^ w[2], either = a ^ b, ones, twos, fours;
        const uint32_t one1 = either ^ c, two1 = (a & b) | (either & c);
        uint32_t one2, two2, one3, two3;
        a = x[3] ^ w[3], b = x[4] ^ w[4], c = x[5] ^ w[5], either = a ^ b;
        one2 = either ^ c, two2 = (a & b) | (either & c);
        a = x[6] ^ w[6], b = x[7] ^ w[7], c = x[8] ^ w[8], either = a ^ b;
        one3 = either ^ c, two3 = (a & b) | (either & c);
        either = one1 ^ one2, ones = either ^ one3;
        a = (one1 & one2) | (either & one3); /* two more */
        either = two1 ^ two2, twos = either ^ two3;
        fours = in_bytes(in_nibbles((two1 & two2) | (either & two3))) + in_bytes(in_nibbles(twos & a));
        count += in_all(in_bytes(in_nibbles(ones) + 2 * in_nibbles(twos ^ a)) + 4 * fours);
    }
    for (; words >= 3; words -= 3, x += 3, w += 3) {
        const uint32_t a = x[0] ^ w[0], b = x[1] ^ w[1], c = x[2] ^ w[2], either = a ^ b;
        count += in_all(in_bytes(in_nibbles(either ^ c) + 2 * in_nibbles((a & b) | (either & c))));
    }
    for (; words > 0; --words) count += in_all(in_bytes(in_nibbles(*x++ ^ *w++)));
    return count;
}
#endif

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

/* @section binary_convolution */
typedef struct {
    const uint32_t *in, *weight; /* weight [out channel][ky][kx][word] */
    int16_t words;
    geometry_t geometry;
    epilogue_t epilogue;
} binary_convolution_t;

/* Sums of products of signs, by xor and a count of bits; taps outside the image add nothing. The words that the taps of
   a pixel read are copied side by side once for all output channels. */
static void binary_convolution(const binary_convolution_t *o)
{
    const geometry_t *g = &o->geometry;
    const int32_t words = o->words, row_words = g->kernel_x * words, size = g->kernel_y * row_words;
    int32_t row, column, channel, ky, kx, word, pixel = 0;
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const int32_t taps = (ys.last - ys.first) * (xs.last - xs.first), valid = taps * g->channels;
            const uint32_t *weight = o->weight;
            uint32_t *window = arena.window;
            for (ky = ys.first; ky < ys.last; ++ky)
                for (kx = xs.first; kx < xs.last; ++kx) {
                    const int32_t at = (top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                    for (word = 0; word < words; ++word) *window++ = o->in[at * words + word];
                }
            for (channel = 0; channel < g->out_channels; ++channel, weight += size) {
                const int32_t run = (xs.last - xs.first) * words;
                int32_t differing = 0;
                if (taps * words == size)
                    differing = count_differing(arena.window, weight, size);
                else
                    for (ky = ys.first; ky < ys.last; ++ky)
                        differing += count_differing(arena.window + (ky - ys.first) * run,
                                                     weight + ky * row_words + xs.first * words, run);
                finish_sum(&o->epilogue, pixel, channel, valid - 2 * differing);
            }
        }
    }
}

/* @section grouped_binary_convolution */
typedef struct {
    const uint32_t *in, *weight, *mask; /* weight [out channel][ky][kx][word], mask [group][word] */
    const int16_t *first;               /* word of a pixel at which a group begins */
    int16_t groups, words, in_words;
    geometry_t geometry;
    epilogue_t epilogue;
} grouped_binary_convolution_t;

static void grouped_binary_convolution(const grouped_binary_convolution_t *o)
{
    const geometry_t *g = &o->geometry;
    const int32_t words = o->words, row_words = g->kernel_x * words;
    int32_t row, column, group, ky, kx, i, pixel = 0;
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const int32_t valid = (ys.last - ys.first) * (xs.last - xs.first) * g->channels;
            const uint32_t *weight = o->weight;
            int32_t channel = 0, last = 0;
            for (group = 0; group < o->groups; ++group) {
                const uint32_t *mask = o->mask + group * words;
                for (last += g->out_channels; channel < last; ++channel, weight += g->kernel_y * row_words) {
                    int32_t differing = 0;
                    for (ky = ys.first; ky < ys.last; ++ky)
                        for (kx = xs.first; kx < xs.last; ++kx) {
                            const int32_t at = (top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                            const uint32_t *x = o->in + at * o->in_words + o->first[group];
                            for (i = 0; i < words; ++i) {
                                const uint32_t bits = x[i] & mask[i];
                                differing += count_differing(&bits, weight + ky * row_words + kx * words + i, 1);
                            }
                        }
                    finish_sum(&o->epilogue, pixel, channel, valid - 2 * differing);
                }
            }
        }
    }
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
    int32_t row, column, group, ky, kx, i, pixel = 0;
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
                            const int32_t at = (top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                            const real_t *x = o->in + at * stride + group * inside;
                            const weight_t *w = weight + (ky * g->kernel_x + kx) * inside;
                            for (i = 0; i < inside; ++i) sum += (sum_t)x[i] * (sum_t)w[i];
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
                            const int32_t at = (top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
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
    epilogue_t epilogue;
} transfer_t;

static void transfer(const transfer_t *o)
{
    int32_t row, column, channel, pixel = 0, y = 0, x, y_left = 0, x_left;
    for (row = 0; row < o->out_height; ++row) {
        x = x_left = 0;
        for (column = 0; column < o->out_width; ++column, ++pixel) {
            const real_t *in = o->in + (y * o->width + x) * o->channels;
            for (channel = o->begin; channel < o->end; ++channel) {
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
