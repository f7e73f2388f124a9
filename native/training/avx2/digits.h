// Sums of four numbers as integers of 24 bits, in digits, for the convolutions of AVX2.
//
// Four bits select one of the 16 sums of four numbers that are added or subtracted. The sums are integers of 24 bits,
// to which 2^23 is added so that they are not negative, in four digits of six bits. A digit of all 16 sums is one table
// of vpshufb, which looks up 32 bytes at a time; vpaddb adds what it finds: 128 multiply-accumulates of a digit in two
// instructions. Four digits are added in a byte, and 1,024 in a word.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "common/portability.h"
#include "training/avx2/vectors.h"
#include "training/chunks.h"

namespace biper::training::BIPER_TRAINING_SET {

constexpr int kBits = 6;  // of a digit
constexpr int kDigits = 4;
constexpr int kOffset = 1 << 23;
constexpr int kMostWords = 1024;  // so many sums of digits fit into a word

// Sums of 32 lanes in words: those of even and those of odd bytes.
struct Words {
  __m256i even, odd;

  BIPER_INLINE void add(__m256i bytes) {
    even = _mm256_add_epi16(even, _mm256_and_si256(bytes, _mm256_set1_epi16(255)));
    odd = _mm256_add_epi16(odd, _mm256_srli_epi16(bytes, 8));
  }
  // Four times eight sums: of bytes 0, 2, ..., 14; 16, 18, ..., 30; 1, 3, ..., 15; 17, 19, ..., 31.
  template <int k>
  __m256i eight() const {
    const __m256i words = k < 2 ? even : odd;
    return _mm256_cvtepu16_epi32(k % 2 ? _mm256_extracti128_si256(words, 1) : _mm256_castsi256_si128(words));
  }
};

// The unit of the integers: the power of two for which the largest sum is less than 2^23 units. It is NaN if a sum is
// not finite.
struct Unit {
  float value, inverse;
};

// `largest` are the largest sums of the absolute values of four numbers, as bits, which order floats: NaN is the
// largest.
inline Unit unit_of(std::uint32_t largest) {
  float size;
  std::memcpy(&size, &largest, sizeof size);
  if (!std::isfinite(size)) return {std::numeric_limits<float>::quiet_NaN(), 0};
  int exponent = 0;
  std::frexp(size, &exponent);                                // size < 2^exponent
  if (size > std::ldexp(1 - 0x1p-20f, exponent)) ++exponent;  // so that rounding does not give 2^23
  exponent = std::clamp(exponent - 23, -126, 126);
  return {std::ldexp(1.0f, exponent), std::ldexp(1.0f, -exponent)};
}

inline __m256 absolute(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
inline __m256i larger_bits(__m256i bits, __m256 v) { return _mm256_max_epu32(bits, _mm256_castps_si256(v)); }

// The 16 sums of four numbers as integers, to which `offset` is added, of two sets of numbers: places 0 to 3, 4 to 7, 8
// to 11 and 12 to 15 of the first set in the lower halves, and of the second set in the upper halves. Bit j of a place
// is 1 where number j is added and not subtracted. numbers[j] has number j of each set in all lanes of its half.
struct Sums {
  __m256i fours[4];
};
BIPER_INLINE Sums all_sums(const __m256 (&numbers)[4], int offset) {
  const __m256 minus0 = _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0);
  const __m256 minus1 = _mm256_setr_ps(-0.0f, -0.0f, 0, 0, -0.0f, -0.0f, 0, 0);
  const __m256 one = _mm256_add_ps(_mm256_xor_ps(numbers[0], minus0), _mm256_xor_ps(numbers[1], minus1));
  const __m256 plus = _mm256_add_ps(numbers[2], numbers[3]), minus = _mm256_sub_ps(numbers[2], numbers[3]);
  const auto integers = [&](__m256 sums) BIPER_INLINE_LAMBDA {
    return _mm256_add_epi32(_mm256_cvtps_epi32(sums), _mm256_set1_epi32(offset));
  };
  return {{integers(_mm256_sub_ps(one, plus)), integers(_mm256_add_ps(one, minus)), integers(_mm256_sub_ps(one, minus)),
           integers(_mm256_add_ps(one, plus))}};
}
// The sums of two sets, each of which is a half of `sets`.
BIPER_INLINE Sums all_sums(__m256 sets, int offset) {
  const __m256 numbers[4] = {_mm256_permute_ps(sets, 0x00), _mm256_permute_ps(sets, 0x55),
                             _mm256_permute_ps(sets, 0xAA), _mm256_permute_ps(sets, 0xFF)};
  return all_sums(numbers, offset);
}

// Stores the tables of one digit of the sums, which are less than 64: 16 bytes for each set.
BIPER_INLINE void store_digit(const Sums& sums, std::uint8_t* to) {
  const __m256i low = _mm256_packus_epi32(sums.fours[0], sums.fours[1]);
  const __m256i high = _mm256_packus_epi32(sums.fours[2], sums.fours[3]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_packus_epi16(low, high));
}

// Stores the tables of the four digits of the sums, with 2^23 as their offset: 16 bytes for each set in each digit.
// Digits are `step` bytes apart.
BIPER_INLINE void store_digits(const Sums& sums, std::uint8_t* to, std::int64_t step) {
  const __m256i twelve = _mm256_set1_epi32(4095), six = _mm256_set1_epi16(63);
  const auto store_two = [&](const Sums& two, std::uint8_t* first) BIPER_INLINE_LAMBDA {
    const __m256i low = _mm256_packus_epi32(two.fours[0], two.fours[1]);
    const __m256i high = _mm256_packus_epi32(two.fours[2], two.fours[3]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first),
                        _mm256_packus_epi16(_mm256_and_si256(low, six), _mm256_and_si256(high, six)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first + step),
                        _mm256_packus_epi16(_mm256_srli_epi16(low, kBits), _mm256_srli_epi16(high, kBits)));
  };
  Sums low, high;
  for (int k = 0; k < 4; ++k) {
    low.fours[k] = _mm256_and_si256(sums.fours[k], twelve);
    high.fours[k] = _mm256_srli_epi32(sums.fours[k], 2 * kBits);
  }
  store_two(low, to);
  store_two(high, to + 2 * step);
}

