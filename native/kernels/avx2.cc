// Kernels for AVX2 and FMA. A block of 16 output channels is two vectors. AVX2 has no popcount of vectors, so bits are
// counted by a table of the 16 values of four bits. The counts are bytes, which are widened before they can overflow. A
// tile is 4 pixels by 16 channels (binary, int8) or 3 pixels by 32 channels (real).
#include <immintrin.h>

#include "kernels/table.h"

namespace biper {
namespace {

struct Avx2 {
  struct Floats {
    __m256 a, b;
  };
  struct Integers {
    __m256i a, b;
  };

  static Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Integers load(const std::int32_t* p) { return {load256(p), load256(p + 8)}; }
  static void store(float* p, Floats y) {
    _mm256_storeu_ps(p, y.a);
    _mm256_storeu_ps(p + 8, y.b);
  }
  static Floats all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Floats multiply(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static Floats add(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static Floats subtract(Floats x, Floats y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static Floats multiply_add(Floats x, Floats y, Floats z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static Floats divide(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  // These instructions give their second operand if one of the two is NaN.
  static Floats larger(Floats x, Floats y) { return {_mm256_max_ps(y.a, x.a), _mm256_max_ps(y.b, x.b)}; }
  static Floats smaller(Floats x, Floats y) { return {_mm256_min_ps(y.a, x.a), _mm256_min_ps(y.b, x.b)}; }
  static Floats larger_or_nan(Floats x, Floats y) {
    const auto one = [](__m256 v, __m256 w) {
      return _mm256_blendv_ps(_mm256_max_ps(v, w), v, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    };
    return {one(x.a, y.a), one(x.b, y.b)};
  }
  static Floats prelu(Floats y, Floats slope) {
    const auto one = [](__m256 v, __m256 s) {
      return _mm256_blendv_ps(v, _mm256_mul_ps(v, s), _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ));
    };
    return {one(y.a, slope.a), one(y.b, slope.b)};
  }
  static std::uint16_t join(__m256 a, __m256 b) {
    return static_cast<std::uint16_t>(_mm256_movemask_ps(a) | _mm256_movemask_ps(b) << 8);
  }
  static std::uint16_t not_negative(Floats y) {
    const __m256 zero = _mm256_setzero_ps();
    return join(_mm256_cmp_ps(y.a, zero, _CMP_GE_OQ), _mm256_cmp_ps(y.b, zero, _CMP_GE_OQ));
  }
  static std::uint16_t at_most(Integers x, Integers y) {
    const std::uint16_t more =
        join(_mm256_castsi256_ps(_mm256_cmpgt_epi32(x.a, y.a)), _mm256_castsi256_ps(_mm256_cmpgt_epi32(x.b, y.b)));
    return static_cast<std::uint16_t>(~more);
  }
  // The sum of `valid` products of signs, of which `differing` are -1.
  static Floats sum(int valid, Integers differing) {
    const auto one = [valid](__m256i d) {
      return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_set1_epi32(valid), _mm256_slli_epi32(d, 1)));
    };
    return {one(differing.a), one(differing.b)};
  }
  static Floats to_floats(Integers x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static void store_levels(std::uint8_t* p, Floats x, float factor, int zero) {
    const Floats low = all(static_cast<float>(-zero)), high = all(static_cast<float>(255 - zero));
    const Floats clipped = smaller(larger(multiply(x, all(factor)), low), high);
    const __m256i shift = _mm256_set1_epi32(zero);
    const __m256i a = _mm256_add_epi32(_mm256_cvtps_epi32(clipped.a), shift);
    const __m256i b = _mm256_add_epi32(_mm256_cvtps_epi32(clipped.b), shift);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  // The largest number of differing signs, of `valid`, for which the sum reaches the threshold.
  static Integers most_differing(int valid, Integers threshold) {
    const auto one = [valid](__m256i t) { return _mm256_srai_epi32(_mm256_sub_epi32(_mm256_set1_epi32(valid), t), 1); };
    return {one(threshold.a), one(threshold.b)};
  }

  struct ThreeRows;

  struct Binary {
    using Input = std::uint32_t;
    using Weight = std::uint32_t;
    using Sum = Integers;  // differing bits in each lane; between two calls of widen, in each byte
    using ThreeRows = Avx2::ThreeRows;
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = true;
    static constexpr int kVectors = 1, kInputsAStep = 1;
    static constexpr int pixels(int) { return 4; }
    static constexpr int kSteps = 31;  // a step adds at most 8 to a byte: 31 steps add 248
    static Sum zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Integers load(const Input* p) { return {load256(p), load256(p + 8)}; }
    static __m256i broadcast(const Input* p) { return _mm256_set1_epi32(static_cast<int>(*p)); }
    // For each byte, `weight` times the number of its bits that are 1.
    template <int weight = 1>
    static __m256i count(__m256i bits) {
      const __m256i table = _mm256_broadcastsi128_si256(
          _mm_setr_epi8(0, weight, weight, 2 * weight, weight, 2 * weight, 2 * weight, 3 * weight, weight, 2 * weight,
                        2 * weight, 3 * weight, 2 * weight, 3 * weight, 3 * weight, 4 * weight));
      const __m256i nibble = _mm256_set1_epi8(15);
      const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
      const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble));
      return _mm256_add_epi8(low, high);
    }
    static void step(Sum& sum, __m256i x, Integers w) {
      sum.a = _mm256_add_epi8(sum.a, count(_mm256_xor_si256(x, w.a)));
      sum.b = _mm256_add_epi8(sum.b, count(_mm256_xor_si256(x, w.b)));
    }
    static __m256i lanes(__m256i bytes) {
      return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
    }
    static void widen(Sum& sum, Sum partial) {
      sum.a = _mm256_add_epi32(sum.a, lanes(partial.a));
      sum.b = _mm256_add_epi32(sum.b, lanes(partial.b));
    }
    static void store(std::int32_t* p, Sum sum) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), sum.a);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), sum.b);
    }
    static Integers differing(Sum sum) { return sum; }
  };

