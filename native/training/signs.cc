// The signs of activations, and the gradient through the signs and through the division by a
// sample's standard deviation.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "training/vectors.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

// This many values are added in float; the sums of such blocks are added in double.
constexpr std::int64_t kBlock = 4096;

template <typename T>
void signs(const Shape& shape, const T* x, const float* threshold, std::uint8_t* bits) {
  const std::int64_t groups = shape.channels / 16;
  for (std::int64_t g = 0; g < groups; ++g) {
    std::uint8_t* low = bits + 2 * g * shape.pixels;
    std::uint8_t* high = low + shape.pixels;
    const T* from = x + 16 * g;
    const Vector least = threshold ? load(threshold + 16 * g) : zeros();
    for (std::int64_t p = 0; p < shape.pixels; ++p, from += shape.channels) {
      const std::uint16_t mask = bits_of(at_least(load(from), least));
      low[p] = static_cast<std::uint8_t>(mask);
      high[p] = static_cast<std::uint8_t>(mask >> 8);
    }
  }
}

template <typename T>
void statistics_of(const Shape& shape, const T* x, float epsilon, float* statistics) {
  double total = 0, squares = 0;
  const std::int64_t n = shape.values();
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, n);
    Vector s0 = zeros(), s1 = s0, q0 = s0, q1 = s0;
    std::int64_t i = begin;
    for (; i + 32 <= end; i += 32) {
      const Vector a = load(x + i), b = load(x + i + 16);
      s0 = add(s0, a), s1 = add(s1, b);
      q0 = multiply_add(a, a, q0), q1 = multiply_add(b, b, q1);
    }
    if (i < end) {
      const Vector a = load(x + i);
      s0 = add(s0, a), q0 = multiply_add(a, a, q0);
    }
    total += sum(add(s0, s1));
    squares += sum(add(q0, q1));
  }
  const double mean = total / static_cast<double>(n);
  const double variance = std::max(squares - total * mean, 0.0) / static_cast<double>(std::max<std::int64_t>(n - 1, 1));
  statistics[0] = static_cast<float>(mean);
  statistics[1] = static_cast<float>(1 / std::sqrt(variance + epsilon));
}

template <Window W>
Vector windowed(Vector grad, Vector u) {
  const Vector size = absolute(u);
  if constexpr (W == Window::kBox) {
    return where(at_most(size, all(1)), grad);
  } else {
    const Vector triangle = multiply_subtract(all(2), size, all(2));
    return multiply(grad, larger(triangle, zeros()));
  }
}

template <Window W, typename T>
void backward(const Shape& shape, const T* x, const float* statistics, const T* to_add, T* grad) {
  const std::int64_t n = shape.values();
  float mean = 0, inverse = 1, slope = 0;
  if (statistics) {
    mean = statistics[0], inverse = statistics[1];
    const Vector r = all(inverse);
    double total = 0;
    for (std::int64_t begin = 0; begin < n; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, n);
      Vector s = zeros();
      for (std::int64_t i = begin; i < end; i += 16) {
        const Vector v = load(x + i);
        s = multiply_add(windowed<W>(load(grad + i), multiply(v, r)), v, s);
      }
      total += sum(s);
    }
    const double cube = static_cast<double>(inverse) * inverse * inverse;
    slope = static_cast<float>(total * cube / static_cast<double>(std::max<std::int64_t>(n - 1, 1)));
  }
  const Vector r = all(inverse), k = all(slope), shift = all(mean * slope);
  for (std::int64_t i = 0; i < n; i += 16) {
    const Vector v = load(x + i);
    Vector result = multiply_add(windowed<W>(load(grad + i), multiply(v, r)), r, shift);
    result = multiply_subtract(v, k, result);
    if (to_add) result = add(result, load(to_add + i));
    store(grad + i, result);
  }
}

// Adds the sums of each channel to sums, (channels,).
template <Window W, typename T>
void backward(const Shape& shape, const T* x, const float* threshold, const T* to_add, T* grad, double* sums) {
  const std::int64_t channels = shape.channels, rows = std::max<std::int64_t>(kBlock / channels, 32);
  for (std::int64_t begin = 0; begin < shape.pixels; begin += rows) {
    const std::int64_t end = std::min(begin + rows, shape.pixels);
    for (std::int64_t c = 0; c < channels; c += 16) {
      const Vector middle = load(threshold + c);
      Vector total = zeros();
      for (std::int64_t i = begin * channels + c; i < end * channels; i += channels) {
        Vector result = windowed<W>(load(grad + i), subtract(load(x + i), middle));
        total = add(total, result);
        if (to_add) result = add(result, load(to_add + i));
        store(grad + i, result);
      }
      alignas(64) float numbers[16];
      store(numbers, total);
      for (int k = 0; k < 16; ++k) sums[c + k] += numbers[k];
    }
  }
}

// Calls work.operator()<window>(n, x, to_add, grad) with what belongs to each sample n; to_add may be null.
template <typename F>
void each_sample(Type type, const Shape& shape, const void* x, Window window, const void* to_add, void* grad,
                 ThreadPool& pool, F&& work) {
  with_type(type, [&]<typename T>(const T*) {
    pool.run(static_cast<int>(shape.samples), [&](int n) {
      const std::int64_t first = n * shape.values();
      const T* values = static_cast<const T*>(x) + first;
      const T* more = to_add ? static_cast<const T*>(to_add) + first : nullptr;
      T* result = static_cast<T*>(grad) + first;
      if (window == Window::kBox)
        work.template operator()<Window::kBox>(n, values, more, result);
      else
        work.template operator()<Window::kTriangle>(n, values, more, result);
    });
  });
}

}  // namespace

void sign_forward(Type type, Shape shape, const void* x, const float* threshold, std::uint8_t* bits, float* statistics,
                  float epsilon, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    pool.run(static_cast<int>(shape.samples), [&](int n) {
      const T* sample = static_cast<const T*>(x) + n * shape.values();
      if (statistics) statistics_of(shape, sample, epsilon, statistics + 2 * n);
      signs(shape, sample, threshold, bits + n * shape.values() / 8);
    });
  });
}

void sign_backward(Type type, Shape shape, const void* x, const float* statistics, Window window, const void* to_add,
                   void* grad, ThreadPool& pool) {
  each_sample(type, shape, x, window, to_add, grad, pool, [&]<Window W>(int n, auto* values, auto* more, auto* result) {
    backward<W>(shape, values, statistics ? statistics + 2 * n : nullptr, more, result);
  });
}

void threshold_backward(Type type, Shape shape, const void* x, const float* threshold, Window window,
                        const void* to_add, void* grad, double* sums, ThreadPool& pool) {
  std::vector<double> partial(static_cast<std::size_t>(shape.samples * shape.channels), 0.0);
  each_sample(type, shape, x, window, to_add, grad, pool, [&]<Window W>(int n, auto* values, auto* more, auto* result) {
    backward<W>(shape, values, threshold, more, result, partial.data() + n * shape.channels);
  });
  std::fill_n(sums, shape.channels, 0.0);
  for (std::int64_t n = 0; n < shape.samples; ++n)
    for (std::int64_t c = 0; c < shape.channels; ++c)
      sums[c] += partial[static_cast<std::size_t>(n * shape.channels + c)];
}

}  // namespace biper::training::BIPER_TRAINING_SET
