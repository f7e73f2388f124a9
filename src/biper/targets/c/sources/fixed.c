/* @section types */
/* Real values are integers, in units of 2 to the power of -exponent; biper/targets/c/fixed_point.py defines them. They
   are saturated to 16 bits and, where they are int32, to 29. */
typedef int16_t real_t;
enum { WIDE = sizeof(real_t) == 4, LARGEST = WIDE ? (1 << 28) - 1 : 32767 };
typedef int32_t sum_t;
typedef int8_t weight_t;

typedef struct {
    int32_t twice, offset; /* twice the multiplier; the offset, less `products` times the multiplier */
} affine_t;

typedef struct {
    int32_t slope, sign; /* 2^32 times the slope of PRELU; what is added to a number before its sign is taken */
} bend_t;

/* What is done to a sum, in int32 at one exponent: y = (sum + products) / 2 * twice + offset of `affine`; or else
   floor((sum << up) * multiplier / 65536), or the sum moved by `up` where there is no multiplier, + offset. Then
   + residual, activation; then moved by `down` to the exponent of the result. Bits are y + sign >= 0. */
typedef struct {
    const affine_t *affine;
    const bend_t *bend;
    const int16_t *multiplier;
    const real_t *residual;
    const int32_t *offset;
    const int32_t *ends;      /* of CLIP: low and high */
    const int32_t *threshold; /* for bits alone: sum >= threshold */
    int32_t products;         /* of signs in a sum, where no tap lies outside the image */
    real_t *real;
    uint16_t *bits;
    int16_t channels, units;                  /* units of 16 bits */
    uint16_t real_ring, residual_ring, bits_ring; /* how many pixels are kept, each where one before it lay; 0: all */
    int8_t up, residual_up, slope_up, down;
    uint8_t activation, flags; /* FLOOR: the result is not rounded to nearest but down; SHORT: it has 16 bits */
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
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP)
static int32_t scaled(int32_t x, int32_t m)
{
    __asm__("smulwb %0, %0, %1" : "+r"(x) : "r"(m));
    return x;
}
#else
static int32_t scaled(int32_t x, int32_t m) { return shifted(x, 16) * m + shifted((int32_t)((uint32_t)x & 0xffffu) * m, 16); }
#endif

/* x * 2^n, rounded where n < 0. */
static int32_t moved(int32_t x, int32_t n)
{
    return n >= 0 ? x * ((int32_t)1 << n) : shifted(x + ((int32_t)1 << (-n - 1)), -n);
}

#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT)
static real_t saturated(int32_t x)
{
    __asm__("ssat %0, %1, %0" : "+r"(x) : "i"(WIDE ? 29 : 16));
    return (real_t)x;
}
#else
static real_t saturated(int32_t x)
{
    x = x < -LARGEST - 1 ? -LARGEST - 1 : x; /* a minimum and a maximum, for which many processors have an instruction */
    x = x > LARGEST ? LARGEST : x;
    return (real_t)x;
}
#endif

/* The PRELU of a number: below 0, floor(y * slope / 2^32) times a power of 2, `up`. Where values have 16 bits, the lower
   16 bits of the slope are 0. */
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#ifdef MODEL_WIDE
#define SLOPED "smmullt"
#else
#define SLOPED "smulwtlt"
#endif
static int32_t bent(int32_t y, const bend_t *bend, int32_t up)
{
    __asm__("cmp %0, #0\n itt lt\n " SLOPED " %0, %0, %1\n lsllt %0, %0, %2"
            : "+r"(y) : "r"(bend->slope), "r"(up) : "cc");
    return y;
}
#else
static int32_t sloped(int32_t y, int32_t slope)
{
#ifdef MODEL_WIDE
    const int64_t product = (int64_t)y * slope;
    return (int32_t)(-1 >> 1 == -1 || product >= 0 ? product >> 32 : ~(~product >> 32));
#else
    return scaled(y, shifted(slope, 16));
#endif
}

static int32_t bent(int32_t y, const bend_t *bend, int32_t up)
{
    return y < 0 ? sloped(y, bend->slope) * ((int32_t)1 << up) : y;
}
#endif

