// The weight gradient of a convolution of bits. The bytes of a register are 16 input channels, twice, and tables hold
// sums of four pixels' gradients of two output channels: see digits.h. The sums are rounded to 24 bits of the largest
// of an output channel in 256 pixels.
#include "training/avx2/digits.h"
#include "training/gradient_parts.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr std::int64_t kMostPixels = 256;
constexpr std::int64_t kBlocks = kMostPixels / 4;
constexpr int kRows = 3;                            // rows of indices whose sums are added up together
constexpr std::int64_t kPairs = 4;                  // pairs of output channels whose tables are built together
constexpr std::int64_t kTableBytes = 32 * kDigits;  // of a block of four pixels, for a pair of output channels
static_assert(kBlocks <= kMostWords);

// Transposes four times eight bytes: bit i of byte j becomes bit j of byte i.
BIPER_INLINE __m256i transposed(__m256i x) {
  const auto exchange = [&x]<int shift>(std::uint64_t mask) BIPER_INLINE_LAMBDA {
    const __m256i masks = _mm256_set1_epi64x(static_cast<long long>(mask));
    const __m256i differing = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, shift)), masks);
    x = _mm256_xor_si256(x, _mm256_xor_si256(differing, _mm256_slli_epi64(differing, shift)));
  };
  exchange.template operator()<7>(0x00AA00AA00AA00AAull);
  exchange.template operator()<14>(0x0000CCCC0000CCCCull);
  exchange.template operator()<28>(0x00000000F0F0F0F0ull);
  return x;
}

BIPER_INLINE __m128i eight_bytes(const std::uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }

// Adds what some output pixels contribute to gradient (out, taps, in): see add_parts.
class Pixels {
 public:
  static constexpr std::int64_t kPixels = kMostPixels;

  explicit Pixels(const Convolution& shape)
      : shape_(shape),
        rows_(shape.taps() * shape.in_channels / 16),
        index_(buffer<std::uint8_t>(rows_ * kBlocks * 32)),
        tables_(buffer<std::uint8_t>(kPairs * kBlocks * kTableBytes)),
        unseen_sums_(buffer<float>(shape.taps() * 16)),
        bytes_(2 * (kMostPixels + 32)),
        unseen_(static_cast<std::size_t>(shape.taps())) {}

  // Computes the indices (taps, in / 16, kBlocks, 2, 16), twice for the two halves of a register. Byte 2 c is channel c
  // of the first eight of a sixteen, and byte 2 c + 1 of the second eight.
  void set_pixels(const Chunk& chunk, const std::uint8_t* image, std::int64_t first, std::int64_t count) {
    chunk_ = &chunk, first_ = first, count_ = count, blocks_ = (count + 15) / 16 * 4;
    std::uint8_t* index = index_.get();
    for (int tap = 0; tap < shape_.taps(); ++tap) {
      const std::uint8_t* valid = chunk.valid(tap) + first;  // also of the pixels up to a multiple of 16: 0
      for (std::int64_t g = 0; g < shape_.in_channels / 8; g += 2, index += kBlocks * 32) {
        const std::uint8_t* low = chunk.bytes(image, tap, g, first, count, bytes_.data());
        const std::uint8_t* high = chunk.bytes(image, tap, g + 1, first, count, bytes_.data() + kMostPixels + 32);
        for (std::int64_t i = 0; i < count; i += 16) {
          const auto eight_pixels = [&](std::int64_t at) {
            return _mm_and_si128(_mm_unpacklo_epi64(eight_bytes(low + at), eight_bytes(high + at)),
                                 _mm_set1_epi64x(static_cast<long long>(bits_of(valid + at))));
          };
          // The bits of eight pixels for channels 0 to 15, and those of the next eight pixels.
          const __m256i bits = transposed(_mm256_set_m128i(eight_pixels(i + 8), eight_pixels(i)));
          const __m256i paired = _mm256_unpacklo_epi8(bits, _mm256_bsrli_epi128(bits, 8));
          const __m256i mask = _mm256_set1_epi8(15);
          const __m256i earlier = _mm256_and_si256(paired, mask);
          const __m256i later = _mm256_and_si256(_mm256_srli_epi16(paired, 4), mask);
          __m256i* to = reinterpret_cast<__m256i*>(index + i * 8);
          _mm256_store_si256(to, _mm256_permute2x128_si256(earlier, earlier, 0x00));
          _mm256_store_si256(to + 1, _mm256_permute2x128_si256(later, later, 0x00));
          _mm256_store_si256(to + 2, _mm256_permute2x128_si256(earlier, earlier, 0x11));
          _mm256_store_si256(to + 3, _mm256_permute2x128_si256(later, later, 0x11));
        }
      }
    }
    std::fill(unseen_.begin(), unseen_.end(), 0);
    chunk.each_unseen(first, count, [&](std::int64_t, int tap) { ++unseen_[static_cast<std::size_t>(tap)]; });
  }

