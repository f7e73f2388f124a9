// The last step of every kernel: multiplier, offset, residual, activation, and the stores of real values and bits.
#pragma once

#include <cstdint>

#include "kernels/block.h"

namespace biper {
namespace {

// Applies the epilogue to P pixels, which start at `pixel` and are `step` pixels apart, by V blocks of channels,
// starting at `block`, and stores the results. Multiply and add are not fused, so that every instruction set gives the
// same floats.
template <typename Isa, int P, int V, typename Step>
BIPER_INLINE void store_real(const Epilogue& e, typename Isa::Floats (&y)[P][V], std::int64_t pixel, Step step,
                             int block) {
  const int first = block * kLanes;
  const auto each = [&](auto&& change) BIPER_INLINE_LAMBDA {
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { repeat<P>([&](auto p) BIPER_INLINE_LAMBDA { change(y[p][v], v); }); });
  };
  // Pointers go from pixel to pixel, because a product for each address takes longer.
  const std::int64_t stride = blocks_of(e.channels) * kLanes, next = step * stride, start = pixel * stride + first;
  const auto each_at = [&](auto* at, auto&& change) BIPER_INLINE_LAMBDA {
    at += start;
    repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
      repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { change(y[p][v], at + v * kLanes); });
      at += next;
    });
  };
  const auto by_channel = [&](const float* values, auto v)
                              BIPER_INLINE_LAMBDA { return Isa::load(values + first + v * kLanes); };
  if (e.multiplier)
    each([&](auto& x, auto v) BIPER_INLINE_LAMBDA { x = Isa::multiply(x, by_channel(e.multiplier, v)); });
  if (e.offset) each([&](auto& x, auto v) BIPER_INLINE_LAMBDA { x = Isa::add(x, by_channel(e.offset, v)); });
  if (e.residual)
    each_at(e.residual, [&](auto& x, const float* at) BIPER_INLINE_LAMBDA { x = Isa::add(x, Isa::load(at)); });
  switch (e.activation) {
    case Activation::kNone: break;
    case Activation::kClip:
      each([&](auto& x, auto)
               BIPER_INLINE_LAMBDA { x = Isa::smaller(Isa::larger(x, Isa::all(e.low)), Isa::all(e.high)); });
      break;
    case Activation::kRelu: each([&](auto& x, auto) BIPER_INLINE_LAMBDA { x = Isa::larger(x, Isa::all(0)); }); break;
    case Activation::kPrelu:
      each([&](auto& x, auto v) BIPER_INLINE_LAMBDA { x = Isa::prelu(x, by_channel(e.slope, v)); });
      break;
  }
  if (e.real) each_at(e.real, [&](const auto& x, float* at) BIPER_INLINE_LAMBDA { Isa::store(at, x); });
  if (e.bits) {
    const std::int64_t halves = halves_of(e.channels);
    if (e.sign_multiplier)
      each([&](auto& x, auto v) BIPER_INLINE_LAMBDA { x = Isa::multiply(x, by_channel(e.sign_multiplier, v)); });
    if (e.sign_offset)
      each([&](auto& x, auto v) BIPER_INLINE_LAMBDA { x = Isa::add(x, by_channel(e.sign_offset, v)); });
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      const std::uint16_t lanes = lanes_of(e.channels, block + v);
      std::uint16_t* at = e.bits + pixel * halves + block + v;
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
        *at = Isa::not_negative(y[p][v]) & lanes;
        at += step * halves;
      });
    });
  }
}

// The same for one pixel and one block.
template <typename Isa>
BIPER_INLINE void store_real(const Epilogue& e, typename Isa::Floats y, std::int64_t pixel, int block) {
  typename Isa::Floats one[1][1] = {{y}};
  store_real<Isa>(e, one, pixel, Constant<1>{}, block);
}

// The same for the sums of binary tiles, valid - 2 differing: `differing` of the `valid` products are -1.
template <typename Isa, int P, int V, typename Step>
BIPER_INLINE void store_differing(const Epilogue& e, typename Isa::Integers (&differing)[P][V], int valid,
                                  std::int64_t pixel, Step step, int block) {
  if (e.threshold) {
    const std::int64_t halves = halves_of(e.channels);
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA {
      const auto most = Isa::most_differing(valid, Isa::load(e.threshold + (block + v) * kLanes));
      std::uint16_t* at = e.bits + pixel * halves + block + v;
      repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
        *at = Isa::at_most(differing[p][v], most);
        at += step * halves;
      });
    });
    return;
  }
  typename Isa::Floats y[P][V];
  repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[p][v] = Isa::sum(valid, differing[p][v]); });
  });
  store_real<Isa>(e, y, pixel, step, block);
}

// Sets the last 16 bits of pixels [begin, end) to 0 where their channels fill only half of the last word.
inline void clear_spare_bits(const Epilogue& e, std::int64_t begin, std::int64_t end) {
  const int blocks = blocks_of(e.channels);
  if (!e.bits || blocks % 2 == 0 || blocks == 1) return;
  for (std::int64_t pixel = begin; pixel < end; ++pixel) e.bits[pixel * (blocks + 1) + blocks] = 0;
}

// The epilogue as an operation of its own, on V blocks of channels from `block` on, P pixels at once.
template <typename Isa, int P, int V>
BIPER_INLINE void elementwise_tile(const float* in, int blocks, int first, const Epilogue& e, int pixel, int block) {
  typename Isa::Floats y[P][V];
  const float* at = in + (std::int64_t{pixel} * blocks + block) * kLanes;
  repeat<P>([&](auto p) BIPER_INLINE_LAMBDA {
    repeat<V>([&](auto v) BIPER_INLINE_LAMBDA { y[p][v] = Isa::load(at + v * kLanes); });
    at += std::int64_t{blocks} * kLanes;
  });
  store_real<Isa>(e, y, pixel, Constant<1>{}, first + block);
}

// For one or two blocks of channels, V, several pixels at once, so that the steps of the epilogue are decided less
// often.
template <typename Isa, int V>
void elementwise_pixels(const float* in, int first, const Epilogue& e, int begin, int end) {
  constexpr int kPixels = 4 / V;
  for (; begin + kPixels <= end; begin += kPixels) elementwise_tile<Isa, kPixels, V>(in, V, first, e, begin, 0);
  for (; begin < end; ++begin) elementwise_tile<Isa, 1, V>(in, V, first, e, begin, 0);
}

template <typename Isa>
void elementwise_blocks(const float* in, int channels, int first, const Epilogue& e, int begin, int end) {
  const int blocks = blocks_of(channels), first_block = first / kLanes;
  if (blocks == 1) {
    elementwise_pixels<Isa, 1>(in, first_block, e, begin, end);
  } else if (blocks == 2) {
    elementwise_pixels<Isa, 2>(in, first_block, e, begin, end);
  } else {
    for (int pixel = begin; pixel < end; ++pixel) {
      int block = 0;
      for (; block + 4 <= blocks; block += 4) elementwise_tile<Isa, 1, 4>(in, blocks, first_block, e, pixel, block);
      for (; block < blocks; ++block) elementwise_tile<Isa, 1, 1>(in, blocks, first_block, e, pixel, block);
    }
  }
  clear_spare_bits(e, begin, end);
}

}  // namespace
}  // namespace biper
