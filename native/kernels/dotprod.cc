// NEON with the dot product of bytes (most processors since 2018). Its bytes are signed on both sides: 128 is taken from
// every level, and the engine begins the sums with 128 times the weights (kLevelShift).
#include "neon.h"

namespace biper {
namespace {

struct DotProd : Neon {
  struct Int8 : Neon::Int8 {
    static constexpr int pixels(int) { return 6; }
    static BIPER_INLINE int8x16_t broadcast(const Input* p) {
      std::uint32_t four;
      __builtin_memcpy(&four, p, sizeof(four));
      return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
    }
    static BIPER_INLINE void step(Sum& sum, int8x16_t x, Weights w) {
      for (int i = 0; i < 4; ++i) sum.v[i] = vdotq_s32(sum.v[i], x, w.v[i]);
    }
  };
};

constexpr Kernels kernels() {
  Kernels kernels = kernels_of<DotProd>("dotprod");
  kernels.level_shift = 128;
  return kernels;
}

}  // namespace

const Kernels kDotProd = kernels();

}  // namespace biper
