// AVX-512 with VPOPCNTDQ: 16 output channels across the lanes of a vector, inputs broadcast, several pixels by up to
// 64 channels in registers. One step of a binary tile is xor, popcount, add; of a real one, a fused multiply-add.
// No horizontal sums; taps outside the image are skipped, which is exact zero padding.
#include <immintrin.h>

#include <algorithm>

#include "kernels.h"

namespace biper {
namespace {

// Registers hold kPixels x kVectors accumulators: 24 of 32.
constexpr int kPixels = 6, kVectors = 4;

inline __mmask16 lanes_of(int channels, int block) {
  const int left = channels - block * kLanes;
  return left >= kLanes ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << left) - 1);
}

// Step 2 to 4 of a block of 16 channels of a pixel, and the stores. Multiply and add are not fused, so that every
// instruction set gives the same floats.
inline void store_real(const Epilogue& e, __m512 y, std::int64_t pixel, int block) {
  const int first = block * kLanes, stride = round_up(e.channels, kLanes);
  if (e.multiplier) y = _mm512_mul_ps(y, _mm512_loadu_ps(e.multiplier + first));
  if (e.offset) y = _mm512_add_ps(y, _mm512_loadu_ps(e.offset + first));
  if (e.residual) y = _mm512_add_ps(y, _mm512_loadu_ps(e.residual + pixel * stride + first));
  switch (e.activation) {
    case Activation::kNone: break;
    case Activation::kClip:
      y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(e.low)), _mm512_set1_ps(e.high));
      break;
    case Activation::kRelu: y = _mm512_max_ps(y, _mm512_setzero_ps()); break;
    case Activation::kPrelu: {
      const __mmask16 negative = _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_LT_OQ);
      y = _mm512_mask_mul_ps(y, negative, y, _mm512_loadu_ps(e.slope + first));
      break;
    }
  }
  if (e.real) _mm512_storeu_ps(e.real + pixel * stride + first, y);
  if (e.bits) {
    const __mmask16 positive = _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GE_OQ);
    e.bits[pixel * (round_up(e.channels, 32) / 16) + block] = positive & lanes_of(e.channels, block);
  }
}

inline void store_sum(const Epilogue& e, __m512i sum, std::int64_t pixel, int block) {
  if (!e.threshold) return store_real(e, _mm512_cvtepi32_ps(sum), pixel, block);
  const __mmask16 above = _mm512_cmpge_epi32_mask(sum, _mm512_loadu_si512(e.threshold + block * kLanes));
  e.bits[pixel * (round_up(e.channels, 32) / 16) + block] = (above ^ e.flip[block]) & lanes_of(e.channels, block);
}

// The last 16 bits of a pixel whose channels fill only half of a word.
inline void clear_spare_bits(const Epilogue& e, int begin, int end) {
  const int blocks = round_up(e.channels, kLanes) / kLanes;
  if (!e.bits || blocks % 2 == 0) return;
  for (std::int64_t pixel = begin; pixel < end; ++pixel) e.bits[pixel * (blocks + 1) + blocks] = 0;
}

// The part of a kernel that lies inside the image, as runs of consecutive inputs: where the taps of a kernel row stand
// side by side (no dilation, no gap between pixels) the row is one run.
struct Runs {
  int rows, columns;          // taps
  std::int64_t row_in, column_in;  // from run to run in the input
  std::int64_t row_weight, column_weight;  // in the weights
  int length;                 // inputs of a run
};

inline Runs runs_of(const Geometry& g, int inside, Range ys, Range xs) {
  Runs r{ys.last - ys.first, xs.last - xs.first, static_cast<std::int64_t>(g.dilation_y) * g.width * g.stride,
         static_cast<std::int64_t>(g.dilation_x) * g.stride, static_cast<std::int64_t>(g.kernel_x) * inside, inside,
         inside};
  if (g.dilation_x == 1 && inside == g.stride) {
    r.length *= r.columns;
    r.columns = 1;
  }
  return r;
}

struct Binary {
  using Input = std::uint32_t;
  using Accumulator = __m512i;
  static Accumulator zero() { return _mm512_setzero_si512(); }
  static __m512i load(const Input* p) { return _mm512_loadu_si512(p); }
  static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static Accumulator step(Accumulator a, __m512i x, __m512i w) {
    return _mm512_add_epi32(a, _mm512_popcnt_epi32(_mm512_xor_si512(x, w)));
  }
  static void store(const Epilogue& e, Accumulator different, int valid, std::int64_t pixel, int block) {
    store_sum(e, _mm512_sub_epi32(_mm512_set1_epi32(valid), _mm512_slli_epi32(different, 1)), pixel, block);
  }
  static int inside(const Geometry& g) { return g.stride; }
};