  struct Halves : Binary {
    using Input = std::uint16_t;
    static constexpr Form kForm = Form::kHalves;
    static constexpr int kInputsAStep = 2;
    static __m256i broadcast(const Input* p) { return _mm256_set1_epi32(static_cast<int>(word_at(p))); }
    static void step_single(Sum& sum, __m256i x, Integers w) {
      const __m256i low = _mm256_set1_epi32(0xffff);
      sum.a = _mm256_add_epi8(sum.a, count(_mm256_and_si256(_mm256_xor_si256(x, w.a), low)));
      sum.b = _mm256_add_epi8(sum.b, count(_mm256_and_si256(_mm256_xor_si256(x, w.b), low)));
    }
  };

  struct Masked : Binary {
    using Input = std::uint16_t;
    static constexpr Form kForm = Form::kMasked;
    static constexpr int kInputsAStep = 2;
    static __m256i broadcast(const Input* p) { return _mm256_set1_epi32(static_cast<int>(word_at(p))); }
    static void step(Sum& sum, __m256i x, Integers w, Integers mask) {
      sum.a = _mm256_add_epi8(sum.a, count(_mm256_and_si256(_mm256_xor_si256(x, w.a), mask.a)));
      sum.b = _mm256_add_epi8(sum.b, count(_mm256_and_si256(_mm256_xor_si256(x, w.b), mask.b)));
    }
  };

  // The full adder that avx512.cc explains. AVX2 has no instruction for the majority of three
  // bits, which takes four here.
  struct ThreeRows : Binary {
    static constexpr Form kForm = Form::kThreeRows;
    static constexpr int kSteps = 10;  // a step adds at most 3 * 8 to a byte: 10 steps add 240
    static constexpr int pixels(int) { return 2; }
    static __m256i count_three(__m256i a, __m256i b, __m256i ones) {
      const __m256i either = _mm256_xor_si256(a, b);
      const __m256i twos = _mm256_or_si256(_mm256_and_si256(a, b), _mm256_andnot_si256(ones, either));
      return _mm256_add_epi8(count(ones), count<2>(twos));
    }
    static void step(Sum& sum, __m256i x, Integers w, __m256i y, Integers v, __m256i all_x, Integers all_w) {
      sum.a = _mm256_add_epi8(
          sum.a, count_three(_mm256_xor_si256(x, w.a), _mm256_xor_si256(y, v.a), _mm256_xor_si256(all_x, all_w.a)));
      sum.b = _mm256_add_epi8(
          sum.b, count_three(_mm256_xor_si256(x, w.b), _mm256_xor_si256(y, v.b), _mm256_xor_si256(all_x, all_w.b)));
    }
  };

  struct Real {
    using Input = float;
    using Weight = float;
    using Sum = Floats;
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 2, kSteps = 0, kInputsAStep = 1;
    static constexpr int pixels(int vectors) { return 6 / vectors; }
    static Sum zero() { return all(0); }
    static Floats load(const Input* p) { return Avx2::load(p); }
    static __m256 broadcast(const Input* p) { return _mm256_set1_ps(*p); }
    static void step(Sum& sum, __m256 x, Floats w) {
      sum = {_mm256_fmadd_ps(x, w.a, sum.a), _mm256_fmadd_ps(x, w.b, sum.b)};
    }
  };

  // Four levels by four weights, both widened to 16 bits, because the instruction for products of bytes saturates.
  struct Int8 {
    using Input = std::uint8_t;
    using Weight = std::uint32_t;
    using Sum = Integers;
    static constexpr Form kForm = Form::kInt8;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 1, kSteps = 0, kInputsAStep = 4;
    static constexpr int pixels(int) { return 4; }
    static Integers load(const Weight* p) { return {load256(p), load256(p + 8)}; }
    static __m256i broadcast(const Input* p) { return _mm256_set1_epi32(static_cast<int>(word_at(p))); }
    static __m256i add_products(__m256i sum, __m256i x, __m256i w) {
      const __m256i low_x = _mm256_and_si256(x, _mm256_set1_epi16(255)), high_x = _mm256_srli_epi16(x, 8);
      const __m256i low_w = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), high_w = _mm256_srai_epi16(w, 8);
      return _mm256_add_epi32(sum,
                              _mm256_add_epi32(_mm256_madd_epi16(low_x, low_w), _mm256_madd_epi16(high_x, high_w)));
    }
    static void step(Sum& sum, __m256i x, Integers w) {
      sum = {add_products(sum.a, x, w.a), add_products(sum.b, x, w.b)};
    }
  };

  struct Depthwise : Real {
    static constexpr Form kForm = Form::kDepthwise;
    static void step(Sum& sum, Floats x, Floats w) {
      sum = {_mm256_fmadd_ps(x.a, w.a, sum.a), _mm256_fmadd_ps(x.b, w.b, sum.b)};
    }
  };
};

}  // namespace

const Kernels kAvx2 = kernels_of<Avx2>("avx2", kAvx2Loops);

}  // namespace biper