// Computes the sums of one digit of what kRows rows of indices find in a row of tables. There are `count` tables, a
// multiple of four; table(at, k) loads table k of the four at `at`, and the next four are `next` bytes further. An
// index is 32 bytes, and rows of indices are `row` bytes apart. The sum of kBytes digits, a multiple of four, fits into
// a byte.
template <int kRows, int kBytes, typename Load>
BIPER_INLINE void add_up_digit(const std::uint8_t* tables, std::int64_t next, Load&& table, const std::uint8_t* index,
                               std::int64_t row, std::int64_t count, Words (&words)[kRows]) {
  Words local[kRows];
  for (Words& w : local) w = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  while (count > 0) {
    __m256i bytes[kRows];
    const auto add_four = [&](bool first) BIPER_INLINE_LAMBDA {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const __m256i sums = table(tables, k);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const __m256i at = _mm256_load_si256(reinterpret_cast<const __m256i*>(index + r * row + 32 * k));
          const __m256i found = _mm256_shuffle_epi8(sums, at);
          bytes[r] = first && k == 0 ? found : _mm256_add_epi8(bytes[r], found);
        }
      }
      tables += next, index += 128, count -= 4;
    };
    add_four(true);
    if constexpr (kBytes > 4)
      for (int more = 4; more < kBytes && count > 0; more += 4) add_four(false);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) local[r].add(bytes[r]);
  }
  for (int r = 0; r < kRows; ++r) words[r] = local[r];
}

// The sums of 32 lanes of numbers that have kCount digits, one or four: four times eight, as integers of two digits.
template <int kCount>
struct Totals {
  static constexpr int kPairs = (kCount + 1) / 2;
  __m256i sums[kPairs][4];

  BIPER_INLINE void clear() {
    for (auto& pair : sums)
      for (__m256i& sum : pair) sum = _mm256_setzero_si256();
  }
  BIPER_INLINE void add(const Words& words, int digit) {
    const auto add_eight = [&]<int k>() BIPER_INLINE_LAMBDA {
      __m256i& sum = sums[digit / 2][k];
      const __m256i eight = words.template eight<k>();
      sum = _mm256_add_epi32(sum, digit % 2 ? _mm256_slli_epi32(eight, kBits) : eight);
    };
    add_eight.template operator()<0>(), add_eight.template operator()<1>();
    add_eight.template operator()<2>(), add_eight.template operator()<3>();
  }
  // Eight sums minus `offset`, which is in units of 1 for one digit, and of 2^12 for four; multiplied by `unit`.
  BIPER_INLINE __m256 floats(int k, float offset, __m256 unit) const {
    const __m256 upper = _mm256_sub_ps(_mm256_cvtepi32_ps(sums[kPairs - 1][k]), _mm256_set1_ps(offset));
    if constexpr (kCount == 1) return _mm256_mul_ps(upper, unit);
    const __m256 lower = _mm256_cvtepi32_ps(sums[0][k]);
    return _mm256_mul_ps(_mm256_fmadd_ps(upper, _mm256_set1_ps(1 << 2 * kBits), lower), unit);
  }
};

// The offset of `count` numbers of four digits, for Totals.
inline float offset_of(std::int64_t count) { return (kOffset >> 2 * kBits) * static_cast<float>(count); }

}  // namespace biper::training::BIPER_TRAINING_SET
