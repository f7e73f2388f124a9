// The kernels with tiles. They compute in bfloat16, and call the kernels for AVX-512 for float.
#pragma once

#include "training/set.h"

namespace biper::training::avx512 {

extern const Kernels kKernels;
std::remove_pointer_t<decltype(Kernels::convolution_forward)> convolution_forward;
std::remove_pointer_t<decltype(Kernels::convolution_weight_gradient)> convolution_weight_gradient;

}  // namespace biper::training::avx512

namespace biper::training::amx {

// Asks the operating system for the tiles, and returns the kernels; null if it refuses.
const Kernels* kernels();

}  // namespace biper::training::amx
