// Tiles: the inner loops of all convolutions. A tile is some pixels in a row, or below each other, by some blocks of
// output channels, whose sums stay in registers.
#pragma once

#include <cstdint>

#include "kernels/epilogue.h"

namespace biper {
namespace {

// What a kind of tile takes in one step.
enum class Form {
  kTaps,       // one input (a float, or a word of 32 channels) of one tap
  kHalves,     // for up to 16 channels: two neighbouring taps in a word, and in the end an odd tap in half of a word
  kMasked,     // a word of one tap, of which each output channel counts some bits
  kThreeRows,  // a word of each of the three rows of a kernel, with the xor of all three computed beforehand
  kDepthwise,  // a block of channels of one tap, each of which has its own weight
  kInt8        // four levels
};

// The inputs that a tile multiplies: runs of consecutive inputs, at the same distances for every pixel. Where the taps
// of a kernel row are neighbours in memory (no dilation, no padding between pixels), the row is one run.
struct Runs {
  int rows, columns;                       // of runs
  std::int64_t row_in, column_in;          // from run to run in the input
  std::int64_t row_weight, column_weight;  // and in the weights
  int length;                              // inputs of a run; for Form::kHalves pairs of taps,
  bool single;                             // after which one more tap follows if this is set
  std::int64_t next_pixel;                 // from pixel to pixel of a tile in the input
};

// How many weights a step of a block reads.
template <typename Kind>
constexpr int kStepWeights = Kind::kForm == Form::kMasked ? 2 * kLanes : kLanes;

template <typename Kind>
Runs runs_of(const Geometry& g, int inside, Range ys, Range xs) {
  Runs r{ys.last - ys.first,
         xs.last - xs.first,
         static_cast<std::int64_t>(g.dilation_y) * g.width * g.stride,
         static_cast<std::int64_t>(g.dilation_x) * g.stride,
         static_cast<std::int64_t>(g.kernel_x) * inside,
         inside,
         Kind::kForm == Form::kHalves ? 0 : inside,
         Kind::kForm == Form::kHalves,
         static_cast<std::int64_t>(g.step_x) * g.stride};
  const bool counts_halves = Kind::kForm == Form::kHalves || Kind::kForm == Form::kMasked;
  if (g.dilation_x == 1 && inside == g.stride && !counts_halves) {
    r.length *= r.columns;
    r.columns = 1;
  }
  return r;
}

// What the tiles of a row of pixels read. The pointers are at the first tap that is multiplied.
template <typename Input, typename Weight>
struct Operands {
  const Input* in;
  const Weight* weights;
  std::int64_t block_weights;  // from block to block
  // For Form::kThreeRows. The second row is runs.row_in inputs and runs.row_weight weights beyond the first.
  const Input* all_rows = nullptr;
  const Weight* all_rows_weights = nullptr;
  std::int64_t block_all_rows = 0;
  const std::int32_t* initial = nullptr;  // for Form::kInt8: what the sums begin with
};
template <typename Kind>
using OperandsOf = Operands<typename Kind::Input, typename Kind::Weight>;

// A step of Kind, or where the constant Single is true, the one with the lower 16 bits alone. It is a function so that
// compilers which check the branches of a lambda inside a lambda, as Clang 14 does, never see a step that Kind lacks.
template <typename Kind, typename Single, typename Sum, typename Input, typename Weight>
BIPER_INLINE void step_once(Sum& sum, Input input, Weight weight) {
  if constexpr (Kind::kForm == Form::kHalves && Single{})
    Kind::step_single(sum, input, weight);
  else
    Kind::step(sum, input, weight);
}

// A kind with a distance between pixels of its own. Its tiles are 3x3 windows of up to 16 channels.
template <typename Kind>
concept Window = requires { Kind::kNext; };

// Adds the products of 3x3 windows to the sums, without a loop, so that the six vectors of weights stay in registers.
// The first pixel begins at input `start`.
template <typename Kind, int P, int V>
BIPER_INLINE void sum_windows(const Runs& runs, const OperandsOf<Kind>& from, std::int64_t start,
                              typename Kind::Sum (&sums)[P][V]) {
  repeat<3>([&](auto row) BIPER_INLINE_LAMBDA {
    const auto* x = from.in + start + row * runs.row_in;
    const auto* w = from.weights + row * runs.row_weight * kLanes;
    decltype(Kind::load(w)) pair[V], single[V];
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      pair[v] = Kind::load(w + v * from.block_weights);
      single[v] = Kind::load(w + v * from.block_weights + kLanes);
    });
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      const auto first = Kind::broadcast(x + p * Kind::kNext), last = Kind::broadcast(x + p * Kind::kNext + 2);
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
        Kind::step(sums[p][v], first, pair[v]);
        Kind::step_single(sums[p][v], last, single[v]);
      });
    });
  });
}

