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
#else
#define BIPER_INLINE inline __attribute__((always_inline))
#endif

namespace biper {
namespace {

inline int lesser(int a, int b) { return a < b ? a : b; }
inline int greater(int a, int b) { return a > b ? a : b; }
inline int blocks_of(int channels) { return (channels + kLanes - 1) / kLanes; }
inline int halves_of(int channels) { return (channels + 31) / 32 * 2; }  // 16-bit halves of a pixel's bits

// The bits of a block that are channels.
inline std::uint16_t lanes_of(int channels, int block) {
  const int left = channels - block * kLanes;
  return left >= kLanes ? 0xffff : static_cast<std::uint16_t>((1u << left) - 1);
}

// Steps 2 to 4 of a block of a pixel, and the stores. Multiply and add are not fused, so that every instruction set
// gives the same floats.
template <typename Isa>
inline void store_real(const Epilogue& e, typename Isa::Floats y, std::int64_t pixel, int block) {
  const int first = block * kLanes;
  const std::int64_t at = pixel * blocks_of(e.channels) * kLanes + first;
  if (e.multiplier) y = Isa::multiply(y, Isa::load(e.multiplier + first));
  if (e.offset) y = Isa::add(y, Isa::load(e.offset + first));
  if (e.residual) y = Isa::add(y, Isa::load(e.residual + at));
  switch (e.activation) {
    case Activation::kNone: break;
    case Activation::kClip: y = Isa::smaller(Isa::larger(y, Isa::all(e.low)), Isa::all(e.high)); break;
    case Activation::kRelu: y = Isa::larger(y, Isa::all(0)); break;
    case Activation::kPrelu: y = Isa::prelu(y, Isa::load(e.slope + first)); break;
  }
  if (e.real) Isa::store(e.real + at, y);
  if (e.bits) e.bits[pixel * halves_of(e.channels) + block] = Isa::not_negative(y) & lanes_of(e.channels, block);
}

template <typename Isa>
inline void store_sum(const Epilogue& e, typename Isa::Integers sum, std::int64_t pixel, int block) {
  if (!e.threshold) return store_real<Isa>(e, Isa::to_floats(sum), pixel, block);
  const std::uint16_t above = Isa::at_least(sum, Isa::load(e.threshold + block * kLanes));
  e.bits[pixel * halves_of(e.channels) + block] = (above ^ e.flip[block]) & lanes_of(e.channels, block);
}

// The last 16 bits of a pixel whose channels fill only half of a word.
inline void clear_spare_bits(const Epilogue& e, std::int64_t begin, std::int64_t end) {
  const int blocks = blocks_of(e.channels);
  if (!e.bits || blocks % 2 == 0) return;
  for (std::int64_t pixel = begin; pixel < end; ++pixel) e.bits[pixel * (blocks + 1) + blocks] = 0;
}

// The part of a kernel that lies inside the image, as runs of consecutive inputs: where the taps of a kernel row stand
// side by side (no dilation, no gap between pixels) the row is one run.
struct Runs {
  int rows, columns;                       // of taps
  std::int64_t row_in, column_in;          // from run to run in the input
  std::int64_t row_weight, column_weight;  // and in the weights
  int length;                              // inputs of a run
};

inline Runs runs_of(const Geometry& g, int inside, Range ys, Range xs) {
  Runs r{ys.last - ys.first,
         xs.last - xs.first,
         static_cast<std::int64_t>(g.dilation_y) * g.width * g.stride,
         static_cast<std::int64_t>(g.dilation_x) * g.stride,
         static_cast<std::int64_t>(g.kernel_x) * inside,
         inside,
         inside};
  if (g.dilation_x == 1 && inside == g.stride) {
    r.length *= r.columns;
    r.columns = 1;
  }
  return r;
}

// P pixels side by side, V blocks of channels from `block` on; `in` is the first tap inside of the first pixel. A kind
// says what is multiplied: `Isa::Binary` or `Isa::Real`. Kinds whose accumulators overflow (bytes) are widened in time.
template <typename Isa, typename Kind, int P, int V>
BIPER_INLINE void tile(const Geometry& g, const Runs& runs, const typename Kind::Input* in, const typename Kind::Input* weights,
          std::int64_t block_weights, const Epilogue& e, int valid, std::int64_t pixel, int block) {
  typename Kind::Accumulator sums[P][V];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) sums[p][v] = Kind::zero();
  const std::int64_t next_pixel = static_cast<std::int64_t>(g.step_x) * g.stride;
  for (int row = 0; row < runs.rows; ++row) {
    for (int column = 0; column < runs.columns; ++column) {
      const auto* x = in + row * runs.row_in + column * runs.column_in;
      const auto* w = weights + (row * runs.row_weight + column * runs.column_weight) * kLanes;
      const auto step = [&](auto& totals, int i) {
        decltype(Kind::load(w)) loaded[V];
        for (int v = 0; v < V; ++v) loaded[v] = Kind::load(w + v * block_weights + static_cast<std::int64_t>(i) * kLanes);
        for (int p = 0; p < P; ++p) {
          const auto input = Kind::broadcast(x + p * next_pixel + i);
          for (int v = 0; v < V; ++v) totals[p][v] = Kind::step(totals[p][v], input, loaded[v]);
        }
      };
      if constexpr (Kind::kSteps == 0) {
        for (int i = 0; i < runs.length; ++i) step(sums, i);
      } else {
        for (int start = 0; start < runs.length; start += Kind::kSteps) {
          typename Kind::Partial partial[P][V];
          for (int p = 0; p < P; ++p)
            for (int v = 0; v < V; ++v) partial[p][v] = Kind::partial_zero();
          const int stop = lesser(start + Kind::kSteps, runs.length);
          for (int i = start; i < stop; ++i) step(partial, i);
          for (int p = 0; p < P; ++p)
            for (int v = 0; v < V; ++v) sums[p][v] = Kind::widen(sums[p][v], partial[p][v]);
        }
      }
    }
  }
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) Kind::finish(e, sums[p][v], valid, pixel + p, block + v);
}

