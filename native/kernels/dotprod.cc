// Kernels for NEON with the dot product of bytes, which most processors since 2018 have. The instruction takes signed
// bytes on both sides, so 128 is subtracted from every level; the engine makes up for it in the first value of the sums
// (Kernels::level_shift).
#include "kernels/neon.h"

namespace biper {
namespace {

struct DotProd : Neon {
  struct Int8 : Neon::Int8 {
    static constexpr int pixels(int) { return 6; }
    static BIPER_INLINE int8x16_t broadcast(const Input* p) {
      return vreinterpretq_s8_u32(vdupq_n_u32(word_at(p) ^ 0x80808080u));
    }
    static BIPER_INLINE void step(Sum& sum, int8x16_t x, Weights w) {
      for (int i = 0; i < 4; ++i) sum.v[i] = vdotq_s32(sum.v[i], x, w.v[i]);
    }
  };
};

constexpr Kernels kernels() {
  Kernels kernels = kernels_of<DotProd>("dotprod", kPlainLoops);
  kernels.level_shift = 128;
  return kernels;
}

}  // namespace

const Kernels kDotProd = kernels();

}  // namespace biper
