// Real convolutions by the row transform; see row_transform.h for the method.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace biper {
namespace {

// Transforms a padded row of the input: each tile of it is multiplied by the matrix `in`. What is always 0 in it is
// left out: the first column but for the first row, because z - 0 divides the polynomials of all points but the first,
// and the last column but for the last row, because the other polynomials have a lower degree.
template <typename Isa, int Points>
void transform_row(const RowTransform& t, const float* padded, float* out) {
  for (int tile = 0; tile < t.tiles; ++tile) {
    for (int first = 0; first < t.inside; first += kLanes) {
      const float* x = padded + tile * kTileOutputs * t.inside + first;
      typename Isa::Floats values[Points];
      repeat<Points>([&](auto i) BIPER_INLINE_LAMBDA { values[i] = Isa::load(x + i * t.inside); });
      // Where a point has fewer values than a vector has lanes, the next point overwrites the rest.
      repeat<Points>([&](auto j) BIPER_INLINE_LAMBDA {
        constexpr int kFirst = j == 0 ? 0 : 1, kTerms = Points - (j == 0 || j == Points - 1 ? 1 : 2);
        auto sum = Isa::multiply(values[kFirst], Isa::all(t.in[j][kFirst]));
        repeat<kTerms - 1>([&](auto i) BIPER_INLINE_LAMBDA {
          constexpr int kNext = kFirst + 1 + i;
          sum = Isa::multiply_add(values[kNext], Isa::all(t.in[j][kNext]), sum);
        });
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
    float* inside = padded + g.pad_left * g.channels;
    if (g.stride == g.channels)
      std::memcpy(inside, x, static_cast<std::size_t>(columns) * g.channels * sizeof(float));
    else
      for (int column = 0; column < columns; ++column)
        for (int c = 0; c < g.channels; ++c)
          inside[column * g.channels + c] = x[static_cast<std::int64_t>(column) * g.stride + c];
    float* out = transformed + static_cast<std::int64_t>(row) * t.row_stride();
    t.points == 6 ? transform_row<Isa, 6>(t, padded, out) : transform_row<Isa, 7>(t, padded, out);
  }
}

// Multiplies the sums of a tile for each point, `step` floats apart, by the matrix `out`. What is always 0 in it is
// left out: the first column but for the first row, and the last column but for the last row. In the first row, all
// others are 1.
template <typename Isa, int Points>
BIPER_INLINE void transform_back(const RowTransform& t, const float* sums, int step,
                                 typename Isa::Floats (&y)[kTileOutputs][1]) {
  typename Isa::Floats at[Points];
  repeat<Points>([&](auto j) BIPER_INLINE_LAMBDA { at[j] = Isa::load(sums + j * step); });
  repeat<kTileOutputs>([&](auto o) BIPER_INLINE_LAMBDA {
    y[o][0] = at[o == 0 ? 0 : 1];  // the point 1, whose powers are 1
    repeat<Points - 2 - (o == 0 ? 0 : 1)>([&](auto i) BIPER_INLINE_LAMBDA {
      constexpr int kNext = i + (o == 0 ? 1 : 2);
      y[o][0] =
          o == 0 ? Isa::add(at[kNext], y[o][0]) : Isa::multiply_add(at[kNext], Isa::all(t.out[o][kNext]), y[o][0]);
    });
    if constexpr (o == kTileOutputs - 1) y[o][0] = Isa::add(at[Points - 1], y[o][0]);
  });
}

// Computes blocks [block, end) of a row of the result, V at once, for some tiles at a time: first the sums of products
// for each point, then the results by the matrix `out`. V counts down to the number of blocks that is left.
template <typename Isa, int Points, int V = Isa::Real::kVectors>
void transformed_blocks(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                        const Epilogue& e, int row, int block, int end) {
  using Real = typename Isa::Real;
  constexpr int kTiles = 2 * Real::pixels(V);
  float sums[Points][kTiles * V * kLanes];
  const int top = row * g.step_y - g.pad_top;
  const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
  const std::int64_t tap = std::int64_t{t.inside} * kLanes, block_weights = g.kernel_y * tap;
  Runs runs{ys.last - ys.first,
            1,
            std::int64_t{g.dilation_y} * t.row_stride(),
            0,
            t.inside,
            0,
            t.inside,
            false,
            std::int64_t{Points} * t.inside};
  // At infinity only the last tap of a phase counts, which the last phases may not have.
  const int last_tap = (g.kernel_x - 1) / g.step_x * g.step_x, of_last_tap = (g.kernel_x - last_tap) * g.channels;
  const float* in = transformed + static_cast<std::int64_t>(top + ys.first * g.dilation_y) * t.row_stride();
  for (; block + V <= end; block += V) {
    for (int tile = 0; tile < t.tiles; tile += kTiles) {
      const int count = lesser(kTiles, t.tiles - tile);
      for (int j = 0; j < Points; ++j) {
        Epilogue plain;
        plain.real = sums[j], plain.channels = V * kLanes;
        runs.length = j == Points - 1 ? of_last_tap : t.inside;
        const OperandsOf<Real> from{in + tile * runs.next_pixel + j * t.inside,
                                    weights + (j * blocks_of(g.out_channels) + block) * block_weights + ys.first * tap,
                                    block_weights};
        tiles<Isa, Real, Real::pixels(V), V>(runs, from, 0, count, plain, 0, 0, 0);
      }
      for (int i = 0; i < count; ++i) {
        const int column = (tile + i) * kTileOutputs, columns = lesser(kTileOutputs, g.out_width - column);
        const std::int64_t pixel = static_cast<std::int64_t>(row) * g.out_width + column;
        for (int v = 0; v < V; ++v) {
          typename Isa::Floats y[kTileOutputs][1];
          transform_back<Isa, Points>(t, sums[0] + (i * V + v) * kLanes, kTiles * V * kLanes, y);
          if (columns == kTileOutputs) {
            store_real<Isa>(e, y, pixel, Constant<1>{}, block + v);
          } else {
            for (int o = 0; o < columns; ++o) store_real<Isa>(e, y[o][0], pixel + o, block + v);
          }
        }
      }
    }
  }
  if constexpr (V > 1) {
    if (block < end) transformed_blocks<Isa, Points, V - 1>(g, t, transformed, weights, e, row, block, end);
  }
}

template <typename Isa>
void transformed_convolution(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                             const Epilogue& e, int begin, int end) {
  const auto compute = t.points == 6 ? transformed_blocks<Isa, 6> : transformed_blocks<Isa, 7>;
  for (int row = begin; row < end; ++row) compute(g, t, transformed, weights, e, row, 0, blocks_of(g.out_channels));
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

}  // namespace
}  // namespace biper
