// Kernels in plain C++. They run where no other set does, and the other sets are tested against them.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/kernels.h"

namespace biper {
namespace {

int stride_of(int channels) { return round_up(channels, kLanes); }

float apply(const Epilogue& e, float y, int pixel, int channel) {
  if (e.multiplier) y *= e.multiplier[channel];
  if (e.offset) y += e.offset[channel];
  if (e.residual) y += e.residual[static_cast<std::int64_t>(pixel) * stride_of(e.channels) + channel];
  switch (e.activation) {
    case Activation::kNone: break;
    case Activation::kClip: y = std::min(std::max(y, e.low), e.high); break;
    case Activation::kRelu: y = std::max(y, 0.0f); break;
    case Activation::kPrelu: y = y >= 0 ? y : y * e.slope[channel]; break;
  }
  return y;
}

// Takes the results of one pixel, channel by channel, and stores them after the epilogue.
class Pixel {
 public:
  // The channels are those from `first` on, a multiple of 16.
  Pixel(const Epilogue& epilogue, int pixel, int first = 0) : e_(epilogue), pixel_(pixel) {
    if (e_.bits) {
      bits_ = e_.bits + static_cast<std::int64_t>(pixel) * halves_of(e_.channels);
      std::fill(bits_ + first / 16, bits_ + halves_of(e_.channels), std::uint16_t{0});
    }
  }
  void real(int channel, float y) {
    y = apply(e_, y, pixel_, channel);
    if (e_.real) e_.real[static_cast<std::int64_t>(pixel_) * stride_of(e_.channels) + channel] = y;
    if (e_.sign_multiplier) y *= e_.sign_multiplier[channel];
    if (e_.sign_offset) y += e_.sign_offset[channel];
    set(channel, y >= 0);
  }
  void sum(int channel, int sum) {
    if (!e_.threshold) return real(channel, static_cast<float>(sum));
    set(channel, sum >= e_.threshold[channel]);
  }

