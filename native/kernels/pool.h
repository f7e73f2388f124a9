// Maximum and average pooling.
#pragma once

#include <cstdint>

#include "kernels/epilogue.h"

namespace biper {
namespace {

// The inputs of a result: rows [y0, y1), columns [x0, x1), cut at the border of the image;
// and by what a sum is divided.
struct Window {
  int y0, y1, x0, x1, count;
};
inline Window window_of(const Pooling& p, int row, int column) {
  const int top = row * p.step_y - p.pad_y, left = column * p.step_x - p.pad_x;
  const int y0 = greater(top, 0), y1 = lesser(top + p.kernel_y, p.height);
  const int x0 = greater(left, 0), x1 = lesser(left + p.kernel_x, p.width);
  const int count = p.count_padding ? (lesser(top + p.kernel_y, p.height + p.pad_y) - top) *
                                          (lesser(left + p.kernel_x, p.width + p.pad_x) - left)
                                    : (y1 - y0) * (x1 - x0);
  return {y0, y1, x0, x1, count};
}

// Computes the blocks of a pixel from `block` on, V at once. V counts down to the number that is left.
template <typename Isa, int V = 4>
void pool_pixel(const Pooling& p, const float* in, const Window& w, const Epilogue& e, std::int64_t pixel, int block) {
  const int blocks = blocks_of(p.channels), stride = blocks * kLanes;
  for (; block + V <= blocks; block += V) {
    typename Isa::Floats y[1][V];
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[0][v] = Isa::all(p.maximum ? -kInfinity : 0.0f); });
    for (int iy = w.y0; iy < w.y1; ++iy) {
      const float* x = in + (static_cast<std::int64_t>(iy) * p.width + w.x0) * stride + block * kLanes;
      for (int ix = w.x0; ix < w.x1; ++ix, x += stride)
        repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
          const auto value = Isa::load(x + v * kLanes);
          y[0][v] = p.maximum ? Isa::larger_or_nan(y[0][v], value) : Isa::add(y[0][v], value);
        });
    }
    if (!p.maximum) {
      // For a power of 2 multiplying by the inverse is exact and much faster than a division.
      const bool exact = (w.count & (w.count - 1)) == 0;
      const auto factor = Isa::all(exact ? 1.0f / static_cast<float>(w.count) : static_cast<float>(w.count));
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
        y[0][v] = exact ? Isa::multiply(y[0][v], factor) : Isa::divide(y[0][v], factor);
      });
    }
    store_real<Isa>(e, y, pixel, Constant<1>{}, block);
  }
  if constexpr (V > 1) {
    if (block < blocks) pool_pixel<Isa, V - 1>(p, in, w, e, pixel, block);
  }
}

template <typename Isa>
void pool_blocks(const Pooling& p, const float* in, const Epilogue& e, int begin, int end) {
  for (int row = begin; row < end; ++row)
    for (int column = 0; column < p.out_width; ++column)
      pool_pixel<Isa>(p, in, window_of(p, row, column), e, static_cast<std::int64_t>(row) * p.out_width + column, 0);
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * p.out_width, static_cast<std::int64_t>(end) * p.out_width);
}

}  // namespace
}  // namespace biper
