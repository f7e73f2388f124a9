// Which kernels run: the best that this processor has, or the ones that the caller names.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace biper {

// The kernels of an instruction set ("scalar", "avx2", "avx512", "neon" or "dotprod"); for "", the fastest ones that
// the processor supports. Throws std::invalid_argument if the name is unknown or the processor lacks the instructions.
const Kernels* choose_kernels(const std::string& name);

}  // namespace biper
