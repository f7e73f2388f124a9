// The weight gradient of a convolution of bits. Sixteen input channels are the lanes of a register, and tables hold
// sums of four pixels' gradients.
#include <cmath>
#include <limits>
#include <utility>

#include "training/avx512/lookup.h"
#include "training/gradient_parts.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr int kOut = 8;                    // output channels of a block
constexpr int kLanes = 3;                  // registers of sixteen input channels of a block
constexpr std::int64_t kMostPixels = 512;  // pixels whose gradients have one unit, and whose sums stay in registers
constexpr std::int64_t kBlocks = kMostPixels / 8;

// The gradients of sixteen channels at eight pixels, in the order of the bits of an index: from
// the last pixel to the first.
using Eight = __m512[8];

// Transposes registers whose lanes are channels: the 128-bit lane l of fours[k] holds a, b, c and d of channel 4 l + k.
void make_fours(__m512i a, __m512i b, __m512i c, __m512i d, __m512i (&fours)[4]) {
  const __m512i low_ab = _mm512_unpacklo_epi32(a, b), high_ab = _mm512_unpackhi_epi32(a, b);
  const __m512i low_cd = _mm512_unpacklo_epi32(c, d), high_cd = _mm512_unpackhi_epi32(c, d);
  fours[0] = _mm512_unpacklo_epi64(low_ab, low_cd), fours[1] = _mm512_unpackhi_epi64(low_ab, low_cd);
  fours[2] = _mm512_unpacklo_epi64(high_ab, high_cd), fours[3] = _mm512_unpackhi_epi64(high_ab, high_cd);
}

// Tables of integers; see `Integers`. The tables of all sixteen channels for eight pixels are neighbours in memory.
struct Integer : Integers {
  static __m512 factor(__m512 largest) { return units(largest); }
  static __m512 rounded(__m512 value) { return _mm512_roundscale_ps(value, 0); }

  static void build(const Eight& eight, Register* tables) {
    // The low half of 128 bits is for a and b, the high half for c and d: sum, difference, and both negated.
    __m512i first[4], second[4];
    for (int i = 0; i < 4; ++i) {
      const __m512i even = _mm512_cvtps_epi32(eight[2 * i]), odd = _mm512_cvtps_epi32(eight[2 * i + 1]);
      const __m512i sum = _mm512_add_epi32(even, odd), difference = _mm512_sub_epi32(even, odd);
      const auto both = [](__m512i low, __m512i high) {
        return _mm512_mask_blend_epi16(0xAAAAAAAAu, low, _mm512_slli_epi32(high, 16));
      };
      first[i] = both(sum, difference);
      second[i] = _mm512_sub_epi16(_mm512_setzero_si512(), both(difference, sum));
    }
    __m512i fours[2][4];
    for (int half = 0; half < 2; ++half)
      make_fours(first[2 * half], second[2 * half], first[2 * half + 1], second[2 * half + 1], fours[half]);
    const __m512i ab = _mm512_load_si512(kIntegerPicks.pair[0]), cd = _mm512_load_si512(kIntegerPicks.pair[1]);
    const auto table = [&]<int kLane>() {
      for (int k = 0; k < 4; ++k) {
        const __m512i four = _mm512_shuffle_i32x4(fours[0][k], fours[1][k], kLane * 0x55);
        _mm512_store_si512(tables + 4 * kLane + k,
                           _mm512_add_epi16(_mm512_shuffle_epi8(four, ab), _mm512_shuffle_epi8(four, cd)));
      }
    };
    table.operator()<0>(), table.operator()<1>(), table.operator()<2>(), table.operator()<3>();
  }
};

// Tables of floats; see `Floats`.
struct Float : Floats {
  static __m512 factor(__m512) { return _mm512_set1_ps(1); }
  static __m512 rounded(__m512 value) { return value; }

  static void build(const Eight& eight, Register* tables) {
    __m512i fours[2][4];
    for (int half = 0; half < 2; ++half) {
      const __m512 &a = eight[4 * half], &b = eight[4 * half + 1], &c = eight[4 * half + 2], &d = eight[4 * half + 3];
      make_fours(_mm512_castps_si512(_mm512_add_ps(a, b)), _mm512_castps_si512(_mm512_sub_ps(a, b)),
                 _mm512_castps_si512(_mm512_add_ps(c, d)), _mm512_castps_si512(_mm512_sub_ps(c, d)), fours[half]);
    }
    const auto table = [&]<int kLane>() {
      for (int half = 0; half < 2; ++half)
        for (int k = 0; k < 4; ++k) {
          const __m512 four = _mm512_castsi512_ps(_mm512_shuffle_i32x4(fours[half][k], fours[half][k], kLane * 0x55));
          _mm512_store_ps(tables + 2 * (4 * kLane + k) + half, _mm512_add_ps(float_half(four, 0), float_half(four, 1)));
        }
    };
    table.operator()<0>(), table.operator()<1>(), table.operator()<2>(), table.operator()<3>();
  }
};