static void finish(const epilogue_t *e, int32_t pixel, int32_t channel, int32_t y)
{
    if (HAS_AFFINE && e->affine) {
        y = (y + e->products) * (e->affine[channel].twice / 2) + e->affine[channel].offset;
    } else {
        y = moved(y, e->up);
        if (HAS_MULTIPLIER && e->multiplier) y = scaled(y, e->multiplier[channel]);
        if (e->offset) y += e->offset[channel];
    }
    if (e->residual) y += moved(e->residual[kept_at(pixel, e->residual_ring) * e->channels + channel], e->residual_up);
    if (HAS_CLIP && e->activation == CLIP) {
        y = y < e->ends[0] ? e->ends[0] : y;
        y = y > e->ends[1] ? e->ends[1] : y;
    } else if (HAS_RELU && e->activation == RELU) {
        if (y < 0) y = 0;
    } else if (HAS_PRELU && e->activation == PRELU) {
        y = bent(y, &e->bend[channel], e->slope_up);
    }
    if (HAS_BITS && e->bits) put_bit(e, pixel, channel, y + (HAS_BEND && e->bend ? e->bend[channel].sign : 0) >= 0);
    if (e->real) {
        y = (e->flags & FLOOR) && e->down < 0 ? shifted(y, -e->down) : moved(y, e->down);
        if (WIDE && (e->flags & SHORT)) y = y < -32768 ? -32768 : y > 32767 ? 32767 : y;
        e->real[kept_at(pixel, e->real_ring) * e->channels + channel] = saturated(y);
    }
}

/* @section sixteen */
enum { DOWN = WIDE ? 0 : 8 }; /* by how much sums of signs are moved down to a result that is finished the fast way */

/* 16 channels of a pixel, or those that there are; where they are finished the fast way, what is read and written. */
typedef struct {
    const epilogue_t *epilogue;
    int32_t pixel, first, channels, fast, one; /* one: 2^residual_up */
    const affine_t *affine;
    const bend_t *bend;
    const real_t *residual;
    real_t *real;
    uint16_t *bits;
} sixteen_t;

/* Whether 16 channels that are finished the fast way have a PRELU. */
#define IS_BENT(bend) (HAS_FAST_BEND && (HAS_FAST_STRAIGHT ? (bend) != 0 : 1))

static void begin_sixteen(sixteen_t *s, const epilogue_t *e, int32_t pixel, int32_t first)
{
    s->epilogue = e, s->pixel = pixel, s->first = first, s->one = 0;
    s->channels = e->channels - first < 16 ? e->channels - first : 16;
    s->affine = e->affine, s->bend = e->bend, s->residual = e->residual, s->real = e->real, s->bits = e->bits;
    s->fast = !(HAS_SLOW_SIGNS || HAS_SLOW_VALUES) || ((e->flags & FAST) && (!e->affine || s->channels == 16));
    if (!s->fast) return;
    s->real += kept_at(pixel, e->real_ring) * e->channels + first;
    if (s->bits) s->bits += kept_at(pixel, e->bits_ring) * e->units + (first >> 4);
    if (IS_BENT(s->bend)) s->bend += first;
    if (!e->affine) return;
    s->affine += first, s->one = (int32_t)1 << e->residual_up;
    s->residual += kept_at(pixel, e->residual_ring) * e->channels + first;
}

static void next_sixteen(sixteen_t *s)
{
    ++s->pixel;
    if (!s->fast) return;
    s->real += s->epilogue->channels;
    if (s->residual) s->residual += s->epilogue->channels;
    if (s->bits) s->bits += s->epilogue->units;
}

/* @section vectors */
/* The vector instructions of Cortex-M55 and others: 8 numbers of 16 bits, or 4 of 32. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1) && defined(__ARMEL__)
#if !defined(__clang__)
/* The other loops are short, and slower as vectors. The second option keeps them from becoming calls of a library. */
#pragma GCC optimize("no-tree-vectorize", "no-tree-loop-distribute-patterns")
#endif
#include <arm_mve.h>
#define MODEL_VECTORS
/* The PRELU of 4 numbers, and what is added to them before the sign. */
static inline int32x4_t bent_four(int32x4_t y, int32x4_t slope, int32_t up)
{
    return vpselq_s32(vshlq_r_s32(vmulhq_s32(y, slope), up), y, vcmpltq_n_s32(y, 0));
}