struct Real {
  using Input = float;
  using Accumulator = __m512;
  static Accumulator zero() { return _mm512_setzero_ps(); }
  static __m512 load(const Input* p) { return _mm512_loadu_ps(p); }
  static __m512 broadcast(const Input* p) { return _mm512_set1_ps(*p); }
  static Accumulator step(Accumulator a, __m512 x, __m512 w) { return _mm512_fmadd_ps(x, w, a); }
  static void store(const Epilogue& e, Accumulator y, int, std::int64_t pixel, int block) {
    store_real(e, y, pixel, block);
  }
  static int inside(const Geometry& g) { return g.channels; }
};

// P pixels side by side, V blocks of channels from `block` on; `in` is the first tap inside of the first pixel.
template <typename Kind, int P, int V>
void tile(const Geometry& g, const Runs& runs, const typename Kind::Input* in, const typename Kind::Input* weights,
          std::int64_t block_weights, const Epilogue& e, int valid, std::int64_t pixel, int block) {
  typename Kind::Accumulator sums[P][V];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) sums[p][v] = Kind::zero();
  const std::int64_t next_pixel = static_cast<std::int64_t>(g.step_x) * g.stride;
  for (int row = 0; row < runs.rows; ++row) {
    for (int column = 0; column < runs.columns; ++column) {
      const auto* x = in + row * runs.row_in + column * runs.column_in;
      const auto* w = weights + (row * runs.row_weight + static_cast<std::int64_t>(column) * runs.column_weight) * kLanes;
      for (int i = 0; i < runs.length; ++i) {
        decltype(Kind::load(w)) loaded[V];
        for (int v = 0; v < V; ++v) loaded[v] = Kind::load(w + v * block_weights + static_cast<std::int64_t>(i) * kLanes);
        for (int p = 0; p < P; ++p) {
          const auto input = Kind::broadcast(x + p * next_pixel + i);
          for (int v = 0; v < V; ++v) sums[p][v] = Kind::step(sums[p][v], input, loaded[v]);
        }
      }
    }
  }
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) Kind::store(e, sums[p][v], valid, pixel + p, block + v);
}

template <typename Kind>
using Tile = void (*)(const Geometry&, const Runs&, const typename Kind::Input*, const typename Kind::Input*,
                      std::int64_t, const Epilogue&, int, std::int64_t, int);

// By pixels - 1 and vectors - 1.
template <typename Kind>
constexpr Tile<Kind> kTiles[kPixels][kVectors] = {
    {tile<Kind, 1, 1>, tile<Kind, 1, 2>, tile<Kind, 1, 3>, tile<Kind, 1, 4>},
    {tile<Kind, 2, 1>, tile<Kind, 2, 2>, tile<Kind, 2, 3>, tile<Kind, 2, 4>},
    {tile<Kind, 3, 1>, tile<Kind, 3, 2>, tile<Kind, 3, 3>, tile<Kind, 3, 4>},
    {tile<Kind, 4, 1>, tile<Kind, 4, 2>, tile<Kind, 4, 3>, tile<Kind, 4, 4>},
    {tile<Kind, 5, 1>, tile<Kind, 5, 2>, tile<Kind, 5, 3>, tile<Kind, 5, 4>},
    {tile<Kind, 6, 1>, tile<Kind, 6, 2>, tile<Kind, 6, 3>, tile<Kind, 6, 4>},
};

