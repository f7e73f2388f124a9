// AVX-512 with VPOPCNTDQ: a block of 16 output channels is one vector; inputs are broadcast, 6 pixels by 64 channels
// stay in 24 of the 32 registers. One step of a binary tile is xor, popcount, add; of a real one, a fused multiply-add.
#include <immintrin.h>

#include "blocks.h"

namespace biper {
namespace {

struct Avx512 {
  using Floats = __m512;
  using Integers = __m512i;

  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static Integers load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(float* p, Floats y) { _mm512_storeu_ps(p, y); }
  static Floats all(float value) { return _mm512_set1_ps(value); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static Floats prelu(Floats y, Floats slope) {
    return _mm512_mask_mul_ps(y, _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_LT_OQ), y, slope);
  }
  static Floats to_floats(Integers a) { return _mm512_cvtepi32_ps(a); }
  static std::uint16_t not_negative(Floats y) { return _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GE_OQ); }
  static std::uint16_t at_least(Integers a, Integers b) { return _mm512_cmpge_epi32_mask(a, b); }

  struct Binary {
    using Input = std::uint32_t;
    using Accumulator = __m512i;  // differing bits
    using Partial = Accumulator;
    static constexpr int kVectors = 4, kSteps = 0;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 8 : 6; }
    static int inside(const Geometry& g) { return g.stride; }
    static Accumulator zero() { return _mm512_setzero_si512(); }
    static __m512i load(const Input* p) { return _mm512_loadu_si512(p); }
    static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
    static Accumulator step(Accumulator a, __m512i x, __m512i w) {
      return _mm512_add_epi32(a, _mm512_popcnt_epi32(_mm512_xor_si512(x, w)));
    }
    static Partial partial_zero() { return zero(); }
    static Accumulator widen(Accumulator sum, Partial partial) { return _mm512_add_epi32(sum, partial); }
    static void store(std::int32_t* p, Accumulator sum) { _mm512_storeu_si512(p, sum); }
    static void finish(const Epilogue& e, Accumulator differing, int valid, std::int64_t pixel, int block) {
      const __m512i sum = _mm512_sub_epi32(_mm512_set1_epi32(valid), _mm512_slli_epi32(differing, 1));
      store_sum<Avx512>(e, sum, pixel, block);
    }
  };

  struct Real {
    using Input = float;
    using Accumulator = __m512;
    static constexpr int kVectors = 4, kSteps = 0;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 8 : 6; }
    static int inside(const Geometry& g) { return g.channels; }
    static Accumulator zero() { return _mm512_setzero_ps(); }
    static __m512 load(const Input* p) { return _mm512_loadu_ps(p); }
    static __m512 broadcast(const Input* p) { return _mm512_set1_ps(*p); }
    static Accumulator step(Accumulator a, __m512 x, __m512 w) { return _mm512_fmadd_ps(x, w, a); }
    static void finish(const Epilogue& e, Accumulator y, int, std::int64_t pixel, int block) {
      store_real<Avx512>(e, y, pixel, block);
    }
  };
};

}  // namespace

const Kernels kAvx512 = kernels_of<Avx512>("avx512");

}  // namespace biper
