/* @section lookup */
/* Binary convolutions without an instruction that counts bits. A table says, for every value that 4 bits of an input can
   have, in how many of them it agrees with the weights of 16 output channels: 16 numbers of 4 bits, in two words. The
   numbers of up to three parts of an input are added in their 4 bits, then all in bytes. */
enum { UNIT_TABLE = 128 }; /* words of the table of 16 inputs */
enum { MOST_UNITS = 15 };  /* units whose sums fit into a byte */
enum { MOST_ROWS = 7 };    /* of a kernel */

/* Fills the table of `units` units. Each word of weights has 4 bits of 8 channels: 0, 4, 2, 6, 1, 5, 3 and 7. */
static void fill_table(uint32_t *table, const uint32_t *weight, int32_t units)
{
    const uint32_t each = 0x11111111u;
    for (units *= 4; units > 0; --units, table += 32, weight += 2) {
        const uint32_t v = weight[0], w = weight[1];
        uint32_t v0 = v & each, v1 = v >> 1 & each, v2 = v >> 2 & each, v3 = v >> 3 & each;
        uint32_t w0 = w & each, w1 = w >> 1 & each, w2 = w >> 2 & each, w3 = w >> 3 & each;
        uint32_t m = 4 * each - v0 - v1 - v2 - v3, n = 4 * each - w0 - w1 - w2 - w3;
        /* An input that becomes 1 agrees once more where the weight is 1, and once less where it is 0. From one number
           to the next, one of the 4 inputs changes. */
        v0 = 2 * v0 - each, v1 = 2 * v1 - each, v2 = 2 * v2 - each, v3 = 2 * v3 - each;
        w0 = 2 * w0 - each, w1 = 2 * w1 - each, w2 = 2 * w2 - each, w3 = 2 * w3 - each;
#define PUT(at) (table[2 * (at)] = m, table[2 * (at) + 1] = n)
#define SET(i, at) (m += v##i, n += w##i, PUT(at))
#define CLEAR(i, at) (m -= v##i, n -= w##i, PUT(at))
        PUT(0), SET(0, 1), SET(1, 3), CLEAR(0, 2), SET(2, 6), SET(0, 7), CLEAR(1, 5), CLEAR(0, 4);
        SET(3, 12), SET(0, 13), SET(1, 15), CLEAR(0, 14), CLEAR(2, 10), SET(0, 11), CLEAR(1, 9), CLEAR(0, 8);
    }
}

/* Units side by side that a pixel reads, the table of the first of them, and how far away the next pixel's are. No units
   end the sums. */
typedef struct {
    const uint16_t *in;
    int32_t units;
    const uint32_t *table;
    int32_t next; /* in bytes */
} look_t;

/* Sums of numbers of 8 channels in a word: of every second one, in bytes, and of the words without their lowest 4 bits. */
typedef struct {
    uint32_t low0, high0, low1, high1;
} nibble_sums_t;

