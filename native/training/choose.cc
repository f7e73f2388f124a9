// Which training kernels the processor runs.
#include <algorithm>
#include <string>

#include "common/cpu.h"
#include "training/training.h"

namespace biper::training {

namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#if defined(BIPER_AMX)
namespace amx {
const Kernels* kernels();
}
#endif

const std::vector<const Kernels*>& runnable_kernels() {
  static const std::vector<const Kernels*> kernels = [] {
    const std::vector<std::string> here = instruction_sets();
    const auto has = [&here](std::initializer_list<const char*> names) {
      return std::all_of(names.begin(), names.end(),
                         [&here](const char* name) { return std::count(here.begin(), here.end(), name) > 0; });
    };
    std::vector<const Kernels*> found;
    const bool avx512 = has({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "gfni", "fma", "bmi2"});
#if defined(BIPER_AMX)
    if (avx512 && has({"avx512bf16", "amxtile", "amxint8", "amxbf16"}) && amx::kernels())
      found.push_back(amx::kernels());
#endif
    if (avx512) found.push_back(&avx512::kKernels);
    if (has({"avx2", "fma"})) found.push_back(&avx2::kKernels);
    return found;
  }();
  return kernels;
}

}  // namespace biper::training
