#include "common/cpu.h"

#include <algorithm>
#include <cstdint>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(_WIN32)
#include <windows.h>
#endif

namespace biper {

int usable_processors() {
#if defined(__linux__)
  cpu_set_t set;  // of 1,024 processors; a machine with more refuses to fill it
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
#endif
  return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
}

#if defined(__x86_64__) || defined(_M_X64)
namespace {

struct Registers {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r.eax = static_cast<std::uint32_t>(out[0]);
  r.ebx = static_cast<std::uint32_t>(out[1]);
  r.ecx = static_cast<std::uint32_t>(out[2]);
  r.edx = static_cast<std::uint32_t>(out[3]);
#else
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// The register states that the operating system saves on a context switch: register XCR0.
std::uint64_t saved_states() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
#endif
}

bool bit(std::uint32_t value, int index) { return (value >> index) & 1u; }

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
  const bool has_xgetbv = bit(basic.ecx, 27);
  const std::uint64_t saved = has_xgetbv ? saved_states() : 0;
  const bool ymm = (saved & 0x6) == 0x6;           // SSE and AVX state
  const bool zmm = ymm && (saved & 0xe0) == 0xe0;  // opmask, upper halves, upper registers
  const bool tiles = zmm && (saved & 0x60000) == 0x60000;
  const auto add = [&](const char* name, bool present) {
    if (present) names.emplace_back(name);
  };
  add("sse4.2", bit(basic.ecx, 20));
  add("popcnt", bit(basic.ecx, 23));
  add("avx", ymm && bit(basic.ecx, 28));
  add("fma", ymm && bit(basic.ecx, 12));
  add("bmi2", bit(extended.ebx, 8));
  add("avx2", ymm && bit(extended.ebx, 5));
  add("avx512f", zmm && bit(extended.ebx, 16));
  add("avx512bw", zmm && bit(extended.ebx, 30));
  add("avx512vl", zmm && bit(extended.ebx, 31));
  add("avx512dq", zmm && bit(extended.ebx, 17));
  add("avx512vpopcntdq", zmm && bit(extended.ecx, 14));
  add("avx512vnni", zmm && bit(extended.ecx, 11));
  add("gfni", zmm && bit(extended.ecx, 8));
  add("avx512bf16", zmm && bit(more.eax, 5));
  add("amxtile", tiles && bit(extended.edx, 24));
  add("amxint8", tiles && bit(extended.edx, 25));
  add("amxbf16", tiles && bit(extended.edx, 22));
  return names;
}

#elif defined(__aarch64__) || defined(_M_ARM64)

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names{"neon"};  // every 64-bit Arm processor has it
#if defined(__linux__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) names.emplace_back("dotprod");
#elif defined(_WIN32)
  constexpr DWORD kDotProduct = 43;  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE, which older headers lack
  if (IsProcessorFeaturePresent(kDotProduct)) names.emplace_back("dotprod");
#elif defined(__ARM_FEATURE_DOTPROD)
  names.emplace_back("dotprod");  // macOS: every Mac with an Arm processor has what the compiler assumes
#endif
  return names;
}

#else

std::vector<std::string> instruction_sets() { return {}; }

#endif

}  // namespace biper
