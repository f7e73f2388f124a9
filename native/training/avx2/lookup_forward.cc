// The forward convolution of bits with real weights. The bytes of a register are 32 output pixels, and tables hold sums
// of four weights as integers of 24 bits, in units of a power of two for each output channel: vpshufb looks up six of
// these bits, a digit, for all pixels, and vpaddb adds them: 128 multiply-accumulates of a digit in two instructions.
// If all weights of a channel have one absolute value, their sums are small integers, of one digit.
#include <cmath>
#include <limits>

#include "training/avx2/digits.h"
#include "training/avx2/lookup.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr int kOut = 4;                          // output channels of a block, which are stored together
constexpr int kUnit = 32;                        // pixels of a register
constexpr int kLimit = (1 << 23) - 1;            // the largest integer; 2^23 is added, so that digits are not negative
constexpr int kSmallestExponent = -112;          // of the unit of the integers, whose inverse must not overflow
constexpr std::int64_t kIndexBytes = 192 << 10;  // memory of the indices that are computed at a time
constexpr std::int64_t kChunkPixels = 1024;

struct alignas(16) Digits {
  std::uint8_t places[16];
};

// The places in a table at which 32 pixels are looked up.
struct alignas(32) Places {
  std::uint8_t places[kUnit];
};

// What the tables of an output channel have in common.
struct Channel {
  int digits;    // 1 or kDigits
  float unit;    // of the integers; NaN if a weight is not finite
  float offset;  // what was added to all numbers of a pixel, in the unit of the integers or, of more digits, 4096 units
};

// The sixteen sums of four weights, in registers of eight. Bit j of the place is 1 where weight j is added.
struct Sums {
  __m256 low, high;
};
Sums sixteen_sums(const float* w) {
  alignas(32) Table table;
  store_table(w[0], w[1], w[2], w[3], &table);
  const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 low = _mm256_xor_ps(load_table(&table), _mm256_castsi256_ps(place));
  const __m256i reversed = _mm256_sub_epi32(_mm256_set1_epi32(7), place);
  return {low, _mm256_xor_ps(_mm256_permutevar8x32_ps(low, reversed), _mm256_set1_ps(-0.0f))};
}

// The lowest bytes of sixteen integers.
void store_places(__m256i low, __m256i high, Digits* to) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
  _mm_store_si128(reinterpret_cast<__m128i*>(to->places),
                  _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

// Builds the tables (fours, digits) of an output channel with 4 * fours weights.
Channel build_tables(const float* weight, std::int64_t fours, Digits* to) {
  float largest = 0, total = 0;
  bool same = true;
  for (std::int64_t i = 0; i < 4 * fours; i += 4) {
    const float* w = weight + i;
    const float size = std::fabs(w[0]) + std::fabs(w[1]) + std::fabs(w[2]) + std::fabs(w[3]);
    for (int j = 0; j < 4; ++j) same = same && std::fabs(w[j]) == std::fabs(weight[0]);
    largest = std::max(largest, size), total += size;
  }
  const float count = static_cast<float>(fours);
  if (!std::isfinite(total)) return {1, std::numeric_limits<float>::quiet_NaN(), 0};
  if (same && weight[0] != 0) {
    for (std::int64_t i = 0; i < fours; ++i) {
      float signs[4];
      for (int j = 0; j < 4; ++j) signs[j] = weight[4 * i + j] > 0 ? 1.0f : -1.0f;
      const Sums sums = sixteen_sums(signs);
      const __m256i four = _mm256_set1_epi32(4);
      store_places(_mm256_add_epi32(_mm256_cvtps_epi32(sums.low), four),
                   _mm256_add_epi32(_mm256_cvtps_epi32(sums.high), four), to + i);
    }
    return {1, std::fabs(weight[0]), 4 * count};
  }
  int exponent = 0;
  std::frexp(largest / kLimit, &exponent);  // 2^exponent > largest / kLimit
  exponent = std::max(exponent, kSmallestExponent);
  const __m256 factor = _mm256_set1_ps(std::ldexp(1.0f, -exponent));
  const __m256i offset = _mm256_set1_epi32(1 << 23), mask = _mm256_set1_epi32((1 << kBits) - 1);
  for (std::int64_t i = 0; i < fours; ++i) {
    const Sums sums = sixteen_sums(weight + 4 * i);
    __m256i low = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(sums.low, factor)), offset);
    __m256i high = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(sums.high, factor)), offset);
    for (int digit = 0; digit < kDigits; ++digit) {
      store_places(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask), to + i * kDigits + digit);
      low = _mm256_srli_epi32(low, kBits), high = _mm256_srli_epi32(high, kBits);
    }
  }
  return {kDigits, std::ldexp(1.0f, exponent), 2048 * count};
}

