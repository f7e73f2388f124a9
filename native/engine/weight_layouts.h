// The orders in which kernels read weights, made from the order of a program once, when an operation is added.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/aligned.h"
#include "kernels/kernels.h"

namespace biper {

// From (out, in / groups, ky, kx) to [block][ky][kx][input channel][16].
Aligned<float> real_layout(const Geometry& geometry, const float* weight);

// The same for blocks of several groups: [block][ky][kx][input of GroupedInputs][16].
Aligned<float> grouped_layout(const Geometry& geometry, const float* weight);

// From bits (out, ky, kx, bytes), 1 for +1, to [block][ky][kx][word][16]. The weights of output channels
// whose `flip` is set are inverted; `flip` may be empty. Bits beyond the input channels become 0, whatever
// they were: sums rely on it.
Aligned<std::uint32_t> bit_layout(const Geometry& geometry, const std::uint8_t* weight,
                                  const std::vector<std::uint8_t>& flip);

// BitWeights::pairs and BitWeights::all_rows, from what bit_layout returned. Empty where the
// convolution does not allow it.
Aligned<std::uint32_t> pair_layout(const Geometry& geometry, const Aligned<std::uint32_t>& bits);
Aligned<std::uint32_t> all_rows_layout(const Geometry& geometry, const Aligned<std::uint32_t>& bits);

// BitWeights::masked, from what bit_layout returned. Empty where groups fill blocks.
Aligned<std::uint32_t> masked_layout(const Geometry& geometry, const Aligned<std::uint32_t>& bits);

// From int8 (out, in, ky, kx) to [block][ky][run][quad][16][4], see Levels.
Aligned<std::uint32_t> int8_layout(const Geometry& geometry, const std::int8_t* weight);

// From bfloat16 (out, in, ky, kx) to [block][ky][run][pair][16][2], see Kernels.
Aligned<std::uint32_t> bfloat16_layout(const Geometry& geometry, const std::uint16_t* weight);

// For each output channel, padded with zeros to whole blocks: minus `zero` times the sum of its int8 weights.
Aligned<std::int32_t> int8_initial_sums(const Geometry& geometry, const std::int8_t* weight, int zero);

}  // namespace biper
