// Vectors of sixteen floats, in the registers of the instruction set that the file is compiled for.
#pragma once

#if defined(__AVX512F__)
#include "training/avx512/vectors.h"
#else
#include "training/avx2/vectors.h"
#endif
