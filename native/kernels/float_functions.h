// Functions of single floats, written so that a compiler can turn a loop over them into vector instructions: without
// branches, calls or tables. Their relative error is a few units of the last place, except where a comment says more.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/portability.h"

namespace biper {

BIPER_INLINE std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
BIPER_INLINE float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// The factors 2^(n / 2) and 2^(n - n / 2), whose product is 2^n, for a whole number n from -252 to 254.
struct PowerOfTwo {
  float first, second;
};

// x = n ln 2 + rest, where |rest| <= ln 2 / 2.
struct SplitExponent {
  PowerOfTwo power;
  float rest;
};

BIPER_INLINE SplitExponent split_exponent(float x) {
  constexpr float kRounds = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, which is in the low bits
  const float shifted = x * 1.44269504f + kRounds, n = shifted - kRounds;
  const std::uint32_t whole = bits_of(shifted) - bits_of(kRounds);
  const std::uint32_t half = static_cast<std::uint32_t>(static_cast<std::int32_t>(whole) >> 1);
  const float rest = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  return {{float_of((half + 127u) << 23), float_of((whole - half + 127u) << 23)}, rest};
}

// exp(r) - 1 for |r| <= ln 2 / 2, by its Taylor series.
BIPER_INLINE float small_expm1(float r) {
  const float tail = 1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040))));
  return r + r * r * (0.5f + r * tail);
}

BIPER_INLINE float exp_of(float x) {
  const float low = x < -104.0f ? -104.0f : x, limited = low > 89.0f ? 89.0f : low;  // a NaN stays
  const SplitExponent s = split_exponent(limited);
  return (small_expm1(s.rest) + 1.0f) * s.power.first * s.power.second;
}

BIPER_INLINE float expm1_of(float x) {
  const float low = x < -40.0f ? -40.0f : x, limited = low > 80.0f ? 80.0f : low;
  const SplitExponent s = split_exponent(limited);
  const float power = s.power.first * s.power.second;
  const float result = small_expm1(s.rest) * power + (power - 1.0f);
  return x > 80.0f ? exp_of(x) : result;
}

BIPER_INLINE float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }

BIPER_INLINE float tanh_of(float x) {
  const float size = x < 0 ? -x : x, limited = size > 10.0f ? 10.0f : size;
  const float e = expm1_of(2.0f * limited), result = e / (e + 2.0f);
  return x < 0 ? -result : result;
}

// Up to |x| = 1 by the Taylor series. Above, erfc(x) is exp(-x^2) times a polynomial in 1 / (1 + x / 2), which was
// fitted to it; the absolute error of the fit is 5e-9.
BIPER_INLINE float erf_of(float x) {
  const float y = x * x;
  float series = -1.0f / 6894720 + y * (1.0f / 76204800);
  series = 1.0f / 685440 + y * series;
  series = -1.0f / 75600 + y * series;
  series = 1.0f / 9360 + y * series;
  series = -1.0f / 1320 + y * series;
  series = 1.0f / 216 + y * series;
  series = -1.0f / 42 + y * series;
  series = 1.0f / 10 + y * series;
  series = -1.0f / 3 + y * series;
  const float near = 1.12837917f * (x + x * y * series);
  const float size = x < 0 ? -x : x, t = 1.0f / (1.0f + 0.5f * size);
  float fit = 0.564688068f + t * -0.204457454f;
  fit = 0.0132725505f + t * fit;
  fit = 0.35544191f + t * fit;
  fit = 0.270511849f + t * fit;
  fit = 0.000716680985f + t * fit;
  const float far = 1.0f - exp_of(-y) * fit;
  return size < 1.0f ? near : (x < 0 ? -far : far);
}

BIPER_INLINE float gelu_of(float x) { return x * (1.0f + erf_of(x * 0.707106781f)) / 2.0f; }

BIPER_INLINE float gelu_tanh_of(float x) {
  return x * (1.0f + tanh_of(0.797884561f * (x + 0.044715f * x * x * x))) / 2.0f;
}

// x tanh(log(1 + e)) = x (e^2 + 2 e) / (e^2 + 2 e + 2), e = exp(x).
BIPER_INLINE float mish_of(float x) {
  const float e = exp_of(x > 20.0f ? 20.0f : x), square = e * (e + 2.0f);
  return x * (square / (square + 2.0f));
}

BIPER_INLINE float clip_of(float x, float low, float high) {
  const float above = x < low ? low : x;
  return above > high ? high : above;
}

BIPER_INLINE float hardsigmoid_of(float x) { return clip_of(x + 3.0f, 0.0f, 6.0f) / 6.0f; }

// By a polynomial up to tan(pi / 8), which was fitted to the function; the absolute error of the fit is 2e-8. Larger
// numbers are turned by an eighth or a quarter of a circle.
BIPER_INLINE float atan_of(float x) {
  const float size = x < 0 ? -x : x;
  const float eighth = (size - 1.0f) / (size + 1.0f), quarter = -1.0f / (size > 1.0f ? size : 1.0f);
  const float r = size > 2.41421356f ? quarter : (size > 0.414213562f ? eighth : size), y = r * r;
  const float turn = size > 2.41421356f ? 1.57079633f : (size > 0.414213562f ? 0.785398163f : 0.0f);
  float fit = -0.138799384f + y * 0.0806054473f;
  fit = 0.199779361f + y * fit;
  fit = -0.333329558f + y * fit;
  const float result = turn + (r + r * y * fit);
  return x < 0 ? -result : result;
}

// The larger or the smaller of two numbers, or a NaN if one is.
BIPER_INLINE float larger_of(float a, float b) { return a > b || a != a ? a : b; }
BIPER_INLINE float smaller_of(float a, float b) { return a < b || a != a ? a : b; }

}  // namespace biper
