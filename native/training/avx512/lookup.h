// What the three convolutions by table lookup share: the order of the bits, the tables, and the lookups.
//
// Eight bits select two sums, each of four numbers that are added or subtracted, from two tables of 16 sums.
// Sixteen pixels (or sixteen channels) are the lanes of a register of 32-bit indices. The low half of an index
// holds the first four bits, the high half the last four, and its bit 4 is set. A register holds both tables as 32
// integers, so that the instruction vpermw finds both sums of each lane, and vpdpwssd adds them to the lane's
// total: 128 multiply-accumulates in two instructions. A table of floats is a register of its own, and takes one
// more lookup for the last four bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "training/avx512/vectors.h"
#include "training/chunks.h"

namespace biper::training::BIPER_TRAINING_SET {

// The indices of sixteen bytes.
inline __m512i indices(__m128i bytes) {
  const __m512i wide = _mm512_cvtepu8_epi32(bytes);
  const __m512i both = _mm512_or_si512(wide, _mm512_slli_epi32(wide, 12));
  return _mm512_or_si512(_mm512_and_si512(both, _mm512_set1_epi32(0x000F000F)), _mm512_set1_epi32(0x00100000));
}

// The inverse of the unit in which gradients become integers: the largest is 8191 units, so that a sum of four fits
// into 16 bits. The unit is at least 2^-112, so that neither it nor its inverse overflows: a channel that is always
// clamped can have gradients of 1e-35.
constexpr int kSmallestUnit = -112;
inline __m512 units(__m512 largest) {
  return _mm512_min_ps(_mm512_div_ps(_mm512_set1_ps(8191), largest), _mm512_set1_ps(std::ldexp(1.0f, -kSmallestUnit)));
}

// Lookups in tables of integers. One register of 32 holds the two tables for eight bits.
struct Integers {
  static constexpr int kRegisters = 1;
  using Total = __m512i;
  using Table = __m512i;

  static Total zero() { return _mm512_setzero_si512(); }
  static Table table(const Register* t) { return _mm512_load_si512(t); }
  static Total add(Total total, __m512i index, Table table) {
    return _mm512_dpwssd_epi32(total, _mm512_permutexvar_epi16(index, table), _mm512_set1_epi16(1));
  }
  // A mask of some of the sixteen lanes, and an addition in these lanes alone.
  using Lanes = __mmask32;
  static Lanes lanes(__mmask16 mask) { return _pdep_u32(mask, 0x55555555u) * 3u; }
  static Total add(Total total, __m512i index, Lanes lanes, Table table) {
    return _mm512_dpwssd_epi32(total, _mm512_maskz_permutexvar_epi16(lanes, index, table), _mm512_set1_epi16(1));
  }
  static __m512 value(Total total) { return _mm512_cvtepi32_ps(total); }
};

// Lookups in tables of floats. Two registers of 16 hold the two tables for eight bits.
struct Floats {
  static constexpr int kRegisters = 2;
  using Total = __m512;
  struct Table {
    __m512 low, high;
  };

  static Total zero() { return _mm512_setzero_ps(); }
  static Table table(const Register* t) { return {_mm512_load_ps(t), _mm512_load_ps(t + 1)}; }
  static Total add(Total total, __m512i index, const Table& t) {
    const __m512 sum = _mm512_add_ps(total, _mm512_permutexvar_ps(index, t.low));
    return _mm512_add_ps(sum, _mm512_permutexvar_ps(_mm512_srli_epi32(index, 16), t.high));
  }
  using Lanes = __mmask16;
  static Lanes lanes(__mmask16 mask) { return mask; }
  static Total add(Total total, __m512i index, Lanes lanes, const Table& t) {
    const __m512 sum = _mm512_add_ps(total, _mm512_maskz_permutexvar_ps(lanes, index, t.low));
    return _mm512_add_ps(sum, _mm512_maskz_permutexvar_ps(lanes, _mm512_srli_epi32(index, 16), t.high));
  }
  static __m512 value(Total total) { return total; }
};

// How a place of a table of the four gradients a, b, c, d is computed from a + b, a - b, c + d and c - d: it is the sum
// of one of the first pair and one of the second pair, each with a sign. Says for a pair (0: a and b, 1: c and d)
// whether the place takes the sum or the difference, and whether it is negated.
struct Pick {
  constexpr Pick(int place, int pair)
      : difference((place >> (2 * pair) & 1) != (place >> (2 * pair + 1) & 1)), negative(!(place >> (2 * pair) & 1)) {}
  bool difference, negative;
};

struct IntegerPicks {
  std::uint8_t pair[2][64];
};

// For vpshufb. A 128-bit lane holds sum, difference, minus difference and minus sum of a and b, and then the same of c
// and d; this says for each byte of a register of tables which of the 16 bytes it takes.
alignas(64) inline constexpr IntegerPicks kIntegerPicks = [] {
  IntegerPicks picks{};
  for (int pair = 0; pair < 2; ++pair)
    for (int place = 0; place < 32; ++place) {
      const Pick pick(place & 15, pair);
      const int from = pick.difference ? (pick.negative ? 2 : 1) : (pick.negative ? 3 : 0);
      picks.pair[pair][2 * place] = static_cast<std::uint8_t>(8 * pair + 2 * from);
      picks.pair[pair][2 * place + 1] = static_cast<std::uint8_t>(8 * pair + 2 * from + 1);
    }
  return picks;
}();

struct FloatPicks {
  std::uint32_t from[2][16], sign[2][16];
};

alignas(64) inline constexpr FloatPicks kFloatPicks = [] {
  FloatPicks picks{};
  for (int pair = 0; pair < 2; ++pair)
    for (int place = 0; place < 16; ++place) {
      const Pick pick(place, pair);
      picks.from[pair][place] = static_cast<std::uint32_t>(2 * pair + pick.difference);
      picks.sign[pair][place] = pick.negative ? 0x80000000u : 0u;
    }
  return picks;
}();

// What a pair contributes to the sixteen places, if each 128-bit lane holds a + b, a - b, c + d and c - d.
inline __m512 float_half(__m512 four, int pair) {
  return _mm512_xor_ps(_mm512_permutevar_ps(four, _mm512_load_si512(kFloatPicks.from[pair])),
                       _mm512_load_ps(kFloatPicks.sign[pair]));
}

// The sixteen sums of four floats w with signs: bit j of the place is 1 for +w[j] and 0 for -w[j].
inline __m512 sixteen_sums(const float* w) {
  const __mmask16 bit[4] = {0xAAAA, 0xCCCC, 0xF0F0, 0xFF00};
  __m512 total = _mm512_setzero_ps();
  for (int j = 0; j < 4; ++j) {
    const __m512 v = _mm512_set1_ps(w[j]);
    total = _mm512_mask_add_ps(_mm512_sub_ps(total, v), bit[j], total, v);
  }
  return total;
}

}  // namespace biper::training::BIPER_TRAINING_SET
