// Vectors of sixteen floats in two registers of AVX2, loaded from and stored to memory as float. The functions are
// those of training/avx512/vectors.h, with the same results.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <stdexcept>

#include "training/set.h"

namespace biper::training::BIPER_TRAINING_SET {

constexpr int kLanes = 8;  // of a register

struct Vector {
  __m256 a, b;
};
struct Mask {
  __m256 a, b;  // all bits of a lane are 1, or all are 0
};

inline Vector load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Vector v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline Vector load(const float* p, Mask lanes) {
  return {_mm256_maskload_ps(p, _mm256_castps_si256(lanes.a)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(lanes.b))};
}
inline void store(float* p, Vector v, Mask lanes) {
  _mm256_maskstore_ps(p, _mm256_castps_si256(lanes.a), v.a);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(lanes.b), v.b);
}

inline Vector zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vector all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Vector add(Vector x, Vector y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vector subtract(Vector x, Vector y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vector multiply(Vector x, Vector y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vector multiply_add(Vector x, Vector y, Vector z) {  // x y + z
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Vector multiply_subtract(Vector x, Vector y, Vector z) {  // z - x y
  return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}
// These give their second operand if one of the two is NaN.
inline Vector smaller(Vector x, Vector y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Vector larger(Vector x, Vector y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vector absolute(Vector v) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, v.a), _mm256_andnot_ps(sign, v.b)};
}
inline Vector rounded(Vector v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(v.a, kNearest), _mm256_round_ps(v.b, kNearest)};
}
// (-1)^k v for integers k.
inline Vector negated_if_odd(Vector v, Vector k) {
  const auto one = [](__m256 x, __m256 n) {
    return _mm256_xor_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtps_epi32(n), 31)));
  };
  return {one(v.a, k.a), one(v.b, k.b)};
}

// Comparisons are false in lanes where one operand is NaN.
inline Mask at_least(Vector x, Vector y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)};
}
inline Mask at_most(Vector x, Vector y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)};
}
inline Mask between(Vector v, Vector low, Vector high) {  // low < v < high
  const auto one = [](__m256 x, __m256 l, __m256 h) {
    return _mm256_and_ps(_mm256_cmp_ps(x, l, _CMP_GT_OQ), _mm256_cmp_ps(x, h, _CMP_LT_OQ));
  };
  return {one(v.a, low.a, high.a), one(v.b, low.b, high.b)};
}
inline Vector where(Mask lanes, Vector v) {  // 0 in the other lanes
  return {_mm256_and_ps(lanes.a, v.a), _mm256_and_ps(lanes.b, v.b)};
}
inline Mask first_lanes(std::int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const auto before = [lane](std::int64_t n) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
  };
  const std::int64_t most = count < 16 ? count : 16;
  return {before(most), before(most - 8)};
}
inline std::uint16_t bits_of(Mask lanes) {
  return static_cast<std::uint16_t>(_mm256_movemask_ps(lanes.a) | _mm256_movemask_ps(lanes.b) << 8);
}

// The sum in the order in which _mm512_reduce_add_pd adds.
inline double sum(Vector v) {
  const auto one = [](__m256 x) {
    const __m256d four =
        _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  };
  return one(v.a) + one(v.b);
}

// Calls f with a null pointer whose type is that of the values in memory, const float*.
template <typename F>
void with_type(Type type, F&& f) {
  if (type != Type::kFloat) throw std::invalid_argument("the AVX2 kernels compute in float32");
  f(static_cast<const float*>(nullptr));
}

}  // namespace biper::training::BIPER_TRAINING_SET
