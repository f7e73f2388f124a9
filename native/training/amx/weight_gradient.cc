// The gradient of a convolution of bits by its weights: for each tap, the product of a matrix (in, pixels) of -1, 0 and
// +1 with a matrix (pixels, out) of gradients, both in bfloat16, so that products are exact.
//
// The pixels are those of padded images, one row after another. A tap is the same matrix of bits, read from a later
// pixel on. Where there is no output pixel, the gradients are zeros. Strides are left to the kernels for AVX-512.
#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "training/amx/amx.h"
#include "training/amx/tiles.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr std::int64_t kStep = 32;  // pixels of a tile

// Takes turns between the sixteen numbers of one half of a register and those of the other.
alignas(64) constexpr std::int16_t kInterleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

// The images of a group: (in, pixels) bits and (pixels / 2, outs, 2) gradients, padded to whole steps.
class Group {
 public:
  Group(const Convolution& shape, std::int64_t most, std::int64_t outs)
      : shape_(shape),
        width_(shape.in_width + 2 * shape.padding_x),
        plane_(plane_of(shape)),
        outs_(outs),
        reach_(shape.dilation_y * (shape.kernel_height - 1) * width_ + shape.dilation_x * (shape.kernel_width - 1)),
        length_((most * plane_ + kStep - 1) / kStep * kStep),
        row_(((length_ + reach_ + kStep) / kStep | 1) * kStep),  // an odd number of cache lines: no two in one place
        bits_(buffer<Bfloat16>(shape.in_channels * row_)),
        grad_(buffer<Bfloat16>(length_ * outs)) {
    std::memset(bits_.get(), 0, static_cast<std::size_t>(2 * shape.in_channels * row_));
    std::memset(grad_.get(), 0, static_cast<std::size_t>(2 * length_ * outs));
  }

  // The pixels of a padded image.
  static std::int64_t plane_of(const Convolution& shape) {
    return (shape.in_height + 2 * shape.padding_y) * (shape.in_width + 2 * shape.padding_x);
  }
  static std::int64_t image_bytes(const Convolution& shape, std::int64_t outs) {
    return 2 * (shape.in_channels + outs) * plane_of(shape);
  }

  // `grad` are (pixels, out) of the first image, from the first of `outs` channels on that are wanted.
  void set(const std::uint8_t* bits, const Bfloat16* grad, std::int64_t count, std::int64_t outs) {
    const std::int64_t pixels = shape_.in_pixels(), all_outs = shape_.out_channels;
    pairs_ = (count * plane_ + kStep - 1) / kStep * kStep / 2;
    const __m512i plus = _mm512_set1_epi16(0x3F80), minus = _mm512_set1_epi16(static_cast<short>(0xBF80));
    for (std::int64_t n = 0; n < count; ++n)
      for (std::int64_t g = 0; g < shape_.in_channels / 8; ++g)
        for (std::int64_t y = 0; y < shape_.in_height; ++y) {
          const std::uint8_t* from = bits + (n * shape_.in_channels / 8 + g) * pixels + y * shape_.in_width;
          Bfloat16* to = bits_.get() + 8 * g * row_ + n * plane_ + (y + shape_.padding_y) * width_ + shape_.padding_x;
          for (std::int64_t x = 0; x < shape_.in_width; x += 32) {
            const std::int64_t left = shape_.in_width - x;
            const __mmask32 lanes = left >= 32 ? 0xFFFFFFFFu : (1u << left) - 1;
            const __m256i eight = _mm256_maskz_loadu_epi8(lanes, from + x);
            for (int j = 0; j < 8; ++j) {
              const __mmask32 ones = _mm256_test_epi8_mask(eight, _mm256_set1_epi8(static_cast<char>(1 << j)));
              _mm512_mask_storeu_epi16(to + j * row_ + x, lanes, _mm512_mask_blend_epi16(ones, minus, plus));
            }
          }
        }
    // A last pair may hold an earlier image, and so may the steps behind it.
    const std::int64_t behind = count * plane_ / 2 * 2 * outs_;
    std::memset(grad_.get() + behind, 0, static_cast<std::size_t>(2 * (2 * pairs_ * outs_ - behind)));
    const __m512i interleave = _mm512_load_si512(kInterleave);
    for (std::int64_t n = 0; n < count; ++n)
      for (std::int64_t y = 0; y < shape_.out_height; ++y) {
        const Bfloat16* from = grad + (n * shape_.out_pixels() + y * shape_.out_width) * all_outs;
        const std::int64_t first = n * plane_ + y * width_;
        std::int64_t x = 0;
        if (first % 2 == 0)
          for (; x + 2 <= shape_.out_width; x += 2)
            for (std::int64_t o = 0; o < outs; o += 16) {
              const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + x * all_outs + o));
              const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (x + 1) * all_outs + o));
              const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
              _mm512_storeu_si512(grad_.get() + (first + x) * outs_ + 2 * o,
                                  _mm512_permutexvar_epi16(interleave, both));
            }
        for (; x < shape_.out_width; ++x) {
          const std::int64_t q = first + x;
          Bfloat16* to = grad_.get() + q / 2 * 2 * outs_ + q % 2;
          for (std::int64_t o = 0; o < outs; ++o) to[2 * o] = from[x * all_outs + o];
        }
      }
  }

  std::int64_t steps() const { return 2 * pairs_ / kStep; }
  // The tile of a row, which is a tap of sixteen input channels, in the first step; the next is kStep pixels further.
  const Bfloat16* bits(std::int64_t row) const {
    const std::int64_t block = row / shape_.taps(), tap = row % shape_.taps();
    const std::int64_t ky = tap / shape_.kernel_width, kx = tap % shape_.kernel_width;
    return bits_.get() + 16 * block * row_ + ky * shape_.dilation_y * width_ + kx * shape_.dilation_x;
  }
  std::int64_t bits_row_bytes() const { return 2 * row_; }
  const Bfloat16* grad(std::int64_t channel) const { return grad_.get() + 2 * channel; }
  std::int64_t grad_row_bytes() const { return 4 * outs_; }

 private:
  const Convolution& shape_;
  std::int64_t width_, plane_, outs_, reach_, length_, row_, pairs_ = 0;
  Buffer<Bfloat16> bits_, grad_;
};

