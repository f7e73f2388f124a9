// Loops over floats, compiled for AVX-512.
#include "kernels/float_loops.h"

namespace biper {

const FloatLoops kAvx512Loops = kLoops;

}  // namespace biper