/* 8 values, of which `even` has every second one from the first on. */
static inline int32x4x2_t load_eight(const real_t *real)
{
#if defined(MODEL_WIDE)
    return vld2q_s32(real);
#else
    const int16x8_t values = vld1q_s16(real);
    int32x4x2_t both;
    both.val[0] = vmovlbq_s16(values), both.val[1] = vmovltq_s16(values);
    return both;
#endif
}

static inline void store_eight(real_t *real, int32x4_t even, int32x4_t odd)
{
#if defined(MODEL_WIDE)
    int32x4x2_t both;
    both.val[0] = vmaxq_s32(vminq_s32(even, vdupq_n_s32(LARGEST)), vdupq_n_s32(-LARGEST - 1));
    both.val[1] = vmaxq_s32(vminq_s32(odd, vdupq_n_s32(LARGEST)), vdupq_n_s32(-LARGEST - 1));
    vst2q_s32(real, both);
#else
    vst1q_s16(real, vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(even), even), odd));
#endif
}

/* Finishes 8 channels, of which `even` has every second one from the first on: writes `down_...`, saturated, and returns
   bit i where number i of `even` and `odd` is negative. */
static inline uint32_t finish_eight(int32x4_t even, int32x4_t odd, int32x4_t down_even, int32x4_t down_odd,
                                    real_t *real)
{
    const int16x8_t signs = vshrntq_n_s32(vshrnbq_n_s32(vreinterpretq_s16_s32(even), even, 16), odd, 16);
    const uint16x8_t places = vshlq_u16(vdupq_n_u16(1), vreinterpretq_s16_u16(vidupq_n_u16(0, 1)));
    store_eight(real, down_even, down_odd);
    return vaddvq_p_u16(places, vcmpltq_n_s16(signs, 0));
}
#endif

/* @section finish_values */
/* Finishes the channels of a pixel, whose sums are given, and goes to the next pixel of the row. */
static void finish_values(sixteen_t *s, const int32_t *sums)
{
    const epilogue_t *e = s->epilogue;
    int32_t i = s->channels;
    if (!HAS_SLOW_VALUES || s->fast) {
        const int32_t by = -e->down, half = e->flags & FLOOR ? 0 : (int32_t)1 << (by - 1);
        const bend_t *bend = s->bend;
        real_t *real = s->real + i;
        uint32_t negative = 0;
        sums += i;
#if defined(MODEL_VECTORS)
        while (i >= 8) {
            int32x4x2_t y = vld2q_s32(sums -= 8);
            int32x4_t even, odd;
            uint32_t part;
            int32_t k;
            if (IS_BENT(bend)) {
                const int32x4x4_t by_channel = vld4q_s32(&bend[i - 8].slope); /* slopes, signs; even, then odd */
                y.val[0] = bent_four(y.val[0], by_channel.val[0], e->slope_up);
                y.val[1] = bent_four(y.val[1], by_channel.val[2], e->slope_up);
                even = vshlq_r_s32(vaddq_n_s32(y.val[0], half), -by), odd = vshlq_r_s32(vaddq_n_s32(y.val[1], half), -by);
                y.val[0] = vaddq_s32(y.val[0], by_channel.val[1]), y.val[1] = vaddq_s32(y.val[1], by_channel.val[3]);
            } else {
                even = vshlq_r_s32(vaddq_n_s32(y.val[0], half), -by), odd = vshlq_r_s32(vaddq_n_s32(y.val[1], half), -by);
            }
            part = finish_eight(y.val[0], y.val[1], even, odd, real -= 8);
            i -= 8;
            for (k = 0; k < 8; ++k) MODEL_BIT(e, s->pixel, s->first + i + k, !(part >> k & 1u));
            negative = negative << 8 | part;
        }
#endif
        while (i-- > 0) {
            const int32_t y = IS_BENT(bend) ? bent(*--sums, &bend[i], e->slope_up) : *--sums;
            const int32_t sign = IS_BENT(bend) ? y + bend[i].sign : y;
            MODEL_BIT(e, s->pixel, s->first + i, sign >= 0);
            negative = negative << 1 | (uint32_t)sign >> 31;
            *--real = saturated(shifted(y + half, by));
        }
        if (s->bits) *s->bits = (uint16_t)(~negative & ((1u << s->channels) - 1u));
    } else {
        for (i = 0; i < s->channels; ++i) finish(e, s->pixel, s->first + i, sums[i]);
    }
    next_sixteen(s);
}

