// Kernels for AVX-512 with VPOPCNTDQ and VNNI. A block of 16 output channels is one vector. An input is broadcast to
// all lanes. A step of a binary tile is xor, popcount and add; of a real tile a fused multiply-add; of an int8 tile one
// instruction that adds four products.
#include <immintrin.h>

#include "kernels/table.h"

namespace biper {
namespace {

// Makes the compiler finish a step before it starts the next one. Without this GCC interleaves so many steps that the
// registers do not suffice.
inline void keep_in_registers([[maybe_unused]] __m512i& a, [[maybe_unused]] __m512i& b) {
#if defined(__GNUC__)
  __asm__ volatile("" : "+v"(a), "+v"(b));
#endif
}

struct Avx512 {
  using Floats = __m512;
  using Integers = __m512i;

  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static Integers load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(float* p, Floats y) { _mm512_storeu_ps(p, y); }
  static Floats all(float value) { return _mm512_set1_ps(value); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  // These instructions give their second operand if one of the two is NaN.
  static Floats larger(Floats a, Floats b) { return _mm512_max_ps(b, a); }
  static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(b, a); }
  static Floats larger_or_nan(Floats a, Floats b) {
    return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
  }
  static Floats prelu(Floats y, Floats slope) {
    return _mm512_mask_mul_ps(y, _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_LT_OQ), y, slope);
  }
  static std::uint16_t not_negative(Floats y) { return _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GE_OQ); }
  static std::uint16_t at_most(Integers a, Integers b) { return _mm512_cmple_epi32_mask(a, b); }
  // The sum of `valid` products of signs, of which `differing` are -1.
  static Floats sum(int valid, Integers differing) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_set1_epi32(valid), _mm512_slli_epi32(differing, 1)));
  }
  static Floats to_floats(Integers a) { return _mm512_cvtepi32_ps(a); }
  static void store_levels(std::uint8_t* p, Floats x, float factor, int zero) {
    const Floats low = all(static_cast<float>(-zero)), high = all(static_cast<float>(255 - zero));
    const Integers rounded = _mm512_cvtps_epi32(smaller(larger(multiply(x, all(factor)), low), high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm512_cvtepi32_epi8(_mm512_add_epi32(rounded, _mm512_set1_epi32(zero))));
  }
  static void store_bfloat16(std::uint16_t* p, Floats x) {  // see to_bfloat16
    const Integers bits = _mm512_castps_si512(x);
    const Integers odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const Integers sum = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(sum, 16)));
  }
  // The largest number of differing signs, of `valid`, for which the sum reaches the threshold.
  static Integers most_differing(int valid, Integers threshold) {
    return _mm512_srai_epi32(_mm512_sub_epi32(_mm512_set1_epi32(valid), threshold), 1);
  }

  struct ThreeRows;

  struct Binary {
    using Input = std::uint32_t;
    using Weight = std::uint32_t;
    using Sum = __m512i;  // differing bits
    using ThreeRows = Avx512::ThreeRows;
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = true;
    static constexpr int kVectors = 2, kSteps = 0, kInputsAStep = 1;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 8 : 6; }
    static Sum zero() { return _mm512_setzero_si512(); }
    static __m512i load(const Input* p) { return _mm512_loadu_si512(p); }
    static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
    static void step(Sum& sum, __m512i x, __m512i w) {
      sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(x, w)));
    }
    static void widen(Sum& sum, Sum partial) { sum = _mm512_add_epi32(sum, partial); }
    static void store(std::int32_t* p, Sum sum) { _mm512_storeu_si512(p, sum); }
    static Integers differing(Sum sum) { return sum; }
  };

  struct Halves : Binary {
    using Input = std::uint16_t;
    static constexpr Form kForm = Form::kHalves;
    static constexpr int kInputsAStep = 2;
    static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(word_at(p))); }
    static void step_single(Sum& sum, __m512i x, __m512i w) {
      const __m512i low = _mm512_set1_epi32(0xffff);
      sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_ternarylogic_epi32(x, w, low, 0x28)));  // (x ^ w) & low
    }
    template <int Next>
    struct Window;
  };

  struct Masked : Binary {
    using Input = std::uint16_t;
    static constexpr Form kForm = Form::kMasked;
    static constexpr int kVectors = 1, kInputsAStep = 2;
    static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(word_at(p))); }
    static void step(Sum& sum, __m512i x, __m512i w, __m512i mask) {
      sum = _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_ternarylogic_epi32(x, w, mask, 0x28)));  // (x ^ w) & mask
    }
  };

  // A full adder before the popcounts: a + b + c = ones + 2 twos, bit by bit, for the differing bits a, b, c of three
  // words. ones = a ^ b ^ c takes one xor, because the xor of the three inputs and that of the three weights are
  // computed beforehand. twos = majority(a, b, c) is a function of a, b and ones. A step takes eight instructions for
  // three words; three steps of Binary take nine.
  struct ThreeRows : Binary {
    static constexpr Form kForm = Form::kThreeRows;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 8 : 5; }
    struct Sum {
      __m512i ones, twos;
    };
    static Sum zero() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
    static void step(Sum& sum, __m512i x, __m512i w, __m512i y, __m512i v, __m512i all_x, __m512i all_w) {
      const __m512i a = _mm512_xor_si512(x, w), b = _mm512_xor_si512(y, v), ones = _mm512_xor_si512(all_x, all_w);
      const __m512i twos = _mm512_ternarylogic_epi32(a, b, ones, 0xd4);  // majority(a, b, a ^ b ^ ones)
      sum.ones = _mm512_add_epi32(sum.ones, _mm512_popcnt_epi32(ones));
      sum.twos = _mm512_add_epi32(sum.twos, _mm512_popcnt_epi32(twos));
      keep_in_registers(sum.ones, sum.twos);
    }
    static Integers differing(Sum sum) { return _mm512_add_epi32(sum.ones, _mm512_slli_epi32(sum.twos, 1)); }
  };

  struct Real {
    using Input = float;
    using Weight = float;
    using Sum = __m512;
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 4, kSteps = 0, kInputsAStep = 1;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 10 : 6; }
    static Sum zero() { return _mm512_setzero_ps(); }
    static __m512 load(const Input* p) { return _mm512_loadu_ps(p); }
    static __m512 broadcast(const Input* p) { return _mm512_set1_ps(*p); }
    static void step(Sum& sum, __m512 x, __m512 w) { sum = _mm512_fmadd_ps(x, w, sum); }
  };

  struct Int8 {
    using Input = std::uint8_t;
    using Weight = std::uint32_t;
    using Sum = __m512i;
    static constexpr Form kForm = Form::kInt8;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 4, kSteps = 0, kInputsAStep = 4;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 8 : 6; }
    static __m512i load(const Weight* p) { return _mm512_loadu_si512(p); }
    static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(word_at(p))); }
    static void step(Sum& sum, __m512i x, __m512i w) {
#if defined(__GNUC__)
      // For the intrinsic GCC copies the sums between registers, which takes longer than the products.
      __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
#else
      sum = _mm512_dpbusd_epi32(sum, x, w);
#endif
    }
  };

  // Two inputs in bfloat16. The file is compiled for processors without such products, too.
  struct Bfloat16 {
    using Input = std::uint16_t;
    using Weight = std::uint32_t;
    using Sum = __m512;
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 4, kSteps = 0, kInputsAStep = 2;
    static constexpr int pixels(int vectors) { return vectors == 1 ? 10 : 6; }
    static Sum zero() { return _mm512_setzero_ps(); }
    static __m512i load(const Weight* p) { return _mm512_loadu_si512(p); }
    static __m512i broadcast(const Input* p) { return _mm512_set1_epi32(static_cast<int>(word_at(p))); }
    static void step(Sum& sum, __m512i x, __m512i w) {
#if defined(__GNUC__)
      __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
#else
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<const __m512bh&>(x), reinterpret_cast<const __m512bh&>(w));
#endif
    }
  };

  struct Depthwise : Real {
    static constexpr Form kForm = Form::kDepthwise;
  };
};

template <int Next>
struct Avx512::Halves::Window : Avx512::Halves {
  static constexpr int kNext = Next;
};

constexpr Kernels with_bfloat16() {
  Kernels kernels = kernels_of<Avx512>("avx512", kAvx512Loops);
  kernels.round_to_bfloat16 = round_to_bfloat16<Avx512>;
  kernels.bfloat16_convolution = bfloat16_convolution<Avx512>;
  return kernels;
}

}  // namespace

const Kernels kAvx512 = kernels_of<Avx512>("avx512", kAvx512Loops);
const Kernels kAvx512Bfloat16 = with_bfloat16();

}  // namespace biper