/* Adds what tables say of units up to the next end, and makes them those of the next pixel; returns what follows the end. */
static look_t *look_up(look_t *look, nibble_sums_t *sums)
{
    uint32_t l0 = 0, h0 = 0, l1 = 0, h1 = 0;
#if defined(__GNUC__) && defined(__OPTIMIZE__) && defined(__thumb2__) && defined(__ARMEL__)
    /* What follows `#else`, three units at a time, with loads of two words that compilers do not make of it. */
    uint32_t in, units, table, x, m0, m1, n0, n1;
#define READ "ldrh %[x], [%[in]], #2\n"
#define FIRST(part, at) part "add %[n0], %[table], %[n0], lsl #3\n ldrd %[n0], %[n1], [%[n0], #" at "]\n"
#define NEXT(part, at)                                                                \
    part "add %[m0], %[table], %[m0], lsl #3\n ldrd %[m0], %[m1], [%[m0], #" at "]\n" \
         "add %[n0], %[n0], %[m0]\n add %[n1], %[n1], %[m1]\n"
#define SPLIT                                                                                     \
    "and %[m0], %[n0], #0x0f0f0f0f\n add %[h0], %[h0], %[n0], lsr #4\n add %[l0], %[l0], %[m0]\n" \
    "and %[m1], %[n1], #0x0f0f0f0f\n add %[h1], %[h1], %[n1], lsr #4\n add %[l1], %[l1], %[m1]\n"
    __asm__("b 5f\n1: " READ
            FIRST("and %[n0], %[x], #15\n", "0") NEXT("ubfx %[m0], %[x], #4, #4\n", "128")
            NEXT("ubfx %[m0], %[x], #8, #4\n", "256") SPLIT FIRST("lsr %[n0], %[x], #12\n", "384") READ
            NEXT("and %[m0], %[x], #15\n", "512") NEXT("ubfx %[m0], %[x], #4, #4\n", "640") SPLIT
            FIRST("ubfx %[n0], %[x], #8, #4\n", "768") NEXT("lsr %[m0], %[x], #12\n", "896") READ
            "add %[table], %[table], #1024\n" NEXT("and %[m0], %[x], #15\n", "0") SPLIT
            FIRST("ubfx %[n0], %[x], #4, #4\n", "128") NEXT("ubfx %[m0], %[x], #8, #4\n", "256")
            NEXT("lsr %[m0], %[x], #12\n", "384") SPLIT
            "add %[table], %[table], #512\n subs %[units], %[units], #3\n bpl 1b\n"
            "2: adds %[units], %[units], #3\n beq 5f\n3: " READ
            FIRST("and %[n0], %[x], #15\n", "0") NEXT("ubfx %[m0], %[x], #4, #4\n", "128")
            NEXT("ubfx %[m0], %[x], #8, #4\n", "256") SPLIT FIRST("lsr %[n0], %[x], #12\n", "384") SPLIT
            "add %[table], %[table], #512\n subs %[units], %[units], #1\n bne 3b\n"
            "5: ldrd %[in], %[units], [%[look]]\n ldrd %[table], %[m0], [%[look], #8]\n"
            "add %[m0], %[in], %[m0]\n str %[m0], [%[look]], #16\n"
            "subs %[units], %[units], #3\n bpl 1b\n cmn %[units], #3\n bne 2b\n"
            : [look] "+r"(look), [l0] "+r"(l0), [h0] "+r"(h0), [l1] "+r"(l1), [h1] "+r"(h1), [in] "=&r"(in),
              [units] "=&r"(units), [table] "=&r"(table), [x] "=&r"(x), [m0] "=&r"(m0), [m1] "=&r"(m1),
              [n0] "=&r"(n0), [n1] "=&r"(n1)
            :
            : "cc", "memory");
#else
    for (; look->units > 0; ++look) {
        const uint16_t *in = look->in, *end = in + look->units;
        const uint32_t *table = look->table, low = 0x0f0f0f0fu;
        for (; in < end; ++in, table += UNIT_TABLE) {
            const uint32_t x = *in;
            const uint32_t *t0 = table + ((x & 15u) << 1), *t1 = table + 32 + ((x >> 4 & 15u) << 1);
            const uint32_t *t2 = table + 64 + ((x >> 8 & 15u) << 1), *t3 = table + 96 + (x >> 12 << 1);
            const uint32_t n0 = t0[0] + t1[0] + t2[0], n1 = t0[1] + t1[1] + t2[1];
            l0 += (n0 & low) + (t3[0] & low), h0 += (n0 >> 4) + (t3[0] >> 4);
            l1 += (n1 & low) + (t3[1] & low), h1 += (n1 >> 4) + (t3[1] >> 4);
        }
        look->in += look->next / 2;
    }
    ++look;
#endif
    sums->low0 = l0, sums->high0 = h0, sums->low1 = l1, sums->high1 = h1;
    return look;
}

/* Writes sums, added to `before`, as counts of 16 channels, two in a word. */
static void move_sums(const nibble_sums_t *sums, const uint32_t *before, uint32_t *counts)
{
    const uint32_t low = 0x00ff00ffu, a = sums->low0, b = sums->high0 - ((a & ~0xffu) >> 4);
    const uint32_t c = sums->low1, d = sums->high1 - ((c & ~0xffu) >> 4);
    counts[0] = before[0] + (a & low), counts[1] = before[1] + (a >> 8 & low);
    counts[2] = before[2] + (b & low), counts[3] = before[3] + (b >> 8 & low);
    counts[4] = before[4] + (c & low), counts[5] = before[5] + (c >> 8 & low);
    counts[6] = before[6] + (d & low), counts[7] = before[7] + (d >> 8 & low);
}

/* Pixels of a row of which the kernel lies inside the image in the same way. */
typedef struct {
    look_t look[2 * MOST_ROWS]; /* rows of the kernel, an end wherever sums in bytes could overflow, and one behind all */
    const look_t *end;
    uint32_t *counts;     /* of each pixel, where they are kept; else null */
    uint32_t own[8];      /* of one pixel, where they are not */
    int32_t add, odd;     /* whether counts are added to those that are kept */
    uint32_t bias[8];     /* what the counts begin with, in both halves of a word */
    sixteen_t *sixteen;   /* to finish the pixels; else null */
} run_t;