// Computes the indices (taps, channels / 16, kBlocks); each register is for sixteen input channels.
void make_indices(const Convolution& shape, const Chunk& chunk, const std::uint8_t* image, std::int64_t first,
                  std::int64_t count, std::uint8_t* copy, Register* index) {
  const __m512i each_bit = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201ull));
  const __m512i interleave = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (int tap = 0; tap < shape.taps(); ++tap) {
    const std::uint8_t* valid = chunk.valid(tap) + first;
    for (std::int64_t g = 0; g < shape.in_channels / 8; g += 2, index += kBlocks) {
      const std::uint8_t* low = chunk.bytes(image, tap, g, first, count, copy);
      const std::uint8_t* high = chunk.bytes(image, tap, g + 1, first, count, copy + kMostPixels);
      for (std::int64_t i = 0; i < count; i += 32) {
        const auto ymm = [](const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
        const __m256i seen =
            _mm256_maskz_loadu_epi8(count - i >= 32 ? 0xFFFFFFFFu : (1u << (count - i)) - 1u, valid + i);
        const __m256i a = _mm256_and_si256(ymm(low + i), seen), b = _mm256_and_si256(ymm(high + i), seen);
        __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
        both = _mm512_gf2p8affine_epi64_epi8(each_bit, _mm512_permutexvar_epi64(interleave, both), 0);
        _mm512_store_si512(index + i / 8, indices(_mm512_castsi512_si128(both)));
        _mm512_store_si512(index + i / 8 + 1, indices(_mm512_extracti32x4_epi32(both, 1)));
        _mm512_store_si512(index + i / 8 + 2, indices(_mm512_extracti32x4_epi32(both, 2)));
        _mm512_store_si512(index + i / 8 + 3, indices(_mm512_extracti32x4_epi32(both, 3)));
      }
    }
  }
}

// totals[o][v] = the sum over blocks of what index v, one of kIndices that are kBlocks apart, finds in table o of kOut.
template <typename Lookup, int kIndices>
void add_up(const Register* tables, const Register* index, std::int64_t blocks,
            typename Lookup::Total (&totals)[kOut][kLanes]) {
  typename Lookup::Total local[kOut][kIndices];
  for (auto& row : local)
    for (auto& total : row) total = Lookup::zero();
  for (std::int64_t b = 0; b < blocks; ++b, tables += 16 * Lookup::kRegisters) {
    __m512i at[kIndices];
    for (int v = 0; v < kIndices; ++v) at[v] = _mm512_load_si512(index + v * kBlocks + b);
#pragma GCC unroll 8
    for (int o = 0; o < kOut; ++o) {
      const typename Lookup::Table table = Lookup::table(tables + o * Lookup::kRegisters);
#pragma GCC unroll 3
      for (int v = 0; v < kIndices; ++v) local[o][v] = Lookup::add(local[o][v], at[v], table);
    }
  }
  for (int o = 0; o < kOut; ++o)
    for (int v = 0; v < kIndices; ++v) totals[o][v] = local[o][v];
}

// Adds what some output pixels contribute to gradient (out, taps, in): set_pixels, then add for each sixteen channels.
template <typename Lookup, typename T>
class Pixels {
 public:
  static constexpr std::int64_t kPixels = kMostPixels;

  explicit Pixels(const Convolution& shape)
      : shape_(shape),
        rows_(shape.taps() * shape.in_channels / 16),
        index_(buffer<Register>(rows_ * kBlocks)),
        tables_(buffer<Register>(16 * kBlocks * Lookup::kRegisters)),
        values_(buffer<float>(kPixels * 16)),
        unseen_sums_(buffer<float>(shape.taps() * 16)),
        bytes_(2 * kPixels + 32),
        unseen_(static_cast<std::size_t>(shape.taps())) {}

  void set_pixels(const Chunk& chunk, const std::uint8_t* image, std::int64_t first, std::int64_t count) {
    count_ = count, blocks_ = (count + 7) / 8;
    make_indices(shape_, chunk, image, first, count, bytes_.data(), index_.get());
    chunk_ = &chunk, first_ = first;
    std::fill(unseen_.begin(), unseen_.end(), 0);
    chunk.each_unseen(first, count, [&](std::int64_t, int tap) { ++unseen_[static_cast<std::size_t>(tap)]; });
  }

