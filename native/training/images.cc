// Batches of small images as bytes (images, height, width, channels): crops, mirroring and normalization.
#include <algorithm>
#include <cstring>
#include <vector>

#include "training/set.h"

namespace biper::training::BIPER_TRAINING_SET {

void crop_and_mirror(const ImageShape& shape, const std::uint8_t* images, const std::int64_t* rows,
                     const std::int64_t* columns, const std::uint8_t* mirrored, std::int64_t padding, std::uint8_t* out,
                     ThreadPool& pool) {
  const std::int64_t channels = shape.channels, line = shape.width * channels, size = shape.height * line;
  pool.run(static_cast<int>(shape.count), [&](int n) {
    const std::int64_t down = rows[n] - padding, right = columns[n] - padding;
    // Columns [first, last) of the crop are inside the image.
    const std::int64_t first = std::clamp<std::int64_t>(-right, 0, shape.width);
    const std::int64_t last = std::clamp<std::int64_t>(shape.width - right, first, shape.width);
    for (std::int64_t y = 0; y < shape.height; ++y) {
      std::uint8_t* to = out + n * size + y * line;
      const std::int64_t row = y + down;
      if (row < 0 || row >= shape.height || first == last) {
        std::memset(to, 0, static_cast<std::size_t>(line));
        continue;
      }
      std::memset(to, 0, static_cast<std::size_t>(first * channels));
      std::memcpy(to + first * channels, images + n * size + row * line + (first + right) * channels,
                  static_cast<std::size_t>((last - first) * channels));
      std::memset(to + last * channels, 0, static_cast<std::size_t>((shape.width - last) * channels));
      if (!mirrored[n]) continue;
      for (std::int64_t a = 0, b = shape.width - 1; a < b; ++a, --b)
        for (std::int64_t c = 0; c < channels; ++c) std::swap(to[a * channels + c], to[b * channels + c]);
    }
  });
}

void normalize(const ImageShape& shape, const std::uint8_t* images, const float* factor, const float* shift, float* out,
               ThreadPool& pool) {
  const std::int64_t size = shape.height * shape.width * shape.channels;
  // The numbers of all channels, repeated 16 times, so that the compiler can vectorize over them
  // for any number of channels.
  const std::int64_t period = 16 * shape.channels;
  std::vector<float> factors(static_cast<std::size_t>(period)), shifts(factors.size());
  for (std::int64_t i = 0; i < period; ++i) {
    factors[static_cast<std::size_t>(i)] = factor[i % shape.channels];
    shifts[static_cast<std::size_t>(i)] = shift[i % shape.channels];
  }
  pool.run(static_cast<int>(shape.count), [&](int n) {
    for (std::int64_t begin = n * size; begin < (n + 1) * size; begin += period) {
      const std::int64_t count = std::min(period, (n + 1) * size - begin);
      for (std::int64_t i = 0; i < count; ++i)
        out[begin + i] = shifts[static_cast<std::size_t>(i)] +
                         static_cast<float>(images[begin + i]) * factors[static_cast<std::size_t>(i)];
    }
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
