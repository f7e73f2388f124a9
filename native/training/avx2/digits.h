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

// The unit of the integers to which gradients are rounded: the power of two for which the largest gradient is at most
// 2^21 - 2 units, so that a sum of four is less than 2^23. The unit is NaN if a gradient is not finite.
struct Unit {
  float value, inverse;
};

// `largest` has the bits of the largest absolute value, which order floats, with NaN as the largest.
inline Unit unit_of(std::uint32_t largest) {
  float size;
  std::memcpy(&size, &largest, sizeof size);
  if (!std::isfinite(size)) return {std::numeric_limits<float>::quiet_NaN(), 0};
  int exponent = 0;
  std::frexp(size, &exponent);  // size < 2^exponent
  if (size > std::ldexp(1 - 0x1p-20f, exponent)) ++exponent;
  exponent = std::clamp(exponent - 21, -126, 126);
  return {std::ldexp(1.0f, exponent), std::ldexp(1.0f, -exponent)};
}

// The bits of the absolute values.
inline __m256i absolute_bits(__m256 v) {
  return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7FFFFFFF));
}

// Computes two sets of tables, from four integers each: g[j] has number j of the first set in all lanes of its lower
// half, and number j of the second set in its upper half. Table d, digit d of the sums, is 16 bytes for each of the two
// sets, and starts d * step bytes behind `to`. Bit j of a place in a table is 1 where number j is added.
BIPER_INLINE void store_tables(const __m256i (&g)[4], std::uint8_t* to, std::int64_t step) {
  const __m256i sign0 = _mm256_setr_epi32(-1, 1, -1, 1, -1, 1, -1, 1);
  const __m256i sign1 = _mm256_setr_epi32(-1, -1, 1, 1, -1, -1, 1, 1);
  const __m256i one = _mm256_add_epi32(_mm256_add_epi32(_mm256_sign_epi32(g[0], sign0), _mm256_sign_epi32(g[1], sign1)),
                                       _mm256_set1_epi32(1 << 23));
  const __m256i plus = _mm256_add_epi32(g[2], g[3]), minus = _mm256_sub_epi32(g[2], g[3]);
  const __m256i sums[4] = {_mm256_sub_epi32(one, plus), _mm256_add_epi32(one, minus), _mm256_sub_epi32(one, minus),
                           _mm256_add_epi32(one, plus)};  // places 0 to 3, 4 to 7, 8 to 11, 12 to 15 of both sets
  const __m256i twelve = _mm256_set1_epi32(4095), six = _mm256_set1_epi16(63);
  const auto store_two = [&](__m256i a, __m256i b, __m256i c, __m256i d, std::uint8_t* first) BIPER_INLINE_LAMBDA {
    const __m256i low = _mm256_packus_epi32(a, b), high = _mm256_packus_epi32(c, d);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first),
                        _mm256_packus_epi16(_mm256_and_si256(low, six), _mm256_and_si256(high, six)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first + step),
                        _mm256_packus_epi16(_mm256_srli_epi16(low, kBits), _mm256_srli_epi16(high, kBits)));
  };
  store_two(_mm256_and_si256(sums[0], twelve), _mm256_and_si256(sums[1], twelve), _mm256_and_si256(sums[2], twelve),
            _mm256_and_si256(sums[3], twelve), to);
  store_two(_mm256_srli_epi32(sums[0], 12), _mm256_srli_epi32(sums[1], 12), _mm256_srli_epi32(sums[2], 12),
            _mm256_srli_epi32(sums[3], 12), to + 2 * step);
}

// Adds up one digit of what `rows` rows of indices find in a row of tables: `count` tables, a multiple of four, which
// are `next` bytes apart; and indices of 32 bytes for each table, whose rows are `row` bytes apart.
template <int kRows>
BIPER_INLINE void add_up_digit(const std::uint8_t* tables, std::int64_t next, const std::uint8_t* index,
                               std::int64_t row, std::int64_t count, Words (&words)[kRows]) {
  Words local[kRows];
  for (Words& w : local) w = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (std::int64_t i = 0; i < count; i += 4, tables += 4 * next, index += 128) {
    __m256i bytes[kRows];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m256i table = _mm256_load_si256(reinterpret_cast<const __m256i*>(tables + k * next));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i at = _mm256_load_si256(reinterpret_cast<const __m256i*>(index + r * row + 32 * k));
        const __m256i found = _mm256_shuffle_epi8(table, at);
        bytes[r] = k == 0 ? found : _mm256_add_epi8(bytes[r], found);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) local[r].add(bytes[r]);
  }
  for (int r = 0; r < kRows; ++r) words[r] = local[r];
}

// The eight sums number k of `count` numbers, as floats, from the sums of their digits.
template <int k>
BIPER_INLINE __m256 as_floats(const Words& d0, const Words& d1, const Words& d2, const Words& d3, std::int64_t count,
                              __m256 unit) {
  const auto both = [](const Words& low, const Words& high) BIPER_INLINE_LAMBDA {
    return _mm256_cvtepi32_ps(
        _mm256_add_epi32(low.template eight<k>(), _mm256_slli_epi32(high.template eight<k>(), kBits)));
  };
  const __m256 offset = _mm256_set1_ps(2048 * static_cast<float>(count));  // 2^23 for each number, in units of 2^12
  return _mm256_mul_ps(
      _mm256_fmadd_ps(_mm256_sub_ps(both(d2, d3), offset), _mm256_set1_ps(1 << 2 * kBits), both(d0, d1)), unit);
}

}  // namespace biper::training::BIPER_TRAINING_SET
