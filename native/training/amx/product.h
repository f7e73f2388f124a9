// A convolution over padded images as products of tiles.
//
// An image lies in a buffer (rows, width, channels) that has the padding around it, so that what a row of the kernel
// reads at an output pixel is contiguous. Sixteen pixels, which are equally far apart, are the rows of a tile. 64 bytes
// of a kernel row are its columns, and 64 bytes of weights of sixteen output channels are the other tile.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "training/amx/tiles.h"

namespace biper::training::BIPER_TRAINING_SET {

// Where the output pixels of padded images are, and what each reads.
struct Layout {
  std::int64_t rows, width, pixel_bytes;  // of a padded image
  std::int64_t out_height, out_width;
  int stride_y, stride_x;
  std::vector<std::int64_t> pieces;  // the offset of each 64 bytes that a pixel reads, from its first byte

  // `shape` gives the kernel and its dilation. What a kernel row reads is contiguous if columns are not dilated.
  Layout(std::int64_t height, std::int64_t width_, std::int64_t pixel, std::int64_t out_rows, std::int64_t out_columns,
         const Convolution& shape, int step_y, int step_x)
      : rows(height),
        width(width_),
        pixel_bytes(pixel),
        out_height(out_rows),
        out_width(out_columns),
        stride_y(step_y),
        stride_x(step_x) {
    const bool together = shape.dilation_x == 1;
    const std::int64_t run = together ? shape.kernel_width * pixel : pixel;
    for (int ky = 0; ky < shape.kernel_height; ++ky)
      for (int kx = 0; kx < (together ? 1 : shape.kernel_width); ++kx)
        for (std::int64_t at = 0; at < run; at += kRowBytes)
          pieces.push_back((ky * shape.dilation_y * width + kx * shape.dilation_x) * pixel + at);
  }

  std::int64_t image_bytes() const { return rows * width * pixel_bytes; }
  // Tiles may read as far behind the last image.
  std::int64_t slack() const { return 4 * kRows * stride_x * pixel_bytes + kTileBytes; }
  // The pixels of all rows are equally far apart if those between rows are computed too: output rows are then `pitch`
  // pixels apart. Where a row is no whole number of steps, rows are computed one by one.
  bool is_flat() const { return stride_y * width % stride_x == 0; }
  std::int64_t pitch() const { return is_flat() ? stride_y * width / stride_x : out_width; }
};

// How weights (out, taps, in) of `size` bytes lie in tiles, for sixteen output channels and one tile for each piece:
// calls place(tap, in, byte offset in the tile of channel 0) for all of them. Channel o is 4 o bytes further.
template <typename F>
void each_weight(const Convolution& shape, std::int64_t inputs, std::int64_t size, F&& place) {
  const std::int64_t per_row = (shape.dilation_x == 1 ? shape.kernel_width : 1) * inputs * size;
  const std::int64_t pieces = (per_row + kRowBytes - 1) / kRowBytes;  // of a run
  for (int tap = 0; tap < shape.taps(); ++tap)
    for (std::int64_t in = 0; in < inputs; ++in) {
      const std::int64_t run = shape.dilation_x == 1 ? tap / shape.kernel_width : tap;
      const std::int64_t at = shape.dilation_x == 1 ? (tap % shape.kernel_width * inputs + in) * size : in * size;
      const std::int64_t piece = run * pieces + at / kRowBytes, byte = at % kRowBytes;
      place(tap, in, piece * kTileBytes + byte / 4 * kRowBytes + byte % 4);
    }
}

// Products of four tiles of sums, 0 to 3, with pixels in tiles 4 and 5 and weights in tiles 6 and 7: of two tiles of
// pixels with two panels, or, in two steps, of four tiles of pixels with one panel.
struct Int8Product {
  using Number = std::int32_t;
  static void by_two() {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  static void by_one() {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 5, 6);
  }
  static void by_one_more() {
    _tile_dpbssd(2, 4, 6);
    _tile_dpbssd(3, 5, 6);
  }
};

struct Bfloat16Product {
  using Number = float;
  static void by_two() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  static void by_one() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
  }
  static void by_one_more() {
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 5, 6);
  }
};