 private:
  void set(int channel, bool value) {
    if (bits_ && value) bits_[channel / 16] |= static_cast<std::uint16_t>(1u << (channel % 16));
  }
  const Epilogue& e_;
  int pixel_;
  std::uint16_t* bits_ = nullptr;
};

// Calls f(tap, pixel of the input) for each tap of an output pixel that is inside the image.
// Returns the number of calls.
template <typename F>
int each_tap(const Geometry& g, int row, int column, F f) {
  const int top = row * g.step_y - g.pad_top, left = column * g.step_x - g.pad_left;
  const Range ys = taps_inside(top, g.dilation_y, g.kernel_y, g.height);
  const Range xs = taps_inside(left, g.dilation_x, g.kernel_x, g.width);
  for (int ky = ys.first; ky < ys.last; ++ky)
    for (int kx = xs.first; kx < xs.last; ++kx)
      f(ky * g.kernel_x + kx, (top + ky * g.dilation_y) * g.width + left + kx * g.dilation_x);
  return (ys.last - ys.first) * (xs.last - xs.first);
}

// The bits of `count` channels of a pixel (at most 32), from channel `first` on. The other bits of the word are 0.
std::uint32_t bits_from(const std::uint16_t* pixel, int first, int count) {
  std::uint64_t bits = 0;
  for (int half = first / 16; half <= (first + count - 1) / 16; ++half)
    bits |= static_cast<std::uint64_t>(pixel[half]) << (16 * (half - first / 16));
  return static_cast<std::uint32_t>((bits >> (first % 16)) & ((std::uint64_t{1} << count) - 1));
}

void binary_convolution(const Geometry& g, const std::uint16_t* in, const BitWeights& weights, const Epilogue& e,
                        int begin, int end) {
  const int taps = g.kernel_y * g.kernel_x, inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  const int words = round_up(inside, 32) / 32;
  for (int row = begin; row < end; ++row) {
    for (int column = 0; column < g.out_width; ++column) {
      Pixel pixel(e, row * g.out_width + column);
      for (int channel = 0; channel < g.out_channels; ++channel) {
        const std::uint32_t* block =
            weights.taps + static_cast<std::int64_t>(channel / kLanes) * taps * words * kLanes + channel % kLanes;
        const int first = channel / outside * inside;
        int different = 0;
        const int valid = each_tap(g, row, column, [&](int tap, int at) {
          const std::uint16_t* x = in + static_cast<std::int64_t>(at) * g.stride;
          for (int word = 0; word < words; ++word)
            different += std::popcount(bits_from(x, first + 32 * word, std::min(32, inside - 32 * word)) ^
                                       block[static_cast<std::int64_t>(tap * words + word) * kLanes]);
        });
        pixel.sum(channel, valid * inside - 2 * different);
      }
    }
  }
}

void convolution(const Geometry& g, const float* in, const float* weights, const Epilogue& e, int begin, int end) {
  const int taps = g.kernel_y * g.kernel_x, inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  for (int row = begin; row < end; ++row) {
    for (int column = 0; column < g.out_width; ++column) {
      Pixel pixel(e, row * g.out_width + column);
      for (int channel = 0; channel < g.out_channels; ++channel) {
        const float* block =
            weights + static_cast<std::int64_t>(channel / kLanes) * taps * inside * kLanes + channel % kLanes;
        const int first = channel / outside * inside;
        float sum = 0;
        each_tap(g, row, column, [&](int tap, int at) {
          const float* x = in + static_cast<std::int64_t>(at) * g.stride + first;
          for (int c = 0; c < inside; ++c) sum += x[c] * block[static_cast<std::int64_t>(tap * inside + c) * kLanes];
        });
        pixel.real(channel, sum);
      }
    }
  }
}

void round_to_levels(const Geometry& g, const Levels& l, const float* in, std::uint8_t* levels, int begin, int end) {
  const auto low = static_cast<float>(-l.zero), high = static_cast<float>(255 - l.zero);
  for (int row = begin; row < end; ++row) {
    std::uint8_t* out = levels + static_cast<std::int64_t>(row) * l.row_stride;
    const int y = row - g.pad_top;
    for (int column = 0; column < g.padded_width(); ++column) {
      const int x = column - g.pad_left;
      const bool inside = y >= 0 && y < g.height && x >= 0 && x < g.width;
      const float* pixel = in + (static_cast<std::int64_t>(y) * g.width + x) * g.stride;
      for (int c = 0; c < g.channels; ++c)
        *out++ = static_cast<std::uint8_t>(
            l.zero +
            (inside ? static_cast<int>(std::nearbyint(std::min(std::max(pixel[c] * l.factor, low), high))) : 0));
    }
  }
}

void int8_convolution(const Geometry& g, const Levels& l, const std::uint8_t* levels, const std::uint32_t* weights,
                      const std::int32_t* initial, const Epilogue& e, int begin, int end) {
  const int runs = g.row_runs(), quads = g.run_steps(4);
  for (int row = begin; row < end; ++row) {
    for (int column = 0; column < g.out_width; ++column) {
      Pixel pixel(e, row * g.out_width + column);
      for (int channel = 0; channel < g.out_channels; ++channel) {
        int sum = initial[channel];
        for (int ky = 0; ky < g.kernel_y; ++ky)
          for (int run = 0; run < runs; ++run) {
            const std::uint8_t* x = levels +
                                    static_cast<std::int64_t>(row * g.step_y + ky * g.dilation_y) * l.row_stride +
                                    static_cast<std::int64_t>(column * g.step_x + run * g.dilation_x) * g.channels;
            const std::int64_t first =
                ((static_cast<std::int64_t>(channel / kLanes) * g.kernel_y + ky) * runs + run) * quads * kLanes;
            for (int quad = 0; quad < quads; ++quad) {
              const std::uint32_t four = weights[first + quad * kLanes + channel % kLanes];
              for (int i = 0; i < 4; ++i) sum += x[4 * quad + i] * static_cast<std::int8_t>(four >> (8 * i));
            }
          }
        pixel.real(channel, static_cast<float>(sum));
      }
    }
  }
}

void pool(const Pooling& p, const float* in, const Epilogue& e, int begin, int end) {
  const int stride = stride_of(p.channels);
  for (int row = begin; row < end; ++row) {
    for (int column = 0; column < p.out_width; ++column) {
      const int top = row * p.step_y - p.pad_y, left = column * p.step_x - p.pad_x;
      const int y0 = std::max(top, 0), y1 = std::min(top + p.kernel_y, p.height);
      const int x0 = std::max(left, 0), x1 = std::min(left + p.kernel_x, p.width);
      const int count = p.count_padding ? (std::min(top + p.kernel_y, p.height + p.pad_y) - top) *
                                              (std::min(left + p.kernel_x, p.width + p.pad_x) - left)
                                        : (y1 - y0) * (x1 - x0);
      Pixel pixel(e, row * p.out_width + column);
      for (int channel = 0; channel < p.channels; ++channel) {
        float y = p.maximum ? -INFINITY : 0.0f;
        for (int iy = y0; iy < y1; ++iy)
          for (int ix = x0; ix < x1; ++ix) {
            const float x = in[static_cast<std::int64_t>(iy * p.width + ix) * stride + channel];
            y = p.maximum ? (y < x || x != x ? x : y) : y + x;
          }
        pixel.real(channel, p.maximum ? y : y / static_cast<float>(count));
      }
    }
  }
}

void elementwise(const float* in, int channels, int first, const Epilogue& e, int begin, int end) {
  const int stride = stride_of(channels);
  for (int at = begin; at < end; ++at) {
    Pixel pixel(e, at, first);
    for (int channel = 0; channel < channels; ++channel)
      pixel.real(first + channel, in[static_cast<std::int64_t>(at) * stride + channel]);
  }
}

std::uint32_t peak(std::int64_t rounds) {
  std::uint32_t sums[8] = {}, x = 0x9e3779b9u;
  for (std::int64_t i = 0; i < rounds; ++i, x += 0x61c88647u)
    for (std::uint32_t lane = 0; lane < 8; ++lane) sums[lane] += std::popcount(x ^ (lane * 0x01010101u));
  std::uint32_t total = 0;
  for (std::uint32_t sum : sums) total += sum;
  return total;
}

}  // namespace

const Kernels kScalar{"scalar", binary_convolution, convolution, round_to_levels, int8_convolution, nullptr, nullptr,
                      pool,     elementwise,        peak,        8 * 32};

}  // namespace biper
