// The kernels of the engine: every instruction set has the same functions, in a file of its own. choose.h picks one set
// at run time. README.md beside this file explains the arithmetic.
//
// Layouts (one image):
//   real values  float   [row][column][stride], stride = channels rounded up to 16; the lanes beyond are unused
//   bits         uint16  [row][column][halves], the lowest bit first. Up to 16 channels take 1 half, more take
//                        2 * ceil(channels / 32). Bits beyond the channels are 0. Kernels may read two halves beyond
//                        the last pixel.
//   weights      in blocks of 16 output channels, which are the lanes of a vector:
//                float   [block][ky][kx][input channel][16]
//                uint32  [block][ky][kx][word][16], and other orders of the same bits (BitWeights)
// Arrays with one number for each channel (multiplier and so on) are padded with zeros to a multiple of 16.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/loops.h"

namespace biper {

inline constexpr int kLanes = 16;
inline constexpr std::int32_t kMaxThreshold = 1 << 30;

enum class Activation : std::uint8_t { kNone, kClip, kRelu, kPrelu };

// What happens to a result y before it is stored: activation(y * multiplier + offset + residual). A null pointer leaves
// the step out. The result is stored in `real`, and its signs in `bits`: result * sign_multiplier + sign_offset >= 0. A
// binary convolution that stores bits alone may have a threshold instead: its bits are sum >= threshold. No sum reaches
// +-kMaxThreshold.
struct Epilogue {
  const float* multiplier = nullptr;
  const float* offset = nullptr;
  const float* residual = nullptr;
  const float* slope = nullptr;
  const float* sign_multiplier = nullptr;
  const float* sign_offset = nullptr;
  const std::int32_t* threshold = nullptr;
  Activation activation = Activation::kNone;
  float low = 0, high = 0;
  float* real = nullptr;
  std::uint16_t* bits = nullptr;
  int channels = 0;  // of the result
};

// The geometry of a convolution. The engine has checked it: no tap reaches beyond the padded image.
struct Geometry {
  int channels, height, width;  // input
  int stride;                   // input: floats (real) or halves (bits) a pixel
  int out_channels, out_height, out_width;
  int kernel_y, kernel_x, step_y, step_x, pad_top, pad_left, dilation_y, dilation_x;
  int groups;

  // The size of the part of the padded image that the taps reach.
  int padded_height() const { return (out_height - 1) * step_y + (kernel_y - 1) * dilation_y + 1; }
  int padded_width() const { return (out_width - 1) * step_x + (kernel_x - 1) * dilation_x + 1; }
  // Whether a tap of some result reads this row, or this column, of the padded image. A kernel that is smaller than its
  // step leaves some out.
  bool reads_row(int row) const { return row % step_y <= (kernel_y - 1) * dilation_y; }
  bool reads_column(int column) const { return column % step_x <= (kernel_x - 1) * dilation_x; }
  bool reads_all_columns() const { return reads_column(step_x - 1); }
  // For rounded inputs: runs of neighbouring inputs in a row of the kernel, and the steps of so many inputs in a run.
  int row_runs() const { return dilation_x == 1 ? 1 : kernel_x; }
  int run_steps(int inputs) const { return (channels * (dilation_x == 1 ? kernel_x : 1) + inputs - 1) / inputs; }
};

// The bits of weights; a word holds 32 input channels. An order that this convolution does not have is null.
struct BitWeights {
  const std::uint32_t* taps;      // [block][ky][kx][word][16]
  const std::uint32_t* all_rows;  // [block][kx][word][16], for three rows of a kernel: the xor of them
  const std::uint32_t* pairs;     // [block][ky][pair of kx][16], for up to 16 channels: two taps a word
  const std::uint32_t* masked;    // [block][ky][kx][word][2][16], of groups that do not fill blocks, see GroupedInputs
};

struct Pooling {
  int channels, height, width, out_height, out_width;
  int kernel_y, kernel_x, step_y, step_x, pad_y, pad_x;
  bool maximum, count_padding;
  bool never_nan = false;  // no input is NaN, so that a maximum need not be NaN where one is

  // How many rows of the input so many rows of the result read.
  int rows_read(int rows) const { return (rows - 1) * step_y + kernel_y; }
};

// A convolution in int8. Its inputs are rounded to levels 0 to 255; the level `zero` stands for 0 and fills the
// padding: level = round(clip(x * factor, -zero, 255 - zero)) + zero. Weights are [block][ky][run][quad of
// levels][16][4] int8. A run is a row of the kernel (dilation_x 1) or a tap, padded with zeros to whole quads.
struct Levels {
  float factor;
  int zero;
  int row_stride;  // bytes of a row of levels, which are [padded row][column][channel]; three bytes more may be read
};

// x rounded to bfloat16, the upper half of a float32, halves to even. x is finite.
static inline std::uint16_t to_bfloat16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline float from_bfloat16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// A real convolution that computes tiles of 4 neighbouring results of a row together, or 4x4; see row_transform.h.
inline constexpr int kTileOutputs = 4, kMaxPoints = 7, kMaxTransformedRow = 1 << 13, kMaxBandRow = 1280;
struct RowTransform {
  int points, inside, tiles;  // `inside` values belong to a point: the channels of each phase
  bool bands;                 // 4x4 results: the transformed rows are transformed along the columns, too
  float in[kMaxPoints][kMaxPoints], out[kTileOutputs][kMaxPoints];