  // grad points to the sixteen channels from `channel` on, at the first pixel.
  void add(const T* grad, std::int64_t channel, float* gradient) {
    const std::int64_t outs = shape_.out_channels, ins = shape_.in_channels;
    __m512 largest = _mm512_setzero_ps(), check = largest;
    for (std::int64_t p = 0; p < count_; ++p) {
      const __m512 v = load(grad + p * outs);
      _mm512_store_ps(values_.get() + 16 * p, v);
      largest = _mm512_max_ps(largest, _mm512_abs_ps(v));
      check = _mm512_fmadd_ps(v, _mm512_setzero_ps(), check);  // NaN if one is not finite
    }
    const __m512 factor =
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(largest, _mm512_setzero_ps(), _CMP_GT_OQ), Lookup::factor(largest));
    alignas(64) float unit[16];
    _mm512_store_ps(unit, _mm512_add_ps(_mm512_maskz_div_ps(_mm512_cmp_ps_mask(factor, _mm512_setzero_ps(), _CMP_GT_OQ),
                                                            _mm512_set1_ps(1), factor),
                                        check));
    for (std::int64_t p = count_; p < blocks_ * 8; ++p) _mm512_store_ps(values_.get() + 16 * p, _mm512_setzero_ps());
    const auto value = [&](std::int64_t p) { return _mm512_mul_ps(_mm512_load_ps(values_.get() + 16 * p), factor); };
    for (std::int64_t b = 0; b < blocks_; ++b) {
      Eight eight;
      for (int j = 0; j < 8; ++j) eight[j] = value(8 * b + 7 - j);
      Lookup::build(eight, tables_.get() + b * 16 * Lookup::kRegisters);
    }
    std::fill_n(unseen_sums_.get(), shape_.taps() * 16, 0.0f);
    // Where a tap is outside the image, its bits are 0 and were counted as -1. These sums undo that.
    chunk_->each_unseen(first_, count_, [&](std::int64_t pixel, int tap) {
      float* sum = unseen_sums_.get() + 16 * tap;
      _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), Lookup::rounded(value(pixel))));
    });
    for (int part = 0; part < 16; part += kOut)
      for (std::int64_t row = 0; row < rows_; row += kLanes) {
        const Register* tables = tables_.get() + part * Lookup::kRegisters;
        const Register* index = index_.get() + row * kBlocks;
        const int indices = static_cast<int>(std::min<std::int64_t>(kLanes, rows_ - row));
        typename Lookup::Total totals[kOut][kLanes];
        if (indices == 3) add_up<Lookup, 3>(tables, index, blocks_, totals);
        if (indices == 2) add_up<Lookup, 2>(tables, index, blocks_, totals);
        if (indices == 1) add_up<Lookup, 1>(tables, index, blocks_, totals);
        for (int o = 0; o < kOut; ++o) {
          const __m512 back = _mm512_set1_ps(unit[part + o]);
          for (int v = 0; v < indices; ++v) {
            const std::size_t tap = static_cast<std::size_t>((row + v) * 16 / ins);
            if (unseen_[tap] == count_) continue;  // the tap is outside at all pixels
            const float unseen = unseen_sums_[tap * 16 + static_cast<std::size_t>(part + o)];
            float* to = gradient + (channel + part + o) * shape_.taps() * ins + (row + v) * 16;
            const __m512 sum = _mm512_add_ps(Lookup::value(totals[o][v]), _mm512_set1_ps(unseen));
            _mm512_storeu_ps(to, _mm512_fmadd_ps(sum, back, _mm512_loadu_ps(to)));
          }
        }
      }
  }

 private:
  const Convolution& shape_;
  const Chunk* chunk_ = nullptr;
  std::int64_t rows_, first_ = 0, count_ = 0, blocks_ = 0;
  Buffer<Register> index_, tables_;
  Buffer<float> values_, unseen_sums_;
  std::vector<std::uint8_t> bytes_;
  std::vector<std::int64_t> unseen_;  // for each tap, the pixels at which it is outside the image
};

}  // namespace

void convolution_weight_gradient(Type type, const Convolution& shape, const std::uint8_t* bits, const void* grad,
                                 float* gradient, ThreadPool& pool) {
  if (type == Type::kFloat)
    add_parts<Pixels<Float, float>>(shape, bits, static_cast<const float*>(grad), gradient, pool);
  else
    add_parts<Pixels<Integer, Bfloat16>>(shape, bits, static_cast<const Bfloat16*>(grad), gradient, pool);
}

}  // namespace biper::training::BIPER_TRAINING_SET
