// The kernels in terms of blocks of 16 channels, for instruction sets that compute a block at once.
//
// A file for an instruction set defines a struct of primitives (see kernels/avx512.cc for the list) and instantiates
// these templates with it. Everything here has internal linkage: each file is compiled for its own instruction set, and
// the linker must never take one file's copy of a function for another's. For the same reason nothing here calls
// functions of the standard library.
#pragma once

#include <cstdint>

#include "kernels.h"

#if defined(_MSC_VER)
#define BIPER_INLINE __forceinline
#define BIPER_INLINE_LAMBDA [[msvc::forceinline]]
#else
#define BIPER_INLINE inline __attribute__((always_inline))
#define BIPER_INLINE_LAMBDA __attribute__((always_inline))
#endif

namespace biper {
namespace {

constexpr int kMaxAllRows = 4096;  // words of a row of the image that are combined with those of two others, on the stack

inline int lesser(int a, int b) { return a < b ? a : b; }
inline int greater(int a, int b) { return a > b ? a : b; }
inline int blocks_of(int channels) { return (channels + kLanes - 1) / kLanes; }

// The bits of a block that are channels.
inline std::uint16_t lanes_of(int channels, int block) {
  const int left = channels - block * kLanes;
  return left >= kLanes ? 0xffff : static_cast<std::uint16_t>((1u << left) - 1);
}

// A loop of constant length whose counter is a constant in its body, so that arrays indexed by it stay in registers.
template <int N>
struct Constant {
  constexpr operator int() const { return N; }
};
template <int N, int I = 0, typename F>
BIPER_INLINE void repeat(F&& body) {
  if constexpr (I < N) {
    body(Constant<I>{});
    repeat<N, I + 1>(body);
  }
}

// The epilogue and the stores of P pixels side by side by V blocks of channels. Multiply and add are not fused, so that
// every instruction set gives the same floats.
template <typename Isa, int P, int V>
BIPER_INLINE void store_real(const Epilogue& e, typename Isa::Floats (&y)[P][V], std::int64_t pixel, int block) {
  const int first = block * kLanes, stride = blocks_of(e.channels) * kLanes, halves = halves_of(e.channels);
  const auto each = [&](auto&& change) BIPER_INLINE_LAMBDA {
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA { change(y[p][v], (pixel + p) * stride + first + v * kLanes, v); });
    });
  };
  const auto by_channel = [&](const float* values, auto v) BIPER_INLINE_LAMBDA { return Isa::load(values + first + v * kLanes); };
  if (e.multiplier)
    each([&](auto& x, std::int64_t, auto v) BIPER_INLINE_LAMBDA { x = Isa::multiply(x, by_channel(e.multiplier, v)); });
  if (e.offset) each([&](auto& x, std::int64_t, auto v) BIPER_INLINE_LAMBDA { x = Isa::add(x, by_channel(e.offset, v)); });
  if (e.residual)
    each([&](auto& x, std::int64_t at, auto) BIPER_INLINE_LAMBDA { x = Isa::add(x, Isa::load(e.residual + at)); });
  switch (e.activation) {
    case Activation::kNone: break;
    case Activation::kClip:
      each([&](auto& x, std::int64_t, auto) BIPER_INLINE_LAMBDA {
        x = Isa::smaller(Isa::larger(x, Isa::all(e.low)), Isa::all(e.high));
      });
      break;
    case Activation::kRelu:
      each([&](auto& x, std::int64_t, auto) BIPER_INLINE_LAMBDA { x = Isa::larger(x, Isa::all(0)); });
      break;
    case Activation::kPrelu:
      each([&](auto& x, std::int64_t, auto v) BIPER_INLINE_LAMBDA { x = Isa::prelu(x, by_channel(e.slope, v)); });
      break;
  }
  if (e.real) each([&](auto& x, std::int64_t at, auto) BIPER_INLINE_LAMBDA { Isa::store(e.real + at, x); });
  if (e.bits)
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      const std::uint16_t lanes = lanes_of(e.channels, block + v);
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
        e.bits[(pixel + p) * halves + block + v] = Isa::not_negative(y[p][v]) & lanes;
      });
    });
}