/* @section finish_counts */
#if defined(MODEL_VECTORS)
static inline int32x4_t down_four(int32x4_t y, int32_t half)
{
#if defined(MODEL_WIDE)
    (void)half;
    return y;
#else
    return vshrq_n_s32(vaddq_n_s32(y, half), DOWN);
#endif
}
#elif defined(__GNUC__) && defined(__ARM_FEATURE_SAT) && !defined(MODEL_WIDE)
static real_t saturated_down(int32_t y)
{
    int32_t x;
    __asm__("ssat %0, #16, %1, asr %2" : "=r"(x) : "r"(y), "i"(DOWN));
    return (real_t)x;
}
#else
static real_t saturated_down(int32_t y) { return saturated(shifted(y, DOWN)); }
#endif

/* Finishes the channels, and goes to the next pixel of the row; see `finish_each` for the counts. */
static void finish_counts(sixteen_t *s, int32_t odd, const uint32_t *counts)
{
    const epilogue_t *e = s->epilogue;
    if (!HAS_SLOW_SIGNS || (s->fast && odd == 0)) {
        const int32_t half = HAS_ROUNDED_COUNTS && DOWN > 0 && !(e->flags & FLOOR) ? 1 << DOWN >> 1 : 0, one = s->one;
        const int32_t slope_up = e->slope_up;
        const affine_t *affine = s->affine;
        const bend_t *bend = s->bend;
        const real_t *residual = s->residual;
        real_t *real = s->real;
        uint32_t negative = 0;
        int32_t i;
        (void)bend, (void)slope_up;
#if defined(MODEL_VECTORS)
        for (i = 0; i < 16; ++i)
            MODEL_SUM(e, s->pixel, s->first + i, 2 * (int32_t)(counts[i / 2] >> 16 * (i & 1) & 0xffffu) - e->products);
        for (i = 0; i < 16; i += 8) {
            const uint16x8_t count = vreinterpretq_u16_u32(vld1q_u32(counts + i / 2));
            const int32x4x4_t by = vld4q_s32(&affine[i].twice); /* twice and offset of even channels, then of odd ones */
            const int32x4x2_t more = load_eight(residual + i);
            int32x4_t even = vaddq_s32(vmulq_s32(vreinterpretq_s32_u32(vmovlbq_u16(count)), by.val[0]), by.val[1]);
            int32x4_t odd = vaddq_s32(vmulq_s32(vreinterpretq_s32_u32(vmovltq_u16(count)), by.val[2]), by.val[3]);
            even = vmlaq_n_s32(even, more.val[0], one), odd = vmlaq_n_s32(odd, more.val[1], one);
            if (IS_BENT(bend)) {
                const int32x4x4_t by_channel = vld4q_s32(&bend[i].slope); /* slopes, signs; even, then odd */
                even = bent_four(even, by_channel.val[0], slope_up), odd = bent_four(odd, by_channel.val[2], slope_up);
                negative |= finish_eight(vaddq_s32(even, by_channel.val[1]), vaddq_s32(odd, by_channel.val[3]),
                                         down_four(even, half),
                                         down_four(odd, half), real + i)
                            << i;
            } else {
                negative |= finish_eight(even, odd, down_four(even, half),
                                         down_four(odd, half), real + i)
                            << i;
            }
        }
        for (i = 0; i < 16; ++i) MODEL_BIT(e, s->pixel, s->first + i, !(negative >> i & 1u));
#elif defined(__SSE2__) || defined(__aarch64__) /* loops that compilers turn into instructions of several numbers */
        static const uint32_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
        int32_t y[16];
        for (i = 0; i < 8; ++i) y[2 * i] = (int32_t)(counts[i] & 0xffffu), y[2 * i + 1] = (int32_t)(counts[i] >> 16);
        for (i = 0; i < 16; ++i) MODEL_SUM(e, s->pixel, s->first + i, 2 * y[i] - e->products);
        for (i = 0; i < 16; ++i) y[i] = y[i] * affine[i].twice + affine[i].offset + residual[i] * one;
        if (IS_BENT(bend)) {
            for (i = 0; i < 16; ++i) y[i] = bent(y[i], &bend[i], slope_up);
            for (i = 0; i < 16; ++i) MODEL_BIT(e, s->pixel, s->first + i, y[i] + bend[i].sign >= 0);
            for (i = 0; i < 16; ++i) negative |= y[i] + bend[i].sign < 0 ? places[i] : 0u;
        } else {
            for (i = 0; i < 16; ++i) MODEL_BIT(e, s->pixel, s->first + i, y[i] >= 0);
            for (i = 0; i < 16; ++i) negative |= y[i] < 0 ? places[i] : 0u;
        }
        for (i = 0; i < 16; ++i) real[i] = saturated_down(y[i] + half);
#else
#define FINISH(at, count)                                                                                            \
    do {                                                                                                             \
        int32_t y = (int32_t)(count) * affine[at].twice + affine[at].offset + residual[at] * one, sign;              \
        if (IS_BENT(bend)) y = bent(y, &bend[at], slope_up), sign = y + bend[at].sign;                               \
        else sign = y;                                                                                               \
        MODEL_SUM(e, s->pixel, s->first + (at), 2 * (int32_t)(count) - e->products);                                 \
        MODEL_BIT(e, s->pixel, s->first + (at), sign >= 0);                                                          \
        negative = negative << 1 | (uint32_t)sign >> 31;                                                             \
        real[at] = saturated_down(y + half);                                                                         \
    } while (0)
        for (i = 12, counts += 8; i >= 0; i -= 4) {
            const uint32_t b = *--counts, a = *--counts;
            FINISH(i + 3, b >> 16);
            FINISH(i + 2, b & 0xffffu);
            FINISH(i + 1, a >> 16);
            FINISH(i, a & 0xffffu);
        }
#undef FINISH
#endif
        if (s->bits) *s->bits = (uint16_t)~negative;
    } else {
        finish_each(e, s->pixel, s->first, odd, counts);
    }
    next_sixteen(s);
}

