// What compilers spell in different ways: a form for GCC and Clang, and one for MSVC.
#pragma once

#if defined(_MSC_VER)
#include <intrin.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

// A function, or a lambda (between its parameters and its body), that the compiler must put into its caller. Tiles keep
// their sums in registers, which works only if every function that takes part in a tile is inlined.
#if defined(_MSC_VER)
#define BIPER_INLINE __forceinline
#define BIPER_INLINE_LAMBDA [[msvc::forceinline]]
#else
#define BIPER_INLINE inline __attribute__((always_inline))
#define BIPER_INLINE_LAMBDA __attribute__((always_inline))
#endif

namespace biper {

// Makes the compiler assume that memory at `p` is read and changed here, so that it loads the values again afterwards.
static BIPER_INLINE void touch_memory([[maybe_unused]] const void* p) {
#if defined(_MSC_VER)
  _ReadWriteBarrier();
#else
  __asm__ volatile("" : : "r"(p) : "memory");
#endif
}

// Tells the processor that this thread waits in a loop, so that it gives its other thread the execution units.
static BIPER_INLINE void pause_in_loop() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(_M_ARM64)
  __yield();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace biper
