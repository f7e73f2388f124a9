// Training kernels for CPUs: convolutions with bits on one side, and the operations before and after them,
// fused so that each passes over memory once. They are compiled for AVX2 and FMA, in float, and for AVX-512 (F, BW, VL,
// DQ, VNNI) and GFNI, in float and, with AVX512_BF16, in bfloat16; convolutions in bfloat16 also for AMX.
//
// Activations are channels-last: (samples, pixels, channels), in float or bfloat16, with channels a multiple of 16.
// Bits are one byte for eight channels in planes: (samples, channels / 8, pixels); bit c of a byte is 1 where channel c
// is +1. The number of threads changes no result.
#pragma once

#include <cstdint>
#include <vector>

#include "common/threads.h"

namespace biper::training {

enum class Type { kFloat, kBfloat16 };

struct Shape {
  std::int64_t samples, pixels, channels;
  std::int64_t values() const { return pixels * channels; }
};

// The gradient of a sign: max(0, 2 - 2 |u|), or 1 for |u| <= 1 and else 0.
enum class Window { kTriangle, kBox };

// The sizes of a convolution of one group with zero padding.
struct Convolution {
  std::int64_t samples, in_channels, in_height, in_width, out_channels, out_height, out_width;
  int kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;

  std::int64_t in_pixels() const { return in_height * in_width; }
  std::int64_t out_pixels() const { return out_height * out_width; }
  int taps() const { return kernel_height * kernel_width; }
};

// Kernels may read this many bytes before and behind the bits. They use none of their values.
inline constexpr std::int64_t kSlack = 128;

struct ImageShape {
  std::int64_t count, height, width, channels;
};

// The kernels that are compiled for one instruction set.
struct Kernels {
  const char* name;  // "avx2", "avx512" or "amx"

  // bits = x >= threshold. threshold is (channels,), or null for zeros. The memory of bits must have kSlack readable
  // bytes before and behind. statistics, (samples, 2) float or null, become the mean of each sample of x and
  // 1 / sqrt(var + epsilon) with the unbiased variance.
  void (*sign_forward)(Type type, Shape shape, const void* x, const float* threshold, std::uint8_t* bits,
                       float* statistics, float epsilon, ThreadPool& pool);

  // Replaces grad, the gradient by the signs, by the gradient by x. Adds to_add to it, which is like x or null.
  // statistics are those of sign_forward if the signs were of x / deviation, or null.
  void (*sign_backward)(Type type, Shape shape, const void* x, const float* statistics, Window window,
                        const void* to_add, void* grad, ThreadPool& pool);

  // The same for signs of x - threshold. sums, (channels,) double, become the sums of the gradient by x without to_add.
  void (*threshold_backward)(Type type, Shape shape, const void* x, const float* threshold, Window window,
                             const void* to_add, void* grad, double* sums, ThreadPool& pool);

  // sums, (2, channels) double, become the sums of the values and of their squares over samples and pixels.
  void (*channel_sums)(Type type, Shape shape, const void* x, double* sums, ThreadPool& pool);

  // out = clamp(x * multiplier + offset + residual, low, high). multiplier and offset are
  // (channels,); residual may be null.
  void (*affine_clamp)(Type type, Shape shape, const void* x, const float* multiplier, const float* offset,
                       const void* residual, float low, float high, void* out, ThreadPool& pool);

  // inner = grad where low < out < high, else 0. sums, (2, channels) double, become the sums of inner
  // and of inner * (x - mean).
  void (*clamp_backward)(Type type, Shape shape, const void* grad, const void* out, const void* x, const float* mean,
                         float low, float high, void* inner, double* sums, ThreadPool& pool);

  // With u = x * multiplier + offset + residual: out = shift_out + (u if u > 0 else slope * u). multiplier, offset,
  // slope and shift_out are (channels,); residual may be null.
  void (*affine_rprelu)(Type type, Shape shape, const void* x, const float* multiplier, const float* offset,
                        const void* residual, const float* slope, const float* shift_out, void* out, ThreadPool& pool);

  // With the same u: inner = grad * (1 if u > 0 else slope). sums, (4, channels) double, become the sums of inner, of
  // inner * (x - mean), of grad, and of grad * min(u, 0). inner may be grad.
  void (*rprelu_backward)(Type type, Shape shape, const void* grad, const void* x, const float* multiplier,
                          const float* offset, const void* residual, const float* slope, const float* mean, void* inner,
                          double* sums, ThreadPool& pool);

  // result = inner * a + x * b + c, with a, b and c of (channels,). result may be inner.
  void (*norm_backward)(Type type, Shape shape, const void* inner, const void* x, const float* a, const float* b,
                        const float* c, void* result, ThreadPool& pool);

  // out (samples, out_pixels, out_channels) = scale[o] * sum over taps and channels of weight (out,
  // taps, in) * bits as +1, -1.
  //
  // Computed from tables of the 16 sums of four weights. For float, tables hold floats (AVX-512) or integers of 24 bits
  // (AVX2). For bfloat16, they hold integers of 15 bits. Integers are in units of a power of two for each output
  // channel. If the weights are signs, the sums of integers are exact.
  void (*convolution_forward)(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                              const float* scale, void* out, ThreadPool& pool);

