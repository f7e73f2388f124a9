// The kernels: the same functions for every instruction set, one file each, chosen at run time.
//
// Layouts (one image):
//   real values  float    [row][column][stride], stride = channels rounded up to 16; lanes beyond the channels are unused
//   bits         uint16   [row][column][halves], bit 0 first: 1 half for up to 16 channels, else 2 * ceil(channels / 32);
//                bits beyond the channels are 0, and two halves beyond the last pixel may be read
//   weights      blocks of 16 output channels across the lanes of a vector:
//                float    [block][ky][kx][input channel][16]
//                uint32   [block][ky][kx][word][16], and other arrangements of the same (BitWeights)
// Vectors by channel (multiplier and so on) are padded to a multiple of 16 with zeros.
#pragma once

#include <cstdint>

namespace biper {

inline constexpr int kLanes = 16;
inline constexpr std::int32_t kMaxThreshold = 1 << 30;

enum class Activation : std::uint8_t { kNone, kClip, kRelu, kPrelu };

// What happens to a result: ((y * multiplier + offset) + residual), activation, and where it goes. Null: not there.
// A threshold, for bits alone: sum >= threshold; it stays within +-kMaxThreshold, which is beyond any sum.
struct Epilogue {
  const float* multiplier = nullptr;
  const float* offset = nullptr;
  const float* residual = nullptr;
  const float* slope = nullptr;
  const std::int32_t* threshold = nullptr;
  Activation activation = Activation::kNone;
  float low = 0, high = 0;
  float* real = nullptr;
  std::uint16_t* bits = nullptr;
  int channels = 0;  // of the result
};

// The geometry of a convolution, already checked: every output pixel reads at least inside the padded image.
struct Geometry {
  int channels, height, width;  // input
  int stride;                   // input: floats (real) or halves (bits) a pixel
  int out_channels, out_height, out_width;
  int kernel_y, kernel_x, step_y, step_x, pad_top, pad_left, dilation_y, dilation_x;
  int groups;

  // Of what the taps reach, padding included.
  int padded_height() const { return (out_height - 1) * step_y + (kernel_y - 1) * dilation_y + 1; }
  int padded_width() const { return (out_width - 1) * step_x + (kernel_x - 1) * dilation_x + 1; }
  // Runs of neighbouring inputs of a kernel row, and the quads of each.
  int row_runs() const { return dilation_x == 1 ? 1 : kernel_x; }
  int run_quads() const { return (channels * (dilation_x == 1 ? kernel_x : 1) + 3) / 4; }
};

// The bits of weights, a word for 32 input channels. Null: an arrangement that this convolution does not have.
struct BitWeights {
  const std::uint32_t* taps;      // [block][ky][kx][word][16]
  const std::uint32_t* all_rows;  // [block][kx][word][16], for three rows of a kernel: the xor of them
  const std::uint32_t* pairs;     // [block][ky][pair of kx][16], for up to 16 channels: two taps a word
};

struct Pooling {
  int channels, height, width, out_height, out_width;
  int kernel_y, kernel_x, step_y, step_x, pad_y, pad_x;
  bool maximum, count_padding;
};

// A real convolution whose inputs are rounded to levels [0, 255], `zero` of which stands for 0, padding included:
// level = round(clip(x * factor, -zero, 255 - zero)) + zero. Weights are [block][ky][run][quad of levels][16][4] int8, where a
// run is a kernel row (dilation_x 1) or a tap, padded with zeros to whole quads.
struct Levels {
  float factor;
  int zero;
  int row_stride;  // bytes of a row of levels: [padded row][column][channel], three more may be read at the end
};

// A real convolution in tiles of 4 results of a row; see row_transform.h.
inline constexpr int kTileOutputs = 4, kMaxPoints = 7, kMaxTransformedRow = 1 << 13;
struct RowTransform {
  int points, inside, tiles;  // inside: values of a point, which are the channels of each phase
  float in[kMaxPoints][kMaxPoints], out[kTileOutputs][kMaxPoints];

  // Of a transformed row, [tile][point][inside], and a little more that is written and not read.
  int row_stride() const { return tiles * points * inside + kLanes; }
};

struct Kernels {
  const char* name;
  // Rows [begin, end) of the result, all output channels. Weights of a group count its own input channels and words.
  void (*binary_convolution)(const Geometry&, const std::uint16_t* in, const BitWeights&, const Epilogue&, int begin,
                             int end);
  void (*convolution)(const Geometry&, const float* in, const float* weights, const Epilogue&, int begin, int end);
  // Rows [begin, end) of the padded input, and of the result. `initial` are the sums' first values, by channel.
  void (*round_to_levels)(const Geometry&, const Levels&, const float* in, std::uint8_t* levels, int begin, int end);
  void (*int8_convolution)(const Geometry&, const Levels&, const std::uint8_t* levels, const std::uint32_t* weights,
                           const std::int32_t* initial, const Epilogue&, int begin, int end);
  // Rows [begin, end) of the input, and of the result. Null where there are none.
  void (*transform_rows)(const Geometry&, const RowTransform&, const float* in, float* transformed, int begin, int end);
  void (*transformed_convolution)(const Geometry&, const RowTransform&, const float* transformed, const float* weights,
                                  const Epilogue&, int begin, int end);
  void (*pool)(const Pooling&, const float* in, const Epilogue&, int begin, int end);
  // The epilogue alone, on pixels [begin, end).
  void (*elementwise)(const float* in, const Epilogue&, int begin, int end);
  // The inner loop of a binary tile on registers alone, for measuring what the processor can do at most: `rounds` times
  // `peak_bits` multiply-accumulates. Returns something that depends on all of them.
  std::uint32_t (*peak)(std::int64_t rounds);
  int peak_bits;
  // What int8_convolution takes from every level: `initial` has this times the weights more.
  int level_shift = 0;
};

extern const Kernels kScalar;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#elif defined(__aarch64__) || defined(_M_ARM64)
extern const Kernels kNeon;
extern const Kernels kDotProd;
#endif

// Static: every file keeps a copy compiled for its own instruction set.
static inline int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
inline constexpr int kMaxPairs = 15;  // of taps of a kernel row: above, a tap at a time
static inline int halves_of(int channels) { return channels <= 16 ? 1 : round_up(channels, 32) / 16; }

// Taps [first, last) of a kernel of which tap t reads position start + t * dilation, for positions in [0, size).
struct Range {
  int first, last;
};
static inline Range taps_inside(int start, int dilation, int taps, int size) {
  Range range{0, taps};
  while (range.first < taps && start + range.first * dilation < 0) ++range.first;
  while (range.last > range.first && start + (range.last - 1) * dilation >= size) --range.last;
  return range;
}

}  // namespace biper
