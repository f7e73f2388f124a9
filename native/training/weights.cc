// Latent weights: their standardization, the gradient through the wave, the penalty on the quantization error, and
// products with the scale.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "training/vectors.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr std::int64_t kBlock = 4096;  // this many numbers are added in float; the sums of blocks in double

// x - m pi. pi is split into three parts of few bits, so that their products with m, which has few bits too, are exact.
Vector reduced(Vector x, Vector m) {
  x = multiply_subtract(m, all(3.140625f), x);
  x = multiply_subtract(m, all(9.67502593994140625e-4f), x);
  return multiply_subtract(m, all(1.509957990978376432e-7f), x);
}

// (-1)^k sin(r) for |r| <= pi / 2 and an integer k, by an odd polynomial whose coefficients were fitted to that range.
Vector signed_sine(Vector r, Vector k) {
  const Vector s = multiply(r, r);
  Vector p = all(-2.3889859e-8f);
  p = multiply_add(p, s, all(2.7525562e-6f));
  p = multiply_add(p, s, all(-1.9840874e-4f));
  p = multiply_add(p, s, all(8.3333310e-3f));
  p = multiply_add(p, s, all(-1.6666667e-1f));
  return negated_if_odd(multiply_add(multiply(p, s), r, r), k);
}

// sin(x) with an error of at most 3e-7 for |x| < 10^4.
Vector sine(Vector x) {
  const Vector k = rounded(multiply(x, all(0.318309886f)));
  return signed_sine(reduced(x, k), k);
}

// cos(x) = sin(x + pi / 2) with the same error, where x + pi / 2 = k pi + r.
Vector cosine(Vector x) {
  const Vector half = all(0.5f);
  const Vector k = rounded(multiply_add(x, all(0.318309886f), half));
  return signed_sine(reduced(x, subtract(k, half)), k);
}

// Calls work(first, lanes, block) for every sixteen numbers; `lanes` is a mask of those that exist.
template <typename F>
void each(std::int64_t count, ThreadPool& pool, F&& work) {
  pool.run(static_cast<int>((count + kBlock - 1) / kBlock), [&](int block) {
    const std::int64_t end = std::min((block + 1) * kBlock, count);
    for (std::int64_t i = block * kBlock; i < end; i += 16) work(i, first_lanes(end - i), block);
  });
}

}  // namespace

void standardize(std::int64_t groups, std::int64_t size, const float* weight, bool centred, float* standard,
                 float* inverse, ThreadPool& pool) {
  pool.run(static_cast<int>(groups), [&](int group) {
    const float* w = weight + group * size;
    float* out = standard + group * size;
    const auto each = [&](auto&& work) {
      for (std::int64_t i = 0; i < size; i += 16) work(i, first_lanes(size - i));
    };
    double total = 0, squares = 0;
    each([&](std::int64_t i, Mask lanes) { total += sum(load(w + i, lanes)); });
    const double mean = total / static_cast<double>(size);
    const Vector middle = all(static_cast<float>(mean));
    each([&](std::int64_t i, Mask lanes) {
      const Vector v = where(lanes, subtract(load(w + i, lanes), middle));
      squares += sum(multiply(v, v));
    });
    const double variance = squares / static_cast<double>(size - 1);
    const double rounding = std::numeric_limits<float>::epsilon() * mean;  // below it there is only rounding
    inverse[group] = variance > rounding * rounding ? static_cast<float>(1 / std::sqrt(variance)) : 0.0f;
    const Vector factor = all(inverse[group]);
    each([&](std::int64_t i, Mask lanes) {
      const Vector v = load(w + i, lanes);
      store(out + i, multiply(centred ? subtract(v, middle) : v, factor), lanes);
    });
  });
}

void standardize_backward(std::int64_t groups, std::int64_t size, const float* standard, const float* inverse,
                          const float* grad, bool centred, float* out, ThreadPool& pool) {
  pool.run(static_cast<int>(groups), [&](int group) {
    const std::int64_t first = group * size;
    double total = 0, gradients = 0, products = 0;
    for (std::int64_t i = 0; i < size; i += 16) {
      const Mask lanes = first_lanes(size - i);
      const Vector v = load(standard + first + i, lanes), g = load(grad + first + i, lanes);
      total += sum(v), gradients += sum(g), products += sum(multiply(g, v));
    }
    // The derivative of the deviation is v - mean(v), and that of the mean, if it is subtracted, 1 / size.
    const double slope = products / static_cast<double>(size - 1), n = static_cast<double>(size);
    const double mean = centred ? gradients / n : -slope * total / n;
    const Vector shift = all(static_cast<float>(mean)), k = all(static_cast<float>(slope));
    const Vector factor = all(inverse[group]);
    for (std::int64_t i = 0; i < size; i += 16) {
      const Mask lanes = first_lanes(size - i);
      const Vector g = subtract(load(grad + first + i, lanes), shift);
      store(out + first + i, multiply(multiply_subtract(load(standard + first + i, lanes), k, g), factor), lanes);
    }
  });
}

void wave_gradient(std::int64_t count, const float* weight, const float* grad, float frequency, float* out,
                   ThreadPool& pool) {
  const Vector f = all(frequency);
  each(count, pool, [&](std::int64_t i, Mask lanes, int) {
    const Vector slope = multiply(f, cosine(multiply(f, load(weight + i, lanes))));
    store(out + i, multiply(load(grad + i, lanes), slope), lanes);
  });
}

double squared_sines(std::int64_t count, const float* weight, float frequency, ThreadPool& pool) {
  const Vector f = all(frequency);
  std::vector<Vector> sums(static_cast<std::size_t>((count + kBlock - 1) / kBlock), zeros());
  each(count, pool, [&](std::int64_t i, Mask lanes, int block) {
    const Vector s = sine(multiply(f, load(weight + i, lanes)));  // 0 in lanes without a weight
    Vector& total = sums[static_cast<std::size_t>(block)];
    total = multiply_add(s, s, total);
  });
  double total = 0;
  for (const Vector s : sums) total += sum(s);
  return total;
}

void double_angle_sines(std::int64_t count, const float* weight, float frequency, float factor, float* out,
                        ThreadPool& pool) {
  const Vector f = all(2 * frequency), c = all(factor);
  each(count, pool, [&](std::int64_t i, Mask lanes, int) {
    const Vector s = sine(multiply(f, load(weight + i, lanes)));
    store(out + i, multiply(s, c), lanes);
  });
}

void scale_gradient(std::int64_t channels, std::int64_t size, const float* weight, const float* scale, float* gradient,
                    float* scale_gradient, ThreadPool& pool) {
  pool.run(static_cast<int>(channels), [&](int channel) {
    const float* w = weight + channel * size;
    float* g = gradient + channel * size;
    const Vector factor = all(scale[channel]);
    Vector total = zeros();
    for (std::int64_t i = 0; i < size; i += 16) {
      const Vector v = load(g + i);
      total = multiply_add(v, load(w + i), total);
      store(g + i, multiply(v, factor));
    }
    scale_gradient[channel] = static_cast<float>(sum(total));
  });
}

void scaled_weights(Type type, std::int64_t channels, std::int64_t size, const float* weight, const float* scale,
                    void* out, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    pool.run(static_cast<int>(channels), [&](int channel) {
      const Vector factor = all(scale[channel]);
      for (std::int64_t i = channel * size; i < (channel + 1) * size; i += 16)
        store(static_cast<T*>(out) + i, multiply(load(weight + i), factor));
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
