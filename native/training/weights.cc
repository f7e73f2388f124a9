// Latent weights: the gradient through the wave, the penalty on the quantization error, and products with the scale.
#include <algorithm>
#include <vector>

#include "training/vectors.h"

namespace biper::training {
namespace {

constexpr std::int64_t kBlock = 4096;  // this many numbers are added in float; the sums of blocks in double

// x - m pi. pi is split into three parts of few bits, so that their products with m, which has few bits too, are exact.
__m512 reduced(__m512 x, __m512 m) {
  x = _mm512_fnmadd_ps(m, _mm512_set1_ps(3.140625f), x);
  x = _mm512_fnmadd_ps(m, _mm512_set1_ps(9.67502593994140625e-4f), x);
  return _mm512_fnmadd_ps(m, _mm512_set1_ps(1.509957990978376432e-7f), x);
}

// (-1)^k sin(r) for |r| <= pi / 2 and an integer k, by an odd polynomial whose coefficients were fitted to that range.
__m512 signed_sine(__m512 r, __m512 k) {
  const __m512 s = _mm512_mul_ps(r, r);
  __m512 p = _mm512_set1_ps(-2.3889859e-8f);
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(2.7525562e-6f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.9840874e-4f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(8.3333310e-3f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.6666667e-1f));
  const __m512i odd = _mm512_slli_epi32(_mm512_cvtps_epi32(k), 31);
  const __m512 sine = _mm512_fmadd_ps(_mm512_mul_ps(p, s), r, r);
  return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(sine), odd));
}

// sin(x) with an error of at most 3e-7 for |x| < 10^4.
__m512 sin(__m512 x) {
  const __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.318309886f)), 0);
  return signed_sine(reduced(x, k), k);
}

// cos(x) = sin(x + pi / 2) with the same error, where x + pi / 2 = k pi + r.
__m512 cos(__m512 x) {
  const __m512 half = _mm512_set1_ps(0.5f);
  const __m512 k = _mm512_roundscale_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(0.318309886f), half), 0);
  return signed_sine(reduced(x, _mm512_sub_ps(k, half)), k);
}

// Calls work(first, lanes, block) for every sixteen numbers; `lanes` is a mask of those that exist.
template <typename F>
void each(std::int64_t count, ThreadPool& pool, F&& work) {
  pool.run(static_cast<int>((count + kBlock - 1) / kBlock), [&](int block) {
    const std::int64_t end = std::min((block + 1) * kBlock, count);
    for (std::int64_t i = block * kBlock; i < end; i += 16)
      work(i, static_cast<__mmask16>(end - i >= 16 ? 0xFFFF : (1 << (end - i)) - 1), block);
  });
}

}  // namespace

void wave_gradient(std::int64_t count, const float* weight, const float* grad, float frequency, float* out,
                   ThreadPool& pool) {
  const __m512 f = _mm512_set1_ps(frequency);
  each(count, pool, [&](std::int64_t i, __mmask16 lanes, int) {
    const __m512 slope = _mm512_mul_ps(f, cos(_mm512_mul_ps(f, _mm512_maskz_loadu_ps(lanes, weight + i))));
    _mm512_mask_storeu_ps(out + i, lanes, _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, grad + i), slope));
  });
}

double squared_sines(std::int64_t count, const float* weight, float frequency, ThreadPool& pool) {
  const __m512 f = _mm512_set1_ps(frequency);
  std::vector<__m512> sums(static_cast<std::size_t>((count + kBlock - 1) / kBlock), _mm512_setzero_ps());
  each(count, pool, [&](std::int64_t i, __mmask16 lanes, int block) {
    const __m512 s = sin(_mm512_mul_ps(f, _mm512_maskz_loadu_ps(lanes, weight + i)));  // 0 in lanes without a weight
    __m512& total = sums[static_cast<std::size_t>(block)];
    total = _mm512_fmadd_ps(s, s, total);
  });
  double total = 0;
  for (const __m512 s : sums) total += sum(s);
  return total;
}

void double_angle_sines(std::int64_t count, const float* weight, float frequency, float factor, float* out,
                        ThreadPool& pool) {
  const __m512 f = _mm512_set1_ps(2 * frequency), c = _mm512_set1_ps(factor);
  each(count, pool, [&](std::int64_t i, __mmask16 lanes, int) {
    const __m512 s = sin(_mm512_mul_ps(f, _mm512_maskz_loadu_ps(lanes, weight + i)));
    _mm512_mask_storeu_ps(out + i, lanes, _mm512_mul_ps(s, c));
  });
}

void scale_gradient(std::int64_t channels, std::int64_t size, const float* weight, const float* scale, float* gradient,
                    float* scale_gradient, ThreadPool& pool) {
  pool.run(static_cast<int>(channels), [&](int channel) {
    const float* w = weight + channel * size;
    float* g = gradient + channel * size;
    const __m512 factor = _mm512_set1_ps(scale[channel]);
    __m512 total = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < size; i += 16) {
      const __m512 v = load(g + i);
      total = _mm512_fmadd_ps(v, load(w + i), total);
      store(g + i, _mm512_mul_ps(v, factor));
    }
    scale_gradient[channel] = static_cast<float>(sum(total));
  });
}

void scaled_weights(Type type, std::int64_t channels, std::int64_t size, const float* weight, const float* scale,
                    void* out, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    pool.run(static_cast<int>(channels), [&](int channel) {
      const __m512 factor = _mm512_set1_ps(scale[channel]);
      for (std::int64_t i = channel * size; i < (channel + 1) * size; i += 16)
        store(static_cast<T*>(out) + i, _mm512_mul_ps(load(weight + i), factor));
    });
  });
}

}  // namespace biper::training