/* @section products */
/* sum + the products of numbers and weights, which fits into 32 bits. Cortex-M4 and others add two products of 16 bits in
   one instruction; on the way there, sums may go beyond 32 bits and come back. */
static int32_t with_products(int32_t sum, const real_t *x, const weight_t *w, int32_t count)
{
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__ARMEL__) && !defined(MODEL_WIDE)
    for (; count >= 4; count -= 4, x += 4, w += 4) {
        uint32_t first, second, even, odd; /* numbers 0 and 1, 2 and 3; weights 0 and 2, 1 and 3 */
        __builtin_memcpy(&first, x, 4);
        __builtin_memcpy(&second, x + 2, 4);
        __builtin_memcpy(&even, w, 4);
        if (sizeof(weight_t) == 1) {
            uint32_t of_even, of_odd;
            __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(even));
            __asm__("sxtb16 %0, %0" : "+r"(even));
            __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(of_even) : "r"(first), "r"(second));
            __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(of_odd) : "r"(second), "r"(first));
            first = of_even, second = of_odd;
        } else {
            __builtin_memcpy(&odd, w + 2, 4);
        }
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(first), "r"(even));
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(second), "r"(odd));
    }
#endif
    for (; count > 0; --count) sum += *x++ * *w++;
    return sum;
}

/* @section pool */
typedef struct {
    const real_t *in;
    uint8_t maximum;
    const int16_t *row_factor, *column_factor; /* of the sums of cut windows; null where none is cut */
    geometry_t geometry;
    epilogue_t epilogue;
} pool_t;

#define ADD(sum, x) (sum) += (x)
#define RAISE(sum, x) (sum) = (x) > (sum) ? (x) : (sum)
#define EACH_TAP                                                                                                   \
    for (ky = ys.first; ky < ys.last; ++ky)                                                                        \
        for (in = o->in + (ring_row(g, top + ky) * g->width + left + xs.first) * channels + channel, kx = columns; \
             kx > 0; --kx, in += channels)

