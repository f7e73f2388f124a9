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
/* Output rows [from, to): sums of products of signs, by xor and a count of bits; weight [out channel][ky][kx][unit], two units in a word. The
   units that the taps of a pixel read are copied side by side once for all output channels; a mask leaves out the taps
   outside the image, which add nothing. */
static void binary_convolution(const binary_convolution_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t units = o->units, size = g->kernel_y * g->kernel_x * units, words = (size + 1) >> 1;
    uint32_t *window = o->scratch, *mask = o->scratch + words;
    int32_t row, column, channel, ky, kx, i, pixel = from * g->out_width;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
            const int32_t taps = (ys.last - ys.first) * (xs.last - xs.first), valid = taps * g->channels;
            const uint32_t *weight = o->weight;
            int32_t at = 0;
            uint32_t counts[8];
            for (ky = 0; ky < g->kernel_y; ++ky)
                for (kx = 0; kx < g->kernel_x; ++kx) {
                    const int inside = ky >= ys.first && ky < ys.last && kx >= xs.first && kx < xs.last;
                    const int32_t x = inside ? ring_row(g, top + ky * g->dilation_y) * g->width + left + kx * g->dilation_x : 0;
                    for (i = 0; i < units; ++i, ++at) {
                        const uint32_t seen = inside ? o->in[x * units + i] : 0u, whole = inside ? 0xffffu : 0u;
                        window[at >> 1] = at & 1 ? window[at >> 1] | seen << 16 : seen;
                        mask[at >> 1] = at & 1 ? mask[at >> 1] | whole << 16 : whole;
                    }
                }
            for (channel = 0; channel < g->out_channels; ++channel, weight += words) {
                const int32_t differing = taps * units == size ? count_differing(window, weight, words)
                                                               : count_masked(window, weight, mask, words);
                if (valid > 0xffff) {
                    finish_sum(&o->epilogue, pixel, channel, valid - 2 * differing);
                    continue;
                }
                counts[channel >> 1 & 7] = channel & 1 ? counts[channel >> 1 & 7] | (uint32_t)(valid - differing) << 16
                                                       : (uint32_t)(valid - differing);
                if ((channel & 15) == 15 || channel == g->out_channels - 1)
                    finish_counts(&o->epilogue, pixel, channel & ~15, valid, counts);
            }
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

