// Maximum and average pooling.
#pragma once

#include <cstdint>

#include "kernels/epilogue.h"

namespace biper {
namespace {

// The inputs of a window along one axis, [first, last), cut at the border of the image, and how many count for an
// average.
struct Span {
  int first, last, count;
};
inline Span span_of(int at, int step, int padding, int kernel, int size, bool count_padding) {
  const int start = at * step - padding;
  const int first = greater(start, 0), last = lesser(start + kernel, size);
  return {first, last, count_padding ? lesser(start + kernel, size + padding) - start : last - first};
}

// What becomes of the inputs of a window. kLarger is the maximum of inputs that are never NaN.
enum class Reduction { kMean, kMaximum, kLarger };

template <typename Isa, Reduction kReduction>
BIPER_INLINE typename Isa::Floats reduce(typename Isa::Floats a, typename Isa::Floats b) {
  if constexpr (kReduction == Reduction::kMean)
    return Isa::add(a, b);
  else if constexpr (kReduction == Reduction::kMaximum)
    return Isa::larger_or_nan(a, b);
  else
    return Isa::larger(a, b);
}

// Computes blocks [block, end) of a row of maxima, V at once, of windows that are three columns wide and two apart, as
// those behind the stem of a ResNet. Neighbouring windows share a column, whose maxima are computed once.
template <typename Isa, Reduction kReduction, int V = 4>
void maxima_of_three(const Pooling& p, const float* in, const Epilogue& e, int row, int block, int end) {
  const std::int64_t stride = std::int64_t{blocks_of(p.channels)} * kLanes, next_row = p.width * stride;
  const Span ys = span_of(row, p.step_y, p.pad_y, p.kernel_y, p.height, p.count_padding);
  const float* top = in + ys.first * next_row;
  for (; block + V <= end; block += V) {
    typename Isa::Floats last[V];
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { last[v] = Isa::all(-kInfinity); });
    // The larger of `y` and the rows of a column. Columns outside the image have none.
    const auto take = [&](auto& y, int column) BIPER_INLINE_LAMBDA {
      if (column < 0 || column >= p.width) return;
      const float* x = top + column * stride + block * kLanes;
      const auto take_row = [&] BIPER_INLINE_LAMBDA {
        repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[v] = reduce<Isa, kReduction>(y[v], Isa::load(x + v * kLanes)); });
        x += next_row;
      };
      if (ys.last - ys.first == 3)
        repeat<3>([&](auto) BIPER_INLINE_LAMBDA { take_row(); });
      else
        for (int i = ys.first; i < ys.last; ++i) take_row();
    };
    take(last, -p.pad_x);
    for (int column = 0; column < p.out_width; ++column) {
      const int first = 2 * column - p.pad_x;
      typename Isa::Floats y[1][V];
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[0][v] = last[v], last[v] = Isa::all(-kInfinity); });
      take(y[0], first + 1);
      take(last, first + 2);
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[0][v] = reduce<Isa, kReduction>(y[0][v], last[v]); });
      store_real<Isa>(e, y, static_cast<std::int64_t>(row) * p.out_width + column, Constant<1>{}, block);
    }
  }
  if constexpr (V > 1) {
    if (block < end) maxima_of_three<Isa, kReduction, V - 1>(p, in, e, row, block, end);
  }
}

// Computes blocks [block, end) of a row of the result, V at once. V counts down to the number that is left.
template <typename Isa, Reduction kReduction, int V = 4>
void pool_row(const Pooling& p, const float* in, const Epilogue& e, int row, int block, int end) {
  const std::int64_t stride = std::int64_t{blocks_of(p.channels)} * kLanes;
  const Span ys = span_of(row, p.step_y, p.pad_y, p.kernel_y, p.height, p.count_padding);
  for (; block + V <= end; block += V) {
    int counted = 0;  // the number of inputs that `factor` is for
    bool exact = false;
    auto factor = Isa::all(0);
    // Computes P windows from `column` on, whose columns are those of `xs` and further ones of the same number.
    const auto windows = [&]<int P>(Constant<P>, int column, Span xs) BIPER_INLINE_LAMBDA {
      typename Isa::Floats y[P][V];
      const auto each = [&](auto&& change) BIPER_INLINE_LAMBDA {
        repeat<P>([&](auto n) BIPER_INLINE_LAMBDA {
          repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { change(y[n][v], n * p.step_x * stride + v * kLanes); });
        });
      };
      each([](auto& x, auto) BIPER_INLINE_LAMBDA { x = Isa::all(kReduction == Reduction::kMean ? 0.0f : -kInfinity); });
      for (int iy = ys.first; iy < ys.last; ++iy) {
        const float* from = in + (static_cast<std::int64_t>(iy) * p.width + xs.first) * stride + block * kLanes;
        for (int ix = xs.first; ix < xs.last; ++ix, from += stride)
          each([&](auto& x, auto at) BIPER_INLINE_LAMBDA { x = reduce<Isa, kReduction>(x, Isa::load(from + at)); });
      }
      if constexpr (kReduction == Reduction::kMean) {
        if (const int count = ys.count * xs.count; count != counted) {
          // For a power of 2 multiplying by the inverse is exact and much faster than a division.
          counted = count, exact = (count & (count - 1)) == 0;
          factor = Isa::all(exact ? 1.0f / static_cast<float>(count) : static_cast<float>(count));
        }
        if (exact)
          each([&](auto& x, auto) BIPER_INLINE_LAMBDA { x = Isa::multiply(x, factor); });
        else
          each([&](auto& x, auto) BIPER_INLINE_LAMBDA { x = Isa::divide(x, factor); });
      }
      store_real<Isa>(e, y, static_cast<std::int64_t>(row) * p.out_width + column, Constant<1>{}, block);
    };
    // A window of one block is a chain of sums, each of which waits for the one before it, so that several windows
    // which the border does not cut are computed together.
    constexpr int kTogether = V == 1 ? 4 : V == 2 ? 2 : 1;
    const auto columns_of = [&](int column) {
      return span_of(column, p.step_x, p.pad_x, p.kernel_x, p.width, p.count_padding);
    };
    const auto is_whole = [&](Span xs) { return xs.last - xs.first == p.kernel_x; };
    for (int column = 0; column < p.out_width;) {
      const Span xs = columns_of(column);
      const int last = column + kTogether - 1;
      if (kTogether > 1 && last < p.out_width && is_whole(xs) && is_whole(columns_of(last))) {
        windows(Constant<kTogether>{}, column, xs);
        column += kTogether;
      } else {
        windows(Constant<1>{}, column++, xs);
      }
    }
  }
  if constexpr (V > 1) {
    if (block < end) pool_row<Isa, kReduction, V - 1>(p, in, e, row, block, end);
  }
}

template <typename Isa>
void pool_blocks(const Pooling& p, const float* in, const Epilogue& e, int begin, int end) {
  const bool threes = p.kernel_x == 3 && p.step_x == 2;
  const auto maxima = [&]<Reduction kReduction>() {
    return threes ? maxima_of_three<Isa, kReduction> : pool_row<Isa, kReduction>;
  };
  const auto compute = !p.maximum    ? pool_row<Isa, Reduction::kMean>
                       : p.never_nan ? maxima.template operator()<Reduction::kLarger>()
                                     : maxima.template operator()<Reduction::kMaximum>();
  for (int row = begin; row < end; ++row) compute(p, in, e, row, 0, blocks_of(p.channels));
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * p.out_width, static_cast<std::int64_t>(end) * p.out_width);
}

}  // namespace
}  // namespace biper