static void pool(const pool_t *o, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t channels = g->channels, maximum = HAS_MAXIMUM && (!HAS_AVERAGE || o->maximum);
    int32_t row, column, first, channel, ky, kx;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, 1, g->kernel_y, g->height);
        for (first = 0; first < channels; first += 16) {
            sixteen_t sixteen;
            begin_sixteen(&sixteen, &o->epilogue, row * g->out_width, first);
            for (column = 0; column < g->out_width; ++column) {
                const int32_t left = column * g->step_x - g->pad_left, end = first + sixteen.channels;
                const range_t xs = taps_inside(left, 1, g->kernel_x, g->width);
                const int32_t columns = xs.last - xs.first;
                int32_t sums[16], *sum = sums;
                const real_t *in;
                for (channel = first; channel < end; channel += 4, sum += 4) {
                    int32_t s0 = maximum ? -LARGEST - 1 : 0, s1 = s0, s2 = s0, s3 = s0;
                    for (; HAS_REST && end - channel < 4 && channel < end; ++channel, *sum++ = s0, s0 = s1) {
                        if (maximum) EACH_TAP RAISE(s0, *in);
                        else EACH_TAP ADD(s0, *in);
                    }
                    if (HAS_REST && channel == end) break;
                    if (maximum) EACH_TAP RAISE(s0, in[0]), RAISE(s1, in[1]), RAISE(s2, in[2]), RAISE(s3, in[3]);
                    else EACH_TAP ADD(s0, in[0]), ADD(s1, in[1]), ADD(s2, in[2]), ADD(s3, in[3]);
                    sum[0] = s0, sum[1] = s1, sum[2] = s2, sum[3] = s3;
                }
                if (HAS_CUT && o->row_factor)
                    for (channel = 0; channel < sixteen.channels; ++channel)
                        sums[channel] *= (int32_t)o->row_factor[row] * o->column_factor[column];
                finish_values(&sixteen, sums);
            }
        }
    }
}

/* @section pixel_convolution */
typedef struct {
    const int32_t *weight;  /* [4 output channels][ky][kx][channel][output channel] */
    const int32_t *offset;  /* what all taps add, and the offset of an output */
    const int32_t *missing; /* [ky][kx][output channel]: what a tap outside the image adds */
    uint8_t *window;        /* what a pixel reads: [ky][kx][channel], 0 outside the image */
    geometry_t geometry;
    epilogue_t epilogue;
} pixel_convolution_t;

static void copy_window(const pixel_convolution_t *o, const uint8_t *input, int32_t top, int32_t left, range_t ys, range_t xs)
{
    const geometry_t *g = &o->geometry;
    const int32_t side_by_side = g->dilation_x == 1 ? xs.last - xs.first : 1, run = side_by_side * g->channels;
    uint8_t *to = o->window, *end;
    int32_t ky, kx;
    for (ky = 0; ky < g->kernel_y; ++ky) {
        const int32_t row = (top + ky * g->dilation_y) * g->width + left, seen = ky >= ys.first && ky < ys.last;
        uint8_t *const begin = to;
        for (end = begin + xs.first * g->channels; to < end;) *to++ = 0;
        for (kx = xs.first; kx < xs.last && seen; kx += side_by_side) {
            const uint8_t *in = input + (row + kx * g->dilation_x) * g->channels;
            for (end = to + run; to < end;) *to++ = *in++;
        }
        for (end = begin + g->kernel_x * g->channels; to < end;) *to++ = 0;
    }
}

/* Adds the products of numbers of the image, `in` to `end`, and of weights to the sums of four output channels. They fit
   into 32 bits; on the way to them, terms may go beyond and come back. */
