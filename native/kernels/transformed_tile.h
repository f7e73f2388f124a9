// Real convolutions by the row transform; see row_transform.h for the method.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace biper {
namespace {

// Multiplies values by the matrix `in`, and gives each product to `store`. What is always 0 in the matrix is left out:
// the first column but for the first row, because z - 0 divides the polynomials of all points but the first, and the
// last column but for the last row, because the other polynomials have a lower degree.
template <typename Isa, int Points, typename Store>
BIPER_INLINE void transform_values(const RowTransform& t, const typename Isa::Floats (&values)[Points], Store&& store) {
  repeat<Points>([&](auto j) BIPER_INLINE_LAMBDA {
    constexpr int kFirst = j == 0 ? 0 : 1, kTerms = Points - (j == 0 || j == Points - 1 ? 1 : 2);
    auto sum = Isa::multiply(values[kFirst], Isa::all(t.in[j][kFirst]));
    repeat<kTerms - 1>([&](auto i) BIPER_INLINE_LAMBDA {
      constexpr int kNext = kFirst + 1 + i;
      sum = Isa::multiply_add(values[kNext], Isa::all(t.in[j][kNext]), sum);
    });
    store(j, sum);
  });
}

// Transforms a padded row of the input, tile by tile.
template <typename Isa, int Points>
void transform_row(const RowTransform& t, const float* padded, float* out) {
  for (int tile = 0; tile < t.tiles; ++tile) {
    for (int first = 0; first < t.inside; first += kLanes) {
      const float* x = padded + tile * kTileOutputs * t.inside + first;
      typename Isa::Floats values[Points];
      repeat<Points>([&](auto i) BIPER_INLINE_LAMBDA { values[i] = Isa::load(x + i * t.inside); });
      // Where a point has fewer values than a vector has lanes, the next point overwrites the rest.
      transform_values<Isa>(t, values, [&](auto j, auto sum) BIPER_INLINE_LAMBDA {
        Isa::store(out + (tile * Points + j) * t.inside + first, sum);
      });
    }
  }
}

// Transforms the rows of a band along the columns, to [point][phase][transformed row]. The band begins at row `top` of
// the input. What is outside the image is 0.
template <typename Isa, int Points>
void transform_band(const Geometry& g, const RowTransform& t, const float* transformed, int top, float* out) {
  const int length = t.tiles * Points * t.inside;
  for (int phase = 0; phase < g.step_y; ++phase) {
    const float* rows[Points];
    for (int i = 0; i < Points; ++i) {
      const int row = top + i * g.step_y + phase;
      rows[i] = row < 0 || row >= g.height ? nullptr : transformed + static_cast<std::int64_t>(row) * t.row_stride();
    }
    for (int first = 0; first < length; first += kLanes) {
      typename Isa::Floats values[Points];
      repeat<Points>([&](auto i)
                         BIPER_INLINE_LAMBDA { values[i] = rows[i] ? Isa::load(rows[i] + first) : Isa::all(0); });
      transform_values<Isa>(t, values, [&](auto j, auto sum) BIPER_INLINE_LAMBDA {
        Isa::store(out + (j * g.step_y + phase) * std::int64_t{kMaxBandRow} + first, sum);
      });
    }
  }
}

template <typename Isa>
void transform_rows(const Geometry& g, const RowTransform& t, const float* in, float* transformed, int begin, int end) {
  float padded[kMaxTransformedRow];
  const int length = ((t.tiles - 1) * kTileOutputs + t.points) * t.inside + kLanes;
  const int columns = greater(lesser(g.width, length / g.channels - g.pad_left), 0);
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

// The sums of products of tiles [first, last), P at once by V blocks, for a point. P counts down to the number that is
// left.
template <typename Isa, int P, int V>
void sum_point(const Runs& runs, const OperandsOf<typename Isa::Real>& from, int first, int last, float* out) {
  using Real = typename Isa::Real;
  for (; first + P <= last; first += P) {
    typename Real::Sum sums[P][V];
    repeat<P>([&](auto p)
                  BIPER_INLINE_LAMBDA { repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { sums[p][v] = Real::zero(); }); });
    sum_runs<Real, P, V>(runs, from, first * runs.next_pixel, 0, sums);
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Isa::store(out + ((first + p) * V + v) * kLanes, sums[p][v]); });
    });
  }
  if constexpr (P > 1) {
    if (first < last) sum_point<Isa, P - 1, V>(runs, from, first, last, out);
  }
}

