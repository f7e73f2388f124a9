// Loops over floats, compiled for any processor.
#include "kernels/float_loops.h"

namespace biper {

const FloatLoops kPlainLoops = kLoops;

}  // namespace biper
