// Tables of eight sums of four floats, indices, and lookups, for the convolutions of AVX2.
//
// Four bits select one of the 16 sums of four numbers that are added or subtracted. Half of these sums are the
// negatives of the other half, so that a table holds eight floats, which is one register: the sums in which the last
// number is subtracted. An index, 32 bits of a lane, has the place in bits 0 to 2 and the sign in bit 31. vpermps finds
// the sums of eight lanes, which ignores the other bits of an index; vxorps with the index negates some of them; and
// vaddps adds them to the lanes' totals: 32 multiply-accumulates in three instructions, where two of vfmadd do 16. So
// that vxorps need not be given the sign alone, place k of a table holds the sum xor k.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "training/avx2/vectors.h"
#include "training/chunks.h"

namespace biper::training::BIPER_TRAINING_SET {

struct alignas(32) Table {
  float sums[8];
};
struct alignas(32) Index {
  std::uint32_t lanes[kLanes];
};

// The indices of eight numbers from 0 to 15, whose bit j is 1 where number j of the table is added.
inline __m256i index_of(__m256i bits) {
  const __m256i place_and_sign = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -121, -122, -123, -124, -125, -126, -127, -128));  // n, 0x80 + (15 - n)
  const __m256i twice = _mm256_or_si256(bits, _mm256_slli_epi32(bits, 24));
  return _mm256_and_si256(_mm256_shuffle_epi8(place_and_sign, twice), _mm256_set1_epi32(static_cast<int>(0x80000007u)));
}

// The table of four numbers.
inline void store_table(float a, float b, float c, float d, Table* to) {
  const __m256 sign_a = _mm256_setr_ps(-1, 1, -1, 1, -1, 1, -1, 1), sign_b = _mm256_setr_ps(-1, -1, 1, 1, -1, -1, 1, 1);
  const __m256 sign_c = _mm256_setr_ps(-1, -1, -1, -1, 1, 1, 1, 1);
  const __m256 place = _mm256_castsi256_ps(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  __m256 sums = _mm256_fmsub_ps(_mm256_set1_ps(c), sign_c, _mm256_set1_ps(d));
  sums = _mm256_fmadd_ps(_mm256_set1_ps(b), sign_b, sums);
  sums = _mm256_fmadd_ps(_mm256_set1_ps(a), sign_a, sums);
  _mm256_store_ps(to->sums, _mm256_xor_ps(sums, place));
}

inline __m256 load_table(const Table* table) { return _mm256_load_ps(table->sums); }
inline __m256i load_index(const void* index) { return _mm256_load_si256(static_cast<const __m256i*>(index)); }

inline __m256 look_up(__m256 total, __m256i index, __m256 table) {
  return _mm256_add_ps(total, _mm256_xor_ps(_mm256_permutevar8x32_ps(table, index), _mm256_castsi256_ps(index)));
}

}  // namespace biper::training::BIPER_TRAINING_SET