  // gradient (out, taps, in) float = sum over samples and pixels of grad (samples, out_pixels, out) * bits as +1, -1.
  //
  // Computed from tables of the 16 sums of four pixels' gradients. For float, tables hold floats (AVX-512) or integers
  // of 24 bits, in units of the largest sum of a channel in 256 pixels (AVX2). For bfloat16, gradients are rounded to
  // integers of 14 bits, in units of the largest gradient of a channel in 512 pixels.
  void (*convolution_weight_gradient)(Type type, const Convolution& shape, const std::uint8_t* bits, const void* grad,
                                      float* gradient, ThreadPool& pool);

  // gradient (samples, in_pixels, in) = the gradient of scale[o] * convolution by its input, from grad (samples,
  // out_pixels, out). The convolution multiplies by the signs of weight (out, taps, in). Strides must be 1, and padding
  // must not reach further than the kernel.
  //
  // Computed from tables of the 16 sums of four output channels' gradients. For float, tables hold floats. For
  // bfloat16, gradients are rounded to integers of 14 bits, in units of the largest gradient of a sample.
  void (*lookup_input_gradient)(Type type, const Convolution& shape, const void* grad, const float* weight,
                                const float* scale, void* gradient, ThreadPool& pool);

  // The same for weights of any kind and any stride and padding, in bfloat16 alone; scale * weight is rounded to
  // bfloat16. Null in sets that do not have it.
  void (*input_gradient)(Type type, const Convolution& shape, const void* grad, const float* weight, const float* scale,
                         void* gradient, ThreadPool& pool);

  // For weights (groups, size): standard = (weight - mean) / deviation of each group, or weight / deviation where
  // `centred` is false. inverse, (groups,), becomes 1 / deviation, or 0 where the weights of a group are equal.
  void (*standardize)(std::int64_t groups, std::int64_t size, const float* weight, bool centred, float* standard,
                      float* inverse, ThreadPool& pool);

  // From grad, the gradient by standard, the gradient by weight; out may be grad.
  void (*standardize_backward)(std::int64_t groups, std::int64_t size, const float* standard, const float* inverse,
                               const float* grad, bool centred, float* out, ThreadPool& pool);

  // For latent weights w and a frequency f in radians: out = grad f cos(f w); the sum of sin^2(f
  // w); out = factor sin(2 f w).
  void (*wave_gradient)(std::int64_t count, const float* weight, const float* grad, float frequency, float* out,
                        ThreadPool& pool);
  double (*squared_sines)(std::int64_t count, const float* weight, float frequency, ThreadPool& pool);
  void (*double_angle_sines)(std::int64_t count, const float* weight, float frequency, float factor, float* out,
                             ThreadPool& pool);

  // For arrays (channels, size) with a size that is a multiple of 16: scale_gradient, (channels,), becomes the sum of
  // gradient * weight in each channel; then gradient is multiplied by scale.
  void (*scale_gradient)(std::int64_t channels, std::int64_t size, const float* weight, const float* scale,
                         float* gradient, float* scale_gradient, ThreadPool& pool);

  // out = weight * scale, for arrays (channels, size) with a size that is a multiple of 16.
  void (*scaled_weights)(Type type, std::int64_t channels, std::int64_t size, const float* weight, const float* scale,
                         void* out, ThreadPool& pool);

  // Cuts a crop of the original size out of each image, which is first extended by `padding` black pixels on all
  // sides. The crop begins at (rows[n], columns[n]), each from 0 to 2 padding, and is mirrored left to right
  // where mirrored[n] is not 0.
  void (*crop_and_mirror)(const ImageShape& shape, const std::uint8_t* images, const std::int64_t* rows,
                          const std::int64_t* columns, const std::uint8_t* mirrored, std::int64_t padding,
                          std::uint8_t* out, ThreadPool& pool);

  // out = shift + image * factor, with a shift and a factor for each channel.
  void (*normalize)(const ImageShape& shape, const std::uint8_t* images, const float* factor, const float* shift,
                    float* out, ThreadPool& pool);
};

// A batch norm in training: (x - mean) / sqrt(var + epsilon) * weight + bias, with mean and variance of the `count`
// values that each of `channels` has in a batch. weight and bias are (channels,).
struct BatchNorm {
  std::int64_t channels, count;
  const float *weight, *bias;
  double epsilon, momentum;
};

// From the sums of Kernels::channel_sums: statistics, (2, channels), become the mean and 1 / sqrt(var + epsilon), and
// affine, (3, channels), multiplier and offset such that the norm is x * multiplier + offset, and the mean. The running
// statistics, (channels,), move towards the mean and the unbiased variance by the share `momentum`.
void norm_statistics(const BatchNorm& norm, const double* sums, float* running_mean, float* running_variance,
                     double* statistics, float* affine);

// From `statistics` and sums, (2, channels), of h and of h * (x - mean), for the gradient h by the result of the norm:
// affine, (3, channels), become a, b and c such that h * a + x * b + c is the gradient by x (Kernels::norm_backward),
// and gradients, (2, channels), those by weight and bias.
void norm_gradients(const BatchNorm& norm, const double* sums, const double* statistics, float* affine,
                    float* gradients);

// The kernels that this processor runs, best first.
const std::vector<const Kernels*>& runnable_kernels();

}  // namespace biper::training
