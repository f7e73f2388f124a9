// The primitives of NEON, for neon.cc and dotprod.cc. A block of 16 output channels is four vectors. One instruction
// counts the bits of every byte; the counts are widened before they can overflow. A tile is 4 pixels by 16 channels
// (binary, int8) or 6 pixels by 16 channels (real). There is no kind ThreeRows: three words take nine instructions, and
// would take ten with the full adder that avx512.cc explains.
#pragma once

#include <arm_neon.h>

#include "kernels/table.h"

namespace biper {
namespace {

struct Neon {
  struct Floats {
    float32x4_t v[4];
  };
  struct Integers {
    int32x4_t v[4];
  };

  // A block of the four vectors f(0) to f(3).
  template <typename Vectors, typename F>
  static BIPER_INLINE Vectors each(F f) {
    return {{f(0), f(1), f(2), f(3)}};
  }

  static BIPER_INLINE Floats load(const float* p) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vld1q_f32(p + 4 * i); });
  }
  static BIPER_INLINE Integers load(const std::int32_t* p) {
    return each<Integers>([&](int i) BIPER_INLINE_LAMBDA { return vld1q_s32(p + 4 * i); });
  }
  static BIPER_INLINE void store(float* p, Floats y) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, y.v[i]);
  }
  static BIPER_INLINE Floats all(float value) {
    return each<Floats>([&](int) BIPER_INLINE_LAMBDA { return vdupq_n_f32(value); });
  }
  static BIPER_INLINE Floats multiply(Floats x, Floats y) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vmulq_f32(x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats add(Floats x, Floats y) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vaddq_f32(x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats subtract(Floats x, Floats y) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vsubq_f32(x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats multiply_add(Floats x, Floats y, Floats z) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats divide(Floats x, Floats y) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vdivq_f32(x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats larger(Floats x, Floats y) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vmaxq_f32(x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats larger_or_nan(Floats x, Floats y) { return larger(x, y); }
  static BIPER_INLINE Floats smaller(Floats x, Floats y) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vminq_f32(x.v[i], y.v[i]); });
  }
  static BIPER_INLINE Floats prelu(Floats y, Floats slope) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA {
      return vbslq_f32(vcltzq_f32(y.v[i]), vmulq_f32(y.v[i], slope.v[i]), y.v[i]);
    });
  }
  // 16 bits, one for each lane of four masks.
  static BIPER_INLINE std::uint16_t join(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d) {
    const uint16x8_t ab = vcombine_u16(vmovn_u32(a), vmovn_u32(b)), cd = vcombine_u16(vmovn_u32(c), vmovn_u32(d));
    const uint8x8_t places = vcreate_u8(0x8040201008040201u);
    const unsigned low = vaddv_u8(vand_u8(vmovn_u16(ab), places)), high = vaddv_u8(vand_u8(vmovn_u16(cd), places));
    return static_cast<std::uint16_t>(low | high << 8);
  }
  static BIPER_INLINE std::uint16_t not_negative(Floats y) {
    return join(vcgezq_f32(y.v[0]), vcgezq_f32(y.v[1]), vcgezq_f32(y.v[2]), vcgezq_f32(y.v[3]));
  }
  static BIPER_INLINE std::uint16_t at_most(Integers x, Integers y) {
    return join(vcleq_s32(x.v[0], y.v[0]), vcleq_s32(x.v[1], y.v[1]), vcleq_s32(x.v[2], y.v[2]),
                vcleq_s32(x.v[3], y.v[3]));
  }
  // The sum of `valid` products of signs, of which `differing` are -1.
  static BIPER_INLINE Floats sum(int valid, Integers differing) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA {
      return vcvtq_f32_s32(vsubq_s32(vdupq_n_s32(valid), vshlq_n_s32(differing.v[i], 1)));
    });
  }
  // The largest number of differing signs, of `valid`, for which the sum reaches the threshold.
  static BIPER_INLINE Integers most_differing(int valid, Integers threshold) {
    return each<Integers>(
        [&](int i) BIPER_INLINE_LAMBDA { return vshrq_n_s32(vsubq_s32(vdupq_n_s32(valid), threshold.v[i]), 1); });
  }
  static BIPER_INLINE Floats to_floats(Integers x) {
    return each<Floats>([&](int i) BIPER_INLINE_LAMBDA { return vcvtq_f32_s32(x.v[i]); });
  }
  static BIPER_INLINE void store_levels(std::uint8_t* p, Floats x, float factor, int zero) {
    const Floats low = all(static_cast<float>(-zero)), high = all(static_cast<float>(255 - zero));
    const Floats clipped = smaller(larger(multiply(x, all(factor)), low), high);
    const auto two = [&](int i) BIPER_INLINE_LAMBDA {
      const int32x4_t shift = vdupq_n_s32(zero);
      return vcombine_s16(vmovn_s32(vaddq_s32(vcvtnq_s32_f32(clipped.v[i]), shift)),
                          vmovn_s32(vaddq_s32(vcvtnq_s32_f32(clipped.v[i + 1]), shift)));
    };
    vst1q_u8(p, vcombine_u8(vqmovun_s16(two(0)), vqmovun_s16(two(2))));
  }

  struct Binary {
    using Input = std::uint32_t;
    using Weight = std::uint32_t;
    struct Sum {  // differing bits in each lane of 32 bits; between two calls of widen, in each byte
      uint8x16_t v[4];
    };
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = true;
    static constexpr int kVectors = 1, kInputsAStep = 1;
    static constexpr int pixels(int) { return 4; }
    static constexpr int kSteps = 31;  // a step adds at most 8 to a byte: 31 steps add 248
    static BIPER_INLINE Sum zero() {
      return each<Sum>([](int) BIPER_INLINE_LAMBDA { return vdupq_n_u8(0); });
    }
    static BIPER_INLINE Sum load(const Weight* p) {
      return each<Sum>([&](int i) BIPER_INLINE_LAMBDA { return vreinterpretq_u8_u32(vld1q_u32(p + 4 * i)); });
    }
    static BIPER_INLINE uint8x16_t broadcast(const Input* p) { return vreinterpretq_u8_u32(vdupq_n_u32(*p)); }
    static BIPER_INLINE void step(Sum& sum, uint8x16_t x, Sum w) {
      for (int i = 0; i < 4; ++i) sum.v[i] = vaddq_u8(sum.v[i], vcntq_u8(veorq_u8(x, w.v[i])));
    }
    static BIPER_INLINE void widen(Sum& sum, Sum partial) {
      for (int i = 0; i < 4; ++i)
        sum.v[i] = vreinterpretq_u8_u32(vpadalq_u16(vreinterpretq_u32_u8(sum.v[i]), vpaddlq_u8(partial.v[i])));
    }
    static BIPER_INLINE void store(std::int32_t* p, Sum sum) {
      for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, vreinterpretq_s32_u8(sum.v[i]));
    }
    static BIPER_INLINE Integers differing(Sum sum) {
      return each<Integers>([&](int i) BIPER_INLINE_LAMBDA { return vreinterpretq_s32_u8(sum.v[i]); });
    }
  };

  struct Halves : Binary {
    using Input = std::uint16_t;
    static constexpr Form kForm = Form::kHalves;
    static constexpr int kInputsAStep = 2;
    static BIPER_INLINE uint8x16_t broadcast(const Input* p) { return vreinterpretq_u8_u32(vdupq_n_u32(word_at(p))); }
    static BIPER_INLINE void step_single(Sum& sum, uint8x16_t x, Sum w) {
      const uint8x16_t low = vreinterpretq_u8_u32(vdupq_n_u32(0xffff));
      for (int i = 0; i < 4; ++i) sum.v[i] = vaddq_u8(sum.v[i], vcntq_u8(vandq_u8(veorq_u8(x, w.v[i]), low)));
    }
  };

  struct Masked : Binary {
    using Input = std::uint16_t;
    static constexpr Form kForm = Form::kMasked;
    static constexpr int kInputsAStep = 2;
    static BIPER_INLINE uint8x16_t broadcast(const Input* p) { return vreinterpretq_u8_u32(vdupq_n_u32(word_at(p))); }
    static BIPER_INLINE void step(Sum& sum, uint8x16_t x, Sum w, Sum mask) {
      for (int i = 0; i < 4; ++i) sum.v[i] = vaddq_u8(sum.v[i], vcntq_u8(vandq_u8(veorq_u8(x, w.v[i]), mask.v[i])));
    }
  };

  struct Real {
    using Input = float;
    using Weight = float;
    using Sum = Floats;
    static constexpr Form kForm = Form::kTaps;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 1, kSteps = 0, kInputsAStep = 1;
    static constexpr int pixels(int) { return 6; }
    static BIPER_INLINE Sum zero() { return all(0); }
    static BIPER_INLINE Floats load(const Input* p) { return Neon::load(p); }
    static BIPER_INLINE float32x4_t broadcast(const Input* p) { return vdupq_n_f32(*p); }
    static BIPER_INLINE void step(Sum& sum, float32x4_t x, Floats w) {
      for (int i = 0; i < 4; ++i) sum.v[i] = vfmaq_f32(sum.v[i], x, w.v[i]);
    }
  };

  // Four levels by four weights. A product fits into 16 bits, the sum of two products does not.
  struct Int8 {
    using Input = std::uint8_t;
    using Weight = std::uint32_t;
    using Sum = Integers;
    struct Weights {
      int8x16_t v[4];
    };
    static constexpr Form kForm = Form::kInt8;
    static constexpr bool kBinary = false;
    static constexpr int kVectors = 1, kSteps = 0, kInputsAStep = 4;
    static constexpr int pixels(int) { return 4; }
    static BIPER_INLINE Weights load(const Weight* p) {
      return each<Weights>([&](int i) BIPER_INLINE_LAMBDA { return vreinterpretq_s8_u32(vld1q_u32(p + 4 * i)); });
    }
    static BIPER_INLINE int16x8_t broadcast(const Input* p) {
      return vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word_at(p)))));
    }
    static BIPER_INLINE void step(Sum& sum, int16x8_t x, Weights w) {
      for (int i = 0; i < 4; ++i) {
        const int32x4_t low = vpaddlq_s16(vmulq_s16(x, vmovl_s8(vget_low_s8(w.v[i]))));
        const int32x4_t high = vpaddlq_s16(vmulq_s16(x, vmovl_high_s8(w.v[i])));
        sum.v[i] = vaddq_s32(sum.v[i], vpaddq_s32(low, high));
      }
    }
  };

  struct Depthwise : Real {
    static constexpr Form kForm = Form::kDepthwise;
    static BIPER_INLINE void step(Sum& sum, Floats x, Floats w) {
      for (int i = 0; i < 4; ++i) sum.v[i] = vfmaq_f32(sum.v[i], x.v[i], w.v[i]);
    }
  };
};

}  // namespace
}  // namespace biper