static void add_products(const uint8_t *in, const uint8_t *end, int32_t many, const int32_t *w, int32_t *sums)
{
#if defined(MODEL_VECTORS)
    int32x4_t sum = vld1q_s32(sums);
    for (; many >= 3; many -= 3, in += 3, w += 12) {
        sum = vmlaq_n_s32(sum, vld1q_s32(w), in[0]);
        sum = vmlaq_n_s32(sum, vld1q_s32(w + 4), in[1]);
        sum = vmlaq_n_s32(sum, vld1q_s32(w + 8), in[2]);
    }
    for (; in < end; ++in, w += 4) sum = vmlaq_n_s32(sum, vld1q_s32(w), *in);
    vst1q_s32(sums, sum);
#else
    uint32_t s0 = (uint32_t)sums[0], s1 = (uint32_t)sums[1], s2 = (uint32_t)sums[2], s3 = (uint32_t)sums[3];
#if defined(__GNUC__) && defined(__OPTIMIZE__) && defined(__thumb2__)
    const uint8_t *threes = end - many % 3;
    uint32_t x, v0, v1;
#define PRODUCTS                                                                                                    \
    "ldrb %[x], [%[in]], #1\n ldrd %[v0], %[v1], [%[w]], #8\n mla %[s0], %[x], %[v0], %[s0]\n"                      \
    "mla %[s1], %[x], %[v1], %[s1]\n ldrd %[v0], %[v1], [%[w]], #8\n mla %[s2], %[x], %[v0], %[s2]\n"              \
    "mla %[s3], %[x], %[v1], %[s3]\n"
    __asm__("b 2f\n1: " PRODUCTS PRODUCTS PRODUCTS "2: cmp %[in], %[threes]\n blo 1b\n b 4f\n"
            "3: " PRODUCTS "4: cmp %[in], %[end]\n blo 3b\n"
            : [in] "+r"(in), [w] "+r"(w), [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [x] "=&r"(x),
              [v0] "=&r"(v0), [v1] "=&r"(v1)
            : [threes] "r"(threes), [end] "r"(end)
            : "cc", "memory");
#else
    (void)many;
    for (; in < end; ++in, w += 4) {
        const uint32_t x = *in;
        s0 += x * (uint32_t)w[0], s1 += x * (uint32_t)w[1], s2 += x * (uint32_t)w[2], s3 += x * (uint32_t)w[3];
    }
#endif
    sums[0] = (int32_t)s0, sums[1] = (int32_t)s1, sums[2] = (int32_t)s2, sums[3] = (int32_t)s3;
#endif
}

static void pixel_convolution(const pixel_convolution_t *o, const uint8_t *input, int32_t from, int32_t to)
{
    const geometry_t *g = &o->geometry;
    const int32_t size = g->kernel_y * g->kernel_x, products = size * g->channels;
    int32_t row, column, first, i, ky, kx;
    for (row = from; row < to; ++row) {
        const int32_t top = row * g->step_y - g->pad_top;
        const range_t ys = taps_inside(top, g->dilation_y, g->kernel_y, g->height);
        for (first = 0; first < g->out_channels; first += 16) {
            sixteen_t sixteen;
            begin_sixteen(&sixteen, &o->epilogue, row * g->out_width, first);
            for (column = 0; column < g->out_width; ++column) {
                const int32_t left = column * g->step_x - g->pad_left;
                const range_t xs = taps_inside(left, g->dilation_x, g->kernel_x, g->width);
                const int32_t whole = (ys.last - ys.first) * (xs.last - xs.first) == size;
                int32_t sums[16];
                copy_window(o, input, top, left, ys, xs);
                for (i = 0; i < sixteen.channels; ++i) sums[i] = o->offset[first + i];
                for (; i & 3; ++i) sums[i] = 0;
                for (i = 0; i < sixteen.channels; i += 4)
                    add_products(o->window, o->window + products, products, o->weight + (first + i) * products, sums + i);
                for (ky = whole ? g->kernel_y : 0; ky < g->kernel_y; ++ky)
                    for (kx = 0; kx < g->kernel_x; ++kx) {
                        const int32_t *missing = o->missing + (ky * g->kernel_x + kx) * g->out_channels + first;
                        if (ky >= ys.first && ky < ys.last && kx >= xs.first && kx < xs.last) continue;
                        for (i = 0; i < sixteen.channels; ++i) sums[i] += missing[i];
                    }
                finish_values(&sixteen, sums);
            }
        }
    }
}