  // Floats of a transformed row, [tile][point][inside], and up to a vector more, which no result depends on.
  int row_stride() const { return tiles * points * inside + kLanes; }
};

// The functions of an instruction set. Threads share a function's work by rows (or pixels) [begin, end).
struct Kernels {
  const char* name;
  // Compute rows [begin, end) of the result, with all output channels. In a group, weights are numbered by the input
  // channels (or words) of that group.
  void (*binary_convolution)(const Geometry&, const std::uint16_t* in, const BitWeights&, const Epilogue&, int begin,
                             int end);
  void (*convolution)(const Geometry&, const float* in, const float* weights, const Epilogue&, int begin, int end);
  // The first rounds rows [begin, end) of the padded input, the second computes rows [begin, end) of the result. The
  // sum of each output channel starts at its value in `initial`.
  void (*round_to_levels)(const Geometry&, const Levels&, const float* in, std::uint8_t* levels, int begin, int end);
  void (*int8_convolution)(const Geometry&, const Levels&, const std::uint8_t* levels, const std::uint32_t* weights,
                           const std::int32_t* initial, const Epilogue&, int begin, int end);
  // The first transforms rows [begin, end) of the input, the second computes rows [begin, end) of the result. Both are
  // null where an instruction set has no row transform.
  void (*transform_rows)(const Geometry&, const RowTransform&, const float* in, float* transformed, int begin, int end);
  void (*transformed_convolution)(const Geometry&, const RowTransform&, const float* transformed, const float* weights,
                                  const Epilogue&, int begin, int end);
  void (*pool)(const Pooling&, const float* in, const Epilogue&, int begin, int end);
  // Applies the epilogue alone, to pixels [begin, end) of so many channels, which are those from `first` on, a multiple
  // of 16, in the result. Where it makes bits, the channels before them come first.
  void (*elementwise)(const float* in, int channels, int first, const Epilogue&, int begin, int end);
  // Runs the inner loop of a binary tile on registers alone: `rounds` times `peak_bits` multiply-accumulates. Its time
  // is the least that a processor can need for so many. The result depends on every step, so that none is left out.
  std::uint32_t (*peak)(std::int64_t rounds);
  int peak_bits;
  // int8_convolution subtracts this from every level, and `initial` must contain as many times the sum of the weights.
  int level_shift = 0;
  // A convolution of inputs that are rounded to bfloat16, in rows of `row_stride` inputs, [padded row][column][channel]
  // and then one zero or two. Weights are [block][ky][run][pair of inputs][16][2] bfloat16, in runs as those of Levels.
  // Sums are in float32. Both are null where an instruction set has no products of bfloat16.
  void (*round_to_bfloat16)(const Geometry&, int row_stride, const float* in, std::uint16_t* rows, int begin,
                            int end) = nullptr;
  void (*bfloat16_convolution)(const Geometry&, int row_stride, const std::uint16_t* rows, const std::uint32_t* weights,
                               const Epilogue&, int begin, int end) = nullptr;
  const FloatLoops* loops = &kPlainLoops;
};

extern const Kernels kScalar;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Bfloat16;
#elif defined(__aarch64__) || defined(_M_ARM64)
extern const Kernels kNeon;
extern const Kernels kDotProd;
#endif

// These functions are static, so that every file has a copy that is compiled for its own instruction set.
static inline int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
inline constexpr int kMaxPairs = 15;  // of taps in a kernel row; in a longer row, taps are not taken in pairs
static inline int halves_of(int channels) { return channels <= 16 ? 1 : round_up(channels, 32) / 16; }

// Whether each group of a binary convolution has whole words (or one half) of inputs and whole blocks of results.
static inline bool groups_fill_blocks(const Geometry& g) {
  const int inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  return g.groups == 1 || (outside % kLanes == 0 && inside % (inside <= 16 ? 16 : 32) == 0);
}

// Whether the groups of a real convolution do not have whole blocks of results, and the convolution is not depthwise.
static inline bool blocks_mix_groups(const Geometry& g) {
  const int inside = g.channels / g.groups, outside = g.out_channels / g.groups;
  return g.groups != 1 && outside % kLanes != 0 && (inside != 1 || outside != 1);
}

// Where a block of results has several groups, it reads the inputs of all of them. Of a binary convolution these are
// `words` words of a pixel from one of its halves on, and each result has a mask beside its weights, which is 1 for the
// inputs of its own group. Of a real one they are `inputs` inputs, and the weights of other groups' inputs are 0.
struct GroupedInputs {
  int inside, outside, groups, halves, words, inputs;
  int first_group(int block) const { return block * kLanes / outside; }
  int last_group(int block) const {
    const int last = (block * kLanes + kLanes - 1) / outside;
    return last < groups ? last : groups - 1;
  }
  // The half that the words begin with; they end in the pixel, or one half beyond it.
  int first_half(int block) const {
    const int first = first_group(block) * inside / 16, latest = halves - 2 * words;
    return first < latest ? first : latest < 0 ? 0 : latest;
  }
  int first_input(int block) const {
    const int first = first_group(block) * inside, latest = groups * inside - inputs;
    return first < latest ? first : latest;
  }
};
static inline GroupedInputs grouped_inputs(const Geometry& g) {
  GroupedInputs in{g.channels / g.groups, g.out_channels / g.groups, g.groups, halves_of(g.channels), 0, 0};
  for (int block = 0; block * kLanes < g.out_channels; ++block) {
    const int first = in.first_group(block) * in.inside, end = (in.last_group(block) + 1) * in.inside;
    const int words = (end - first / 16 * 16 + 31) / 32;
    if (words > in.words) in.words = words;
    if (end - first > in.inputs) in.inputs = end - first;
  }
  return in;
}

// The taps [first, last) of a kernel that read inside an image of `size` positions; tap t reads start + t * dilation.
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