// The same for one block of a pixel.
template <typename Isa>
BIPER_INLINE void store_real(const Epilogue& e, typename Isa::Floats y, std::int64_t pixel, int block) {
  typename Isa::Floats one[1][1] = {{y}};
  store_real<Isa>(e, one, pixel, block);
}

// The same for binary tiles, from the differing bits of `valid` products each.
template <typename Isa, int P, int V>
BIPER_INLINE void store_differing(const Epilogue& e, typename Isa::Integers (&differing)[P][V], int valid, std::int64_t pixel,
                                  int block) {
  if (e.threshold) {
    const int halves = halves_of(e.channels);
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      const auto most = Isa::most_differing(valid, Isa::load(e.threshold + (block + v) * kLanes));
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
        e.bits[(pixel + p) * halves + block + v] = Isa::at_most(differing[p][v], most);
      });
    });
    return;
  }
  typename Isa::Floats y[P][V];
  repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[p][v] = Isa::sum(valid, differing[p][v]); });
  });
  store_real<Isa>(e, y, pixel, block);
}

// The last 16 bits of a pixel whose channels fill only half of a word.
inline void clear_spare_bits(const Epilogue& e, std::int64_t begin, std::int64_t end) {
  const int blocks = blocks_of(e.channels);
  if (!e.bits || blocks % 2 == 0 || blocks == 1) return;
  for (std::int64_t pixel = begin; pixel < end; ++pixel) e.bits[pixel * (blocks + 1) + blocks] = 0;
}

// How a kind takes its inputs: a tap at a time; two taps in a word at a time, and the odd one in half a word; the three rows of
// a kernel at once, with the xor of all three precomputed; each channel for itself (depthwise); four levels at a time.
enum class Form { kTaps, kHalves, kThreeRows, kDepthwise, kInt8 };

// The inputs that a tile multiplies: runs of consecutive ones, at the same distances for every pixel. Where the taps of a
// kernel row stand side by side (no dilation, no gap between pixels) the row is one run.
struct Runs {
  int rows, columns;                       // of runs
  std::int64_t row_in, column_in;          // from run to run in the input
  std::int64_t row_weight, column_weight;  // and in the weights
  int length;                              // inputs of a run; halves: pairs of taps,
  bool single;                             // and whether one more tap follows
  std::int64_t next_pixel;                 // from pixel to pixel in the input
};

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
  if (g.dilation_x == 1 && inside == g.stride && Kind::kForm != Form::kHalves) {
    r.length *= r.columns;
    r.columns = 1;
  }
  return r;
}

// What the tiles of a row of pixels read, from the first tap that they multiply on.
template <typename Input, typename Weight>
struct Operands {
  const Input* in;
  const Weight* weights;
  std::int64_t block_weights;  // from block to block
  // Three rows: the second is runs.row_in and runs.row_weight beyond the first.
  const Input* all_rows = nullptr;
  const Weight* all_rows_weights = nullptr;
  std::int64_t block_all_rows = 0;
  const std::int32_t* initial = nullptr;  // int8: what the sums begin with
};
template <typename Kind>
using OperandsOf = Operands<typename Kind::Input, typename Kind::Weight>;

