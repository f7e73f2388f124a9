// Blocks of 16 channels, which are what the kernels compute at once, and loops that the compiler unrolls.
//
// Everything in the headers of templates has internal linkage: each file is compiled for its own instruction
// set, and the linker must never take one file's copy of a function for another's. For the same reason the
// templates call no inline function or template of the standard library. (std::memcpy is neither: compilers
// replace it by one instruction.)
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "common/portability.h"
#include "kernels/kernels.h"

namespace biper {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline int lesser(int a, int b) { return a < b ? a : b; }
inline int greater(int a, int b) { return a > b ? a : b; }
inline int blocks_of(int channels) { return (channels + kLanes - 1) / kLanes; }

// A mask of the lanes of a block that are channels; the others are padding.
inline std::uint16_t lanes_of(int channels, int block) {
  const int left = channels - block * kLanes;
  return left >= kLanes ? 0xffff : static_cast<std::uint16_t>((1u << left) - 1);
}

// repeat<N>(body) calls body(0) to body(N - 1). The argument is a constant in the body, so that arrays that are indexed
// by it stay in registers.
template <int N>
struct Constant {
  constexpr operator int() const { return N; }
};
template <int N, int I = 0, typename F>
BIPER_INLINE void repeat(F&& body) {
  if constexpr (I < N) {
    body(Constant<I>{});
    repeat<N, I + 1>(body);
  }
}

// The 32 bits at an address that need not be a multiple of 4.
BIPER_INLINE std::uint32_t word_at(const void* p) {
  std::uint32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

}  // namespace
}  // namespace biper
