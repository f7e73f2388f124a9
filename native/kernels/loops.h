// Loops over floats that follow each other: functions of one, two or three arrays, and operations on a row. Every
// instruction set has them, compiled for it, and all give the same floats.
#pragma once

#include <cstdint>

namespace biper {

struct FloatFunction {
  const char* name;
  unsigned operands, parameters;
  int cost;  // approximate vector instructions of a vector of results
  // Elements [0, n) of up to three operands, and the parameters of the function, to a result.
  void (*loop)(const float* const* operands, const float* parameters, float* result, std::int64_t n);
};

struct FloatLoops {
  const FloatFunction* functions;
  int count;
  // (x - mean) / sqrt(mean square of x - mean, + epsilon) over a row of n; without `center` the mean is 0.
  void (*normalize)(const float* x, float* y, std::int64_t n, bool center, float epsilon);
  // exp(x) / sum exp(x) over a row of n, or its logarithm.
  void (*softmax)(const float* x, float* y, std::int64_t n, bool log);
};

extern const FloatLoops kPlainLoops;
#if defined(__x86_64__) || defined(_M_X64)
extern const FloatLoops kAvx2Loops, kAvx512Loops;
#endif

}  // namespace biper
