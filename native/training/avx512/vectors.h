// Vectors of sixteen floats in one register of AVX-512, loaded from and stored to memory as float or bfloat16.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "training/set.h"

namespace biper::training::BIPER_TRAINING_SET {

struct Bfloat16 {
  std::uint16_t bits;
};

using Vector = __m512;
using Mask = __mmask16;  // some of the sixteen lanes

inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
inline Vector load(const Bfloat16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
inline void store(Bfloat16* p, Vector v) {
  const __m256bh half = _mm512_cvtneps_pbh(v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<const __m256i&>(half));
}
// The same for some lanes alone. The other lanes become 0, and nothing is read or written there.
inline Vector load(const float* p, Mask lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
inline void store(float* p, Vector v, Mask lanes) { _mm512_mask_storeu_ps(p, lanes, v); }

inline Vector zeros() { return _mm512_setzero_ps(); }
inline Vector all(float value) { return _mm512_set1_ps(value); }
inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
inline Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
inline Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }        // a b + c
inline Vector multiply_subtract(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
// These give their second operand if one of the two is NaN.
inline Vector smaller(Vector a, Vector b) { return _mm512_min_ps(a, b); }
inline Vector larger(Vector a, Vector b) { return _mm512_max_ps(a, b); }
inline Vector absolute(Vector v) { return _mm512_abs_ps(v); }
inline Vector rounded(Vector v) { return _mm512_roundscale_ps(v, 0); }
// (-1)^k v for integers k.
inline Vector negated_if_odd(Vector v, Vector k) {
  const __m512i odd = _mm512_slli_epi32(_mm512_cvtps_epi32(k), 31);
  return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), odd));
}

// Comparisons are false in lanes where one operand is NaN.
inline Mask at_least(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline Mask at_most(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
inline Mask between(Vector v, Vector low, Vector high) {  // low < v < high
  return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(v, low, _CMP_GT_OQ), v, high, _CMP_LT_OQ);
}
inline Vector where(Mask lanes, Vector v) { return _mm512_maskz_mov_ps(lanes, v); }  // 0 in the other lanes
inline Mask first_lanes(std::int64_t count) { return static_cast<Mask>(count >= 16 ? 0xFFFF : (1 << count) - 1); }
inline std::uint16_t bits_of(Mask lanes) { return lanes; }

inline double sum(Vector v) {
  return _mm512_reduce_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v))) +
         _mm512_reduce_add_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
}

// Calls f with a null pointer whose type is that of the values in memory: const float* or const Bfloat16*.
template <typename F>
void with_type(Type type, F&& f) {
  if (type == Type::kFloat)
    f(static_cast<const float*>(nullptr));
  else
    f(static_cast<const Bfloat16*>(nullptr));
}

}  // namespace biper::training::BIPER_TRAINING_SET
