/* @section trace */
/* Tests define these to record every integer sum of a binary convolution and every bit, with where they belong. */
#ifndef MODEL_SUM
#define MODEL_SUM(epilogue, pixel, channel, sum) ((void)0)
#endif
#ifndef MODEL_BIT
#define MODEL_BIT(epilogue, pixel, channel, bit) ((void)0)
#endif

/* @section put_bit */
/* The bits of a pixel are written from channel 0 up; the first bit of a unit of 16 clears the unit. */
static void put_bit(const epilogue_t *e, int32_t pixel, int32_t channel, uint32_t bit)
{
    uint16_t *unit = e->bits + PLACE(pixel, e->bits_ring) * e->units + (channel >> 4);
    MODEL_BIT(e, pixel, channel, bit);
    *unit = (uint16_t)((channel & 15 ? *unit : 0u) | bit << (channel & 15));
}

/* @section finish_sum */
static void finish_sum(const epilogue_t *e, int32_t pixel, int32_t channel, int32_t sum)
{
    MODEL_SUM(e, pixel, channel, sum);
    if (HAS_THRESHOLD && e->threshold) put_bit(e, pixel, channel, sum >= e->threshold[channel]);
    else finish(e, pixel, channel, (sum_t)sum);
}

/* @section finish_each */
/* Finishes 16 channels of a pixel, or those that there are, one by one. `counts` has two channels in a word: how many
   products of a sum are 1, where every second product outside the image is taken to be 1, and every other to be -1. Their
   number may be odd: a sum is 2 * count - products + odd. */
static void finish_each(const epilogue_t *e, int32_t pixel, int32_t first, int32_t odd, const uint32_t *counts)
{
    const int32_t channels = e->channels - first < 16 ? e->channels - first : 16, less = e->products - odd;
    uint32_t positive = 0;
    int32_t i;
    if (!HAS_THRESHOLD || !e->threshold) {
        for (i = 0; i < channels; ++i)
            finish_sum(e, pixel, first + i, 2 * (int32_t)(counts[i >> 1] >> 16 * (i & 1) & 0xffffu) - less);
        return;
    }
    for (i = channels; i-- > 0;) {
        const int32_t sum = 2 * (int32_t)(counts[i >> 1] >> 16 * (i & 1) & 0xffffu) - less;
        MODEL_SUM(e, pixel, first + i, sum);
        MODEL_BIT(e, pixel, first + i, sum >= e->threshold[first + i]);
        positive = positive << 1 | (uint32_t)(sum >= e->threshold[first + i]);
    }
    e->bits[PLACE(pixel, e->bits_ring) * e->units + (first >> 4)] = (uint16_t)positive;
}

/* @section popcount */
/* How many bits of a word are 1. Define MODEL_POPCOUNT where the processor has an instruction for it, and
   MODEL_POPCOUNT64 where that takes words of 64 bits. */
#if !defined(MODEL_POPCOUNT) && defined(__GNUC__) && (defined(__POPCNT__) || defined(__riscv_zbb))
#define MODEL_POPCOUNT(word) __builtin_popcount(word)
#if defined(__x86_64__) || (defined(__riscv_xlen) && __riscv_xlen == 64)
#define MODEL_POPCOUNT64(word) __builtin_popcountll(word)
#endif
#endif

/* @section count */
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

/* @section count_masked */
/* The same for the bits that are 1 in a mask. */
#ifndef MODEL_POPCOUNT
static int32_t count_masked(const uint32_t *x, const uint32_t *w, const uint32_t *mask, int32_t words)
{
    int32_t i, count = 0;
    for (i = 0; i < words; ++i) {
        const uint32_t seen = x[i] & mask[i], wanted = w[i] & mask[i];
        count += count_differing(&seen, &wanted, 1);
    }
    return count;
}
#endif

/* @section count_four */
/* How many bits of a window differ from the weights of four output channels, or of `channels` if those are fewer; with a
   mask, of the bits that are 1 in it. Returns where the weights of the channels after these are. */
#ifdef MODEL_POPCOUNT
/* Weights [4 output channels][two words][channel][word], and last [channel] where the number of words is odd. */
#define COUNT_WORD(w, KEPT) (uint32_t)MODEL_POPCOUNT((x[0] ^ (w)[0]) KEPT(mask[0]))
#ifdef MODEL_POPCOUNT64
#define PAIR(words) ((words)[0] | (uint64_t)(words)[1] << 32)
#define COUNT_PAIR(w, KEPT) (uint32_t)MODEL_POPCOUNT64((PAIR(x) ^ PAIR(w)) KEPT(PAIR(mask)))
#else
#define COUNT_PAIR(w, KEPT) (COUNT_WORD(w, KEPT) + (uint32_t)MODEL_POPCOUNT((x[1] ^ (w)[1]) KEPT(mask[1])))
#endif
#define EVERY(mask)
#define MASKED(mask) & (mask)
#define COUNT_FOUR(COUNT, step, KEPT) \
    c0 += COUNT(w, KEPT), c1 += COUNT(w + step, KEPT), c2 += COUNT(w + 2 * step, KEPT), c3 += COUNT(w + 3 * step, KEPT)
static const uint32_t *count_four(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
                                  int32_t channels, uint32_t *differing)
{
    uint32_t c0 = 0, c1 = 0, c2 = 0, c3 = 0;
    (void)channels;
    if (mask) {
        for (; words > 1; words -= 2, x += 2, mask += 2, w += 8) COUNT_FOUR(COUNT_PAIR, 2, MASKED);
        if (words > 0) COUNT_FOUR(COUNT_WORD, 1, MASKED);
    } else {
        for (; words > 1; words -= 2, x += 2, w += 8) COUNT_FOUR(COUNT_PAIR, 2, EVERY);
        if (words > 0) COUNT_FOUR(COUNT_WORD, 1, EVERY);
    }
    differing[0] = c0, differing[1] = c1, differing[2] = c2, differing[3] = c3;
    return w + 4 * words;
}
#else
/* Weights [output channel][word]. */
static const uint32_t *count_four(const uint32_t *x, const uint32_t *mask, const uint32_t *w, int32_t words,
                                  int32_t channels, uint32_t *differing)
{
    int32_t i;
    for (i = 0; i < 4 && i < channels; ++i, w += words)
        differing[i] = (uint32_t)(mask ? count_masked(x, w, mask, words) : count_differing(x, w, words));
    for (; i < 4; ++i) differing[i] = 0;
    return w;
}
#endif
