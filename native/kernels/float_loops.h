// The loops of loops.h, for the files that are compiled for an instruction set. They call functions of C instead of
// those of C++: a compiler may leave a function of C++ as it is, and link the one of one file to all.
#pragma once

#include <math.h>

#include <cstdint>
#include <type_traits>

#include "kernels/float_functions.h"
#include "kernels/kernels.h"

namespace biper {
namespace {

// A loop over the elements, made from a function of floats. The parameters are copied, so that the compiler knows that
// writing the results does not change them.
template <typename F>
void over_elements(const float* const* operands, const float* parameters, float* __restrict result, std::int64_t n) {
  if constexpr (std::is_invocable_v<F, float>) {
    const float* x = operands[0];
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i]);
  } else if constexpr (std::is_invocable_v<F, float, const float*>) {
    const float* x = operands[0];
    const float own[3] = {parameters[0], parameters[1], parameters[2]};
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i], own);
  } else if constexpr (std::is_invocable_v<F, float, float>) {
    const float *x = operands[0], *y = operands[1];
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i], y[i]);
  } else {
    const float *x = operands[0], *y = operands[1], *z = operands[2];
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i], y[i], z[i]);
  }
}

template <typename F>
constexpr FloatFunction entry(const char* name, int cost, F) {
  if constexpr (std::is_invocable_v<F, float, const float*>) return {name, 1, 3, cost, over_elements<F>};
  return {name, std::is_invocable_v<F, float> ? 1u : (std::is_invocable_v<F, float, float> ? 2u : 3u), 0, cost,
          over_elements<F>};
}

// Names, approximate vector instructions, and functions. Functions of one number with parameters take up to three.
constexpr FloatFunction kFunctions[] = {
    entry("abs", 1, [](float x) { return fabsf(x); }),
    entry("atan", 30, [](float x) { return atan_of(x); }),
    entry("bfloat16", 4, [](float x) { return x == x ? from_bfloat16(to_bfloat16(x)) : x; }),
    entry("ceil", 20, [](float x) { return ceilf(x); }),
    entry("clip", 2, [](float x, const float* p) { return clip_of(x, p[0], p[1]); }),
    entry("cos", 60, [](float x) { return cosf(x); }),
    entry("elu", 30,
          [](float x, const float* p) {
            const float below = expm1_of((x > 0 ? 0 : x) * p[2]) * (p[0] * p[1]);
            return x > 0 ? x * p[1] : below;
          }),
    entry("erf", 50, [](float x) { return erf_of(x); }),
    entry("exp", 20, [](float x) { return exp_of(x); }),
    entry("expm1", 30, [](float x) { return expm1_of(x); }),
    entry("floor", 20, [](float x) { return floorf(x); }),
    entry("gelu", 50, [](float x) { return gelu_of(x); }),
    entry("gelu_tanh", 40, [](float x) { return gelu_tanh_of(x); }),
    entry("hardsigmoid", 8, [](float x) { return hardsigmoid_of(x); }),
    entry("hardswish", 8, [](float x) { return x * hardsigmoid_of(x); }),
    entry("leaky_relu", 3, [](float x, const float* p) { return x > 0 ? x : x * p[0]; }),
    entry("log", 60, [](float x) { return logf(x); }),
    entry("log1p", 60, [](float x) { return log1pf(x); }),
    entry("mish", 30, [](float x) { return mish_of(x); }),
    entry("negative", 1, [](float x) { return -x; }),
    entry("power_by", 80, [](float x, const float* p) { return powf(x, p[0]); }),
    entry("reciprocal", 5, [](float x) { return 1.0f / x; }),
    entry("relu", 1, [](float x) { return x < 0 ? 0.0f : x; }),
    entry("round", 20, [](float x) { return nearbyintf(x); }),
    entry("rsqrt", 10, [](float x) { return 1.0f / sqrtf(x); }),
    entry("sigmoid", 25, [](float x) { return sigmoid_of(x); }),
    entry("sign", 4, [](float x) { return x > 0 ? 1.0f : (x < 0 ? -1.0f : (x == 0 ? 0.0f : x)); }),
    entry("silu", 25, [](float x) { return x * sigmoid_of(x); }),
    entry("sin", 60, [](float x) { return sinf(x); }),
    entry("softplus", 100,
          [](float x, const float* p) {
            const float scaled = x * p[0];
            return scaled > p[1] ? x : log1pf(exp_of(scaled > p[1] ? p[1] : scaled)) / p[0];
          }),
    entry("sqrt", 5, [](float x) { return sqrtf(x); }),
    entry("square", 1, [](float x) { return x * x; }),
    entry("tanh", 35, [](float x) { return tanh_of(x); }),
    entry("add", 1, [](float x, float y) { return x + y; }),
    entry("divide", 5, [](float x, float y) { return x / y; }),
    entry("equal", 2, [](float x, float y) { return x == y ? 1.0f : 0.0f; }),
    entry("greater", 2, [](float x, float y) { return x > y ? 1.0f : 0.0f; }),
    entry("greater_equal", 2, [](float x, float y) { return x >= y ? 1.0f : 0.0f; }),
    entry("less", 2, [](float x, float y) { return x < y ? 1.0f : 0.0f; }),
    entry("less_equal", 2, [](float x, float y) { return x <= y ? 1.0f : 0.0f; }),
    entry("maximum", 3, [](float x, float y) { return larger_of(x, y); }),
    entry("minimum", 3, [](float x, float y) { return smaller_of(x, y); }),
    entry("multiply", 1, [](float x, float y) { return x * y; }),
    entry("not_equal", 2, [](float x, float y) { return x != y ? 1.0f : 0.0f; }),
    entry("power", 80, [](float x, float y) { return powf(x, y); }),
    entry("subtract", 1, [](float x, float y) { return x - y; }),
    entry("select", 3, [](float x, float y, float z) { return x != 0 ? y : z; }),
};