// A tile of less than the usual number of pixels: P counts down to it.
template <typename Isa, typename Kind, int P, int V>
void smaller_tile(int pixels, const Geometry& g, const Runs& runs, const typename Kind::Input* in,
                  const typename Kind::Input* weights, std::int64_t block_weights, const Epilogue& e, int valid,
                  std::int64_t pixel, int block) {
  if constexpr (P > 1) {
    if (pixels < P)
      return smaller_tile<Isa, Kind, P - 1, V>(pixels, g, runs, in, weights, block_weights, e, valid, pixel, block);
  }
  tile<Isa, Kind, P, V>(g, runs, in, weights, block_weights, e, valid, pixel, block);
}

// Rows [begin, end) of V blocks of output channels.
template <typename Isa, typename Kind, int V>
void convolve_blocks(const Geometry& g, const typename Kind::Input* in, const typename Kind::Input* weights,
                     const Epilogue& e, int begin, int end, int block) {
  constexpr int P = Kind::pixels(V);
  const int inside = Kind::inside(g);
  const std::int64_t taps = static_cast<std::int64_t>(g.kernel_y) * g.kernel_x, block_weights = taps * inside * kLanes;
  // Columns whose taps are all inside the image.
  const int first = lesser((g.pad_left + g.step_x - 1) / g.step_x, g.out_width);
  int last = g.out_width;
  while (last > first && (last - 1) * g.step_x - g.pad_left + (g.kernel_x - 1) * g.dilation_x >= g.width) --last;
  for (int row = begin; row < end; ++row) {
    const int top = row * g.step_y - g.pad_top;
    const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
    const std::int64_t row_in = static_cast<std::int64_t>(top + ys.first * g.dilation_y) * g.width;
    const std::int64_t row_out = static_cast<std::int64_t>(row) * g.out_width;
    const auto* row_weights = weights + block * block_weights + ys.first * static_cast<std::int64_t>(g.kernel_x) * inside * kLanes;
    const Runs whole = runs_of(g, inside, ys, Range{0, g.kernel_x});
    const int whole_valid = (ys.last - ys.first) * g.kernel_x * g.channels;
    for (int column = 0; column < g.out_width;) {
      const int left = column * g.step_x - g.pad_left;
      if (column >= first && column < last) {
        const auto* x = in + (row_in + left) * g.stride;
        const int pixels = lesser(P, last - column);
        if (pixels == P)
          tile<Isa, Kind, P, V>(g, whole, x, row_weights, block_weights, e, whole_valid, row_out + column, block);
        else
          smaller_tile<Isa, Kind, P, V>(pixels, g, whole, x, row_weights, block_weights, e, whole_valid,
                                        row_out + column, block);
        column += pixels;
        continue;
      }
      const Range xs = taps_inside(left, g.dilation_x, g.kernel_x, g.width);
      const auto* x = in + (row_in + left + xs.first * g.dilation_x) * g.stride;
      const int valid = (ys.last - ys.first) * (xs.last - xs.first) * g.channels;
      tile<Isa, Kind, 1, V>(g, runs_of(g, inside, ys, xs), x,
                            row_weights + static_cast<std::int64_t>(xs.first) * inside * kLanes, block_weights, e, valid,
                            row_out + column, block);
      ++column;
    }
  }
}

