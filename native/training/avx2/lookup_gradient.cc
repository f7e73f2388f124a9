// The weight gradient of a convolution of bits. Eight input channels are the lanes of a register, and tables hold sums
// of four pixels' gradients.
#include "training/avx2/lookup.h"
#include "training/gradient_parts.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr int kOut = 4;   // output channels of a block
constexpr int kRows = 3;  // registers of eight input channels of a block: its 12 totals stay in registers
constexpr std::int64_t kMostPixels = 256;
constexpr std::int64_t kBlocks = kMostPixels / 4;

// Transposes eight bytes: bit i of byte j becomes bit j of byte i.
std::uint64_t transposed(std::uint64_t x) {
  const auto exchange = [&x](int shift, std::uint64_t mask) {
    const std::uint64_t differing = (x ^ (x >> shift)) & mask;
    x ^= differing ^ (differing << shift);
  };
  exchange(7, 0x00AA00AA00AA00AAull), exchange(14, 0x0000CCCC0000CCCCull), exchange(28, 0x00000000F0F0F0F0ull);
  return x;
}

// totals[o][v] = the sum over blocks of what row v of kIndices rows of indices, kBlocks apart, finds in table o of
// kOut.
template <int kIndices>
void add_up(const Table* tables, const Index* index, std::int64_t blocks, __m256 (&totals)[kOut][kRows]) {
  __m256 local[kOut][kIndices];
  for (auto& row : local)
    for (auto& total : row) total = _mm256_setzero_ps();
  for (std::int64_t b = 0; b < blocks; ++b, tables += kOut) {
    __m256i at[kIndices];
    for (int v = 0; v < kIndices; ++v) at[v] = load_index(index + v * kBlocks + b);
#pragma GCC unroll 4
    for (int o = 0; o < kOut; ++o) {
      const __m256 table = load_table(tables + o);
#pragma GCC unroll 3
      for (int v = 0; v < kIndices; ++v) local[o][v] = look_up(local[o][v], at[v], table);
    }
  }
  for (int o = 0; o < kOut; ++o)
    for (int v = 0; v < kIndices; ++v) totals[o][v] = local[o][v];
}

// Adds what some output pixels contribute to gradient (out, taps, in): see add_parts.
class Pixels {
 public:
  static constexpr std::int64_t kPixels = kMostPixels;

  explicit Pixels(const Convolution& shape)
      : shape_(shape),
        rows_(shape.taps() * shape.in_channels / kLanes),
        index_(buffer<Index>(rows_ * kBlocks)),
        tables_(buffer<Table>(16 * kBlocks)),
        unseen_sums_(buffer<float>(shape.taps() * 16)),
        bytes_(kMostPixels + 32),
        unseen_(static_cast<std::size_t>(shape.taps())) {}

  // Computes the indices (taps, in / 8, kBlocks).
  void set_pixels(const Chunk& chunk, const std::uint8_t* image, std::int64_t first, std::int64_t count) {
    chunk_ = &chunk, first_ = first, count_ = count, blocks_ = (count + 7) / 8 * 2;
    Index* index = index_.get();
    for (int tap = 0; tap < shape_.taps(); ++tap) {
      const std::uint8_t* valid = chunk.valid(tap) + first;  // also of the pixels up to a multiple of eight: 0
      for (std::int64_t g = 0; g < shape_.in_channels / 8; ++g, index += kBlocks) {
        const std::uint8_t* seen = chunk.bytes(image, tap, g, first, count, bytes_.data());
        for (std::int64_t i = 0; i < count; i += 8)
          store_indices(transposed(eight_bytes(seen + i) & eight_bytes(valid + i)), index + i / 4, index + i / 4 + 1);
      }
    }
    std::fill(unseen_.begin(), unseen_.end(), 0);
    chunk.each_unseen(first, count, [&](std::int64_t, int tap) { ++unseen_[static_cast<std::size_t>(tap)]; });
  }

  // grad points to the sixteen channels from `channel` on, at the first pixel.
  void add(const float* grad, std::int64_t channel, float* gradient) {
    const std::int64_t outs = shape_.out_channels, ins = shape_.in_channels;
    build_tables(grad);
    std::fill_n(unseen_sums_.get(), shape_.taps() * 16, 0.0f);
    // Where a tap is outside the image, its bits are 0 and were counted as -1. These sums undo that.
    chunk_->each_unseen(first_, count_, [&](std::int64_t pixel, int tap) {
      float* sum = unseen_sums_.get() + 16 * tap;
      store(sum, training::BIPER_TRAINING_SET::add(load(sum), load(grad + pixel * outs)));
    });
    for (int part = 0; part < 16; part += kOut)
      for (std::int64_t row = 0; row < rows_; row += kRows) {
        const Table* tables = tables_.get() + part * kBlocks;
        const Index* index = index_.get() + row * kBlocks;
        const int rows = static_cast<int>(std::min<std::int64_t>(kRows, rows_ - row));
        __m256 totals[kOut][kRows];
        if (rows == 3) add_up<3>(tables, index, blocks_, totals);
        if (rows == 2) add_up<2>(tables, index, blocks_, totals);
        if (rows == 1) add_up<1>(tables, index, blocks_, totals);
        for (int o = 0; o < kOut; ++o)
          for (int v = 0; v < rows; ++v) {
            const std::size_t tap = static_cast<std::size_t>((row + v) * kLanes / ins);
            if (unseen_[tap] == count_) continue;  // the tap is outside at all pixels
            const float unseen = unseen_sums_[tap * 16 + static_cast<std::size_t>(part + o)];
            float* to = gradient + (channel + part + o) * shape_.taps() * ins + (row + v) * kLanes;
            const __m256 sum = _mm256_add_ps(totals[o][v], _mm256_set1_ps(unseen));
            _mm256_storeu_ps(to, _mm256_add_ps(sum, _mm256_loadu_ps(to)));
          }
      }
  }

 private:
  // Builds the tables (16 / kOut, kBlocks, kOut) of sixteen channels.
  void build_tables(const float* grad) {
    static constexpr float kZeros[16] = {};
    for (std::int64_t b = 0; b < blocks_; ++b) {
      const float* g[4];
      for (int j = 0; j < 4; ++j) g[j] = 4 * b + j < count_ ? grad + (4 * b + j) * shape_.out_channels : kZeros;
      for (int o = 0; o < 16; ++o)
        store_table(g[0][o], g[1][o], g[2][o], g[3][o], tables_.get() + (o / kOut * kBlocks + b) * kOut + o % kOut);
    }
  }

  const Convolution& shape_;
  const Chunk* chunk_ = nullptr;
  std::int64_t rows_, first_ = 0, count_ = 0, blocks_ = 0;
  Buffer<Index> index_;
  Buffer<Table> tables_;
  Buffer<float> unseen_sums_;
  std::vector<std::uint8_t> bytes_;
  std::vector<std::int64_t> unseen_;  // for each tap, the pixels at which it is outside the image
};

}  // namespace

void lookup_weight_gradient(Type type, const Convolution& shape, const std::uint8_t* bits, const void* grad,
                            float* gradient, ThreadPool& pool) {
  with_type(type,
            [&](const float*) { add_parts<Pixels>(shape, bits, static_cast<const float*>(grad), gradient, pool); });
}

}  // namespace biper::training::BIPER_TRAINING_SET
