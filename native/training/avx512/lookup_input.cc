// The input gradient of a convolution whose weights are +1 and -1. Sixteen input channels are the lanes of a register,
// and tables hold sums of four output channels' gradients at a pixel.
#include <cmath>

#include "training/avx512/lookup.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

// Builds two tables, of eight output channels each, from the gradients of sixteen channels. From a 128-bit lane with
// the gradients a, b, c and d of four channels it computes a + b, a - b, c + d and c - d (for integers also their
// negatives), from which all places of a table are sums; see `Pick`.
struct SmallTables : Integers {
  static __m512 factor(float largest) { return largest > 0 ? units(_mm512_set1_ps(largest)) : _mm512_setzero_ps(); }

  static void build(__m512 gradients, Register* tables) {
    constexpr __mmask16 kOdd = 0xAAAA;
    const __m512i v = _mm512_cvtps_epi32(gradients), other = _mm512_shuffle_epi32(v, _MM_PERM_CDAB);
    const __m512i sum = _mm512_add_epi32(v, other), difference = _mm512_sub_epi32(v, other);
    const __m512i low = _mm512_mask_blend_epi32(kOdd, sum, difference);
    const __m512i high = _mm512_mask_blend_epi32(kOdd, difference, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
    const __m512i fours = _mm512_mask_blend_epi16(0xAAAAAAAAu, low, _mm512_slli_epi32(high, 16));
    const __m512i ab = _mm512_load_si512(kIntegerPicks.pair[0]), cd = _mm512_load_si512(kIntegerPicks.pair[1]);
    const __m512i first = _mm512_shuffle_i32x4(fours, fours, 0x50), second = _mm512_shuffle_i32x4(fours, fours, 0xFA);
    _mm512_store_si512(tables, _mm512_add_epi16(_mm512_shuffle_epi8(first, ab), _mm512_shuffle_epi8(first, cd)));
    _mm512_store_si512(tables + 1, _mm512_add_epi16(_mm512_shuffle_epi8(second, ab), _mm512_shuffle_epi8(second, cd)));
  }
};

struct FloatTables : Floats {
  static void build(__m512 gradients, Register* tables) {
    const __m512 other = _mm512_permute_ps(gradients, 0xB1);
    const __m512 fours = _mm512_mask_blend_ps(0xAAAA, _mm512_add_ps(gradients, other), _mm512_sub_ps(other, gradients));
    const auto store_table = [&](__m512 four, Register* to) {
      _mm512_store_ps(to, _mm512_add_ps(float_half(four, 0), float_half(four, 1)));
    };
    store_table(_mm512_shuffle_f32x4(fours, fours, 0x00), tables);
    store_table(_mm512_shuffle_f32x4(fours, fours, 0x55), tables + 1);
    store_table(_mm512_shuffle_f32x4(fours, fours, 0xAA), tables + 2);
    store_table(_mm512_shuffle_f32x4(fours, fours, 0xFF), tables + 3);
  }
};

// Computes the indices (taps, out / 8, in / 16) from the signs of the weights (out, taps, in).
void make_indices(const Convolution& shape, const float* weight, Register* index, ThreadPool& pool) {
  const std::int64_t taps = shape.taps(), ins = shape.in_channels, eights = shape.out_channels / 8;
  pool.run(static_cast<int>(taps * eights), [&](int part) {
    const std::int64_t tap = part / eights, eight = part % eights;
    for (std::int64_t i = 0; i < ins; i += 16) {
      __m512i bits = _mm512_set1_epi32(0x00100000);
      for (int j = 0; j < 8; ++j) {
        const __m512 w = load(weight + ((eight * 8 + j) * taps + tap) * ins + i);
        const __mmask16 positive = _mm512_cmp_ps_mask(w, _mm512_setzero_ps(), _CMP_GE_OQ);
        bits = _mm512_mask_or_epi32(bits, positive, bits, _mm512_set1_epi32(1 << (j < 4 ? j : 12 + j)));
      }
      _mm512_store_si512(index + (tap * eights + eight) * (ins / 16) + i / 16, bits);
    }
  });
}

// The tables of the output pixels of an image, on a grid with a border of zeros where taps reach beyond the pixels.
template <typename Lookup, typename T>
class Image {
 public:
  explicit Image(const Convolution& shape)
      : shape_(shape),
        reach_y_((shape.kernel_height - 1) * shape.dilation_y),
        reach_x_((shape.kernel_width - 1) * shape.dilation_x),
        width_(shape.in_width + reach_x_),
        step_(shape.out_channels / 8 * Lookup::kRegisters),
        tables_(buffer<Register>((shape.in_height + reach_y_) * width_ * step_)) {
    std::memset(static_cast<void*>(tables_.get()), 0,
                static_cast<std::size_t>((shape.in_height + reach_y_) * width_ * step_) * sizeof(Register));
  }