// As many blocks at once as fit into registers, then the rest: V counts down to it.
template <typename Isa, typename Kind, int V = Kind::kVectors>
void convolve(const Geometry& g, const typename Kind::Input* in, const typename Kind::Input* weights, const Epilogue& e,
              int begin, int end, int block = 0) {
  const int blocks = blocks_of(g.out_channels);
  for (; block + V <= blocks; block += V) convolve_blocks<Isa, Kind, V>(g, in, weights, e, begin, end, block);
  if constexpr (V > 1) {
    if (block < blocks) convolve<Isa, Kind, V - 1>(g, in, weights, e, begin, end, block);
  }
  if constexpr (V == Kind::kVectors)
    clear_spare_bits(e, static_cast<std::int64_t>(begin) * g.out_width, static_cast<std::int64_t>(end) * g.out_width);
}

template <typename Isa>
void pool_blocks(const Pooling& p, const float* in, const Epilogue& e, int begin, int end) {
  const int blocks = blocks_of(p.channels), stride = blocks * kLanes;
  for (int row = begin; row < end; ++row) {
    for (int column = 0; column < p.out_width; ++column) {
      const int top = row * p.step_y - p.pad_y, left = column * p.step_x - p.pad_x;
      const int y0 = greater(top, 0), y1 = lesser(top + p.kernel_y, p.height);
      const int x0 = greater(left, 0), x1 = lesser(left + p.kernel_x, p.width);
      const int count = p.count_padding ? (lesser(top + p.kernel_y, p.height + p.pad_y) - top) *
                                              (lesser(left + p.kernel_x, p.width + p.pad_x) - left)
                                        : (y1 - y0) * (x1 - x0);
      for (int block = 0; block < blocks; ++block) {
        auto y = Isa::all(p.maximum ? -__builtin_inff() : 0.0f);
        for (int iy = y0; iy < y1; ++iy) {
          const float* x = in + (static_cast<std::int64_t>(iy) * p.width + x0) * stride + block * kLanes;
          for (int ix = x0; ix < x1; ++ix, x += stride)
            y = p.maximum ? Isa::larger(y, Isa::load(x)) : Isa::add(y, Isa::load(x));
        }
        if (!p.maximum) y = Isa::divide(y, Isa::all(static_cast<float>(count)));
        store_real<Isa>(e, y, static_cast<std::int64_t>(row) * p.out_width + column, block);
      }
    }
  }
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
  for (int v = 0; v < V; ++v) w[v] = Kind::load(weights + v * kLanes);
  typename Kind::Accumulator total = Kind::zero();
  for (std::int64_t start = 0; start < rounds; start += kPart) {
    typename Kind::Partial sums[P][V];
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < V; ++v) sums[p][v] = Kind::partial_zero();
    const std::int64_t stop = start + kPart < rounds ? start + kPart : rounds;
    for (std::int64_t i = start; i < stop; ++i) {
      __asm__ volatile("" : : "r"(inputs) : "memory");  // the inputs are read again each time, as in a tile
      for (int p = 0; p < P; ++p) {
        const auto input = Kind::broadcast(inputs + p);
        for (int v = 0; v < V; ++v) sums[p][v] = Kind::step(sums[p][v], input, w[v]);
      }
    }
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < V; ++v) total = Kind::widen(total, sums[p][v]);
  }
  std::int32_t lanes[kLanes];
  Kind::store(lanes, total);
  std::uint32_t result = 0;
  for (std::int32_t lane : lanes) result += static_cast<std::uint32_t>(lane);
  return result;
}

// The function table of an instruction set; groups go to the scalar kernels.
template <typename Isa>
constexpr Kernels kernels_of(const char* name) {
  return {name,
          [](const Geometry& g, const std::uint32_t* in, const std::uint32_t* weights, const Epilogue& e, int begin,
             int end) {
            if (g.groups != 1) return kScalar.binary_convolution(g, in, weights, e, begin, end);
            convolve<Isa, typename Isa::Binary>(g, in, weights, e, begin, end);
          },
          [](const Geometry& g, const float* in, const float* weights, const Epilogue& e, int begin, int end) {
            if (g.groups != 1) return kScalar.convolution(g, in, weights, e, begin, end);
            convolve<Isa, typename Isa::Real>(g, in, weights, e, begin, end);
          },
          pool_blocks<Isa>,
          elementwise_blocks<Isa>,
          peak_of<typename Isa::Binary>,
          Isa::Binary::pixels(Isa::Binary::kVectors) * Isa::Binary::kVectors * kLanes * 32};
}

}  // namespace
}  // namespace biper