// Adds the products of all runs to the sums.
template <typename Kind, int P, int V>
BIPER_INLINE void sum_runs(const Runs& runs, const OperandsOf<Kind>& from, std::int64_t start,
                           [[maybe_unused]] int block, typename Kind::Sum (&sums)[P][V]) {
  for (int row = 0; row < runs.rows; ++row) {
    for (int column = 0; column < runs.columns; ++column) {
      const std::int64_t run_in = start + row * runs.row_in + column * runs.column_in;
      const std::int64_t run_weight = row * runs.row_weight + column * runs.column_weight;
      // One input of each pixel, one vector of weights of each block.
      const auto step = [&](auto& totals, int i, [[maybe_unused]] auto single) BIPER_INLINE_LAMBDA {
        const auto* x = from.in + run_in;
        if constexpr (Kind::kForm == Form::kDepthwise)
          x += block * kLanes;
        else
          x += i * Kind::kInputsAStep;
        const auto* w = from.weights + (run_weight + i) * kStepWeights<Kind>;
        if constexpr (Kind::kForm == Form::kMasked) {
          static_assert(V == 1);
          const auto loaded = Kind::load(w), mask = Kind::load(w + kLanes);
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
            Kind::step(totals[p][0], Kind::broadcast(x + p * runs.next_pixel), loaded, mask);
          });
        } else if constexpr (Kind::kForm == Form::kThreeRows) {
          const auto* all = from.all_rows + run_in + i;
          const auto* all_w = from.all_rows_weights + (run_weight + i) * kLanes;
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
            const std::int64_t next = p * runs.next_pixel;
            const auto a = Kind::broadcast(x + next), b = Kind::broadcast(x + runs.row_in + next);
            const auto c = Kind::broadcast(all + next);
            repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
              const auto* first_row = w + v * from.block_weights;
              Kind::step(totals[p][v], a, Kind::load(first_row), b, Kind::load(first_row + runs.row_weight * kLanes), c,
                         Kind::load(all_w + v * from.block_all_rows));
            });
          });
        } else {
          decltype(Kind::load(w)) loaded[V];
          repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { loaded[v] = Kind::load(w + v * from.block_weights); });
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
            const auto* next = x + p * runs.next_pixel;
            repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
              if constexpr (Kind::kForm == Form::kDepthwise)
                Kind::step(totals[p][v], Kind::load(next + v * kLanes), loaded[v]);
              else
                step_once<Kind, decltype(single)>(totals[p][v], Kind::broadcast(next), loaded[v]);
            });
          });
        }
      };
      if constexpr (Kind::kSteps == 0) {
        for (int i = 0; i < runs.length; ++i) step(sums, i, Constant<false>{});
        if constexpr (Kind::kForm == Form::kHalves)
          if (runs.single) step(sums, runs.length, Constant<true>{});
      } else {
        static_assert(Kind::kForm != Form::kHalves || kMaxPairs < Kind::kSteps);
        for (int begin = 0; begin < runs.length + runs.single; begin += Kind::kSteps) {
          typename Kind::Sum partial[P][V];
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
            repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { partial[p][v] = Kind::zero(); });
          });
          const int end = lesser(begin + Kind::kSteps, runs.length);
          for (int i = begin; i < end; ++i) step(partial, i, Constant<false>{});
          if constexpr (Kind::kForm == Form::kHalves)
            if (runs.single) step(partial, runs.length, Constant<true>{});
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
            repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Kind::widen(sums[p][v], partial[p][v]); });
          });
        }
      }
    }
  }
}

// Computes P pixels, starting at pixel `first` of the run, by V blocks of channels, starting at `block`. In the result
// the pixels begin at `pixel` and are `step` pixels apart, which is Constant<1> in a row. Kind says what is multiplied
// and how (see table.h). Sums that would overflow soon (bytes) are widened every kSteps steps.
template <typename Isa, typename Kind, int P, int V, typename Step>
BIPER_INLINE void tile(const Runs& runs, const OperandsOf<Kind>& from, int first, const Epilogue& e, int valid,
                       std::int64_t pixel, Step step_out, int block) {
  typename Kind::Sum sums[P][V];
  repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      if constexpr (Kind::kForm == Form::kInt8)
        sums[p][v] = Isa::load(from.initial + v * kLanes);
      else
        sums[p][v] = Kind::zero();
    });
  });
  const std::int64_t start = first * runs.next_pixel;
  if constexpr (Window<Kind>)
    sum_windows<Kind, P, V>(runs, from, start, sums);
  else
    sum_runs<Kind, P, V>(runs, from, start, block, sums);
  if constexpr (Kind::kBinary) {
    typename Isa::Integers differing[P][V];
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { differing[p][v] = Kind::differing(sums[p][v]); });
    });
    store_differing<Isa>(e, differing, valid, pixel, step_out, block);
  } else if constexpr (Kind::kForm == Form::kInt8) {
    typename Isa::Floats y[P][V];
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[p][v] = Isa::to_floats(sums[p][v]); });
    });
    store_real<Isa>(e, y, pixel, step_out, block);
  } else {
    store_real<Isa>(e, sums, pixel, step_out, block);
  }
}

// Computes pixels [first, last) of a run, which are `step` pixels apart in the result, in tiles of P. P counts down to
// the number of pixels that are left for the last.
template <typename Isa, typename Kind, int P, int V, typename Step = Constant<1>>
void tiles(const Runs& runs, const OperandsOf<Kind>& from, int first, int last, const Epilogue& e, int valid,
           std::int64_t pixel, int block, Step step = {}) {
  for (; first + P <= last; first += P)
    tile<Isa, Kind, P, V>(runs, from, first, e, valid, pixel + first * step, step, block);
  if constexpr (P > 1) {
    if (first < last) tiles<Isa, Kind, P - 1, V>(runs, from, first, last, e, valid, pixel, block, step);
  }
}

}  // namespace
}  // namespace biper