// Computes the sums of 32 pixels, in the order of Words.
template <int kCount>
void add_up(const Digits* table, const Places* index, std::int64_t fours, const Channel& channel, float* sums) {
  constexpr std::int64_t kBytes = kCount == 1 ? 31 : 4;             // sums of so many numbers fit into a byte,
  constexpr std::int64_t kWords = kCount == 1 ? 6200 : kMostWords;  // and of so many into a word
  __m256i totals[kCount == 1 ? 1 : 2][4];                           // of one digit or of two
  for (auto& row : totals)
    for (auto& total : row) total = _mm256_setzero_si256();
  for (std::int64_t begin = 0; begin < fours; begin += kWords) {
    const std::int64_t end = std::min(begin + kWords, fours);
    Words words[kCount];
    for (auto& w : words) w = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    const auto add_numbers = [&](auto count) BIPER_INLINE_LAMBDA {
      __m256i bytes[kCount];
      for (auto& b : bytes) b = _mm256_setzero_si256();
      for (std::int64_t i = 0; i < count; ++i, ++index, table += kCount) {
        const __m256i at = _mm256_load_si256(reinterpret_cast<const __m256i*>(index->places));
#pragma GCC unroll 4
        for (int d = 0; d < kCount; ++d) {
          const __m128i places = _mm_load_si128(reinterpret_cast<const __m128i*>(table[d].places));
          bytes[d] = _mm256_add_epi8(bytes[d], _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(places), at));
        }
      }
#pragma GCC unroll 4
      for (int d = 0; d < kCount; ++d) words[d].add(bytes[d]);
    };
    std::int64_t i = begin;
    for (; i + kBytes <= end; i += kBytes) add_numbers(std::integral_constant<std::int64_t, kBytes>());
    if (i < end) add_numbers(end - i);
    const auto add_words = [&]<int k>() {
      for (int d = 0; d < kCount; d += 2) {
        totals[d / 2][k] = _mm256_add_epi32(totals[d / 2][k], words[d].template eight<k>());
        if constexpr (kCount > 1)
          totals[d / 2][k] =
              _mm256_add_epi32(totals[d / 2][k], _mm256_slli_epi32(words[d + 1].template eight<k>(), kBits));
      }
    };
    add_words.template operator()<0>(), add_words.template operator()<1>();
    add_words.template operator()<2>(), add_words.template operator()<3>();
  }
  for (int k = 0; k < 4; ++k) {
    __m256 sum = _mm256_sub_ps(_mm256_cvtepi32_ps(totals[kCount == 1 ? 0 : 1][k]), _mm256_set1_ps(channel.offset));
    if constexpr (kCount > 1)
      sum = _mm256_fmadd_ps(sum, _mm256_set1_ps(1 << 2 * kBits), _mm256_cvtepi32_ps(totals[0][k]));
    _mm256_store_ps(sums + 8 * k, _mm256_mul_ps(sum, _mm256_set1_ps(channel.unit)));
  }
}

// Transposes the sums of kOut channels, `step` apart: totals (pixels, channels) of 32 pixels.
void transpose(const float* sums, std::int64_t step, float* totals) {
  for (int k = 0; k < 4; ++k) {
    const auto channel = [&](int o) { return _mm256_load_ps(sums + o * step + 8 * k); };
    const auto pair = [](__m256 a, __m256 b, bool high) {
      const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
      return _mm256_castpd_ps(high ? _mm256_unpackhi_pd(x, y) : _mm256_unpacklo_pd(x, y));
    };
    const __m256 low01 = _mm256_unpacklo_ps(channel(0), channel(1)),
                 high01 = _mm256_unpackhi_ps(channel(0), channel(1));
    const __m256 low23 = _mm256_unpacklo_ps(channel(2), channel(3)),
                 high23 = _mm256_unpackhi_ps(channel(2), channel(3));
    const __m256 pixel[4] = {pair(low01, low23, false), pair(low01, low23, true), pair(high01, high23, false),
                             pair(high01, high23, true)};
    float* first = totals + (16 * (k % 2) + k / 2) * kOut;
    for (int p = 0; p < 4; ++p) {
      _mm_store_ps(first + 2 * p * kOut, _mm256_castps256_ps128(pixel[p]));
      _mm_store_ps(first + (8 + 2 * p) * kOut, _mm256_extractf128_ps(pixel[p], 1));
    }
  }
}

