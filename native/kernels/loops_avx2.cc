// Loops over floats, compiled for AVX2.
#include "kernels/float_loops.h"

namespace biper {

const FloatLoops kAvx2Loops = kLoops;

}  // namespace biper
