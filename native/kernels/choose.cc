#include "kernels/choose.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "common/cpu.h"

namespace biper {
namespace {

[[noreturn]] void refuse(const std::string& problem) { throw std::invalid_argument(problem); }

}  // namespace

const Kernels* choose_kernels(const std::string& name) {
  const std::vector<std::string> has = instruction_sets();
  [[maybe_unused]] const auto supports = [&](const char* set) {
    return std::find(has.begin(), has.end(), set) != has.end();
  };
#if defined(BIPER_SCALAR_ONLY)
  // The build has no other kernels.
#elif defined(__x86_64__) || defined(_M_X64)
  const bool avx512 = supports("avx512f") && supports("avx512bw") && supports("avx512vl") &&
                      supports("avx512vpopcntdq") && supports("avx512vnni");
  const bool avx2 = supports("avx2") && supports("fma");
  if (name == "avx512" && !avx512) refuse("this processor has no AVX-512 with VPOPCNTDQ and VNNI");
  if (name == "avx2" && !avx2) refuse("this processor has no AVX2 with FMA");
  if (name == "avx512" || (name.empty() && avx512)) return supports("avx512bf16") ? &kAvx512Bfloat16 : &kAvx512;
  if (name == "avx2" || (name.empty() && avx2)) return &kAvx2;
#elif defined(__aarch64__) || defined(_M_ARM64)
  if (name == "dotprod" && !supports("dotprod")) refuse("this processor has no dot product of bytes");
  if (name == "dotprod" || (name.empty() && supports("dotprod"))) return &kDotProd;
  if (name == "neon" || name.empty()) return &kNeon;
#endif
  if (name == "scalar" || name.empty()) return &kScalar;
  refuse("unknown instruction set " + name);
}

}  // namespace biper