// For all output pixels of `images` padded images and two panels of weights, or one if the other is null: calls
// store(image, pixel, count, sums, others) for `count` pixels in a row, from `pixel` on, each of which has sixteen sums
// by each panel.
template <typename Product, typename F>
void multiply_panels(const Layout& layout, const std::uint8_t* buffer, std::int64_t images, const std::uint8_t* panel,
                     const std::uint8_t* other, F&& store) {
  using Number = typename Product::Number;
  const std::int64_t step = layout.stride_x * layout.pixel_bytes, unit = other ? 2 * kRows : 4 * kRows;
  const std::size_t pieces = layout.pieces.size();
  alignas(64) Number sums[4 * kRows][16];
  const std::int64_t stored[4] = {0, other ? 2 * kRows : kRows, other ? kRows : 2 * kRows, 3 * kRows};
  const std::int64_t pitch = layout.pitch();
  // `length` pixels from the one at `from` on; the first is in output row `y`, and rows are `pitch` pixels apart.
  const auto run = [&](std::int64_t image, const std::uint8_t* from, std::int64_t y, std::int64_t length) {
    for (std::int64_t q = 0; q < length; q += unit) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      const std::uint8_t* pixels = from + q * step;
      for (std::size_t k = 0; k < pieces; ++k) {
        const std::uint8_t* at = pixels + layout.pieces[k];
        _tile_loadd(4, at, step);
        _tile_loadd(6, panel + k * kTileBytes, kRowBytes);
        _tile_loadd(5, at + kRows * step, step);
        if (other) {
          _tile_loadd(7, other + k * kTileBytes, kRowBytes);
          Product::by_two();
        } else {
          Product::by_one();
          _tile_loadd(4, at + 2 * kRows * step, step);
          _tile_loadd(5, at + 3 * kRows * step, step);
          Product::by_one_more();
        }
      }
      _tile_stored(0, sums[stored[0]], kRowBytes);
      _tile_stored(1, sums[stored[1]], kRowBytes);
      _tile_stored(2, sums[stored[2]], kRowBytes);
      _tile_stored(3, sums[stored[3]], kRowBytes);
      std::int64_t row = y + q / pitch, column = q % pitch;
      const std::int64_t count = std::min(unit, length - q);
      for (std::int64_t i = 0; i < count; ++row, column = 0) {
        const std::int64_t seen = std::min(layout.out_width - column, count - i);
        if (seen > 0) store(image, row * layout.out_width + column, seen, sums[i], sums[(2 * kRows + i) % (4 * kRows)]);
        i += pitch - column;
      }
    }
  };
  for (std::int64_t image = 0; image < images; ++image) {
    const std::uint8_t* first = buffer + image * layout.image_bytes();
    if (layout.is_flat())
      run(image, first, 0, (layout.out_height - 1) * pitch + layout.out_width);
    else
      for (std::int64_t y = 0; y < layout.out_height; ++y)
        run(image, first + y * layout.stride_y * layout.width * layout.pixel_bytes, y, layout.out_width);
  }
}

// Puts padded images into memory, some at a time, and works on them: fill(image, memory) writes what is not padding,
// and work(memory, first image, number of images) follows. Padding is 0.
template <typename Fill, typename Work>
void each_group(const Layout& layout, std::int64_t samples, ThreadPool& pool, Fill&& fill, Work&& work) {
  constexpr std::int64_t kBytes = 768 << 10;  // a part of the second cache
  const int parts = static_cast<int>(pool.threads() == 1 ? 1 : std::min<std::int64_t>(samples, 4 * pool.threads()));
  pool.run(parts, [&](int part) {
    const WithTiles tiles;
    const std::int64_t begin = samples * part / parts, end = samples * (part + 1) / parts;
    const std::int64_t together = std::clamp<std::int64_t>(kBytes / layout.image_bytes(), 1, end - begin);
    const std::int64_t bytes = together * layout.image_bytes() + layout.slack();
    const Buffer<std::uint8_t> memory = buffer<std::uint8_t>(bytes);
    std::memset(memory.get(), 0, static_cast<std::size_t>(bytes));
    for (std::int64_t first = begin; first < end; first += together) {
      const std::int64_t count = std::min(together, end - first);
      for (std::int64_t n = 0; n < count; ++n) fill(first + n, memory.get() + n * layout.image_bytes());
      work(memory.get(), first, count);
    }
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