// P pixels side by side from pixel `first` on, V blocks of channels from `block` on. A kind says what is multiplied and how.
// Kinds whose sums overflow soon (bytes) are widened every kSteps.
template <typename Isa, typename Kind, int P, int V>
BIPER_INLINE void tile(const Runs& runs, const OperandsOf<Kind>& from, int first, const Epilogue& e, int valid,
                       std::int64_t pixel, int block) {
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
        const auto* w = from.weights + (run_weight + i) * kLanes;
        if constexpr (Kind::kForm == Form::kThreeRows) {
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
              else if constexpr (Kind::kForm == Form::kHalves && single)
                Kind::step_single(totals[p][v], Kind::broadcast(next), loaded[v]);
              else
                Kind::step(totals[p][v], Kind::broadcast(next), loaded[v]);
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
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA { repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { partial[p][v] = Kind::zero(); }); });
          const int end = lesser(begin + Kind::kSteps, runs.length);
          for (int i = begin; i < end; ++i) step(partial, i, Constant<false>{});
          if constexpr (Kind::kForm == Form::kHalves)
            if (runs.single) step(partial, runs.length, Constant<true>{});
          repeat<P>([&](auto p) BIPER_INLINE_LAMBDA { repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Kind::widen(sums[p][v], partial[p][v]); }); });
        }
      }
    }
  }
  if constexpr (Kind::kBinary) {
    typename Isa::Integers differing[P][V];
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { differing[p][v] = Kind::differing(sums[p][v]); });
    });
    store_differing<Isa>(e, differing, valid, pixel, block);
  } else if constexpr (Kind::kForm == Form::kInt8) {
    typename Isa::Floats y[P][V];
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[p][v] = Isa::to_floats(sums[p][v]); });
    });
    store_real<Isa>(e, y, pixel, block);
  } else {
    store_real<Isa>(e, sums, pixel, block);
  }
}

// Pixels [first, last) of a row, a tile at a time; at the end P counts down to the size of the last one.
template <typename Isa, typename Kind, int P, int V>
void tiles(const Runs& runs, const OperandsOf<Kind>& from, int first, int last, const Epilogue& e, int valid,
           std::int64_t pixel, int block) {
  for (; first + P <= last; first += P) tile<Isa, Kind, P, V>(runs, from, first, e, valid, pixel + first, block);
  if constexpr (P > 1) {
    if (first < last) tiles<Isa, Kind, P - 1, V>(runs, from, first, last, e, valid, pixel, block);
  }
}

// The columns of the result whose taps are all inside of the image.
inline Range whole_columns(const Geometry& g) {
  Range columns{lesser((g.pad_left + g.step_x - 1) / g.step_x, g.out_width), g.out_width};
  while (columns.last > columns.first &&
         (columns.last - 1) * g.step_x - g.pad_left + (g.kernel_x - 1) * g.dilation_x >= g.width)
    --columns.last;
  return columns;
}

// Rows [begin, end) of a group's convolution, for some of its blocks of output channels.
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

// V blocks from `block` on. Taps outside of the image are skipped.
template <typename Isa, typename Kind, int V>
void convolve_blocks(const Job<Kind>& job, int block) {
  const Geometry& g = job.g;
  const std::int64_t kernel_row = static_cast<std::int64_t>(g.kernel_x) * job.inside * kLanes;
  const std::int64_t block_weights = g.kernel_y * kernel_row, row_in = static_cast<std::int64_t>(g.width) * g.stride;
  const int pairs = (g.kernel_x + 1) / 2;
  const Range whole = whole_columns(g);
  for (int row = job.begin; row < job.end; ++row) {
    const int top = row * g.step_y - g.pad_top;
    const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
    const int row_valid = (ys.last - ys.first) * (g.channels / g.groups);
    const std::int64_t pixel = static_cast<std::int64_t>(row) * g.out_width;
    // Tap (ys.first, 0) of the pixel in column `left` of the input.
    const auto at = [&](int left) { return job.in + (top + ys.first * g.dilation_y) * row_in + std::int64_t{left} * g.stride; };
    const auto* weights = job.weights + block * block_weights + ys.first * kernel_row;
    const auto border = [&](int begin, int end) {
      for (int column = begin; column < end; ++column) {
        const int left = column * g.step_x - g.pad_left;
        const Range xs = taps_inside(left, g.dilation_x, g.kernel_x, g.width);
        OperandsOf<Kind> from{at(left + xs.first * g.dilation_x), weights + std::int64_t{xs.first} * job.inside * kLanes,
                              block_weights};
        tile<Isa, Kind, 1, V>(runs_of<Kind>(g, job.inside, ys, xs), from, 0, job.e, row_valid * (xs.last - xs.first),
                              pixel + column, block);
      }
    };
    border(0, whole.first);
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
      }
    }
    if constexpr (Kind::kForm == Form::kTaps && requires { typename Kind::ThreeRows; }) {
      if (job.all_rows && ys.last - ys.first == 3 && row_in <= kMaxAllRows) {
        typename Kind::Input all[kMaxAllRows];
        const auto* x = at(0);
        for (std::int64_t i = 0; i < row_in; ++i) all[i] = x[i] ^ x[i + runs.row_in] ^ x[i + 2 * runs.row_in];
        from.all_rows = all - std::int64_t{g.pad_left} * g.stride;
        from.all_rows_weights = job.all_rows + block * kernel_row;
        from.block_all_rows = kernel_row;
        runs.rows = 1;
        whole_tiles(typename Kind::ThreeRows{});
        border(whole.last, g.out_width);
        continue;
      }
    }
    whole_tiles(Kind{});
    border(whole.last, g.out_width);
  }
}

