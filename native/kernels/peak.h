// The most that an instruction set can do: the step of a binary tile on registers alone.
#pragma once

#include <cstdint>

#include "kernels/block.h"

namespace biper {
namespace {

// Kernels::peak for a kind of binary tile.
template <typename Kind>
std::uint32_t peak_of(std::int64_t rounds) {
  constexpr int V = Kind::kVectors, P = Kind::pixels(V), kPart = Kind::kSteps ? Kind::kSteps : 1 << 20;
  std::uint32_t weights[V * kLanes], inputs[P];
  for (int i = 0; i < V * kLanes; ++i) weights[i] = static_cast<std::uint32_t>(i + 1) * 0x01234567u;
  for (int p = 0; p < P; ++p) inputs[p] = static_cast<std::uint32_t>(p + 1) * 0x9e3779b9u;
  decltype(Kind::load(weights)) w[V];
  repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { w[v] = Kind::load(weights + v * kLanes); });
  typename Kind::Sum total = Kind::zero();
  for (std::int64_t start = 0; start < rounds; start += kPart) {
    typename Kind::Sum sums[P][V];
    repeat<P>([&](auto p)
                  BIPER_INLINE_LAMBDA { repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { sums[p][v] = Kind::zero(); }); });
    const std::int64_t stop = start + kPart < rounds ? start + kPart : rounds;
    for (std::int64_t i = start; i < stop; ++i) {
      touch_memory(inputs);  // the inputs are read again each time, as in a tile
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
        const auto input = Kind::broadcast(inputs + p);
        repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Kind::step(sums[p][v], input, w[v]); });
      });
    }
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { Kind::widen(total, sums[p][v]); });
    });
  }
  std::int32_t lanes[kLanes];
  Kind::store(lanes, total);
  std::uint32_t result = 0;
  for (std::int32_t lane : lanes) result += static_cast<std::uint32_t>(lane);
  return result;
}

}  // namespace
}  // namespace biper
