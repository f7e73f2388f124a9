/* Features of speech in integers; mel.py says what they are and computes the same in NumPy. */
#include "mel.h"

#define MEL_TABLES
#include "tables.h"

/* floor(x / 2^n); C99 leaves it to the compiler what a shift of a negative number gives. */
static int32_t shifted(int32_t x, int n) { return -1 >> 1 == -1 || x >= 0 ? x >> n : ~(~x >> n); }

static int32_t product(int32_t x, int32_t y)
{
    const int64_t z = (int64_t)x * y;
    return (int32_t)(-1 >> 1 == -1 || z >= 0 ? z >> 15 : ~(~z >> 15));
}

static int reversed(int i)
{
    int bit, made = 0;
    for (bit = 1; bit < HALF; bit <<= 1, i >>= 1) made = made << 1 | (i & 1);
    return made;
}

static void transform(int32_t *re, int32_t *im)
{
    int size, start, i;
    for (size = 1; size < HALF; size <<= 1)
        for (start = 0; start < HALF; start += 2 * size)
            for (i = 0; i < size; ++i) {
                const int32_t cosine = cosines[i * (FRAME / (2 * size))], sine = sines[i * (FRAME / (2 * size))];
                int32_t *const a = re + start + i, *const b = im + start + i;
                const int32_t x = product(a[size], cosine) + product(b[size], sine);
                const int32_t y = product(b[size], cosine) - product(a[size], sine);
                a[size] = a[0] - x, b[size] = b[0] - y;
                a[0] += x, b[0] += y;
            }
}

static int16_t logarithm_of(uint64_t value)
{
    int highest = 0;
    uint64_t left;
    ++value;
    for (left = value >> 16; left; left >>= 16) highest += 16;
    for (left = value >> highest >> 1; left; left >>= 1) ++highest;
    return (int16_t)(32 * highest + logarithm[(highest >= 6 ? value >> (highest - 6) : value << (6 - highest)) & 63]);
}

void frame_features(const int16_t *samples, int first, int16_t *features)
{
    static int32_t re[HALF], im[HALF];
    static uint64_t bands[BANDS];
    int i;
    for (i = 0; i < FRAME; ++i) {
        const int32_t before = i == 0 && first ? 0 : samples[i - 1];
        const int32_t y = shifted((samples[i] - before + shifted(before, 5)) * hann[i], 13);
        const int place = reversed(i >> 1);
        if (i & 1)
            im[place] = y;
        else
            re[place] = y;
    }
    transform(re, im);
    for (i = 0; i < BANDS; ++i) bands[i] = 0;
    for (i = 0; i < HALF; ++i) {
        const int band_of = band[i], mirror = i ? HALF - i : 0;
        const int32_t even_re = shifted(re[i] + re[mirror], 1), even_im = shifted(im[i] - im[mirror], 1);
        const int32_t odd_re = shifted(im[i] + im[mirror], 1), odd_im = shifted(re[mirror] - re[i], 1);
        const int32_t x = even_re + product(odd_re, cosines[i]) + product(odd_im, sines[i]);
        const int32_t y = even_im + product(odd_im, cosines[i]) - product(odd_re, sines[i]);
        const uint64_t power = (uint64_t)((int64_t)x * x) + (uint64_t)((int64_t)y * y);
        if (band_of >= 0 && band_of < BANDS) bands[band_of] += power * (uint64_t)rising[i];
        if (band_of > 0) bands[band_of - 1] += power * (uint64_t)(256 - rising[i]);
    }
    for (i = 0; i < BANDS; ++i) features[i] = logarithm_of(bands[i]);
}