  // Builds the tables of grad * scale, and returns the unit of their numbers.
  float build_tables(const T* grad, const float* scale) {
    const std::int64_t outs = shape_.out_channels, count = shape_.out_pixels() * outs;
    float unit = 1;
    __m512 factor = _mm512_set1_ps(1);
    if constexpr (Lookup::kRegisters == 1) {
      __m512 largest = _mm512_setzero_ps(), check = largest;
      for (std::int64_t i = 0; i < count; i += outs)
        for (std::int64_t o = 0; o < outs; o += 16) {
          const __m512 v = _mm512_mul_ps(load(grad + i + o), load(scale + o));
          largest = _mm512_max_ps(largest, _mm512_abs_ps(v));
          check = _mm512_fmadd_ps(v, _mm512_setzero_ps(), check);  // NaN if one is not finite
        }
      const float most = _mm512_reduce_max_ps(largest);
      factor = Lookup::factor(most);
      unit = (most > 0 ? 1 / _mm512_cvtss_f32(factor) : 0) + _mm512_reduce_add_ps(check);
    }
    const std::int64_t before_y = reach_y_ - shape_.padding_y, before_x = reach_x_ - shape_.padding_x;
    for (std::int64_t y = 0; y < shape_.out_height; ++y)
      for (std::int64_t x = 0; x < shape_.out_width; ++x, grad += outs) {
        Register* to = tables_.get() + ((y + before_y) * width_ + x + before_x) * step_;
        for (std::int64_t o = 0; o < outs; o += 16, to += 2 * Lookup::kRegisters)
          Lookup::build(_mm512_mul_ps(_mm512_mul_ps(load(grad + o), load(scale + o)), factor), to);
      }
    return unit;
  }

  // Computes the gradients of kPixels input pixels, starting at (y, x), for 16 kLanes channels.
  template <int kPixels, int kLanes>
  void add_up(const Register* index, std::int64_t y, std::int64_t x, float unit, T* out) const {
    const std::int64_t lanes = shape_.in_channels / 16, eights = shape_.out_channels / 8;
    typename Lookup::Total local[kPixels][kLanes];
    for (auto& row : local)
      for (auto& total : row) total = Lookup::zero();
    for (int ky = 0; ky < shape_.kernel_height; ++ky)
      for (int kx = 0; kx < shape_.kernel_width; ++kx) {
        const std::int64_t row = y + reach_y_ - ky * shape_.dilation_y, column = x + reach_x_ - kx * shape_.dilation_x;
        const Register* table = tables_.get() + (row * width_ + column) * step_;
        for (std::int64_t e = 0; e < eights; ++e, index += lanes, table += Lookup::kRegisters) {
          __m512i at[kLanes];
          for (int v = 0; v < kLanes; ++v) at[v] = _mm512_load_si512(index + v);
#pragma GCC unroll 16
          for (int p = 0; p < kPixels; ++p) {
            const typename Lookup::Table t = Lookup::table(table + p * step_);
#pragma GCC unroll 4
            for (int v = 0; v < kLanes; ++v) local[p][v] = Lookup::add(local[p][v], at[v], t);
          }
        }
      }
    const __m512 factor = _mm512_set1_ps(unit);
    for (int p = 0; p < kPixels; ++p)
      for (int v = 0; v < kLanes; ++v)
        store(out + p * shape_.in_channels + 16 * v, _mm512_mul_ps(Lookup::value(local[p][v]), factor));
  }

 private:
  const Convolution& shape_;
  std::int64_t reach_y_, reach_x_, width_, step_;
  Buffer<Register> tables_;
};

// Computes the pixels of a row, starting at x, for 16 kLanes channels. It takes kPixels at a time, whose totals stay in
// registers, and then halves kPixels for the rest.
template <int kPixels, int kLanes, typename Lookup, typename T>
void add_columns(const Convolution& shape, const Image<Lookup, T>& image, const Register* index, std::int64_t y,
                 std::int64_t x, std::int64_t lane, float unit, T* out) {
  for (; x + kPixels <= shape.in_width; x += kPixels)
    image.template add_up<kPixels, kLanes>(index + lane, y, x, unit,
                                           out + (y * shape.in_width + x) * shape.in_channels + 16 * lane);
  if constexpr (kPixels > 1) add_columns<kPixels / 2, kLanes>(shape, image, index, y, x, lane, unit, out);
}

template <typename Lookup, typename T>
void input_gradient(const Convolution& shape, const T* grad, const float* weight, const float* scale, T* gradient,
                    ThreadPool& pool) {
  const std::int64_t lanes = shape.in_channels / 16;
  const Buffer<Register> index = buffer<Register>(shape.taps() * shape.out_channels / 8 * lanes);
  make_indices(shape, weight, index.get(), pool);
  const int parts = static_cast<int>(std::min<std::int64_t>(shape.samples, 64));
  pool.run(parts, [&](int part) {
    Image<Lookup, T> image(shape);
    for (std::int64_t n = shape.samples * part / parts; n < shape.samples * (part + 1) / parts; ++n) {
      const float unit = image.build_tables(grad + n * shape.out_pixels() * shape.out_channels, scale);
      T* out = gradient + n * shape.in_pixels() * shape.in_channels;
      for (std::int64_t y = 0; y < shape.in_height; ++y) {
        std::int64_t lane = 0;
        for (; lane + 4 <= lanes; lane += 4) add_columns<4, 4>(shape, image, index.get(), y, 0, lane, unit, out);
        for (; lane + 2 <= lanes; lane += 2) add_columns<8, 2>(shape, image, index.get(), y, 0, lane, unit, out);
        for (; lane < lanes; ++lane) add_columns<16, 1>(shape, image, index.get(), y, 0, lane, unit, out);
      }
    }
  });
}

}  // namespace

void lookup_input_gradient(Type type, const Convolution& shape, const void* grad, const float* weight,
                           const float* scale, void* gradient, ThreadPool& pool) {
  if (type == Type::kFloat)
    input_gradient<FloatTables>(shape, static_cast<const float*>(grad), weight, scale, static_cast<float*>(gradient),
                                pool);
  else
    input_gradient<SmallTables>(shape, static_cast<const Bfloat16*>(grad), weight, scale,
                                static_cast<Bfloat16*>(gradient), pool);
}

}  // namespace biper::training::BIPER_TRAINING_SET
