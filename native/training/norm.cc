// Batch norm with the residual and the activation that follow it, in two passes forward and two backward.
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

// Some sums of sixteen channels each.
template <int N>
using Sums = Vector[N];

// The functions below take at(channel), which loads what sixteen channels share and returns the work on one row of
// them: work(index of the first value). They copy it, because the compiler keeps the members of a copy in registers; a
// store could change those of an object that others know.

// Computes N sums over all rows for each channel: sums of (N, channels). Work is work(index, into) here, and adds to N
// vectors. Lanes of rows take turns, so that additions need not wait for each other.
template <int N, typename F>
void add_up(const Shape& shape, double* sums, ThreadPool& pool, const F& at) {
  constexpr int kLanes = N > 2 ? 2 : 4;
  const Parts parts(shape);
  const std::int64_t channels = shape.channels;
  std::vector<double> partial(static_cast<std::size_t>(parts.count * N * channels), 0.0);
  pool.run(parts.count, [&](int part) {
    const F mine_at = at;
    double* mine = partial.data() + part * N * channels;
    for (std::int64_t begin = parts.begin(part); begin < parts.end(part); begin += parts.block) {
      const std::int64_t end = std::min(begin + parts.block, parts.end(part));
      for (std::int64_t c = 0; c < channels; c += 16) {
        const auto work = mine_at(c);
        Sums<N> lanes[kLanes];
        for (auto& lane : lanes)
          for (Vector& v : lane) v = zeros();
        std::int64_t row = begin;
        for (; row + kLanes <= end; row += kLanes)
          for (int k = 0; k < kLanes; ++k) work((row + k) * channels + c, lanes[k]);
        for (; row < end; ++row) work(row * channels + c, lanes[0]);
        for (int n = 0; n < N; ++n) {
          Vector total = add(lanes[0][n], lanes[1][n]);
          if constexpr (kLanes == 4) total = add(total, add(lanes[2][n], lanes[3][n]));
          alignas(64) float numbers[16];
          store(numbers, total);
          for (int k = 0; k < 16; ++k) mine[n * channels + c + k] += numbers[k];
        }
      }
    }
  });
  std::fill_n(sums, N * channels, 0.0);
  for (int part = 0; part < parts.count; ++part)
    for (std::int64_t i = 0; i < N * channels; ++i)
      sums[i] += partial[static_cast<std::size_t>(part * N * channels + i)];
}

// Works on all rows of all channels.
template <typename F>
void each(const Shape& shape, ThreadPool& pool, const F& at) {
  const Parts parts(shape);
  const std::int64_t channels = shape.channels;
  pool.run(parts.count, [&](int part) {
    const F mine_at = at;
    for (std::int64_t begin = parts.begin(part); begin < parts.end(part); begin += parts.block) {
      const std::int64_t end = std::min(begin + parts.block, parts.end(part));
      for (std::int64_t c = 0; c < channels; c += 16) {
        const auto work = mine_at(c);
        for (std::int64_t i = begin * channels + c; i < end * channels + c; i += channels) work(i);
      }
    }
  });
}

}  // namespace

void channel_sums(Type type, Shape shape, const void* x, double* sums, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    const T* values = static_cast<const T*>(x);
    add_up<2>(shape, sums, pool, [=](std::int64_t) {
      return [=](std::int64_t i, Sums<2>& into) {
        const Vector v = load(values + i);
        into[0] = add(into[0], v), into[1] = multiply_add(v, v, into[1]);
      };
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
    each(shape, pool, [=](std::int64_t c) {
      const Vector m = load(multiplier + c), o = load(offset + c);
      return [=](std::int64_t i) {
        Vector v = multiply_add(load(values + i), m, o);
        if (more) v = add(v, load(more + i));
        store(result + i, smaller(highest, larger(lowest, v)));  // these return the second operand if it is NaN
      };
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
    add_up<2>(shape, sums, pool, [=](std::int64_t c) {
      const Vector middle = load(mean + c);
      return [=](std::int64_t i, Sums<2>& into) {
        const Vector g = where(between(load(clamped + i), lowest, highest), load(gradients + i));
        into[0] = add(into[0], g);
        into[1] = multiply_add(g, subtract(load(values + i), middle), into[1]);
        store(result + i, g);
      };
    });
  });
}

void affine_rprelu(Type type, Shape shape, const void* x, const float* multiplier, const float* offset,
                   const void* residual, const float* slope, const float* shift_out, void* out, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    const T* values = static_cast<const T*>(x);
    const T* more = static_cast<const T*>(residual);
    T* result = static_cast<T*>(out);
    each(shape, pool, [=](std::int64_t c) {
      const Vector m = load(multiplier + c), o = load(offset + c), b = load(slope + c), shift = load(shift_out + c);
      return [=](std::int64_t i) {
        Vector u = multiply_add(load(values + i), m, o);
        if (more) u = add(u, load(more + i));
        const Vector above = larger(zeros(), u), below = smaller(zeros(), u);  // both are NaN if u is
        store(result + i, add(above, multiply_add(below, b, shift)));
      };
    });
  });
}

void rprelu_backward(Type type, Shape shape, const void* grad, const void* x, const float* multiplier,
                     const float* offset, const void* residual, const float* slope, const float* mean, void* inner,
                     double* sums, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    const T* gradients = static_cast<const T*>(grad);
    const T* values = static_cast<const T*>(x);
    const T* more = static_cast<const T*>(residual);
    T* result = static_cast<T*>(inner);
    add_up<4>(shape, sums, pool, [=](std::int64_t c) {
      const Vector m = load(multiplier + c), o = load(offset + c), middle = load(mean + c);
      const Vector less = subtract(load(slope + c), all(1));
      return [=](std::int64_t i, Sums<4>& into) {
        const Vector v = load(values + i), g = load(gradients + i);
        Vector u = multiply_add(v, m, o);
        if (more) u = add(u, load(more + i));
        const Vector below = where(at_most(u, zeros()), g);
        const Vector h = multiply_add(below, less, g);
        into[0] = add(into[0], h);
        into[1] = multiply_add(h, subtract(v, middle), into[1]);
        into[2] = add(into[2], g);
        into[3] = multiply_add(below, u, into[3]);
        store(result + i, h);
      };
    });
  });
}

void norm_backward(Type type, Shape shape, const void* inner, const void* x, const float* a, const float* b,
                   const float* c, void* result, ThreadPool& pool) {
  with_type(type, [&]<typename T>(const T*) {
    const T* gradients = static_cast<const T*>(inner);
    const T* values = static_cast<const T*>(x);
    T* to = static_cast<T*>(result);
    each(shape, pool, [=](std::int64_t k) {
      const Vector by_grad = load(a + k), by_x = load(b + k), constant = load(c + k);
      return [=](std::int64_t i) {
        store(to + i, multiply_add(load(gradients + i), by_grad, multiply_add(load(values + i), by_x, constant)));
      };
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
