// The forward convolution of bits with real weights. Eight output pixels are the lanes of a register, and tables hold
// sums of weights.
#include "common/portability.h"
#include "training/avx2/lookup.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr int kOut = 4;      // output channels of a block
constexpr int kVectors = 3;  // registers of eight pixels of a block: its 12 totals stay in registers
constexpr int kUnit = kVectors * kLanes;
constexpr std::int64_t kIndexBytes = 192 << 10;  // memory of the indices that are computed at a time
constexpr std::int64_t kChunkPixels = 1024;
static_assert(Chunk::kUnit % kUnit == 0, "a chunk is padded to whole blocks");

// Builds the tables (taps x in / 4, kOut) of a block of output channels, and the sums of its weights (taps, kOut).
void build_tables(const Convolution& shape, const float* weight, Table* tables, float* sums) {
  const std::int64_t size = shape.taps() * shape.in_channels;
  for (int o = 0; o < kOut; ++o, weight += size)
    for (int tap = 0; tap < shape.taps(); ++tap) {
      float total = 0;
      for (std::int64_t i = tap * shape.in_channels; i < (tap + 1) * shape.in_channels; i += 4) {
        const float* w = weight + i;
        store_table(w[0], w[1], w[2], w[3], tables + i / 4 * kOut + o);
        total += w[0] + w[1] + w[2] + w[3];
      }
      sums[tap * kOut + o] = total;
    }
}

// Computes the totals of kOut channels of kUnit pixels, (pixels, channels). Indices are `pixels` apart.
void add_up(const Table* table, const std::uint32_t* index, std::int64_t pixels, std::int64_t count, float* totals) {
  __m256 local[kOut][kVectors];
  for (auto& row : local)
    for (auto& total : row) total = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < count; ++i, index += pixels, table += kOut) {
    __m256i at[kVectors];
    for (int v = 0; v < kVectors; ++v) at[v] = load_index(index + kLanes * v);
#pragma GCC unroll 4
    for (int o = 0; o < kOut; ++o) {
      const __m256 t = load_table(table + o);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) local[o][v] = look_up(local[o][v], at[v], t);
    }
  }
  for (int v = 0; v < kVectors; ++v, totals += kLanes * kOut) {  // transposed
    const auto pair = [](__m256 a, __m256 b, bool high) {
      const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
      return _mm256_castpd_ps(high ? _mm256_unpackhi_pd(x, y) : _mm256_unpacklo_pd(x, y));
    };
    const __m256 low01 = _mm256_unpacklo_ps(local[0][v], local[1][v]);
    const __m256 high01 = _mm256_unpackhi_ps(local[0][v], local[1][v]);
    const __m256 low23 = _mm256_unpacklo_ps(local[2][v], local[3][v]);
    const __m256 high23 = _mm256_unpackhi_ps(local[2][v], local[3][v]);
    const __m256 pixel[4] = {pair(low01, low23, false), pair(low01, low23, true), pair(high01, high23, false),
                             pair(high01, high23, true)};
    for (int p = 0; p < 4; ++p) {
      _mm_store_ps(totals + p * kOut, _mm256_castps256_ps128(pixel[p]));
      _mm_store_ps(totals + (4 + p) * kOut, _mm256_extractf128_ps(pixel[p], 1));
    }
  }
}

// Computes the indices (taps x in / 4, size) of `count` pixels. Bits outside the image are 0.
void make_indices(const Convolution& shape, const Chunk& chunk, const std::uint8_t* image, std::int64_t first,
                  std::int64_t count, std::int64_t size, std::uint8_t* copy, std::uint32_t* index) {
  for (int tap = 0; tap < shape.taps(); ++tap) {
    const std::uint8_t* valid = chunk.valid(tap) + first;
    for (std::int64_t g = 0; g < shape.in_channels / 8; ++g, index += 2 * size) {
      const std::uint8_t* seen = chunk.bytes(image, tap, g, first, count, copy);
      for (std::int64_t i = 0; i < count; i += kLanes)
        store_indices(eight_bytes(seen + i) & eight_bytes(valid + i), index + i, index + size + i);
    }
  }
}

}  // namespace

void lookup_forward(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                    const float* scale, void* result, ThreadPool& pool) {
  with_type(type, [&](const float*) {
    float* out = static_cast<float*>(result);
    const std::int64_t fours = shape.taps() * shape.in_channels / 4, outs = shape.out_channels;
    const int blocks = static_cast<int>(outs / kOut);
    const Buffer<Table> tables = buffer<Table>(blocks * fours * kOut);
    const Buffer<float> sums = buffer<float>(outs * shape.taps());
    pool.run(blocks, [&](int block) {
      build_tables(shape, weight + block * kOut * fours * 4, tables.get() + block * fours * kOut,
                   sums.get() + block * kOut * shape.taps());
    });

    const Chunks chunks(shape, kChunkPixels);
    const int wanted = pool.threads() == 1 ? 1 : 4 * pool.threads();
    const int splits = std::clamp((wanted + chunks.count - 1) / chunks.count, 1, blocks);  // of the output channels
    pool.run(chunks.count * splits, [&](int part) {
      const int number = part / splits, split = part % splits;
      const Chunk& chunk = chunks.at(number);
      const std::int64_t image = number * chunks.images;
      const std::uint8_t* from = bits + image * shape.in_channels / 8 * shape.in_pixels();
      float* to = out + image * shape.out_pixels() * outs;
      const std::int64_t most = std::max(kIndexBytes / (fours * 4) / kUnit, std::int64_t{1}) * kUnit;
      const std::int64_t size = std::min(most, chunk.padded());
      const Buffer<std::uint32_t> index = buffer<std::uint32_t>(fours * size);
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
      for (std::int64_t first = 0; first < chunk.padded(); first += size) {
        const std::int64_t count = std::min(size, chunk.padded() - first);
        make_indices(shape, chunk, from, first, count, size, bytes.data(), index.get());
        for (int block = blocks * split / splits; block < blocks * (split + 1) / splits; ++block) {
          const __m128 factor = _mm_loadu_ps(scale + block * kOut);
          const float* sum = sums.get() + block * kOut * shape.taps();
          for (std::int64_t i = 0; i < count; i += kUnit) {
            alignas(32) float totals[kUnit * kOut];
            add_up(tables.get() + block * fours * kOut, index.get() + i, size, fours, totals);
            // Where a tap is outside the image, its bits are 0 and were counted as -1. These sums undo that.
            chunk.each_unseen(first + i, kUnit, [&](std::int64_t pixel, int tap) {
              float* total = totals + pixel * kOut;
              _mm_store_ps(total, _mm_add_ps(_mm_load_ps(total), _mm_load_ps(sum + tap * kOut)));
            });
            const std::int64_t pixels = std::min<std::int64_t>(chunk.pixels() - first - i, kUnit);
            float* place = to + (first + i) * outs + block * kOut;
            for (std::int64_t p = 0; p < pixels; ++p, place += outs)
              _mm_storeu_ps(place, _mm_mul_ps(_mm_load_ps(totals + p * kOut), factor));
          }
        }
      }
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
