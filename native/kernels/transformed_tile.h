// Real convolutions by the row transform; see row_transform.h for the method.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace biper {
namespace {

// Transforms a padded row of the input: each tile of it is multiplied by the matrix `in`.
template <typename Isa, int Points>
void transform_row(const RowTransform& t, const float* padded, float* out) {
  for (int tile = 0; tile < t.tiles; ++tile) {
    for (int first = 0; first < t.inside; first += kLanes) {
      const float* x = padded + tile * kTileOutputs * t.inside + first;
      typename Isa::Floats values[Points];
      repeat<Points>([&](auto i) BIPER_INLINE_LAMBDA { values[i] = Isa::load(x + i * t.inside); });
      // Where a point has fewer values than a vector has lanes, the next point overwrites the rest.
      repeat<Points>([&](auto j) BIPER_INLINE_LAMBDA {
        auto sum = Isa::multiply(values[0], Isa::all(t.in[j][0]));
        repeat<Points - 1>(
            [&](auto i) BIPER_INLINE_LAMBDA { sum = Isa::multiply_add(values[i + 1], Isa::all(t.in[j][i + 1]), sum); });
        Isa::store(out + (tile * Points + j) * t.inside + first, sum);
      });
    }
  }
}

template <typename Isa>
void transform_rows(const Geometry& g, const RowTransform& t, const float* in, float* transformed, int begin, int end) {
  float padded[kMaxTransformedRow];
  const int length = ((t.tiles - 1) * kTileOutputs + t.points) * t.inside + kLanes;
  const int columns = lesser(g.width, length / g.channels - g.pad_left);
  for (int i = 0; i < length; ++i) padded[i] = 0;
  for (int row = begin; row < end; ++row) {
    const float* x = in + static_cast<std::int64_t>(row) * g.width * g.stride;
    for (int column = 0; column < columns; ++column)
      for (int c = 0; c < g.channels; ++c)
        padded[(g.pad_left + column) * g.channels + c] = x[static_cast<std::int64_t>(column) * g.stride + c];
    float* out = transformed + static_cast<std::int64_t>(row) * t.row_stride();
    t.points == 6 ? transform_row<Isa, 6>(t, padded, out) : transform_row<Isa, 7>(t, padded, out);
  }
}

// Computes blocks [block, end) of a row of the result, V at once, for some tiles at a time: first the sums of products
// for each point, then the results by the matrix `out`. V counts down to the number of blocks that is left.
template <typename Isa, int V = Isa::Real::kVectors>
void transformed_blocks(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                        const Epilogue& e, int row, int block, int end) {
  using Real = typename Isa::Real;
  constexpr int kTiles = 2 * Real::pixels(V);
  float sums[kMaxPoints][kTiles * V * kLanes];
  const int top = row * g.step_y - g.pad_top;
  const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
  const std::int64_t tap = std::int64_t{t.inside} * kLanes, block_weights = g.kernel_y * tap;
  const Runs runs{ys.last - ys.first,
                  1,
                  std::int64_t{g.dilation_y} * t.row_stride(),
                  0,
                  t.inside,
                  0,
                  t.inside,
                  false,
                  std::int64_t{t.points} * t.inside};
  const float* in = transformed + static_cast<std::int64_t>(top + ys.first * g.dilation_y) * t.row_stride();
  for (; block + V <= end; block += V) {
    for (int tile = 0; tile < t.tiles; tile += kTiles) {
      const int count = lesser(kTiles, t.tiles - tile);
      for (int j = 0; j < t.points; ++j) {
        Epilogue plain;
        plain.real = sums[j], plain.channels = V * kLanes;
        const OperandsOf<Real> from{in + tile * runs.next_pixel + j * t.inside,
                                    weights + (j * blocks_of(g.out_channels) + block) * block_weights + ys.first * tap,
                                    block_weights};
        tiles<Isa, Real, Real::pixels(V), V>(runs, from, 0, count, plain, 0, 0, 0);
      }
      for (int i = 0; i < count * kTileOutputs; ++i) {
        const int column = tile * kTileOutputs + i;
        if (column >= g.out_width) break;
        typename Isa::Floats y[1][V];
        repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
          const float* out = t.out[i % kTileOutputs];
          const int at = (i / kTileOutputs * V + v) * kLanes;
          y[0][v] = Isa::multiply(Isa::load(sums[0] + at), Isa::all(out[0]));
          for (int j = 1; j < t.points; ++j)
            y[0][v] = Isa::multiply_add(Isa::load(sums[j] + at), Isa::all(out[j]), y[0][v]);
        });
        store_real<Isa>(e, y, static_cast<std::int64_t>(row) * g.out_width + column, Constant<1>{}, block);
      }
    }
  }
  if constexpr (V > 1) {
    if (block < end) transformed_blocks<Isa, V - 1>(g, t, transformed, weights, e, row, block, end);
  }
}

template <typename Isa>
void transformed_convolution(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                             const Epilogue& e, int begin, int end) {
  for (int row = begin; row < end; ++row)
    transformed_blocks<Isa>(g, t, transformed, weights, e, row, 0, blocks_of(g.out_channels));
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

}  // namespace
}  // namespace biper