template <typename Kind>
void convolve(const Geometry& g, const typename Kind::Input* in, const typename Kind::Input* weights,
              const Epilogue& e, int begin, int end) {
  const int blocks = round_up(g.out_channels, kLanes) / kLanes, inside = Kind::inside(g);
  const std::int64_t block_weights = static_cast<std::int64_t>(g.kernel_y) * g.kernel_x * inside * kLanes;
  // Columns whose taps are all inside the image.
  int first = std::min((g.pad_left + g.step_x - 1) / g.step_x, g.out_width), last = g.out_width;
  while (last > first &&
         (last - 1) * g.step_x - g.pad_left + (g.kernel_x - 1) * g.dilation_x >= g.width)
    --last;
  for (int block = 0; block < blocks; block += kVectors) {
    const int vectors = std::min(kVectors, blocks - block);
    for (int row = begin; row < end; ++row) {
      const int top = row * g.step_y - g.pad_top;
      const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
      const std::int64_t row_pixel = static_cast<std::int64_t>(row) * g.out_width;
      for (int column = 0; column < g.out_width;) {
        const bool interior = column >= first && column < last;
        const int pixels = interior ? std::min(kPixels, last - column) : 1;
        const int left = column * g.step_x - g.pad_left;
        const Range xs = interior ? Range{0, g.kernel_x} : taps_inside(left, g.dilation_x, g.kernel_x, g.width);
        const Runs runs = runs_of(g, inside, ys, xs);
        const std::int64_t at = static_cast<std::int64_t>(top + ys.first * g.dilation_y) * g.width + left +
                                static_cast<std::int64_t>(xs.first) * g.dilation_x;
        const std::int64_t weight =
            block * block_weights + (static_cast<std::int64_t>(ys.first) * g.kernel_x + xs.first) * inside * kLanes;
        const int valid = runs.rows * (xs.last - xs.first) * g.channels;
        kTiles<Kind>[pixels - 1][vectors - 1](g, runs, in + at * g.stride, weights + weight, block_weights, e, valid,
                                              row_pixel + column, block);
        column += pixels;
      }
    }
  }
  clear_spare_bits(e, begin * g.out_width, end * g.out_width);
}

void binary_convolution(const Geometry& g, const std::uint32_t* in, const std::uint32_t* weights, const Epilogue& e,
                        int begin, int end) {
  if (g.groups != 1) return kScalar.binary_convolution(g, in, weights, e, begin, end);
  convolve<Binary>(g, in, weights, e, begin, end);
}

void convolution(const Geometry& g, const float* in, const float* weights, const Epilogue& e, int begin, int end) {
  if (g.groups != 1) return kScalar.convolution(g, in, weights, e, begin, end);
  convolve<Real>(g, in, weights, e, begin, end);
}

void pool(const Pooling& p, const float* in, const Epilogue& e, int begin, int end) {
  const int blocks = round_up(p.channels, kLanes) / kLanes, stride = blocks * kLanes;
  for (int row = begin; row < end; ++row) {
    for (int column = 0; column < p.out_width; ++column) {
      const int top = row * p.step_y - p.pad_y, left = column * p.step_x - p.pad_x;
      const int y0 = std::max(top, 0), y1 = std::min(top + p.kernel_y, p.height);
      const int x0 = std::max(left, 0), x1 = std::min(left + p.kernel_x, p.width);
      const int count = p.count_padding ? (std::min(top + p.kernel_y, p.height + p.pad_y) - top) *
                                              (std::min(left + p.kernel_x, p.width + p.pad_x) - left)
                                        : (y1 - y0) * (x1 - x0);
      for (int block = 0; block < blocks; ++block) {
        __m512 y = p.maximum ? _mm512_set1_ps(-__builtin_inff()) : _mm512_setzero_ps();
        for (int iy = y0; iy < y1; ++iy) {
          const float* x = in + static_cast<std::int64_t>(iy * p.width + x0) * stride + block * kLanes;
          for (int ix = x0; ix < x1; ++ix, x += stride) {
            const __m512 value = _mm512_loadu_ps(x);
            y = p.maximum ? _mm512_max_ps(y, value) : _mm512_add_ps(y, value);
          }
        }
        if (!p.maximum) y = _mm512_div_ps(y, _mm512_set1_ps(static_cast<float>(count)));
        store_real(e, y, static_cast<std::int64_t>(row) * p.out_width + column, block);
      }
    }
  }
  clear_spare_bits(e, begin * p.out_width, end * p.out_width);
}

void elementwise(const float* in, const Epilogue& e, int begin, int end) {
  const int blocks = round_up(e.channels, kLanes) / kLanes;
  for (std::int64_t pixel = begin; pixel < end; ++pixel)
    for (int block = 0; block < blocks; ++block)
      store_real(e, _mm512_loadu_ps(in + (pixel * blocks + block) * kLanes), pixel, block);
  clear_spare_bits(e, begin, end);
}

}  // namespace

const Kernels kAvx512{"avx512", binary_convolution, convolution, pool, elementwise};

}  // namespace biper
