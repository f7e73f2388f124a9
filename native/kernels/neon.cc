// NEON as every 64-bit Arm processor has it.
#include "neon.h"

namespace biper {

const Kernels kNeon = kernels_of<Neon>("neon");

}  // namespace biper