constexpr int kParts = 8;  // partial sums of a row, which a compiler keeps in vectors

// The sum of f(x) over a row, in double precision.
template <typename F>
BIPER_INLINE double sum_of(const float* x, std::int64_t n, F f) {
  double parts[kParts] = {};
  std::int64_t i = 0;
  for (; i + kParts <= n; i += kParts)
    for (int k = 0; k < kParts; ++k) parts[k] += f(x[i + k]);
  for (; i < n; ++i) parts[0] += f(x[i]);
  for (int half = kParts / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) parts[k] += parts[k + half];
  return parts[0];
}

void normalize(const float* x, float* __restrict y, std::int64_t n, bool center, float epsilon) {
  const double share = 1.0 / static_cast<double>(n);
  const auto same = [](float value) BIPER_INLINE_LAMBDA { return static_cast<double>(value); };
  const float mean = center ? static_cast<float>(sum_of(x, n, same) * share) : 0.0f;
  const auto square = [mean](float value) BIPER_INLINE_LAMBDA {
    const double difference = static_cast<double>(value - mean);
    return difference * difference;
  };
  const float factor = 1.0f / sqrtf(static_cast<float>(sum_of(x, n, square) * share) + epsilon);
  for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor;
}

// Calls work(i) for the first element of each of the blocks of N elements that a row of n has, of which the last one
// may overlap with the one before it; or else rest(i) for each element.
template <int N, typename F, typename R>
BIPER_INLINE void by_blocks(std::int64_t n, F work, R rest) {
  if (n < N) {
    for (std::int64_t i = 0; i < n; ++i) rest(i);
    return;
  }
  for (std::int64_t i = 0; i + N < n; i += N) work(i);
  work(n - N);
}

// The largest of a row, or a NaN if one is.
float largest_of(const float* x, std::int64_t n) {
  constexpr int kMany = 32;  // so that some comparisons need not wait for others
  float parts[kMany];
  for (float& part : parts) part = -INFINITY;
  by_blocks<kMany>(
      n,
      [&](std::int64_t i) BIPER_INLINE_LAMBDA {
        for (int k = 0; k < kMany; ++k) parts[k] = larger_of(parts[k], x[i + k]);
      },
      [&](std::int64_t i) BIPER_INLINE_LAMBDA { parts[i] = x[i]; });
  for (int half = kMany / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) parts[k] = larger_of(parts[k], parts[k + half]);
  return parts[0];
}

void softmax(const float* x, float* __restrict y, std::int64_t n, bool log) {
  constexpr int kAtOnce = 16;
  const float largest = largest_of(x, n);
  const auto one = [&](std::int64_t i) BIPER_INLINE_LAMBDA { y[i] = exp_of(x[i] - largest); };
  const auto many = [&](std::int64_t i) BIPER_INLINE_LAMBDA {
    for (int k = 0; k < kAtOnce; ++k) y[i + k] = exp_of(x[i + k] - largest);
  };
  by_blocks<kAtOnce>(n, many, one);
  const auto same = [](float value) BIPER_INLINE_LAMBDA { return static_cast<double>(value); };
  const float sum = static_cast<float>(sum_of(y, n, same));
  if (log) {
    const float logarithm = logf(sum);
    for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] - largest) - logarithm;
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] /= sum;
  }
}

constexpr FloatLoops kLoops{kFunctions, sizeof(kFunctions) / sizeof(kFunctions[0]), normalize, softmax};

}  // namespace
}  // namespace biper
