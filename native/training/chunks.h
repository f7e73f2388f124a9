// What the convolutions by table lookup of all instruction sets share: aligned memory, and which input byte each tap
// reads at each output pixel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "training/set.h"

namespace biper::training::BIPER_TRAINING_SET {

struct alignas(64) Register {
  std::uint8_t bytes[64];
};

struct Free {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Buffer = std::unique_ptr<T[], Free>;

// Memory for `count` values, not initialized, which starts at a multiple of 64 bytes.
template <typename T>
Buffer<T> buffer(std::int64_t count) {
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
  T* p = static_cast<T*>(std::aligned_alloc(64, bytes));
  if (!p) throw std::bad_alloc();
  return Buffer<T>(p);
}

// A tap that is outside the image at an output pixel.
struct Unseen {
  std::int64_t pixel;
  int tap;
};

// The output pixels of some images, one after another, padded to a multiple of `unit`, which is a multiple of 8; and
// which input byte each tap reads.
class Chunk {
 public:
  static constexpr std::int64_t kUnit = 48;

  Chunk(const Convolution& shape, std::int64_t images, std::int64_t unit = kUnit)
      : shape_(shape),
        pixels_(images * shape.out_pixels()),
        padded_((pixels_ + unit - 1) / unit * unit),
        valid_(static_cast<std::size_t>(shape.taps() * padded_), 0),
        source_(static_cast<std::size_t>(shape.taps() * padded_), 0) {
    const std::int64_t plane = shape.in_channels / 8 * shape.in_pixels();  // bytes of all planes of an image
    std::int64_t at = 0;
    for (int ky = 0; ky < shape.kernel_height; ++ky)
      for (int kx = 0; kx < shape.kernel_width; ++kx, at += padded_) {
        std::int64_t i = at;
        for (std::int64_t n = 0; n < images; ++n)
          for (std::int64_t y = 0; y < shape.out_height; ++y)
            for (std::int64_t x = 0; x < shape.out_width; ++x, ++i) {
              const std::int64_t row = y * shape.stride_y - shape.padding_y + ky * shape.dilation_y;
              const std::int64_t column = x * shape.stride_x - shape.padding_x + kx * shape.dilation_x;
              if (row < 0 || row >= shape.in_height || column < 0 || column >= shape.in_width) continue;
              valid_[static_cast<std::size_t>(i)] = 0xFF;
              source_[static_cast<std::size_t>(i)] =
                  static_cast<std::int32_t>(n * plane + row * shape.in_width + column);
            }
      }
    for (std::int64_t p = 0; p < pixels_; ++p)
      for (int tap = 0; tap < shape.taps(); ++tap)
        if (!valid(tap)[p]) unseen_.push_back({p, tap});
    same_ = shape.stride_y == 1 && shape.stride_x == 1 && shape.in_height == shape.out_height &&
            shape.in_width == shape.out_width;
  }

  std::int64_t pixels() const { return pixels_; }
  std::int64_t padded() const { return padded_; }
  // One byte for each pixel: 0xFF where the tap is inside the image, else 0.
  const std::uint8_t* valid(int tap) const { return valid_.data() + tap * padded_; }

  // The taps that are outside the image, by ascending pixel: the first of them at pixel `first` or later.
  std::vector<Unseen>::const_iterator first_unseen(std::int64_t first) const {
    const auto earlier = [](const Unseen& u, std::int64_t p) { return u.pixel < p; };
    return std::lower_bound(unseen_.begin(), unseen_.end(), first, earlier);
  }
  std::vector<Unseen>::const_iterator no_more_unseen() const { return unseen_.end(); }

  // Calls f(pixel - first, tap) for every tap that is outside the image at a pixel in [first, first + count).
  template <typename F>
  void each_unseen(std::int64_t first, std::int64_t count, F&& f) const {
    for (auto u = first_unseen(first); u != unseen_.end() && u->pixel < first + count; ++u) f(u->pixel - first, u->tap);
  }

  // The bytes of a group of eight channels that a tap reads at pixels [first, first + count); where the tap is outside
  // the image they have any value. The result points into the image if the order there is the same (32 more bytes are
  // readable then), and else to `copy`, which must have place for the bytes. `image` is the first image of the chunk.
  const std::uint8_t* bytes(const std::uint8_t* image, int tap, std::int64_t group, std::int64_t first,
                            std::int64_t count, std::uint8_t* copy) const {
    const std::uint8_t* plane = image + group * shape_.in_pixels();
    if (same_) {
      const std::int64_t row = tap / shape_.kernel_width * shape_.dilation_y - shape_.padding_y;
      const std::int64_t column = tap % shape_.kernel_width * shape_.dilation_x - shape_.padding_x;
      const std::int64_t shift = row * shape_.in_width + column, size = shape_.in_pixels();
      if (pixels_ == size) {
        if (first + shift >= -kSlack && first + shift + count + 32 <= size + kSlack) return plane + first + shift;
      } else if (shift >= -kSlack && shift <= kSlack) {
        // Whole images are copied, so that all copies have one length; bytes outside an image come from the next plane.
        for (std::int64_t i = first / size * size; i < std::min(first + count, pixels_); i += size) {
          const std::uint8_t* from = plane + i / size * (shape_.in_channels / 8) * size + shift;
          const std::int64_t skip = std::max(first - i, std::int64_t{0});
          std::memcpy(copy + i + skip - first, from + skip,
                      static_cast<std::size_t>(std::min(size, first + count - i) - skip));
        }
        return copy;
      }
    }
    const std::int32_t* from = source_.data() + tap * padded_ + first;
    for (std::int64_t i = 0; i < count; ++i) copy[i] = plane[from[i]];
    return copy;
  }

 private:
  Convolution shape_;
  std::int64_t pixels_, padded_;
  std::vector<std::uint8_t> valid_;
  std::vector<std::int32_t> source_;
  std::vector<Unseen> unseen_;
  bool same_;
};

// How images are divided into chunks of about `pixels` pixels, or of one image if it has more. The last may be shorter.
struct Chunks {
  Chunks(const Convolution& shape, std::int64_t pixels, std::int64_t unit = Chunk::kUnit)
      : images(std::clamp<std::int64_t>(pixels / shape.out_pixels(), 1, shape.samples)),
        count(static_cast<int>((shape.samples + images - 1) / images)),
        whole(shape, images, unit),
        last(shape, shape.samples - (count - 1) * images, unit) {}

  const Chunk& at(int index) const { return index + 1 < count ? whole : last; }

  std::int64_t images;
  int count;
  Chunk whole, last;
};

}  // namespace biper::training::BIPER_TRAINING_SET