// The levels of `count` neighbouring values.
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

template <typename Isa>
void round_to_levels(const Geometry& g, const Levels& l, const float* in, std::uint8_t* levels, int begin, int end) {
  // A kernel may end within the padding on the left.
  const int columns = greater(lesser(g.width, g.padded_width() - g.pad_left), 0);
  for (int row = begin; row < end; ++row) {
    std::uint8_t* out = levels + static_cast<std::int64_t>(row) * l.row_stride;
    const bool inside = row >= g.pad_top && row - g.pad_top < g.height;
    const int first = inside ? lesser(g.pad_left * g.channels, l.row_stride) : l.row_stride, last = inside ? first + columns * g.channels : first;
    for (int i = 0; i < first; ++i) out[i] = static_cast<std::uint8_t>(l.zero);
    for (int i = last; i < l.row_stride; ++i) out[i] = static_cast<std::uint8_t>(l.zero);
    if (!inside) continue;
    const float* x = in + static_cast<std::int64_t>(row - g.pad_top) * g.width * g.stride;
    if (g.stride == g.channels) {
      round_values<Isa>(l, x, out + first, columns * g.channels);
    } else {
      for (int column = 0; column < columns; ++column)
        round_values<Isa>(l, x + static_cast<std::int64_t>(column) * g.stride, out + first + column * g.channels, g.channels);
    }
  }
}

