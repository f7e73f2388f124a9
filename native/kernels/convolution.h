// Real and binary convolutions, in tiles.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace biper {
namespace {

// The longest row of an image, in words, for Form::kThreeRows: the xor of three rows is kept on the stack.
constexpr int kMaxAllRows = 4096;

// The columns of the result for which all taps are inside the image.
inline Range whole_columns(const Geometry& g) {
  Range columns{lesser((g.pad_left + g.step_x - 1) / g.step_x, g.out_width), g.out_width};
  while (columns.last > columns.first &&
         (columns.last - 1) * g.step_x - g.pad_left + (g.kernel_x - 1) * g.dilation_x >= g.width)
    --columns.last;
  return columns;
}

// The rows of the result, of those in [begin, end), for which all taps are inside the image.
inline Range whole_rows(const Geometry& g, int begin, int end) {
  Range rows{greater(begin, (g.pad_top + g.step_y - 1) / g.step_y), end};
  while (rows.last > rows.first && (rows.last - 1) * g.step_y - g.pad_top + (g.kernel_y - 1) * g.dilation_y >= g.height)
    --rows.last;
  return rows.last > rows.first ? rows : Range{begin, begin};
}

// The largest number of pixels below each other that a tile at the left or right border has.
constexpr int kDown = 4;

// A part of a convolution: one group, and rows [begin, end) of the result.
template <typename Kind>
struct Job {
  const Geometry& g;
  const typename Kind::Input* in;  // of the group
  int inside;                      // inputs of a pixel that belong to the group
  const typename Kind::Weight* weights;
  const typename Kind::Weight* all_rows;  // null, or see BitWeights
  const typename Kind::Weight* pairs;
  const Epilogue& e;
  int begin, end;
};

// Computes V blocks of output channels, starting at `block`. Taps outside the image are skipped.
template <typename Isa, typename Kind, int V>
void convolve_blocks(const Job<Kind>& job, int block) {
  const Geometry& g = job.g;
  const std::int64_t kernel_row = static_cast<std::int64_t>(g.kernel_x) * job.inside * kStepWeights<Kind>;
  const std::int64_t block_weights = g.kernel_y * kernel_row, row_in = static_cast<std::int64_t>(g.width) * g.stride;
  const int pairs = (g.kernel_x + 1) / 2;
  const Range whole = whole_columns(g), whole_height = whole_rows(g, job.begin, job.end);
  // At the left and at the right border some taps of a row are outside the image, the same ones in all rows.
  const auto each_border_column = [&](auto&& work) {
    for (int column = 0; column < whole.first; ++column) work(column);
    for (int column = whole.last; column < g.out_width; ++column) work(column);
  };
  for (int row = job.begin; row < job.end; ++row) {
    const int top = row * g.step_y - g.pad_top;
    const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
    const int row_valid = (ys.last - ys.first) * (g.channels / g.groups);
    const std::int64_t pixel = static_cast<std::int64_t>(row) * g.out_width;
    // What tap (ys.first, 0) reads if it is at column `left` of the input.
    const auto at = [&](int left) {
      return job.in + (top + ys.first * g.dilation_y) * row_in + std::int64_t{left} * g.stride;
    };
    const auto* weights = job.weights + block * block_weights + ys.first * kernel_row;
    // Computes `rows` pixels of a column, from this row on.
    const auto border = [&](int column, int rows) {
      const int left = column * g.step_x - g.pad_left;
      const Range xs = taps_inside(left, g.dilation_x, g.kernel_x, g.width);
      const OperandsOf<Kind> from{at(left + xs.first * g.dilation_x),
                                  weights + std::int64_t{xs.first} * job.inside * kStepWeights<Kind>, block_weights};
      Runs runs = runs_of<Kind>(g, job.inside, ys, xs);
      runs.next_pixel = g.step_y * row_in;
      tiles<Isa, Kind, kDown, V>(runs, from, 0, rows, job.e, row_valid * (xs.last - xs.first), pixel + column, block,
                                 std::int64_t{g.out_width});
    };
    if (row == whole_height.first && row < whole_height.last)
      each_border_column([&](int column) { border(column, whole_height.last - row); });
    else if (row < whole_height.first || row >= whole_height.last)
      each_border_column([&](int column) { border(column, 1); });
    OperandsOf<Kind> from{at(-g.pad_left), weights, block_weights};
    Runs runs = runs_of<Kind>(g, job.inside, ys, Range{0, g.kernel_x});
    const int valid = row_valid * g.kernel_x;
    const auto whole_tiles = [&]<typename K>(K) {
      tiles<Isa, K, K::pixels(V), V>(runs, from, whole.first, whole.last, job.e, valid, pixel, block);
    };
    if constexpr (Kind::kForm == Form::kHalves) {
      if (job.pairs) {
        const std::int64_t pair_row = std::int64_t{pairs} * kLanes;
        from.weights = job.pairs + (block * g.kernel_y + ys.first) * pair_row;
        from.block_weights = g.kernel_y * pair_row;
        runs.columns = 1, runs.row_weight = pairs, runs.length = g.kernel_x / 2, runs.single = g.kernel_x % 2 != 0;
        if constexpr (requires { typename Kind::template Window<1>; }) {
          if (runs.rows == 3 && g.kernel_x == 3 && g.stride == 1 && g.step_x <= 2) {
            if (g.step_x == 1)
              whole_tiles(typename Kind::template Window<1>{});
            else
              whole_tiles(typename Kind::template Window<2>{});
            continue;
          }
        }
      }
    }
    if constexpr (Kind::kForm == Form::kTaps && requires { typename Kind::ThreeRows; }) {
      const std::int64_t before = std::int64_t{g.pad_left} * g.stride;  // where the image begins; the rest is not read
      if (job.all_rows && ys.last - ys.first == 3 && before + row_in <= kMaxAllRows) {
        typename Kind::Input all[kMaxAllRows];
        const auto* x = at(0);
        for (std::int64_t i = 0; i < row_in; ++i) all[before + i] = x[i] ^ x[i + runs.row_in] ^ x[i + 2 * runs.row_in];
        from.all_rows = all;
        from.all_rows_weights = job.all_rows + block * kernel_row;
        from.block_all_rows = kernel_row;
        runs.rows = 1;
        whole_tiles(typename Kind::ThreeRows{});
        continue;
      }
    }
    whole_tiles(Kind{});
  }
}
// Computes blocks [block, end): V at once, as many as fit into registers. V counts down to the number that is left.
template <typename Isa, typename Kind, int V = Kind::kVectors>
void convolve(const Job<Kind>& job, int block, int end) {
  for (; block + V <= end; block += V) convolve_blocks<Isa, Kind, V>(job, block);
  if constexpr (V > 1) {
    if (block < end) convolve<Isa, Kind, V - 1>(job, block, end);
  }
}

// Groups that fill blocks are computed one after another, others by blocks, each of which reads the inputs of all its
// groups.
template <typename Isa>
void binary_convolution(const Geometry& g, const std::uint16_t* in, const BitWeights& weights, const Epilogue& e,
                        int begin, int end) {
  const int inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  const bool halves = inside <= 16;
  if (!groups_fill_blocks(g)) {
    const GroupedInputs inputs = grouped_inputs(g);
    for (int block = 0; block < blocks_of(g.out_channels); ++block) {
      const Job<typename Isa::Masked> job{
          g, in + inputs.first_half(block), inputs.words, weights.masked, nullptr, nullptr, e, begin, end};
      convolve_blocks<Isa, typename Isa::Masked, 1>(job, block);
    }
    return clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width,
                            static_cast<std::int64_t>(end) * g.out_width);
  }
  Geometry words = g;
  words.stride /= 2;
  for (int group = 0; group < g.groups; ++group) {
    const int first = group * outside / kLanes, last = first + blocks_of(outside);
    const auto* x = in + group * inside / 16;
    if (halves)
      convolve<Isa>(Job<typename Isa::Halves>{g, x, 1, weights.taps, nullptr, weights.pairs, e, begin, end}, first,
                    last);
    else
      convolve<Isa>(Job<typename Isa::Binary>{words, reinterpret_cast<const std::uint32_t*>(x), halves_of(inside) / 2,
                                              weights.taps, weights.all_rows, nullptr, e, begin, end},
                    first, last);
  }
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

template <typename Isa>
void convolution(const Geometry& g, const float* in, const float* weights, const Epilogue& e, int begin, int end) {
  const int inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  if (inside == 1 && outside == 1 && g.stride % kLanes == 0) {
    convolve<Isa>(Job<typename Isa::Depthwise>{g, in, 1, weights, nullptr, nullptr, e, begin, end}, 0,
                  blocks_of(g.channels));
  } else if (blocks_mix_groups(g)) {
    const GroupedInputs inputs = grouped_inputs(g);
    for (int block = 0; block < blocks_of(g.out_channels); ++block) {
      const Job<typename Isa::Real> job{
          g, in + inputs.first_input(block), inputs.inputs, weights, nullptr, nullptr, e, begin, end};
      convolve_blocks<Isa, typename Isa::Real, 1>(job, block);
    }
  } else {
    for (int group = 0; group < g.groups; ++group) {
      const Job<typename Isa::Real> job{g, in + group * inside, inside, weights, nullptr, nullptr, e, begin, end};
      convolve<Isa>(job, group * outside / kLanes, group * outside / kLanes + blocks_of(outside));
    }
  }
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

}  // namespace
}  // namespace biper
