// Kernels of training on a CPU: what surrounds a binary convolution, fused into passes over memory, and the convolution
// itself with bits on one side. They need AVX-512 (F, BW, VL, DQ, VNNI) and GFNI, and for bfloat16 also AVX512_BF16.
//
// Activations are channels-last: (samples, pixels, channels), in float or bfloat16, with channels a multiple of 16. Bits are
// one byte for eight channels in planes: (samples, channels / 8, pixels); bit c of a byte is 1 where channel c is +1.
// Every result is the same for any number of threads.
#pragma once

#include <cstdint>

#include "threads.h"

namespace biper::training {

enum class Type { kFloat, kBfloat16 };

struct Shape {
  std::int64_t samples, pixels, channels;
  std::int64_t values() const { return pixels * channels; }
};

enum class Window { kTriangle, kBox };

// bits = x >= 0, with kSlack readable bytes before and behind; statistics (samples, 2) float, or null: the mean of each
// sample and 1 / sqrt(var + epsilon) with the unbiased variance.
void sign_forward(Type type, Shape shape, const void* x, std::uint8_t* bits, float* statistics, float epsilon,
                  ThreadPool& pool);

// grad, the gradient by the signs, becomes the gradient by x; to_add (as x, or null) is added to it.
void sign_backward(Type type, Shape shape, const void* x, const float* statistics, Window window, const void* to_add,
                   void* grad, ThreadPool& pool);

// sums (2, channels) double: of the values and of their squares, over samples and pixels.
void channel_sums(Type type, Shape shape, const void* x, double* sums, ThreadPool& pool);

// out = clamp(x * multiplier + offset + residual, low, high), multiplier and offset by channel; residual may be null.
void affine_clamp(Type type, Shape shape, const void* x, const float* multiplier, const float* offset,
                  const void* residual, float low, float high, void* out, ThreadPool& pool);

// inner = grad where low < out < high, else 0; sums (2, channels) double: of inner, and of inner * (x - mean).
void clamp_backward(Type type, Shape shape, const void* grad, const void* out, const void* x, const float* mean,
                    float low, float high, void* inner, double* sums, ThreadPool& pool);

// result = inner * a + x * b + c, by channel; result may be inner.
void norm_backward(Type type, Shape shape, const void* inner, const void* x, const float* a, const float* b,
                   const float* c, void* result, ThreadPool& pool);

// A convolution of ungrouped channels with zero padding.
struct Convolution {
  std::int64_t samples, in_channels, in_height, in_width, out_channels, out_height, out_width;
  int kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;

  std::int64_t in_pixels() const { return in_height * in_width; }
  std::int64_t out_pixels() const { return out_height * out_width; }
  int taps() const { return kernel_height * kernel_width; }
};

// Bytes before and behind the bits that kernels may read, whatever is in them.
inline constexpr std::int64_t kSlack = 128;

// out (samples, out_pixels, out_channels) = scale[o] * sum over taps and channels of weight (out, taps, in) * bits as +1, -1.
//
// In tables of 16 sums of four weights: of float (rounded as a float sum is), or, for bfloat16, of integers with 15 bits and a
// common power of two an output channel: signs as weights give exact sums.
void lookup_forward(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                    const float* scale, void* out, ThreadPool& pool);

// gradient (out, taps, in) float = sum over samples and pixels of grad (samples, out_pixels, out) * bits as +1, -1.
//
// In tables of 16 sums of four pixels' gradients: of float, or, for bfloat16, of integers with 14 bits of the largest of 512
// pixels' gradients in a channel.
void lookup_weight_gradient(Type type, const Convolution& shape, const std::uint8_t* bits, const void* grad,
                            float* gradient, ThreadPool& pool);

// gradient (samples, in_pixels, in), of the type, of scale[o] * convolution by its input, for weights (out, taps, in) of +1 and
// -1 (or of their signs): grad is (samples, out_pixels, out). Strides are 1 and padding reaches no further than the kernel.
//
// In tables of 16 sums of four output channels: of float, or, for bfloat16, of integers with 14 bits of a sample's largest.
void lookup_input_gradient(Type type, const Convolution& shape, const void* grad, const float* weight,
                           const float* scale, void* gradient, ThreadPool& pool);

// Of latent weights w, and a frequency f in radians: out = grad f cos(f w); the sum of sin^2(f w); out = factor sin(2 f w).
void wave_gradient(std::int64_t count, const float* weight, const float* grad, float frequency, float* out,
                   ThreadPool& pool);
double squared_sines(std::int64_t count, const float* weight, float frequency, ThreadPool& pool);
void double_angle_sines(std::int64_t count, const float* weight, float frequency, float factor, float* out,
                        ThreadPool& pool);

// With (channels, size) arrays, size a multiple of 16: scale_gradient = sum of gradient * weight in each channel, and then
// gradient *= scale.
void scale_gradient(std::int64_t channels, std::int64_t size, const float* weight, const float* scale, float* gradient,
                    float* scale_gradient, ThreadPool& pool);

// out = weight * scale, likewise.
void scaled_weights(Type type, std::int64_t channels, std::int64_t size, const float* weight, const float* scale,
                    void* out, ThreadPool& pool);

struct ImageShape {
  std::int64_t count, height, width, channels;
};

// Each image's crop of the original size at (rows, columns), 0 to 2 padding each, of the image with `padding` black pixels
// added on all sides; then mirrored left to right where that is not 0.
void crop_and_mirror(const ImageShape& shape, const std::uint8_t* images, const std::int64_t* rows,
                     const std::int64_t* columns, const std::uint8_t* mirrored, std::int64_t padding,
                     std::uint8_t* out, ThreadPool& pool);

// out = shift + image * factor, by channel.
void normalize(const ImageShape& shape, const std::uint8_t* images, const float* factor, const float* shift,
               float* out, ThreadPool& pool);

}  // namespace biper::training
