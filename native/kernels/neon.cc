// Kernels for NEON, which every 64-bit Arm processor has.
#include "kernels/neon.h"

namespace biper {

const Kernels kNeon = kernels_of<Neon>("neon", kPlainLoops);

}  // namespace biper