/* Counts for 16 channels how many inputs of each pixel agree. */
static void count_agreeing(run_t *run, int32_t pixels)
{
    uint32_t *counts = run->counts ? run->counts : run->own;
    for (; pixels > 0; --pixels) {
        look_t *look = run->look;
        const uint32_t *before = run->add ? counts : run->bias;
        do {
            nibble_sums_t sums;
            look = look_up(look, &sums);
            move_sums(&sums, before, counts);
            before = counts;
        } while (look != run->end);
        if (run->sixteen) finish_counts(run->sixteen, run->odd, counts);
        if (run->counts) counts += 8;
    }
}

/* @section lookup_convolution */
/* Output rows [from, to); weights [16 output channels][ky][kx][unit][4 bits], as fill_table takes them. The table holds
   `rows` rows of a kernel at a time; where those are not all, counts of all pixels lie behind it. */
static void lookup_convolution(const binary_convolution_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t units = o->units, row_units = g->kernel_x * units, spread = g->dilation_x;
    const int32_t last = g->width - (g->kernel_x - 1) * spread, spare = 16 * units - g->channels;
    const int32_t together = spread == 1 && row_units <= MOST_UNITS, most = MOST_UNITS / (together ? row_units : units);
    const int32_t until = last > 0 ? (last + g->pad_left + g->step_x - 1) / g->step_x : 0;
    const int32_t inner = until < g->out_width ? until : g->out_width; /* columns before those at the right border */
    const uint32_t *weight = o->weight;
    int32_t first, begin, row, column, i;
    run_t run;
    for (first = 0; first < g->out_channels && from < to; first += 16)
        for (begin = 0; begin < g->kernel_y; begin += o->rows) {
            const int32_t end = begin + o->rows < g->kernel_y ? begin + o->rows : g->kernel_y;
            uint32_t *kept = o->rows < g->kernel_y ? o->scratch + o->rows * row_units * UNIT_TABLE : 0;
            fill_table(o->scratch, weight, (end - begin) * row_units);
            weight += (end - begin) * row_units * 8;
            for (row = from; row < to; ++row) {
                const int32_t top = row * g->step_y - g->pad_top;
                const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
                const int32_t y_begin = ys.first > begin ? ys.first : begin, y_end = ys.last < end ? ys.last : end;
                sixteen_t sixteen;
                begin_sixteen(&sixteen, &o->epilogue, row * g->out_width, first);
                for (column = 0; column < g->out_width;) {
                    const int32_t left = column * g->step_x - g->pad_left, whole = left >= 0 && left < last;
                    const int32_t pixels = whole && (together || kept) ? inner - column : 1;
                    const range_t xs = taps_inside(left, spread, g->kernel_x, g->width);
                    const int32_t taps = (ys.last - ys.first) * (xs.last - xs.first);
                    const int32_t missing = o->epilogue.products - taps * g->channels;
                    int32_t tap = xs.first;
                    /* Bits of a unit beyond the channels are 0 in inputs and weights, and agree. */
                    for (i = 0; i < 8; ++i) run.bias[i] = (uint32_t)((missing >> 1) - taps * spare) * 0x00010001u;
                    run.odd = missing & 1;
                    run.counts = kept;
                    do {
                        const int32_t part = together ? xs.last - tap : 1, at = left + tap * spread;
                        look_t *look = run.look;
                        for (i = y_begin; i < y_end && xs.first < xs.last; ++i, ++look) {
                            const int32_t y = ring_row(g, top + i * g->dilation_y);
                            if (i > y_begin && (i - y_begin) % most == 0) look++->units = 0;
                            look->in = o->in + (y * g->width + at) * units, look->units = part * units;
                            look->table = o->scratch + ((i - begin) * row_units + tap * units) * UNIT_TABLE;
                            look->next = 2 * g->step_x * units;
                        }
                        look->units = 0;
                        run.end = look + 1, run.add = begin > 0 || tap > xs.first;
                        tap += part;
                        run.sixteen = end == g->kernel_y && tap >= xs.last ? &sixteen : 0;
                        count_agreeing(&run, pixels);
                    } while (tap < xs.last);
                    column += pixels;
                    if (kept) kept += 8 * pixels;
                }
            }
        }
}
