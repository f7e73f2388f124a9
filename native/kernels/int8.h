// Convolutions of levels (bytes) by weights of int8, and the rounding of real values to levels.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace biper {
namespace {

// Rounds `count` neighbouring values to levels.
template <typename Isa>
void round_values(const Levels& l, const float* in, std::uint8_t* out, int count) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) Isa::store_levels(out + i, Isa::load(in + i), l.factor, l.zero);
  if (i == count) return;
  float last[kLanes] = {};
  std::uint8_t rounded[kLanes];
  for (int k = i; k < count; ++k) last[k - i] = in[k];
  Isa::store_levels(rounded, Isa::load(last), l.factor, l.zero);
  for (int k = i; k < count; ++k) out[k] = rounded[k - i];
}

// Rounds rows [begin, end) of the padded input. Columns and rows of the padding get the level that stands for 0. Rows
// that no tap reads are left out, and so are columns where the kernel is one pixel wide.
template <typename Isa>
void round_to_levels(const Geometry& g, const Levels& l, const float* in, std::uint8_t* levels, int begin, int end) {
  // The kernel may end within the padding on the left; then no column of the image is read.
  const int columns = greater(lesser(g.width, g.padded_width() - g.pad_left), 0);
  const int span = (g.kernel_y - 1) * g.dilation_y + 1;
  const bool skips = g.kernel_x == 1 && g.pad_left == 0 && g.step_x > 1;
  for (int row = begin; row < end; ++row) {
    if (row % g.step_y >= span) continue;
    std::uint8_t* out = levels + static_cast<std::int64_t>(row) * l.row_stride;
    const bool inside = row >= g.pad_top && row - g.pad_top < g.height;
    const int first = inside ? lesser(g.pad_left * g.channels, l.row_stride) : l.row_stride;
    const int last = inside ? first + columns * g.channels : first;
    for (int i = 0; i < first; ++i) out[i] = static_cast<std::uint8_t>(l.zero);
    for (int i = last; i < l.row_stride; ++i) out[i] = static_cast<std::uint8_t>(l.zero);
    if (!inside) continue;
    const float* x = in + static_cast<std::int64_t>(row - g.pad_top) * g.width * g.stride;
    if (g.stride == g.channels && !skips) {
      round_values<Isa>(l, x, out + first, columns * g.channels);
    } else {
      for (int column = 0; column < columns; column += skips ? g.step_x : 1)
        round_values<Isa>(l, x + static_cast<std::int64_t>(column) * g.stride, out + first + column * g.channels,
                          g.channels);
    }
  }
}

// Computes a row of the result, from block `block` on: V blocks at once. V counts down to the number that is left.
template <typename Isa, int V = Isa::Int8::kVectors>
void int8_row(const Geometry& g, const Levels& l, const std::uint8_t* levels, const std::uint32_t* weights,
              const std::int32_t* initial, const Epilogue& e, int row, int block) {
  using Int8 = typename Isa::Int8;
  const int quads = g.run_quads(), end = blocks_of(g.out_channels);
  const std::int64_t kernel_row = static_cast<std::int64_t>(g.row_runs()) * quads;
  const Runs runs{g.kernel_y,
                  g.row_runs(),
                  std::int64_t{g.dilation_y} * l.row_stride,
                  std::int64_t{g.dilation_x} * g.channels,
                  kernel_row,
                  quads,
                  quads,
                  false,
                  std::int64_t{g.step_x} * g.channels};
  for (; block + V <= end; block += V) {
    OperandsOf<Int8> from{levels + static_cast<std::int64_t>(row) * g.step_y * l.row_stride,
                          weights + block * g.kernel_y * kernel_row * kLanes, g.kernel_y * kernel_row * kLanes};
    from.initial = initial + block * kLanes;
    tiles<Isa, Int8, Int8::pixels(V), V>(runs, from, 0, g.out_width, e, 0, static_cast<std::int64_t>(row) * g.out_width,
                                         block);
  }
  if constexpr (V > 1) {
    if (block < end) int8_row<Isa, V - 1>(g, l, levels, weights, initial, e, row, block);
  }
}

template <typename Isa>
void int8_convolution(const Geometry& g, const Levels& l, const std::uint8_t* levels, const std::uint32_t* weights,
                      const std::int32_t* initial, const Epilogue& e, int begin, int end) {
  for (int row = begin; row < end; ++row) int8_row<Isa>(g, l, levels, weights, initial, e, row, 0);
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

}  // namespace
}  // namespace biper