// Computes the indices (count / 32, taps x in / 4) of `count` pixels. Bits outside the image are 0.
void make_indices(const Convolution& shape, const Chunk& chunk, const std::uint8_t* image, std::int64_t first,
                  std::int64_t count, std::uint8_t* copy, Places* index) {
  const __m256i low_bits = _mm256_set1_epi8(15);
  const auto load_bytes = [](const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
  const std::int64_t groups = shape.in_channels / 8, fours = shape.taps() * groups * 2;
  for (int tap = 0; tap < shape.taps(); ++tap) {
    const std::uint8_t* valid = chunk.valid(tap) + first;
    for (std::int64_t g = 0; g < groups; ++g, index += 2) {
      const std::uint8_t* seen = chunk.bytes(image, tap, g, first, count, copy);
      for (std::int64_t i = 0; i < count; i += kUnit) {
        const __m256i bits = _mm256_and_si256(load_bytes(seen + i), load_bytes(valid + i));
        Places* to = index + i / kUnit * fours;
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[0].places), _mm256_and_si256(bits, low_bits));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[1].places),
                           _mm256_and_si256(_mm256_srli_epi16(bits, 4), low_bits));
      }
    }
  }
}

}  // namespace

void lookup_forward(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                    const float* scale, void* result, ThreadPool& pool) {
  with_type(type, [&](const float*) {
    float* out = static_cast<float*>(result);
    const std::int64_t fours = shape.taps() * shape.in_channels / 4, outs = shape.out_channels;
    const int blocks = static_cast<int>(outs / kOut);
    const Buffer<Digits> tables = buffer<Digits>(outs * fours * kDigits);
    const Buffer<float> tap_sums = buffer<float>(outs * shape.taps());  // (blocks, taps, kOut)
    std::vector<Channel> channels(static_cast<std::size_t>(outs));
    pool.run(static_cast<int>(outs), [&](int o) {
      const float* w = weight + o * fours * 4;
      channels[static_cast<std::size_t>(o)] = build_tables(w, fours, tables.get() + o * fours * kDigits);
      for (int tap = 0; tap < shape.taps(); ++tap) {
        float total = 0;
        for (std::int64_t i = 0; i < shape.in_channels; ++i) total += *w++;
        tap_sums[static_cast<std::size_t>((o / kOut * shape.taps() + tap) * kOut + o % kOut)] = total;
      }
    });

    const Chunks chunks(shape, kChunkPixels, kUnit);
    const int wanted = pool.threads() == 1 ? 1 : 4 * pool.threads();
    const int splits = std::clamp((wanted + chunks.count - 1) / chunks.count, 1, blocks);  // of the output channels
    pool.run(chunks.count * splits, [&](int part) {
      const int number = part / splits, split = part % splits;
      const Chunk& chunk = chunks.at(number);
      const std::int64_t image = number * chunks.images;
      const std::uint8_t* from = bits + image * shape.in_channels / 8 * shape.in_pixels();
      float* to = out + image * shape.out_pixels() * outs;
      const std::int64_t most = std::max(kIndexBytes / fours / kUnit, std::int64_t{1}) * kUnit;
      const std::int64_t size = std::min(most, chunk.padded());
      const Buffer<Places> index = buffer<Places>(fours * size / kUnit);
      const Buffer<float> sums = buffer<float>(kOut * size);
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
      for (std::int64_t first = 0; first < chunk.padded(); first += size) {
        const std::int64_t count = std::min(size, chunk.padded() - first);
        make_indices(shape, chunk, from, first, count, bytes.data(), index.get());
        for (int block = blocks * split / splits; block < blocks * (split + 1) / splits; ++block) {
          for (int k = 0; k < kOut; ++k) {
            const std::int64_t o = block * kOut + k;
            const Channel& channel = channels[static_cast<std::size_t>(o)];
            const Digits* table = tables.get() + o * fours * kDigits;
            for (std::int64_t i = 0; i < count; i += kUnit) {
              float* sum = sums.get() + k * size + i;
              const Places* places = index.get() + i / kUnit * fours;
              if (channel.digits == 1)
                add_up<1>(table, places, fours, channel, sum);
              else
                add_up<kDigits>(table, places, fours, channel, sum);
            }
          }
          const __m128 factor = _mm_loadu_ps(scale + block * kOut);
          const float* tap_sum = tap_sums.get() + block * kOut * shape.taps();
          auto u = chunk.first_unseen(first);
          for (std::int64_t i = 0; i < count; i += kUnit) {
            alignas(32) float totals[kUnit * kOut];
            transpose(sums.get() + i, size, totals);
            // Where a tap is outside the image, its bits are 0 and were counted as -1. These sums undo that.
            for (; u != chunk.no_more_unseen() && u->pixel < first + i + kUnit; ++u) {
              float* total = totals + (u->pixel - first - i) * kOut;
              _mm_store_ps(total, _mm_add_ps(_mm_load_ps(total), _mm_load_ps(tap_sum + u->tap * kOut)));
            }
            const std::int64_t pixels = std::min<std::int64_t>(chunk.pixels() - first - i, kUnit);
            float* place = to + (first + i) * outs + block * kOut;
            const std::int64_t step = outs;
            for (std::int64_t p = 0; p < pixels; ++p, place += step)
              _mm_storeu_ps(place, _mm_mul_ps(_mm_load_ps(totals + p * kOut), factor));
          }
        }
      }
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
