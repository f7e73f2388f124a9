/* @section binary_convolution_type */
typedef struct {
    const uint16_t *in;
    const uint32_t *weight;
    uint32_t *scratch; /* a window and its mask, or a table */
    int16_t units;     /* of 16 bits, of a pixel of the input */
    int16_t rows;      /* of a kernel that a table holds */
    geometry_t geometry;
    epilogue_t epilogue;
} binary_convolution_t, lookup_convolution_t;

/* @section binary_convolution */
/* Copies units, two into a word, behind `at` units that were copied before. */
static void copy_units(uint32_t *window, int32_t at, const uint16_t *x, int32_t units)
{
    const uint16_t *end = x + units;
    window += at >> 1;
    if (at & 1 && x < end) *window++ |= (uint32_t)*x++ << 16;
    for (; end - x > 1; x += 2) *window++ = x[0] | (uint32_t)x[1] << 16;
    if (x < end) *window = *x;
}

/* Copies the units that the taps of a pixel at the border read, 0 for taps outside the image, and makes their mask. */
static void copy_inside(const binary_convolution_t *o, int32_t top, int32_t left, uint32_t *window, uint32_t *mask)
{
    const geometry_t *g = &o->geometry;
    int32_t ky, kx, i, at = 0;
    for (ky = 0; ky < g->kernel_y; ++ky)
        for (kx = 0; kx < g->kernel_x; ++kx) {
            const int32_t y = top + ky * g->dilation_y, x = left + kx * g->dilation_x;
            const int inside = y >= 0 && y < g->height && x >= 0 && x < g->width;
            const uint16_t *in = inside ? o->in + (ring_row(g, y) * g->width + x) * o->units : o->in;
            const uint32_t whole = inside ? 0xffffu : 0u;
            for (i = 0; i < o->units; ++i, ++at) {
                const uint32_t seen = in[i] & whole;
                window[at >> 1] = at & 1 ? window[at >> 1] | seen << 16 : seen;
                mask[at >> 1] = at & 1 ? mask[at >> 1] | whole << 16 : whole;
            }
        }
}

/* Finishes a pixel of which a window was copied; `kept` is its mask at the border, and `valid` the number of products. */
static void finish_window(const binary_convolution_t *o, int32_t pixel, const uint32_t *window, const uint32_t *kept,
                          int32_t words, int32_t valid)
{
    const int32_t channels = o->geometry.out_channels, missing = o->epilogue.products - valid;
    const uint32_t *weight = o->weight, all = (uint32_t)(valid + (missing >> 1));
    int32_t first, channel, i;
    for (first = 0; first < channels; first += 16) {
        const int32_t end = channels - first < 16 ? channels : first + 16;
        uint32_t counts[8], *to = counts;
        sixteen_t sixteen;
        for (channel = first; channel < end; channel += 4, to += 2) {
            uint32_t differing[4];
            weight = count_four(window, kept, weight, words, end - channel, differing);
            to[0] = (all - differing[0]) | (all - differing[1]) << 16;
            to[1] = (all - differing[2]) | (all - differing[3]) << 16;
            for (i = 0; all > 0xffff && i < 4 && channel + i < end; ++i)
                finish_sum(&o->epilogue, pixel, channel + i, valid - 2 * (int32_t)differing[i]);
        }
        if (all > 0xffff) continue;
        begin_sixteen(&sixteen, &o->epilogue, pixel, first);
        finish_counts(&sixteen, missing & 1, counts);
    }
}

/* Output rows [from, to): sums of products of signs, by xor and a count of bits; weights as count_four takes them, of units
   [ky][kx][unit], two in a word. The units that the taps of a pixel read are copied side by side once for all output
   channels; a mask leaves out the taps outside the image, which add nothing. */
static void binary_convolution(const binary_convolution_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t units = o->units, row_units = g->kernel_x * units, words = (g->kernel_y * row_units + 1) >> 1;
    const int32_t spread = g->dilation_x, last = g->width - (g->kernel_x - 1) * spread;
    const int32_t run = spread == 1 ? row_units : units; /* units side by side */
    uint32_t *window = o->scratch, *mask = o->scratch + words;
    int32_t row, column, ky, x, at, pixel = from * g->out_width;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        int32_t left = -g->pad_left;
        for (column = 0; column < g->out_width; ++column, ++pixel, left += g->step_x) {
            if (left < 0 || left >= last || ys.last - ys.first < g->kernel_y) {
                const range_t xs = taps_inside(left, spread, g->kernel_x, g->width);
                copy_inside(o, top, left, window, mask);
                finish_window(o, pixel, window, mask, words, (ys.last - ys.first) * (xs.last - xs.first) * g->channels);
                continue;
            }
            for (ky = at = 0; ky < g->kernel_y; ++ky) {
                const uint16_t *in = o->in + (ring_row(g, top + ky * g->dilation_y) * g->width + left) * units;
                for (x = 0; x < row_units; x += run, at += run) copy_units(window, at, in + x * spread, run);
            }
            finish_window(o, pixel, window, 0, words, g->kernel_y * g->kernel_x * g->channels);
        }
    }
}

/* @section grouped_binary_convolution */
typedef struct {
    const uint16_t *in, *weight, *mask; /* weight [out channel][ky][kx][unit], mask [group][unit] */
    const int16_t *first;               /* unit of a pixel at which a group begins */
    int16_t groups, units, in_units;
    geometry_t geometry;
    epilogue_t epilogue;
} grouped_binary_convolution_t;

static void grouped_binary_convolution(const grouped_binary_convolution_t *o)
{
    const geometry_t *g = &o->geometry;
    const int32_t units = o->units, row_units = g->kernel_x * units;
    int32_t row, column, group, ky, kx, i, pixel = 0;
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const int32_t valid = (ys.last - ys.first) * (xs.last - xs.first) * g->channels;
            const uint16_t *weight = o->weight;
            int32_t channel = 0, last = 0;
            for (group = 0; group < o->groups; ++group) {
                const uint16_t *mask = o->mask + group * units;
                for (last += g->out_channels; channel < last; ++channel, weight += g->kernel_y * row_units) {
                    int32_t differing = 0;
                    for (ky = ys.first; ky < ys.last; ++ky)
                        for (kx = xs.first; kx < xs.last; ++kx) {
                            const int32_t at = ring_row(g, top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x;
                            const uint16_t *x = o->in + at * o->in_units + o->first[group];
                            for (i = 0; i < units; ++i) {
                                const uint32_t bits = x[i] & mask[i], w = weight[ky * row_units + kx * units + i];
                                differing += count_differing(&bits, &w, 1);
                            }
                        }
                    finish_sum(&o->epilogue, pixel, channel, valid - 2 * differing);
                }
            }
        }
    }
}

