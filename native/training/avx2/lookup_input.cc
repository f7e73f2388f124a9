// The input gradient of a convolution whose weights are +1 and -1. Eight input channels are the lanes of a register,
// and tables hold sums of four output channels' gradients at a pixel.
#include "training/avx2/lookup.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

// Computes the indices (taps, out / 4, in / 8) from the signs of the weights (out, taps, in).
void make_indices(const Convolution& shape, const float* weight, Index* index, ThreadPool& pool) {
  const std::int64_t taps = shape.taps(), ins = shape.in_channels, fours = shape.out_channels / 4;
  pool.run(static_cast<int>(taps * fours), [&](int part) {
    const std::int64_t tap = part / fours, four = part % fours;
    for (std::int64_t i = 0; i < ins; i += kLanes) {
      __m256i bits = _mm256_setzero_si256();
      for (int j = 0; j < 4; ++j) {
        const __m256 w = _mm256_loadu_ps(weight + ((four * 4 + j) * taps + tap) * ins + i);
        const __m256i positive = _mm256_castps_si256(_mm256_cmp_ps(w, _mm256_setzero_ps(), _CMP_GE_OQ));
        bits = _mm256_or_si256(bits, _mm256_and_si256(positive, _mm256_set1_epi32(1 << j)));
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(index + part * (ins / kLanes) + i / kLanes), index_of(bits));
    }
  });
}

// The tables of the output pixels of an image, on a grid with a border of zeros where taps reach beyond the pixels.
class Image {
 public:
  explicit Image(const Convolution& shape)
      : shape_(shape),
        reach_y_((shape.kernel_height - 1) * shape.dilation_y),
        reach_x_((shape.kernel_width - 1) * shape.dilation_x),
        width_(shape.in_width + reach_x_),
        step_(shape.out_channels / 4),
        tables_(buffer<Table>((shape.in_height + reach_y_) * width_ * step_)) {
    for (std::int64_t i = 0; i < (shape.in_height + reach_y_) * width_ * step_; ++i)
      store_table(0, 0, 0, 0, tables_.get() + i);
  }

  // Builds the tables of grad * scale.
  void build_tables(const float* grad, const float* scale) {
    const std::int64_t outs = shape_.out_channels;
    const std::int64_t before_y = reach_y_ - shape_.padding_y, before_x = reach_x_ - shape_.padding_x;
    for (std::int64_t y = 0; y < shape_.out_height; ++y)
      for (std::int64_t x = 0; x < shape_.out_width; ++x, grad += outs) {
        Table* to = tables_.get() + ((y + before_y) * width_ + x + before_x) * step_;
        for (std::int64_t o = 0; o < outs; o += 4, ++to) {
          alignas(16) float g[4];
          _mm_store_ps(g, _mm_mul_ps(_mm_loadu_ps(grad + o), _mm_loadu_ps(scale + o)));
          store_table(g[0], g[1], g[2], g[3], to);
        }
      }
  }

  // Computes the gradients of kPixels input pixels, starting at (y, x), for kVectors registers of channels.
  template <int kPixels, int kVectors>
  void add_up(const Index* index, std::int64_t y, std::int64_t x, float* out) const {
    const std::int64_t vectors = shape_.in_channels / kLanes;
    __m256 local[kPixels][kVectors];
    for (auto& row : local)
      for (auto& total : row) total = _mm256_setzero_ps();
    for (int ky = 0; ky < shape_.kernel_height; ++ky)
      for (int kx = 0; kx < shape_.kernel_width; ++kx) {
        const std::int64_t row = y + reach_y_ - ky * shape_.dilation_y, column = x + reach_x_ - kx * shape_.dilation_x;
        const Table* table = tables_.get() + (row * width_ + column) * step_;
        for (std::int64_t i = 0; i < step_; ++i, index += vectors, ++table) {
          __m256i at[kVectors];
          for (int v = 0; v < kVectors; ++v) at[v] = load_index(index + v);
#pragma GCC unroll 4
          for (int p = 0; p < kPixels; ++p) {
            const __m256 t = load_table(table + p * step_);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) local[p][v] = look_up(local[p][v], at[v], t);
          }
        }
      }
    for (int p = 0; p < kPixels; ++p)
      for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(out + p * shape_.in_channels + kLanes * v, local[p][v]);
  }

  // Computes the pixels of row y, starting at x, for kVectors registers of channels from `vector` on. It takes kPixels
  // at a time, whose totals stay in registers, and then halves kPixels for the rest.
  template <int kPixels, int kVectors>
  void add_columns(const Index* index, std::int64_t y, std::int64_t x, std::int64_t vector, float* out) const {
    for (; x + kPixels <= shape_.in_width; x += kPixels)
      add_up<kPixels, kVectors>(index + vector, y, x,
                                out + (y * shape_.in_width + x) * shape_.in_channels + kLanes * vector);
    if constexpr (kPixels > 1) add_columns<kPixels / 2, kVectors>(index, y, x, vector, out);
  }

 private:
  const Convolution& shape_;
  std::int64_t reach_y_, reach_x_, width_, step_;
  Buffer<Table> tables_;
};

}  // namespace

void lookup_input_gradient(Type type, const Convolution& shape, const void* grad, const float* weight,
                           const float* scale, void* gradient, ThreadPool& pool) {
  with_type(type, [&](const float*) {
    const std::int64_t vectors = shape.in_channels / kLanes;
    const Buffer<Index> index = buffer<Index>(shape.taps() * shape.out_channels / 4 * vectors);
    make_indices(shape, weight, index.get(), pool);
    const int parts = static_cast<int>(std::min<std::int64_t>(shape.samples, 64));
    pool.run(parts, [&](int part) {
      Image image(shape);
      for (std::int64_t n = shape.samples * part / parts; n < shape.samples * (part + 1) / parts; ++n) {
        image.build_tables(static_cast<const float*>(grad) + n * shape.out_pixels() * shape.out_channels, scale);
        float* out = static_cast<float*>(gradient) + n * shape.in_pixels() * shape.in_channels;
        for (std::int64_t y = 0; y < shape.in_height; ++y) {
          std::int64_t vector = 0;
          for (; vector + 4 <= vectors; vector += 4) image.add_columns<2, 4>(index.get(), y, 0, vector, out);
          for (; vector < vectors; vector += 2) image.add_columns<4, 2>(index.get(), y, 0, vector, out);
        }
      }
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
