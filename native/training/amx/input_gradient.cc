// The gradient of a convolution by its input, for weights of any kind: a convolution of the gradients, which are
// bfloat16, with the weights in reverse order, which are rounded to bfloat16. With a stride, zeros are put between the
// gradients.
#include "training/amx/amx.h"
#include "training/amx/product.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

void backward(const Convolution& shape, const Bfloat16* grad, const float* weight, const float* scale,
              Bfloat16* gradient, ThreadPool& pool) {
  const std::int64_t reach_y = shape.dilation_y * (shape.kernel_height - 1);
  const std::int64_t reach_x = shape.dilation_x * (shape.kernel_width - 1);
  const std::int64_t height = shape.in_height + reach_y, width = shape.in_width + reach_x;
  const std::int64_t outs = shape.out_channels, ins = shape.in_channels, blocks = ins / 16;
  const Layout layout(height, width, 2 * outs, shape.in_height, shape.in_width, shape, 1, 1);

  const std::int64_t panel_bytes = static_cast<std::int64_t>(layout.pieces.size()) * kTileBytes;
  const Buffer<std::uint8_t> panels = buffer<std::uint8_t>(blocks * panel_bytes);
  pool.run(static_cast<int>(blocks), [&](int block) {
    std::uint8_t* panel = panels.get() + block * panel_bytes;
    std::fill_n(panel, panel_bytes, std::uint8_t{0});
    each_weight(shape, outs, 2, [&](int tap, std::int64_t o, std::int64_t offset) {
      const float* w = weight + (o * shape.taps() + shape.taps() - 1 - tap) * ins + 16 * block;
      alignas(32) Bfloat16 values[16];
      store(values, multiply(load(w), all(scale[o])));
      for (int c = 0; c < 16; ++c) std::memcpy(panel + offset + 4 * c, values + c, 2);
    });
  });

  // The gradient of output pixel (y, x) lies at row y stride + reach - padding of the buffer, if that exists.
  const std::int64_t top = reach_y - shape.padding_y, left = reach_x - shape.padding_x;
  const auto fill = [&](std::int64_t n, std::uint8_t* memory) {
    for (std::int64_t y = 0; y < shape.out_height; ++y) {
      const std::int64_t row = y * shape.stride_y + top;
      if (row < 0 || row >= height) continue;
      const Bfloat16* from = grad + (n * shape.out_pixels() + y * shape.out_width) * outs;
      std::uint8_t* to = memory + row * width * 2 * outs;
      if (shape.stride_x == 1) {
        const std::int64_t begin = std::max<std::int64_t>(-left, 0), end = std::min(shape.out_width, width - left);
        const std::size_t size = static_cast<std::size_t>(std::max<std::int64_t>(end - begin, 0) * 2 * outs);
        std::memcpy(to + (begin + left) * 2 * outs, from + begin * outs, size);
        continue;
      }
      for (std::int64_t x = 0; x < shape.out_width; ++x) {
        const std::int64_t column = x * shape.stride_x + left;
        if (column >= 0 && column < width)
          std::memcpy(to + column * 2 * outs, from + x * outs, static_cast<std::size_t>(2 * outs));
      }
    }
  };
  each_group(layout, shape.samples, pool, fill, [&](const std::uint8_t* from, std::int64_t first, std::int64_t count) {
    for (std::int64_t block = 0; block < blocks; block += 2) {
      const std::uint8_t* panel = panels.get() + block * panel_bytes;
      const bool has_other = block + 1 < blocks;
      multiply_panels<Bfloat16Product>(
          layout, from, count, panel, has_other ? panel + panel_bytes : nullptr,
          [&](std::int64_t n, std::int64_t pixel, std::int64_t pixels, const float* sums, const float* others) {
            Bfloat16* to = gradient + ((first + n) * shape.in_pixels() + pixel) * ins + 16 * block;
            for (std::int64_t i = 0; i < pixels; ++i) store(to + i * ins, load(sums + 16 * i));
            if (!has_other) return;
            for (std::int64_t i = 0; i < pixels; ++i) store(to + i * ins + 16, load(others + 16 * i));
          });
    }
  });
}

}  // namespace

void input_gradient(Type, const Convolution& shape, const void* grad, const float* weight, const float* scale,
                    void* gradient, ThreadPool& pool) {
  backward(shape, static_cast<const Bfloat16*>(grad), weight, scale, static_cast<Bfloat16*>(gradient), pool);
}

}  // namespace biper::training::BIPER_TRAINING_SET