template <typename Isa, int V = Isa::Int8::kVectors>
void int8_row(const Geometry& g, const Levels& l, const std::uint8_t* levels, const std::uint32_t* weights,
              const std::int32_t* initial, const Epilogue& e, int row, int block) {
  using Int8 = typename Isa::Int8;
  const int quads = g.run_quads(), end = blocks_of(g.out_channels);
  const std::int64_t kernel_row = static_cast<std::int64_t>(g.row_runs()) * quads;
  const Runs runs{g.kernel_y, g.row_runs(), std::int64_t{g.dilation_y} * l.row_stride,
                  std::int64_t{g.dilation_x} * g.channels, kernel_row, quads, quads, false,
                  std::int64_t{g.step_x} * g.channels};
  for (; block + V <= end; block += V) {
    OperandsOf<Int8> from{levels + static_cast<std::int64_t>(row) * g.step_y * l.row_stride,
                          weights + block * g.kernel_y * kernel_row * kLanes, g.kernel_y * kernel_row * kLanes};
    from.initial = initial + block * kLanes;
    tiles<Isa, Int8, Int8::pixels(V), V>(runs, from, 0, g.out_width, e, 0, static_cast<std::int64_t>(row) * g.out_width, block);
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

// Blocks [block, end): as many at once as fit into registers, then the rest; V counts down to it.
template <typename Isa, typename Kind, int V = Kind::kVectors>
void convolve(const Job<Kind>& job, int block, int end) {
  for (; block + V <= end; block += V) convolve_blocks<Isa, Kind, V>(job, block);
  if constexpr (V > 1) {
    if (block < end) convolve<Isa, Kind, V - 1>(job, block, end);
  }
}

// Groups go one after another: where their channels begin and end with a word (or half) of bits and a block of results.
template <typename Isa>
void binary_convolution(const Geometry& g, const std::uint16_t* in, const BitWeights& weights, const Epilogue& e, int begin,
                        int end) {
  const int inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  const bool halves = inside <= 16;
  if (g.groups != 1 && (outside % kLanes != 0 || inside % (halves ? 16 : 32) != 0))
    return kScalar.binary_convolution(g, in, weights, e, begin, end);
  Geometry words = g;
  words.stride /= 2;
  for (int group = 0; group < g.groups; ++group) {
    const int first = group * outside / kLanes, last = first + blocks_of(outside);
    const auto* x = in + group * inside / 16;
    if (halves)
      convolve<Isa>(Job<typename Isa::Halves>{g, x, 1, weights.taps, nullptr, weights.pairs, e, begin, end}, first, last);
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
    convolve<Isa>(Job<typename Isa::Depthwise>{g, in, 1, weights, nullptr, nullptr, e, begin, end}, 0, blocks_of(g.channels));
  } else if (g.groups != 1 && outside % kLanes != 0) {
    return kScalar.convolution(g, in, weights, e, begin, end);
  } else {
    for (int group = 0; group < g.groups; ++group) {
      const Job<typename Isa::Real> job{g, in + group * inside, inside, weights, nullptr, nullptr, e, begin, end};
      convolve<Isa>(job, group * outside / kLanes, group * outside / kLanes + blocks_of(outside));
    }
  }
  clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

template <typename Isa, int Points>
void transform_row(const RowTransform& t, const float* padded, float* out) {
  for (int tile = 0; tile < t.tiles; ++tile) {
    for (int first = 0; first < t.inside; first += kLanes) {
      const float* x = padded + tile * kTileOutputs * t.inside + first;
      typename Isa::Floats values[Points];
      repeat<Points>([&](auto i) BIPER_INLINE_LAMBDA { values[i] = Isa::load(x + i * t.inside); });
      // Where a point has less than a vector of values, the next one overwrites the rest.
      repeat<Points>([&](auto j) BIPER_INLINE_LAMBDA {
        auto sum = Isa::multiply(values[0], Isa::all(t.in[j][0]));
        repeat<Points - 1>([&](auto i) BIPER_INLINE_LAMBDA {
          sum = Isa::multiply_add(values[i + 1], Isa::all(t.in[j][i + 1]), sum);
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
    for (int column = 0; column < columns; ++column)
      for (int c = 0; c < g.channels; ++c)
        padded[(g.pad_left + column) * g.channels + c] = x[static_cast<std::int64_t>(column) * g.stride + c];
    float* out = transformed + static_cast<std::int64_t>(row) * t.row_stride();
    t.points == 6 ? transform_row<Isa, 6>(t, padded, out) : transform_row<Isa, 7>(t, padded, out);
  }
}

// V blocks from `block` on, some tiles at a time: the sums of each point, then the results.
template <typename Isa, int V = Isa::Real::kVectors>
void transformed_blocks(const Geometry& g, const RowTransform& t, const float* transformed, const float* weights,
                        const Epilogue& e, int row, int block, int end) {
  using Real = typename Isa::Real;
  constexpr int kTiles = 2 * Real::pixels(V);
  float sums[kMaxPoints][kTiles * V * kLanes];
  const int top = row * g.step_y - g.pad_top;
  const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
  const std::int64_t tap = std::int64_t{t.inside} * kLanes, block_weights = g.kernel_y * tap;
  const Runs runs{ys.last - ys.first, 1, std::int64_t{g.dilation_y} * t.row_stride(), 0, t.inside, 0, t.inside, false,
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
          for (int j = 1; j < t.points; ++j) y[0][v] = Isa::multiply_add(Isa::load(sums[j] + at), Isa::all(out[j]), y[0][v]);
        });
        store_real<Isa>(e, y, static_cast<std::int64_t>(row) * g.out_width + column, block);
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

// The window of a pixel, cut at the border of the image.
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

// Blocks [block, end) of a pixel, V at once; V counts down for the rest.
template <typename Isa, int V = 4>
void pool_pixel(const Pooling& p, const float* in, const Window& w, const Epilogue& e, std::int64_t pixel, int block) {
  const int blocks = blocks_of(p.channels), stride = blocks * kLanes;
  for (; block + V <= blocks; block += V) {
    typename Isa::Floats y[1][V];
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[0][v] = Isa::all(p.maximum ? -__builtin_inff() : 0.0f); });
    for (int iy = w.y0; iy < w.y1; ++iy) {
      const float* x = in + (static_cast<std::int64_t>(iy) * p.width + w.x0) * stride + block * kLanes;
      for (int ix = w.x0; ix < w.x1; ++ix, x += stride)
        repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
          const auto value = Isa::load(x + v * kLanes);
          y[0][v] = p.maximum ? Isa::larger(y[0][v], value) : Isa::add(y[0][v], value);
        });
    }
    if (!p.maximum) {
      // By multiplication where that is exact, as it is for most windows: a division takes ten times as long.
      const bool exact = (w.count & (w.count - 1)) == 0;
      const auto factor = Isa::all(exact ? 1.0f / static_cast<float>(w.count) : static_cast<float>(w.count));
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
        y[0][v] = exact ? Isa::multiply(y[0][v], factor) : Isa::divide(y[0][v], factor);
      });
    }
    store_real<Isa>(e, y, pixel, block);
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

template <typename Isa>
void elementwise_blocks(const float* in, const Epilogue& e, int begin, int end) {
  const int blocks = blocks_of(e.channels);
  for (std::int64_t pixel = begin; pixel < end; ++pixel)
    for (int block = 0; block < blocks; ++block)
      store_real<Isa>(e, Isa::load(in + (pixel * blocks + block) * kLanes), pixel, block);
  clear_spare_bits(e, begin, end);
}

template <typename Kind>
std::uint32_t peak_of(std::int64_t rounds) {
  constexpr int V = Kind::kVectors, P = Kind::pixels(V), kPart = Kind::kSteps ? Kind::kSteps : 1 << 20;
  std::uint32_t weights[V * kLanes], inputs[P];
  for (int i = 0; i < V * kLanes; ++i) weights[i] = static_cast<std::uint32_t>(i + 1) * 0x01234567u;
  for (int p = 0; p < P; ++p) inputs[p] = static_cast<std::uint32_t>(p + 1) * 0x9e3779b9u;
  decltype(Kind::load(weights)) w[V];
  repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { w[v] = Kind::load(weights + v * kLanes); });
  typename Kind::Sum total = Kind::zero();
  for (std::int64_t start = 0; start < rounds; start += kPart) {
    typename Kind::Sum sums[P][V];
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA { repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { sums[p][v] = Kind::zero(); }); });
    const std::int64_t stop = start + kPart < rounds ? start + kPart : rounds;
    for (std::int64_t i = start; i < stop; ++i) {
      __asm__ volatile("" : : "r"(inputs) : "memory");  // the inputs are read again each time, as in a tile
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
        const auto input = Kind::broadcast(inputs + p);
        repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Kind::step(sums[p][v], input, w[v]); });
      });
    }
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA { repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Kind::widen(total, sums[p][v]); }); });
  }
  std::int32_t lanes[kLanes];
  Kind::store(lanes, total);
  std::uint32_t result = 0;
  for (std::int32_t lane : lanes) result += static_cast<std::uint32_t>(lane);
  return result;
}

// The function table of an instruction set.
template <typename Isa>
constexpr Kernels kernels_of(const char* name) {
  return {name,
          binary_convolution<Isa>,
          convolution<Isa>,
          round_to_levels<Isa>,
          int8_convolution<Isa>,
          transform_rows<Isa>,
          transformed_convolution<Isa>,
          pool_blocks<Isa>,
          elementwise_blocks<Isa>,
          peak_of<typename Isa::Binary>,
          Isa::Binary::pixels(Isa::Binary::kVectors) * Isa::Binary::kVectors * kLanes * 32};
}

}  // namespace
}  // namespace biper
