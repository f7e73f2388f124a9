// Batch norm with the residual and the clamp that follow it, in two passes forward and two backward.
#include <algorithm>
#include <vector>

#include "training/vectors.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

// How rows (pixels of samples) are divided into parts. `block` rows are added in float; the sums of blocks in double.
struct Parts {
  explicit Parts(const Shape& shape)
      : rows(shape.samples * shape.pixels), block(std::max<std::int64_t>(4096 / shape.channels, 32)) {
    const std::int64_t blocks = (rows + block - 1) / block;
    count = static_cast<int>(std::min<std::int64_t>(blocks, 64));
    per_part = (blocks + count - 1) / count * block;
  }
  std::int64_t begin(int part) const { return std::min(part * per_part, rows); }
  std::int64_t end(int part) const { return std::min((part + 1) * per_part, rows); }

  std::int64_t rows, block, per_part;
  int count;
};

// Computes two sums over all rows for each channel. accumulate(row, channel, s, q) adds sixteen channels of a row to s
// and q.
template <typename F>
void add_up(const Shape& shape, double* sums, ThreadPool& pool, F&& accumulate) {
  const Parts parts(shape);
  const std::int64_t channels = shape.channels;
  std::vector<double> partial(static_cast<std::size_t>(parts.count * 2 * channels), 0.0);
  pool.run(parts.count, [&](int part) {
    double* mine = partial.data() + part * 2 * channels;
    for (std::int64_t begin = parts.begin(part); begin < parts.end(part); begin += parts.block) {
      const std::int64_t end = std::min(begin + parts.block, parts.end(part));
      for (std::int64_t c = 0; c < channels; c += 16) {
        Vector s[4], q[4];
        for (int k = 0; k < 4; ++k) s[k] = q[k] = zeros();
        std::int64_t row = begin;
        for (; row + 4 <= end; row += 4)
          for (int k = 0; k < 4; ++k) accumulate(row + k, c, s[k], q[k]);
        for (; row < end; ++row) accumulate(row, c, s[0], q[0]);
        alignas(64) float total[32];
        store(total, add(add(s[0], s[1]), add(s[2], s[3])));
        store(total + 16, add(add(q[0], q[1]), add(q[2], q[3])));
        for (int k = 0; k < 16; ++k) mine[c + k] += total[k], mine[channels + c + k] += total[16 + k];
      }
    }
  });
  std::fill_n(sums, 2 * channels, 0.0);
  for (int part = 0; part < parts.count; ++part)
    for (std::int64_t i = 0; i < 2 * channels; ++i)
      sums[i] += partial[static_cast<std::size_t>(part * 2 * channels + i)];
}

// Calls work(row, channel) for sixteen channels of each row.
template <typename F>
void each(const Shape& shape, ThreadPool& pool, F&& work) {
  const Parts parts(shape);
  pool.run(parts.count, [&](int part) {
    for (std::int64_t row = parts.begin(part); row < parts.end(part); ++row)
      for (std::int64_t c = 0; c < shape.channels; c += 16) work(row, c);
  });
}

}  // namespace

void channel_sums(Type type, Shape shape, const void* x, double* sums, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    const T* values = static_cast<const T*>(x);
    add_up(shape, sums, pool, [&](std::int64_t row, std::int64_t c, Vector& s, Vector& q) {
      const Vector v = load(values + row * shape.channels + c);
      s = add(s, v), q = multiply_add(v, v, q);
    });
  });
}

void affine_clamp(Type type, Shape shape, const void* x, const float* multiplier, const float* offset,
                  const void* residual, float low, float high, void* out, ThreadPool& pool) {
  const Vector lowest = all(low), highest = all(high);
  with_type(type, [&]<typename T>(const T*) {
    const T* values = static_cast<const T*>(x);
    const T* more = static_cast<const T*>(residual);
    T* result = static_cast<T*>(out);
    each(shape, pool, [&](std::int64_t row, std::int64_t c) {
      const std::int64_t i = row * shape.channels + c;
      Vector v = multiply_add(load(values + i), load(multiplier + c), load(offset + c));
      if (more) v = add(v, load(more + i));
      store(result + i, smaller(highest, larger(lowest, v)));  // these return the second operand if it is NaN
    });
  });
}

void clamp_backward(Type type, Shape shape, const void* grad, const void* out, const void* x, const float* mean,
                    float low, float high, void* inner, double* sums, ThreadPool& pool) {
  const Vector lowest = all(low), highest = all(high);
  with_type(type, [&]<typename T>(const T*) {
    const T* gradients = static_cast<const T*>(grad);
    const T* clamped = static_cast<const T*>(out);
    const T* values = static_cast<const T*>(x);
    T* result = static_cast<T*>(inner);
    add_up(shape, sums, pool, [&](std::int64_t row, std::int64_t c, Vector& s, Vector& q) {
      const std::int64_t i = row * shape.channels + c;
      const Vector v = load(clamped + i);
      const Vector g = where(between(v, lowest, highest), load(gradients + i));
      s = add(s, g);
      q = multiply_add(g, subtract(load(values + i), load(mean + c)), q);
      store(result + i, g);
    });
  });
}

void norm_backward(Type type, Shape shape, const void* inner, const void* x, const float* a, const float* b,
                   const float* c, void* result, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    const T* gradients = static_cast<const T*>(inner);
    const T* values = static_cast<const T*>(x);
    T* to = static_cast<T*>(result);
    each(shape, pool, [&](std::int64_t row, std::int64_t k) {
      const std::int64_t i = row * shape.channels + k;
      const Vector v = multiply_add(load(values + i), load(b + k), load(c + k));
      store(to + i, multiply_add(load(gradients + i), load(a + k), v));
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
