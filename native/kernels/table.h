// The function table of an instruction set, made from the tiles of the other headers.
//
// A file for an instruction set (like avx512.cc) defines a struct Isa and calls kernels_of<Isa>(name, loops). Isa has
//   Floats, Integers         a block of 16 lanes of float or int32, in one or more vectors
//   load, store, all         a block from or to memory that need not be aligned; the same number in all lanes
//   multiply, add, multiply_add, divide, larger, smaller, larger_or_nan
//                            lane by lane; multiply_add(a, b, c) = a * b + c; the larger and the smaller are NaN where
//                            the first operand is, larger_or_nan where either is
//   prelu(y, slope)          y < 0 ? y * slope : y
//   not_negative(y), at_most(a, b)
//                            16 bits: y >= 0, a <= b
//   sum(valid, differing)    valid - 2 * differing, as floats
//   most_differing(valid, threshold)
//                            the largest number of differing bits for which the sum reaches the threshold
//   to_floats                integers as floats
//   store_levels             16 values rounded to levels, see Levels
// and the kinds of tiles Binary, Halves, Masked, Real, Int8 and Depthwise; Binary may have a kind ThreeRows. An
// instruction set with products of bfloat16 has a kind Bfloat16 and store_bfloat16, which rounds 16 values. A kind has
//   Input, Weight, Sum       types: of what is read, and of a block of sums
//   kForm                    what a step takes, see Form
//   kBinary                  whether sums count differing bits
//   kVectors, pixels(V)      blocks of a tile, and pixels of a tile of V blocks: as many as fit into registers
//   kSteps                   after how many steps sums must be widened; 0: never
//   kInputsAStep             inputs that a step takes
//   zero, load, broadcast, step
//                            a sum of nothing; weights of a block; an input in all lanes; sum += input * weights
//   widen, store, differing  for binary kinds: adds the sums of kSteps steps to the totals; a sum's lanes; its count
//   step_single              for Halves: a step with the lower 16 bits alone
//   step with a mask         for Masked: a step with the bits that the mask has
#pragma once

#include "kernels/convolution.h"
#include "kernels/peak.h"
#include "kernels/pool.h"
#include "kernels/rounded.h"
#include "kernels/transformed_tile.h"

namespace biper {
namespace {

template <typename Isa>
constexpr Kernels kernels_of(const char* name, const FloatLoops& loops) {
  Kernels kernels{name,
                  binary_convolution<Isa>,
                  convolution<Isa>,
                  round_to_levels<Isa>,
                  int8_convolution<Isa>,
                  transform_rows<Isa>,
                  transformed_convolution<Isa>,
                  pool_blocks<Isa>,
                  elementwise_blocks<Isa>,
                  peak_of<typename Isa::Binary>,
                  Isa::Binary::pixels(Isa::Binary::kVectors) * Isa::Binary::kVectors * kLanes * 32};
  kernels.loops = &loops;
  return kernels;
}

}  // namespace
}  // namespace biper
