// The kernels with tiles: those for AVX-512, with other convolutions.
#include <sys/syscall.h>
#include <unistd.h>

#include "training/amx/amx.h"

namespace biper::training::BIPER_TRAINING_SET {

const Kernels* kernels() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA of Linux
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  static const Kernels kernels = [] {
    Kernels k = avx512::kKernels;
    k.name = "amx";
    k.convolution_forward = convolution_forward;
    k.convolution_weight_gradient = convolution_weight_gradient;
    k.input_gradient = input_gradient;
    return k;
  }();
  return granted ? &kernels : nullptr;
}

}  // namespace biper::training::BIPER_TRAINING_SET
