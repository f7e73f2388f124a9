// Vectors of sixteen floats, loaded from and stored to memory as float or bfloat16.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "training/training.h"

namespace biper::training {

struct Bfloat16 {
  std::uint16_t bits;
};

inline __m512 load(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 load(const Bfloat16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline void store(Bfloat16* p, __m512 v) {
  const __m256bh half = _mm512_cvtneps_pbh(v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<const __m256i&>(half));
}

// Calls f with a null pointer whose type is that of the values in memory: const float* or const Bfloat16*.
template <typename F>
void with_type(Type type, F&& f) {
  if (type == Type::kFloat)
    f(static_cast<const float*>(nullptr));
  else
    f(static_cast<const Bfloat16*>(nullptr));
}

inline double sum(__m512 v) {
  return _mm512_reduce_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v))) +
         _mm512_reduce_add_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
}

}  // namespace biper::training