constexpr std::int64_t kBlock = 12;  // steps whose bits, of sixteen channels, stay in the first cache

// Some steps of a group.
struct Steps {
  const Group& group;
  std::int64_t begin, end;
};

// Tiles of sums (16 in, 16 out) += the products of kIn tiles of bits, from row `row` on, with kOut tiles of gradients,
// from channel `out` on. A row is a tap of sixteen channels. Tiles are loaded from memory much more slowly than they
// are multiplied, so that each that was loaded is used as often as the eight tiles allow.
template <int kIn, int kOut>
void add_products(const Steps& steps, std::int64_t row, std::int64_t out, float* sums, std::int64_t out_step) {
  static_assert(kOut == 1 ? kIn <= 3 : kOut == 2 && kIn <= 2);
  constexpr std::int64_t kTile = kRows * 16;
  const std::int64_t rows = steps.group.bits_row_bytes(), columns = steps.group.grad_row_bytes();
  const Bfloat16* bits[kIn];
  for (int i = 0; i < kIn; ++i) bits[i] = steps.group.bits(row + i);
  const Bfloat16* grad = steps.group.grad(out);
  float* next = sums + out_step;
  _tile_loadd(0, sums, kRowBytes);
  if constexpr (kIn > 1) _tile_loadd(1, sums + kTile, kRowBytes);
  if constexpr (kIn > 2) _tile_loadd(2, sums + 2 * kTile, kRowBytes);
  if constexpr (kOut > 1) _tile_loadd(2, next, kRowBytes);
  if constexpr (kOut > 1 && kIn > 1) _tile_loadd(3, next + kTile, kRowBytes);
  for (std::int64_t s = steps.begin; s < steps.end; ++s) {
    const Bfloat16* from = grad + s * 8 * columns;  // sixteen rows further
    _tile_loadd(4, bits[0] + s * kStep, rows);
    _tile_loadd(6, from, columns);
    if constexpr (kIn > 1) _tile_loadd(5, bits[1] + s * kStep, rows);
    if constexpr (kIn > 2) _tile_loadd(7, bits[2] + s * kStep, rows);
    if constexpr (kOut > 1) _tile_loadd(7, from + 32, columns);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kIn > 1) _tile_dpbf16ps(1, 5, 6);
    if constexpr (kIn > 2) _tile_dpbf16ps(2, 7, 6);
    if constexpr (kOut > 1) _tile_dpbf16ps(2, 4, 7);
    if constexpr (kOut > 1 && kIn > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kRowBytes);
  if constexpr (kIn > 1) _tile_stored(1, sums + kTile, kRowBytes);
  if constexpr (kIn > 2) _tile_stored(2, sums + 2 * kTile, kRowBytes);
  if constexpr (kOut > 1) _tile_stored(2, next, kRowBytes);
  if constexpr (kOut > 1 && kIn > 1) _tile_stored(3, next + kTile, kRowBytes);
}