// Multiplies the sums of a tile for each point, `step` floats apart, by the matrix `out`. Its columns for the points 1
// and -1, and for 1/2 and -1/2, differ only in the signs of every second row, so that their sums and differences are
// multiplied instead. The first column is 0 but for the first row, and the last column but for the last row.
template <typename Isa, int Points>
BIPER_INLINE void transform_back(const RowTransform& t, const float* sums, int step,
                                 typename Isa::Floats (&y)[kTileOutputs][1]) {
  const auto at = [&](int j) BIPER_INLINE_LAMBDA { return Isa::load(sums + j * step); };
  const auto minus_two = at(4);
  typename Isa::Floats ones[2] = {Isa::add(at(1), at(2)), Isa::subtract(at(1), at(2))}, halves[2] = {at(3), at(3)};
  if constexpr (Points == 7) halves[0] = Isa::add(at(3), at(5)), halves[1] = Isa::subtract(at(3), at(5));
  y[0][0] = Isa::add(Isa::add(at(0), ones[0]), Isa::add(halves[0], minus_two));
  repeat<kTileOutputs - 1>([&](auto i) BIPER_INLINE_LAMBDA {
    constexpr int o = i + 1, odd = o % 2;
    const auto sum = Isa::multiply_add(halves[odd], Isa::all(t.out[o][3]), ones[odd]);
    y[o][0] = Isa::multiply_add(minus_two, Isa::all(t.out[o][4]), sum);
  });
  y[kTileOutputs - 1][0] = Isa::add(y[kTileOutputs - 1][0], at(Points - 1));
}

// Stores the results of a tile in a row, of one block, from column `tile * kTileOutputs` on.
template <typename Isa>
BIPER_INLINE void store_tile(const Geometry& g, const Epilogue& e, typename Isa::Floats (&y)[kTileOutputs][1], int row,
                             int tile, int block) {
  const int column = tile * kTileOutputs, columns = lesser(kTileOutputs, g.out_width - column);
  const std::int64_t pixel = static_cast<std::int64_t>(row) * g.out_width + column;
  if (columns == kTileOutputs) {
    store_real<Isa>(e, y, pixel, Constant<1>{}, block);
  } else {
    for (int o = 0; o < columns; ++o) store_real<Isa>(e, y[o][0], pixel + o, block);
  }
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
        runs.length = j == Points - 1 ? of_last_tap : t.inside;
        const OperandsOf<Real> from{in + tile * runs.next_pixel + j * t.inside,
                                    weights + (j * blocks_of(g.out_channels) + block) * block_weights + ys.first * tap,
                                    block_weights};
        sum_point<Isa, Real::pixels(V), V>(runs, from, 0, count, sums[j]);
      }
      for (int i = 0; i < count; ++i) {
        for (int v = 0; v < V; ++v) {
          typename Isa::Floats y[kTileOutputs][1];
          transform_back<Isa, Points>(t, sums[0] + (i * V + v) * kLanes, kTiles * V * kLanes, y);
          store_tile<Isa>(g, e, y, row, tile + i, block + v);
        }
      }
    }
  }
  if constexpr (V > 1) {
    if (block < end) transformed_blocks<Isa, Points, V - 1>(g, t, transformed, weights, e, row, block, end);
  }
}

