// How the weight gradient of a convolution of bits is divided among threads.
#pragma once

#include <algorithm>
#include <vector>

#include "training/chunks.h"
#include "training/vectors.h"

namespace biper::training::BIPER_TRAINING_SET {

// Computes gradient (out, taps, in) by a class Pixels(shape), which adds what some output pixels contribute, at most
// Pixels::kPixels at a time: set_pixels, then add for each sixteen output channels.
template <typename Pixels, typename T>
void add_parts(const Convolution& shape, const std::uint8_t* bits, const T* grad, float* gradient, ThreadPool& pool) {
  constexpr int kParts = 16;  // parts of the work; a constant, so that threads do not change the sums
  constexpr std::int64_t kChunkPixels = 1024;
  constexpr std::int64_t kChannels = 64;  // output channels of a part
  const std::int64_t outs = shape.out_channels, size = outs * shape.taps() * shape.in_channels;
  const Chunks chunks(shape, kChunkPixels);
  const int channel_parts = static_cast<int>((outs + kChannels - 1) / kChannels);
  const int pixel_parts = std::clamp(kParts / channel_parts, 1, chunks.count);
  std::vector<float> partial(static_cast<std::size_t>(size * (pixel_parts - 1)), 0.0f);
  std::fill_n(gradient, size, 0.0f);
  pool.run(channel_parts * pixel_parts, [&](int part) {
    const int pixel_part = part % pixel_parts, channel_part = part / pixel_parts;
    float* to = pixel_part == 0 ? gradient : partial.data() + (pixel_part - 1) * size;
    Pixels pixels(shape);
    for (int number = chunks.count * pixel_part / pixel_parts; number < chunks.count * (pixel_part + 1) / pixel_parts;
         ++number) {
      const Chunk& chunk = chunks.at(number);
      const std::int64_t image = number * chunks.images;
      for (std::int64_t first = 0; first < chunk.pixels(); first += Pixels::kPixels) {
        pixels.set_pixels(chunk, bits + image * shape.in_channels / 8 * shape.in_pixels(), first,
                          std::min(Pixels::kPixels, chunk.pixels() - first));
        const T* from = grad + (image * shape.out_pixels() + first) * outs;
        for (std::int64_t o = channel_part * kChannels; o < std::min((channel_part + 1) * kChannels, outs); o += 16)
          pixels.add(from + o, o, to);
      }
    }
  });
  const int shares = static_cast<int>(std::min<std::int64_t>(size / 16, kParts));
  pool.run(shares, [&](int share) {
    for (std::int64_t i = size / 16 * share / shares * 16; i < size / 16 * (share + 1) / shares * 16; i += 16) {
      Vector total = load(gradient + i);
      for (int other = 0; other < pixel_parts - 1; ++other) total = add(total, load(partial.data() + other * size + i));
      store(gradient + i, total);
    }
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
