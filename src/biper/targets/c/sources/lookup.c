/* @section lookup */
/* Binary convolutions without an instruction that counts bits. A table says, for every value that 4 bits of an input can
   have, in how many of them it agrees with the weights of 16 output channels: 16 numbers of 4 bits, in two words. The
   numbers of up to three parts of an input are added in their 4 bits, then all in bytes. */
enum { UNIT_TABLE = 128 }; /* words of the table of 16 inputs */
enum { MOST_UNITS = 15 };  /* units whose sums fit into a byte */
enum { MOST_ROWS = 16 };   /* of a kernel */

/* Sums of 16 channels in bytes: channels 0, 2, 1, 3 in the first word, then 4, 6, 5, 7, and so on. */
typedef struct {
    uint32_t a, b, c, d;
} byte_sums_t;

/* Fills the table of `units` units. Each word of weights has 4 bits of 8 channels: 0, 4, 2, 6, 1, 5, 3 and 7. */
static void fill_table(uint32_t *table, const uint32_t *weight, int32_t units)
{
    int32_t part, half, i;
    for (part = 0; part < 4 * units; ++part, table += 30)
        for (half = 0; half < 2; ++half, ++table) {
            const uint32_t w = *weight++, each = 0x11111111u;
            const uint32_t w0 = w & each, w1 = w >> 1 & each, w2 = w >> 2 & each, w3 = w >> 3 & each;
            /* An input that becomes 1 agrees once more where the weight is 1, and once less where it is 0. */
            const uint32_t d0 = 2 * w0 - each, d1 = 2 * w1 - each, d2 = 2 * w2 - each, d3 = 2 * w3 - each;
            table[0] = 4 * each - w0 - w1 - w2 - w3;
            table[2] = table[0] + d0;
            table[4] = table[0] + d1;
            table[6] = table[2] + d1;
            for (i = 0; i < 8; i += 2) {
                const uint32_t n = table[i], with2 = n + d2;
                table[i + 8] = with2;
                table[i + 16] = n + d3;
                table[i + 24] = with2 + d3;
            }
        }
}

/* Adds what the table says of `units` units of an input, at least one. */
static void look_up(const uint16_t *in, int32_t units, const uint32_t *table, byte_sums_t *sums)
{
    uint32_t a = sums->a, b = sums->b, c = sums->c, d = sums->d;
#if defined(__GNUC__) && defined(__OPTIMIZE__) && defined(__thumb2__)
    /* What follows `#else`, two units at a time, with loads of two words that compilers do not make of it. */
    uint32_t x, n0, n1, m0, m1;
#define READ "ldrh %[x], [%[in]], #2\n"
#define FIRST(part, at) part "add %[n0], %[table], %[n0], lsl #3\n ldrd %[n0], %[n1], [%[n0], #" at "]\n"
#define NEXT(part, at)                                                              \
    part "add %[m0], %[table], %[m0], lsl #3\n ldrd %[m0], %[m1], [%[m0], #" at "]\n" \
         "add %[n0], %[n0], %[m0]\n add %[n1], %[n1], %[m1]\n"
#define BYTES                                                                                                       \
    "and %[m0], %[low], %[n0]\n add %[a], %[a], %[m0]\n and %[m0], %[low], %[n0], lsr #4\n add %[b], %[b], %[m0]\n" \
    "and %[m0], %[low], %[n1]\n add %[c], %[c], %[m0]\n and %[m0], %[low], %[n1], lsr #4\n add %[d], %[d], %[m0]\n"
    __asm__("subs %[units], %[units], #2\n bmi 2f\n1: " READ
            FIRST("and %[n0], %[x], #15\n", "0") NEXT("ubfx %[m0], %[x], #4, #4\n", "128")
            NEXT("ubfx %[m0], %[x], #8, #4\n", "256") BYTES FIRST("lsr %[n0], %[x], #12\n", "384") READ
            NEXT("and %[m0], %[x], #15\n", "512") NEXT("ubfx %[m0], %[x], #4, #4\n", "640") BYTES
            FIRST("ubfx %[n0], %[x], #8, #4\n", "768") NEXT("lsr %[m0], %[x], #12\n", "896") BYTES
            "add %[table], %[table], #1024\n subs %[units], %[units], #2\n bpl 1b\n"
            "2: adds %[units], %[units], #1\n bmi 3f\n" READ
            FIRST("and %[n0], %[x], #15\n", "0") NEXT("ubfx %[m0], %[x], #4, #4\n", "128")
            NEXT("ubfx %[m0], %[x], #8, #4\n", "256") BYTES FIRST("lsr %[n0], %[x], #12\n", "384") BYTES "3:\n"
            : [in] "+r"(in), [table] "+r"(table), [units] "+r"(units), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c),
              [d] "+r"(d), [x] "=&r"(x), [n0] "=&r"(n0), [n1] "=&r"(n1), [m0] "=&r"(m0), [m1] "=&r"(m1)
            : [low] "r"(0x0f0f0f0fu)
            : "cc", "memory");
#else
    for (; units > 0; --units, table += UNIT_TABLE) {
        const uint32_t x = *in++, low = 0x0f0f0f0fu;
        const uint32_t *t0 = table + ((x & 15u) << 1), *t1 = table + 32 + ((x >> 4 & 15u) << 1);
        const uint32_t *t2 = table + 64 + ((x >> 8 & 15u) << 1), *t3 = table + 96 + (x >> 12 << 1);
        const uint32_t n0 = t0[0] + t1[0] + t2[0], n1 = t0[1] + t1[1] + t2[1];
        a += (n0 & low) + (t3[0] & low), b += (n0 >> 4 & low) + (t3[0] >> 4 & low);
        c += (n1 & low) + (t3[1] & low), d += (n1 >> 4 & low) + (t3[1] >> 4 & low);
    }