// All rows and `outs` channels: sums (outs / 16, rows, 16 in, 16 out).
void add_products(const Steps& steps, std::int64_t rows, std::int64_t outs, float* sums) {
  constexpr std::int64_t kTile = kRows * 16;
  const std::int64_t out_step = rows * kTile;
  for (std::int64_t row = 0; row < rows; row += 2)
    for (std::int64_t out = 0; out + 32 <= outs; out += 32) {
      float* to = sums + out / 16 * out_step + row * kTile;
      if (row + 1 < rows)
        add_products<2, 2>(steps, row, out, to, out_step);
      else
        add_products<1, 2>(steps, row, out, to, out_step);
    }
  if (outs % 32 == 0) return;
  const std::int64_t last = outs - 16;
  float* to = sums + last / 16 * out_step;
  std::int64_t row = 0;
  for (; row + 3 <= rows; row += 3) add_products<3, 1>(steps, row, last, to + row * kTile, out_step);
  for (; row < rows; ++row) add_products<1, 1>(steps, row, last, to + row * kTile, out_step);
}

// Objects that parts of the work need one after another, one for each thread that works.
template <typename T>
class Spares {
 public:
  template <typename Make>
  std::unique_ptr<T> take(Make&& make) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spare_.empty()) return make();
    std::unique_ptr<T> one = std::move(spare_.back());
    spare_.pop_back();
    return one;
  }
  void give_back(std::unique_ptr<T> one) {
    const std::lock_guard<std::mutex> lock(mutex_);
    spare_.push_back(std::move(one));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> spare_;
};

void backward(const Convolution& shape, const std::uint8_t* bits, const Bfloat16* grad, float* gradient,
              ThreadPool& pool) {
  constexpr int kParts = 16;  // a constant, so that threads do not change the sums
  constexpr std::int64_t kChannels = 64, kGroupBytes = 512 << 10, kGroupPixels = 1024;
  const std::int64_t outs = shape.out_channels, ins = shape.in_channels, taps = shape.taps();
  const int channel_parts = static_cast<int>((outs + kChannels - 1) / kChannels);
  // Sums are read and written once for each group, so that small images come in large groups.
  const std::int64_t most_outs = std::min(outs, kChannels);
  const std::int64_t together = std::clamp<std::int64_t>(
      std::max(kGroupBytes / Group::image_bytes(shape, most_outs), kGroupPixels / Group::plane_of(shape)), 1,
      shape.samples);
  const std::int64_t groups = (shape.samples + together - 1) / together;
  const int image_parts = static_cast<int>(std::clamp<std::int64_t>(kParts / channel_parts, 1, groups));
  const std::int64_t tile = kRows * 16, size = outs * taps * ins;
  Spares<Group> spares;
  // (image parts, out / 16, in / 16, taps, 16 in, 16 out)
  const Buffer<float> partial = buffer<float>(image_parts * size);
  pool.run(channel_parts * image_parts, [&](int part) {
    const WithTiles tiles;
    const std::int64_t image_part = part % image_parts, first_out = part / image_parts * kChannels;
    const std::int64_t count = std::min(kChannels, outs - first_out);
    float* sums = partial.get() + image_part * size + first_out * taps * ins;
    std::fill_n(sums, count * taps * ins, 0.0f);
    std::unique_ptr<Group> group = spares.take([&] { return std::make_unique<Group>(shape, together, most_outs); });
    for (std::int64_t g = groups * image_part / image_parts; g < groups * (image_part + 1) / image_parts; ++g) {
      const std::int64_t image = g * together;
      group->set(bits + image * ins / 8 * shape.in_pixels(), grad + image * shape.out_pixels() * outs + first_out,
                 std::min(together, shape.samples - image), count);
      for (std::int64_t begin = 0; begin < group->steps(); begin += kBlock) {
        const std::int64_t end = std::min(begin + kBlock, group->steps());
        add_products({*group, begin, end}, ins / 16 * taps, count, sums);
      }
    }
    spares.give_back(std::move(group));
  });
  pool.run(static_cast<int>(outs / 16), [&](int block) {
    for (std::int64_t in = 0; in < ins; in += 16)
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        float* from = partial.get() + ((block * ins / 16 + in / 16) * taps + tap) * tile;
        for (std::int64_t i = 0; i < tile; i += 16) {
          Vector total = load(from + i);
          for (int other = 1; other < image_parts; ++other) total = add(total, load(from + other * size + i));
          store(from + i, total);
        }
        for (int o = 0; o < 16; ++o)
          for (int c = 0; c < 16; ++c) gradient[((16 * block + o) * taps + tap) * ins + in + c] = from[16 * c + o];
      }
  });
}

}  // namespace

void convolution_weight_gradient(Type type, const Convolution& shape, const std::uint8_t* bits, const void* grad,
                                 float* gradient, ThreadPool& pool) {
  // Where most pixels are padding, most products are with zeros.
  const bool is_dense = shape.stride_y == 1 && shape.stride_x == 1 && Group::plane_of(shape) <= 2 * shape.out_pixels();
  if (type == Type::kFloat || !is_dense)
    avx512::convolution_weight_gradient(type, shape, bits, grad, gradient, pool);
  else
    backward(shape, bits, static_cast<const Bfloat16*>(grad), gradient, pool);
}

}  // namespace biper::training::BIPER_TRAINING_SET
