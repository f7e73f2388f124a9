// Convolutions of rounded inputs: of levels (bytes) by weights of int8, and of bfloat16; and the rounding of inputs.
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

// Writes rows [begin, end) of the padded input as neighbouring inputs of type Out. `round(x, out, count)` rounds
// neighbouring values. The padding is `zero`, and so are columns that no tap reads, which may not be numbers. Rows that
// no tap reads are left out.
template <typename Out, typename Round>
void round_rows(const Geometry& g, int row_stride, Out zero, const float* in, Out* rows, int begin, int end,
                Round&& round) {
  // The kernel may end within the padding on the left; then no column of the image is read.
  const int columns = greater(lesser(g.width, g.padded_width() - g.pad_left), 0);
  for (int row = begin; row < end; ++row) {
    if (!g.reads_row(row)) continue;
    Out* out = rows + static_cast<std::int64_t>(row) * row_stride;
    const bool inside = row >= g.pad_top && row - g.pad_top < g.height;
    const int first = inside ? lesser(g.pad_left * g.channels, row_stride) : row_stride;
    const int last = inside ? first + columns * g.channels : first;
    for (int i = 0; i < first; ++i) out[i] = zero;
    for (int i = last; i < row_stride; ++i) out[i] = zero;
    if (!inside) continue;
    const float* x = in + static_cast<std::int64_t>(row - g.pad_top) * g.width * g.stride;
    if (g.stride == g.channels && g.reads_all_columns()) {
      round(x, out + first, columns * g.channels);
      continue;
    }
    for (int column = 0; column < columns; ++column) {
      Out* at = out + first + column * g.channels;
      if (g.reads_column(g.pad_left + column)) {
        round(x + static_cast<std::int64_t>(column) * g.stride, at, g.channels);
      } else {
        for (int c = 0; c < g.channels; ++c) at[c] = zero;
      }
    }
  }
}

template <typename Isa>
void round_to_levels(const Geometry& g, const Levels& l, const float* in, std::uint8_t* levels, int begin, int end) {
  round_rows(g, l.row_stride, static_cast<std::uint8_t>(l.zero), in, levels, begin, end,
             [&](const float* x, std::uint8_t* out, int count) { round_values<Isa>(l, x, out, count); });
}

template <typename Isa>
void round_to_bfloat16(const Geometry& g, int row_stride, const float* in, std::uint16_t* rows, int begin, int end) {
  const auto round = [](const float* x, std::uint16_t* out, int count) {
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) Isa::store_bfloat16(out + i, Isa::load(x + i));
    for (; i < count; ++i) out[i] = to_bfloat16(x[i]);
  };
  // A pair may end in the column behind, whose product is with 0.
  round_rows(g, row_stride, std::uint16_t{0}, in, rows, begin, end, round);
}

// Computes a row of the result, from block `block` on: V blocks at once. V counts down to the number that is left. The
// inputs are rows as round_rows writes them, and `initial` is what the sums begin with, or null.
template <typename Isa, typename Kind, int V = Kind::kVectors>
void rounded_row(const Geometry& g, int row_stride, const typename Kind::Input* rows, const std::uint32_t* weights,
                 const std::int32_t* initial, const Epilogue& e, int row, int block) {
  const int steps = g.run_steps(Kind::kInputsAStep), end = blocks_of(g.out_channels);
  const std::int64_t kernel_row = static_cast<std::int64_t>(g.row_runs()) * steps;
  const Runs runs{g.kernel_y,
                  g.row_runs(),
                  std::int64_t{g.dilation_y} * row_stride,
                  std::int64_t{g.dilation_x} * g.channels,
                  kernel_row,
                  steps,
                  steps,
                  false,
                  std::int64_t{g.step_x} * g.channels};
  for (; block + V <= end; block += V) {
    OperandsOf<Kind> from{rows + static_cast<std::int64_t>(row) * g.step_y * row_stride,
                          weights + block * g.kernel_y * kernel_row * kLanes, g.kernel_y * kernel_row * kLanes};
    if (initial) from.initial = initial + block * kLanes;
    tiles<Isa, Kind, Kind::pixels(V), V>(runs, from, 0, g.out_width, e, 0, static_cast<std::int64_t>(row) * g.out_width,
                                         block);
  }
  if constexpr (V > 1) {
    if (block < end) rounded_row<Isa, Kind, V - 1>(g, row_stride, rows, weights, initial, e, row, block);
  }
}

template <typename Isa, typename Kind>
void rounded_convolution(const Geometry& g, int row_stride, const typename Kind::Input* rows,
                         const std::uint32_t* weights, const std::int32_t* initial, const Epilogue& e, int begin,
                         int end) {
  for (int row = begin; row < end; ++row) rounded_row<Isa, Kind>(g, row_stride, rows, weights, initial, e, row, 0);
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

template <typename Isa>
void int8_convolution(const Geometry& g, const Levels& l, const std::uint8_t* levels, const std::uint32_t* weights,
                      const std::int32_t* initial, const Epilogue& e, int begin, int end) {
  rounded_convolution<Isa, typename Isa::Int8>(g, l.row_stride, levels, weights, initial, e, begin, end);
}

template <typename Isa>
void bfloat16_convolution(const Geometry& g, int row_stride, const std::uint16_t* rows, const std::uint32_t* weights,
                          const Epilogue& e, int begin, int end) {
  rounded_convolution<Isa, typename Isa::Bfloat16>(g, row_stride, rows, weights, nullptr, e, begin, end);
}

}  // namespace
}  // namespace biper