#endif
    sums->a = a, sums->b = b, sums->c = c, sums->d = d;
}

/* Writes sums in bytes as counts of 16 channels, two in a word, or adds them to those, and sets the sums to 0. */
static void move_sums(byte_sums_t *sums, uint32_t *counts, int add)
{
    const uint32_t low = 0x00ff00ffu, a = sums->a, b = sums->b, c = sums->c, d = sums->d;
    sums->a = sums->b = sums->c = sums->d = 0;
    if (add) {
        counts[0] += a & low, counts[1] += a >> 8 & low, counts[2] += b & low, counts[3] += b >> 8 & low;
        counts[4] += c & low, counts[5] += c >> 8 & low, counts[6] += d & low, counts[7] += d >> 8 & low;
    } else {
        counts[0] = a & low, counts[1] = a >> 8 & low, counts[2] = b & low, counts[3] = b >> 8 & low;
        counts[4] = c & low, counts[5] = c >> 8 & low, counts[6] = d & low, counts[7] = d >> 8 & low;
    }
}

/* The rows of an input that a pixel reads, and the words of a table for a row of a kernel. */
typedef struct {
    const uint16_t *in[MOST_ROWS];
    int32_t rows, step;
} look_t;

/* Counts for 16 channels how many of the inputs agree in `units` units of each row, from `at` on; in up to `most` rows
   at a time, so that sums in bytes do not overflow. */
static void count_agreeing(const look_t *look, int32_t at, const uint32_t *table, int32_t units, int32_t most,
                           uint32_t *counts, int add)
{
    byte_sums_t sums = {0, 0, 0, 0};
    const uint16_t *const *in = look->in, *const *end = look->in + (units > 0 ? look->rows : 0);
    for (;;) {
        const uint16_t *const *until = end - in > most ? in + most : end;
        for (; in < until; ++in, table += look->step) look_up(*in + at, units, table, &sums);
        move_sums(&sums, counts, add);
        if (in == end) return;
        add = 1;
    }
}

/* @section lookup_convolution */
/* Output rows [from, to); weights [16 output channels][ky][kx][unit][4 bits], as fill_table takes them. The table holds
   `rows` rows of a kernel at a time; where those are not all, counts of all pixels lie behind it. */
static void lookup_convolution(const binary_convolution_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t units = o->units, row_units = g->kernel_x * units, step_x = g->step_x, spread = g->dilation_x;
    const int32_t last = g->width - (g->kernel_x - 1) * spread;
    const int32_t together = spread == 1 && row_units <= MOST_UNITS, most = MOST_UNITS / (together ? row_units : units);
    const uint32_t *weight = o->weight;
    int32_t first, begin, row, column, i;
    for (first = 0; first < g->out_channels && from < to; first += 16)
        for (begin = 0; begin < g->kernel_y; begin += o->rows) {
            const int32_t end = begin + o->rows < g->kernel_y ? begin + o->rows : g->kernel_y;
            uint32_t own[8], *counts = own;
            int32_t pixel = from * g->out_width;
            if (o->rows < g->kernel_y) counts = o->scratch + o->rows * row_units * UNIT_TABLE;
            fill_table(o->scratch, weight, (end - begin) * row_units);
            weight += (end - begin) * row_units * 8;
            for (row = from; row < to; ++row) {
                const int32_t top = row * g->step_y - g->pad_top;
                const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
                const int32_t y_begin = ys.first > begin ? ys.first : begin, y_end = ys.last < end ? ys.last : end;
                const uint32_t *table = o->scratch + (y_begin - begin) * row_units * UNIT_TABLE;
                /* Bits of a unit beyond the channels are 0 in inputs and weights, and agree. */
                const int32_t products = (ys.last - ys.first) * (32 * units - g->channels);
                int32_t left = -g->pad_left;
                look_t look;
                look.rows = y_end > y_begin ? y_end - y_begin : 0;
                look.step = row_units * UNIT_TABLE;
                for (i = 0; i < look.rows; ++i)
                    look.in[i] = o->in + ring_row(g, top + (y_begin + i) * g->dilation_y) * g->width * units;
                for (column = 0; column < g->out_width; ++column, ++pixel, left += step_x) {
                    range_t xs;
                    xs.first = 0;
                    xs.last = g->kernel_x;
                    if (left < 0 || left >= last) xs = taps_inside(left, spread, g->kernel_x, g->width);
                    if (together || xs.first == xs.last)
                        count_agreeing(&look, (left + xs.first) * units, table + xs.first * units * UNIT_TABLE,
                                       (xs.last - xs.first) * units, most, counts, begin > 0);
                    else
                        for (i = xs.first; i < xs.last; ++i)
                            count_agreeing(&look, (left + i * spread) * units, table + i * units * UNIT_TABLE, units, most,
                                           counts, begin > 0 || i > xs.first);
                    if (end == g->kernel_y)
                        finish_counts(&o->epilogue, pixel, first, products * (xs.last - xs.first), counts);
                    if (o->rows < g->kernel_y) counts += 8;
                }
            }
        }
}