// Computes rows [begin, end) of a band, which begins at row `band`, for blocks [block, end_block): V at once, for some
// tiles at a time. The sums are transformed back along the columns, point by point, and then along the rows.
template <typename Isa, int Points, int V = Isa::Real::kVectors>
void band_blocks(const Geometry& g, const RowTransform& t, const float* points, const float* weights, const Epilogue& e,
                 int band, int begin, int end, int block, int end_block) {
  using Real = typename Isa::Real;
  constexpr int kTiles = Real::pixels(V), kFloats = kTiles * V * kLanes;
  float sums[Points][kFloats], rows[Points][kTileOutputs][kFloats];
  const std::int64_t phase = std::int64_t{t.inside} * kLanes, block_weights = g.step_y * phase;
  Runs runs{g.step_y, 1, kMaxBandRow, 0, t.inside, 0, t.inside, false, std::int64_t{Points} * t.inside};
  // At infinity only the last tap of a phase counts, which the last phases may not have.
  const int with_last_tap = g.kernel_x - (g.kernel_x - 1) / g.step_x * g.step_x;
  for (; block + V <= end_block; block += V) {
    for (int tile = 0; tile < t.tiles; tile += kTiles) {
      const int count = lesser(kTiles, t.tiles - tile);
      for (int j = 0; j < Points; ++j) {
        runs.length = j == Points - 1 ? with_last_tap * g.channels : t.inside;
        for (int k = 0; k < Points; ++k) {
          runs.rows = k == Points - 1 ? with_last_tap : g.step_y;
          const OperandsOf<Real> from{
              points + k * g.step_y * std::int64_t{kMaxBandRow} + tile * runs.next_pixel + j * t.inside,
              weights + ((std::int64_t{k} * Points + j) * blocks_of(g.out_channels) + block) * block_weights,
              block_weights};
          sum_point<Isa, kTiles, V>(runs, from, 0, count, sums[k]);
        }
        for (int at = 0; at < count * V * kLanes; at += kLanes) {
          typename Isa::Floats y[kTileOutputs][1];
          transform_back<Isa, Points>(t, sums[0] + at, kFloats, y);
          repeat<kTileOutputs>([&](auto o) BIPER_INLINE_LAMBDA { Isa::store(rows[j][o] + at, y[o][0]); });
        }
      }
      for (int row = begin; row < end; ++row) {
        for (int i = 0; i < count * V; ++i) {
          typename Isa::Floats y[kTileOutputs][1];
          transform_back<Isa, Points>(t, rows[0][row - band] + i * kLanes, kTileOutputs * kFloats, y);
          store_tile<Isa>(g, e, y, row, tile + i / V, block + i % V);
        }
      }
    }
  }
  if constexpr (V > 1) {
    if (block < end_block)
      band_blocks<Isa, Points, V - 1>(g, t, points, weights, e, band, begin, end, block, end_block);
  }
}

// Computes rows [begin, end) of the result. Bands begin at every fourth row, whatever the first row is, so that the
// results do not depend on how threads share the rows.
template <typename Isa, int Points>
void transformed_bands(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                       const Epilogue& e, int begin, int end) {
  float points[Points * 2 * kMaxBandRow];
  for (int band = begin / kTileOutputs * kTileOutputs; band < end; band += kTileOutputs) {
    transform_band<Isa, Points>(g, t, transformed, band * g.step_y - g.pad_top, points);
    band_blocks<Isa, Points>(g, t, points, weights, e, band, greater(band, begin), lesser(band + kTileOutputs, end), 0,
                             blocks_of(g.out_channels));
  }
}

template <typename Isa>
void transformed_convolution(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                             const Epilogue& e, int begin, int end) {
  if (t.bands) {
    const auto compute = t.points == 6 ? transformed_bands<Isa, 6> : transformed_bands<Isa, 7>;
    compute(g, t, transformed, weights, e, begin, end);
  } else {
    const auto compute = t.points == 6 ? transformed_blocks<Isa, 6> : transformed_blocks<Isa, 7>;
    for (int row = begin; row < end; ++row) compute(g, t, transformed, weights, e, row, 0, blocks_of(g.out_channels));
  }
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

}  // namespace
}  // namespace biper