  // grad points to the sixteen channels from `channel` on, at the first pixel.
  void add(const float* grad, std::int64_t channel, float* gradient) {
    std::fill_n(unseen_sums_.get(), shape_.taps() * 16, 0.0f);
    // Where a tap is outside the image, its bits are 0 and were counted as -1. These sums undo that.
    chunk_->each_unseen(first_, count_, [&](std::int64_t pixel, int tap) {
      float* sum = unseen_sums_.get() + 16 * tap;
      store(sum, training::BIPER_TRAINING_SET::add(load(sum), load(grad + pixel * shape_.out_channels)));
    });
    for (int first = 0; first < 16; first += 2 * kPairs) {
      float units[8];
      build_tables(grad + first, units);
      for (int pair = 0; pair < kPairs; ++pair)
        for (std::int64_t row = 0; row < rows_; row += kRows) {
          const std::int64_t rows = std::min<std::int64_t>(kRows, rows_ - row);
          if (rows == 3) add_rows<3>(row, pair, channel, first, units, gradient);
          if (rows == 2) add_rows<2>(row, pair, channel, first, units, gradient);
          if (rows == 1) add_rows<1>(row, pair, channel, first, units, gradient);
        }
    }
  }

 private:
  static std::uint64_t bits_of(const std::uint8_t* p) {
    std::uint64_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return bits;
  }

  // Builds the tables (kPairs, kBlocks, digits, 2) of eight channels. Pair p is channels p and p + 4.
  void build_tables(const float* grad, float (&units)[8]) {
    const std::int64_t outs = shape_.out_channels;
    const auto pixel = [&](std::int64_t p) {
      return p < count_ ? _mm256_loadu_ps(grad + p * outs) : _mm256_setzero_ps();
    };
    __m256i largest = _mm256_setzero_si256();
    for (std::int64_t p = 0; p < count_; p += 4) {
      const __m256 two = _mm256_add_ps(absolute(pixel(p)), absolute(pixel(p + 1)));
      const __m256 others = _mm256_add_ps(absolute(pixel(p + 2)), absolute(pixel(p + 3)));
      largest = larger_bits(largest, _mm256_add_ps(two, others));
    }
    alignas(32) std::uint32_t sizes[8];
    alignas(32) float inverses[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(sizes), largest);
    for (int o = 0; o < 8; ++o) {
      const Unit unit = unit_of(sizes[o]);
      units[o] = unit.value, inverses[o] = unit.inverse;
    }
    const __m256 inverse = _mm256_load_ps(inverses);
    for (std::int64_t b = 0; b < blocks_; ++b) {
      __m256 g[4];
      for (int j = 0; j < 4; ++j) g[j] = _mm256_mul_ps(pixel(4 * b + j), inverse);
      const auto build = [&]<int pair>() BIPER_INLINE_LAMBDA {
        __m256 numbers[4];
        for (int j = 0; j < 4; ++j) numbers[j] = _mm256_permute_ps(g[j], pair * 0x55);
        store_digits(all_sums(numbers, kOffset), tables_.get() + pair * kBlocks * kTableBytes + b * 32, kBlocks * 32);
      };
      build.template operator()<0>(), build.template operator()<1>(), build.template operator()<2>(),
          build.template operator()<3>();
    }
  }

  // Adds the sums of some rows of indices to the gradients of the two output channels of a pair.
  template <int kCount>
  void add_rows(std::int64_t row, int pair, std::int64_t channel, int first, const float (&units)[8],
                float* gradient) const {
    const std::uint8_t* tables = tables_.get() + pair * kBlocks * kTableBytes;
    const std::uint8_t* index = index_.get() + row * kBlocks * 32;
    Totals<kDigits> totals[kCount];
    for (auto& total : totals) total.clear();
    const auto table = [](const std::uint8_t* at, int k) BIPER_INLINE_LAMBDA {
      return _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32 * k));
    };
    for (int d = 0; d < kDigits; ++d) {
      Words words[kCount];
      add_up_digit<kCount, 4>(tables + kBlocks * 32 * d, 128, table, index, kBlocks * 32, blocks_, words);
      for (int r = 0; r < kCount; ++r) totals[r].add(words[r], d);
    }
    const std::int64_t ins = shape_.in_channels;
    for (int r = 0; r < kCount; ++r, ++row) {
      const std::size_t tap = static_cast<std::size_t>(row * 16 / ins);
      if (unseen_[tap] == count_) continue;  // the tap is outside at all pixels
      for (int k = 0; k < 4; ++k) {
        const int o = first + pair + 4 * (k % 2);  // the half of the register
        float* to = gradient + (channel + o) * shape_.taps() * ins + row * 16 + 8 * (k / 2);
        const __m256 sum = totals[r].floats(k, offset_of(blocks_), _mm256_set1_ps(units[o - first]));
        const __m256 unseen = _mm256_set1_ps(unseen_sums_[tap * 16 + static_cast<std::size_t>(o)]);
        _mm256_storeu_ps(to, _mm256_add_ps(_mm256_add_ps(sum, unseen), _mm256_loadu_ps(to)));
      }
    }
  }

  const Convolution& shape_;
  const Chunk* chunk_ = nullptr;
  std::int64_t rows_, first_ = 0, count_ = 0, blocks_ = 0;
  Buffer<std::uint8_t> index_, tables_;
  Buffer<float> unseen_sums_;
  std::vector<std::uint8_t> bytes_;
  std::vector<std::int64_t> unseen_;  // for each tap, the pixels at which it is outside the image
};

}  // namespace

void convolution_weight_gradient(Type type, const Convolution& shape, const std::uint8_t* bits, const void* grad,
                                 float* gradient, ThreadPool& pool) {
  with_type(type,
            [&](const float*) { add_parts<Pixels>(shape, bits, static_cast<const float*>(grad), gradient, pool); });
}

}  // namespace biper::training::BIPER_TRAINING_SET
