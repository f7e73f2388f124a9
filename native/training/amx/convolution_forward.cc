// The forward convolution of bits with real weights. Bits are the integers -1 and +1 of 8 bits. A weight is an integer
// of one or of two digits of 8 bits, so that products and sums are exact.
#include <algorithm>
#include <cmath>
#include <vector>

#include "training/amx/amx.h"
#include "training/amx/product.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr float kMost = 16256;  // 127 * 128: the largest integer of two digits, the last of which is -64 to 63

// The weights of all output channels in panels of sixteen, as integers times a factor for each channel.
struct Panels {
  std::int64_t bytes;  // of a panel
  int digits;          // panels for each sixteen channels, the higher digit first
  Buffer<std::uint8_t> memory;
  std::vector<float> factor;

  const std::uint8_t* at(std::int64_t panel) const { return memory.get() + panel * bytes; }
};

// A channel whose weights are plus and minus one number has the integers -1 and +1, and others have integers of two
// digits. The factors of these are powers of two.
Panels make_panels(const Convolution& shape, const Layout& layout, const float* weight, ThreadPool& pool) {
  const std::int64_t outs = shape.out_channels, size = shape.taps() * shape.in_channels;
  Panels panels{static_cast<std::int64_t>(layout.pieces.size()) * kTileBytes, 1, nullptr,
                std::vector<float>(static_cast<std::size_t>(outs))};
  std::vector<std::uint8_t> is_signs(static_cast<std::size_t>(outs));
  pool.run(static_cast<int>(outs), [&](int o) {
    const float* w = weight + o * size;
    const float magnitude = std::abs(w[0]);
    Vector largest = zeros(), check = zeros();
    bool same = true;
    for (std::int64_t i = 0; i < size; i += 16) {
      const Vector v = absolute(load(w + i));
      largest = larger(largest, v);
      check = multiply_add(v, zeros(), check);  // NaN if one is not finite
      same = same && _mm512_cmp_ps_mask(v, all(magnitude), _CMP_EQ_OQ) == 0xFFFF;
    }
    const float most = _mm512_reduce_max_ps(largest);
    constexpr int kSmallest = -126;  // the exponent of the smallest number whose inverse is finite
    same = same && most >= std::ldexp(1.0f, kSmallest);
    is_signs[static_cast<std::size_t>(o)] = same;
    int exponent;
    std::frexp(most / kMost, &exponent);  // most / 2^exponent is at least kMost / 2 and below kMost
    panels.factor[static_cast<std::size_t>(o)] =
        static_cast<float>(sum(check)) + (same ? most : std::ldexp(1.0f, std::max(exponent, kSmallest)));
  });
  if (std::count(is_signs.begin(), is_signs.end(), 0) > 0) panels.digits = 2;
  panels.memory = buffer<std::uint8_t>(outs / 16 * panels.digits * panels.bytes);
  pool.run(static_cast<int>(outs / 16), [&](int block) {
    std::uint8_t* first = panels.memory.get() + block * panels.digits * panels.bytes;
    std::fill_n(first, panels.digits * panels.bytes, std::uint8_t{0});
    float inverse[16];
    for (int o = 0; o < 16; ++o) {
      const float factor = panels.factor[static_cast<std::size_t>(16 * block + o)];
      inverse[o] = factor > 0 ? 1 / factor : 0;
    }
    each_weight(shape, shape.in_channels, 1, [&](int tap, std::int64_t in, std::int64_t offset) {
      for (int o = 0; o < 16; ++o) {
        const float w = weight[(16 * block + o) * size + tap * shape.in_channels + in];
        const int value = static_cast<int>(std::lrint(w * inverse[o]));
        if (panels.digits == 1) {
          first[offset + 4 * o] = static_cast<std::uint8_t>(value);
        } else {
          const int high = (value + 64) >> 7;
          first[offset + 4 * o] = static_cast<std::uint8_t>(high);
          first[panels.bytes + offset + 4 * o] = static_cast<std::uint8_t>(value - 128 * high);
        }
      }
    });
  });
  return panels;
}

inline Vector floats(const std::int32_t* sums) { return _mm512_cvtepi32_ps(_mm512_load_si512(sums)); }

// Pixels that are `step` numbers apart = sums * factor, for sixteen channels.
void store_products(const std::int32_t* sums, Vector factor, std::int64_t count, Bfloat16* to, std::int64_t step) {
  for (std::int64_t i = 0; i < count; ++i) store(to + i * step, multiply(floats(sums + 16 * i), factor));
}

// The same for sums of two digits.
void store_products(const std::int32_t* high, const std::int32_t* low, Vector factor, std::int64_t count, Bfloat16* to,
                    std::int64_t step) {
  const Vector base = all(128);
  for (std::int64_t i = 0; i < count; ++i)
    store(to + i * step, multiply(multiply_add(floats(high + 16 * i), base, floats(low + 16 * i)), factor));
}

void forward(const Convolution& shape, const std::uint8_t* bits, const float* weight, const float* scale, Bfloat16* out,
             ThreadPool& pool) {
  const std::int64_t height = shape.in_height + 2 * shape.padding_y, width = shape.in_width + 2 * shape.padding_x;
  const Layout layout(height, width, shape.in_channels, shape.out_height, shape.out_width, shape, shape.stride_y,
                      shape.stride_x);
  const std::int64_t outs = shape.out_channels, blocks = outs / 16;
  const Panels panels = make_panels(shape, layout, weight, pool);
  const auto fill = [&](std::int64_t n, std::uint8_t* memory) {
    spread_bits(shape, bits + n * shape.in_channels / 8 * shape.in_pixels(), width, shape.padding_y, shape.padding_x,
                reinterpret_cast<std::int8_t*>(memory));
  };
  each_group(layout, shape.samples, pool, fill, [&](const std::uint8_t* from, std::int64_t first, std::int64_t count) {
    const auto multiplier = [&](std::int64_t block) {
      return multiply(load(panels.factor.data() + 16 * block), load(scale + 16 * block));
    };
    for (std::int64_t block = 0; block < blocks; block += 3 - panels.digits) {
      const bool has_other = panels.digits == 2 || block + 1 < blocks;
      const Vector factor = multiplier(block), other = multiplier(std::min(block + 1, blocks - 1));
      const std::int64_t panel = panels.digits * block;
      multiply_panels<Int8Product>(layout, from, count, panels.at(panel), has_other ? panels.at(panel + 1) : nullptr,
                                   [&](std::int64_t n, std::int64_t pixel, std::int64_t pixels,
                                       const std::int32_t* sums, const std::int32_t* others) {
                                     Bfloat16* to = out + ((first + n) * shape.out_pixels() + pixel) * outs;
                                     if (panels.digits == 2) {
                                       store_products(sums, others, factor, pixels, to + 16 * block, outs);
                                     } else {
                                       store_products(sums, factor, pixels, to + 16 * block, outs);
                                       if (has_other) store_products(others, other, pixels, to + 16 * block + 16, outs);
                                     }
                                   });
    }
  });
}

}  // namespace

void convolution_forward(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                         const float* scale, void* out, ThreadPool& pool) {
  if (type == Type::kFloat)
    avx512::convolution_forward(type, shape, bits, weight, scale, out, pool);
  else
    forward(shape, bits, weight, scale, static_cast<Bfloat16*>(out), pool);
}

}  // namespace biper::training::BIPER_TRAINING_SET
