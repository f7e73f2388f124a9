/* @section types */
/* Real values are int16, in units of 2 to the power of -exponent; biper/targets/c/fixed_point.py defines them. */
typedef int16_t real_t;
typedef int32_t sum_t;
typedef int8_t weight_t;

/* What is done to a sum, in int32 at one exponent: y = floor((sum << up) * multiplier / 65536), or the sum moved by
   `up` where there is no multiplier; then + offset, + residual, activation; then moved by `down` to the exponent of
   the result. */
typedef struct {
    const int16_t *multiplier, *residual, *slope;
    const int32_t *offset;
    const int32_t *threshold; /* for bits alone: sum >= threshold */
    int32_t low, high;
    int16_t *real;
    uint32_t *bits;
    int16_t channels, words;
    int8_t up, residual_up, slope_up, down;
    uint8_t activation;
} epilogue_t;

/* @section finish */
/* floor(x / 2^n); C99 leaves it to the compiler what a shift of a negative number gives. */
static int32_t shifted(int32_t x, int32_t n) { return x < 0 ? ~(~x >> n) : x >> n; }

/* floor(x * m / 65536) for |m| < 32768, in 32 bits. */
static int32_t scaled(int32_t x, int32_t m) { return shifted(x, 16) * m + shifted((int32_t)((uint32_t)x & 0xffffu) * m, 16); }

/* x * 2^n, rounded where n < 0. */
static int32_t moved(int32_t x, int32_t n)
{
    return n >= 0 ? x * ((int32_t)1 << n) : shifted(x + ((int32_t)1 << (-n - 1)), -n);
}

static void finish(const epilogue_t *e, int32_t pixel, int32_t channel, int32_t y)
{
    const int32_t at = pixel * e->channels + channel;
    y = moved(y, e->up);
    if (e->multiplier) y = scaled(y, e->multiplier[channel]);
    if (e->offset) y += e->offset[channel];
    if (e->residual) y += moved(e->residual[at], e->residual_up);
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
        y = moved(y, e->down);
        e->real[at] = (int16_t)(y > 32767 ? 32767 : y < -32768 ? -32768 : y);
    }
}

/* @section pool */
typedef struct {
    const int16_t *in;
    uint8_t maximum;
    const int16_t *row_factor, *column_factor; /* of the sums of cut windows; null where none is cut */
    geometry_t geometry;
    epilogue_t epilogue;
} pool_t;

static void pool(const pool_t *o)
{
    const geometry_t *g = &o->geometry;
    int32_t row, column, channel, ky, kx, pixel = 0;
    for (row = 0; row < g->out_height; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, 1, g->kernel_y, g->height);
        for (column = 0; column < g->out_width; ++column, ++pixel) {
            const int32_t left = column * g->step_x - g->pad_left;
            const range_t xs = taps_inside(left, 1, g->kernel_x, g->width);
            const int32_t factor = o->row_factor ? (int32_t)o->row_factor[row] * o->column_factor[column] : 1;
            for (channel = 0; channel < g->channels; ++channel) {
                int32_t y = o->maximum ? -32768 : 0;
                for (ky = ys.first; ky < ys.last; ++ky)
                    for (kx = xs.first; kx < xs.last; ++kx) {
                        const int32_t x = o->in[((top + ky) * g->width + left + kx) * g->channels + channel];
                        if (!o->maximum) y += x;
                        else if (x > y) y = x;
                    }
                finish(&o->epilogue, pixel, channel, y * factor);
            }
        }
    }
}

/* @section copy */
typedef struct {
    const int16_t *in;
    int16_t *out;
    int8_t up;                       /* to the exponent of out */
    int32_t size, in_step, out_step; /* of the innermost loop */
    nest_t nest;                     /* of in and out */
} copy_t;

static void copy(const copy_t *o)
{
    place_t place = {{0}, {0}};
    int32_t i;
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i, x += o->in_step, y += o->out_step) *y = (int16_t)moved(*x, o->up);
    } while (next_place(&o->nest, &place));
}

/* @section sample */
typedef struct {
    const int16_t *in;
    int16_t *out;
    const int32_t *index; /* [tap][element of the result] */
    uint8_t maximum;
    int32_t taps, size, in_step, out_step; /* the last three: of the axis */
    nest_t nest;                           /* of in and out: the other axes */
} sample_t;

static void sample(const sample_t *o)
{
    place_t place = {{0}, {0}};
    int32_t i, tap;
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i) {
            int16_t largest = x[o->index[i] * o->in_step];
            for (tap = 1; tap < o->taps; ++tap) {
                const int16_t value = x[o->index[tap * o->size + i] * o->in_step];
                if (value > largest) largest = value;
            }
            y[i * o->out_step] = largest;
        }
    } while (next_place(&o->nest, &place));
}
