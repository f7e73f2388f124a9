// The forward convolution of bits with real weights. The bytes of a register are 32 output pixels, and tables hold sums
// of four weights as integers of 24 bits, in units of a power of two for each output channel: vpshufb looks up six of
// these bits, a digit, for all pixels, and vpaddb adds them: 128 multiply-accumulates of a digit in two instructions.
// If all weights of a channel have one absolute value, their sums are small integers, of one digit.
#include <cmath>

#include "training/avx2/digits.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr int kOut = 4;                          // output channels of a block, which are stored together
constexpr int kUnit = 32;                        // pixels of a register
constexpr std::int64_t kIndexBytes = 384 << 10;  // memory of the indices that are computed at a time
constexpr std::int64_t kKeptBytes = 1 << 20;     // tables that need more memory are built again where they are used
constexpr std::int64_t kChunkPixels = 1024;

struct alignas(16) Digits {
  std::uint8_t places[16];
};

// The places in a table at which 32 pixels are looked up.
struct alignas(32) Places {
  std::uint8_t places[kUnit];
};

// What the tables of an output channel have in common.
struct Channel {
  int digits;    // 1 or kDigits
  float unit;    // of the integers; NaN if a weight is not finite
  float offset;  // what was added to all numbers of a pixel: see Totals
};

// Builds the tables (fours / 2, digits, 2) of an output channel with 4 * fours weights, an even number of fours.
Channel build_tables(const float* weight, std::int64_t fours, Digits* to) {
  const __m256 first = absolute(_mm256_set1_ps(weight[0]));
  __m256 other = _mm256_setzero_ps();
  __m256i largest = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < 4 * fours; i += kLanes) {
    const __m256 size = absolute(_mm256_loadu_ps(weight + i));
    const __m256 two = _mm256_add_ps(size, _mm256_permute_ps(size, 0xB1));
    largest = larger_bits(largest, _mm256_add_ps(two, _mm256_permute_ps(two, 0x4E)));
    other = _mm256_or_ps(other, _mm256_xor_ps(size, first));
  }
  alignas(32) std::uint32_t sizes[kLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(sizes), largest);
  const Unit unit = unit_of(*std::max_element(sizes, sizes + kLanes));
  if (std::isnan(unit.value)) return {1, unit.value, 0};
  std::uint8_t* bytes = to->places;
  if (_mm256_testz_si256(_mm256_castps_si256(other), _mm256_castps_si256(other)) && weight[0] != 0) {
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    for (std::int64_t i = 0; i < 4 * fours; i += kLanes, bytes += 32) {
      const __m256 signs = _mm256_or_ps(_mm256_and_ps(_mm256_loadu_ps(weight + i), sign), one);
      store_digit(all_sums(signs, 4), bytes);
    }
    return {1, std::fabs(weight[0]), 4 * static_cast<float>(fours)};
  }
  const __m256 inverse = _mm256_set1_ps(unit.inverse);
  for (std::int64_t i = 0; i < 4 * fours; i += kLanes, bytes += 32 * kDigits) {
    const __m256 numbers = _mm256_mul_ps(_mm256_loadu_ps(weight + i), inverse);
    store_digits(all_sums(numbers, kOffset), bytes, 32);
  }
  return {kDigits, unit.value, offset_of(fours)};
}

// Computes the sums of kRows times 32 pixels, in the order of Words, of an output channel whose numbers have kCount
// digits. The indices are (kRows, fours).
template <int kCount, int kRows>
void add_up(const Digits* tables, const Places* index, std::int64_t fours, const Channel& channel, float* sums) {
  constexpr int kBytes = kCount == 1 ? 28 : 4;              // sums of so many numbers fit into a byte,
  constexpr std::int64_t kWords = kCount == 1 ? 512 : 128;  // and of so many into a word; few, for the cache
  Totals<kCount> totals[kRows];
  for (auto& total : totals) total.clear();
  const auto table = [](const std::uint8_t* at, int k) BIPER_INLINE_LAMBDA {
    const std::uint8_t* place = at + k / 2 * (32 * kCount) + k % 2 * 16;
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(place)));
  };
  for (std::int64_t first = 0; first < fours; first += kWords) {
    for (int d = 0; d < kCount; ++d) {
      Words words[kRows];
      add_up_digit<kRows, kBytes>(tables[first * kCount + 2 * d].places, 64 * kCount, table, index[first].places,
                                  fours * kUnit, std::min(kWords, fours - first), words);
      for (int r = 0; r < kRows; ++r) totals[r].add(words[r], d);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int k = 0; k < 4; ++k)
      _mm256_store_ps(sums + kUnit * r + 8 * k, totals[r].floats(k, channel.offset, _mm256_set1_ps(channel.unit)));
}

// Computes the sums of `count` pixels, a multiple of 32.
template <int kCount>
void add_up_pixels(const Digits* tables, const Places* index, std::int64_t fours, std::int64_t count,
                   const Channel& channel, float* sums) {
  constexpr int kRows = 3;  // registers of pixels whose sums are added up together
  std::int64_t i = 0;
  for (; i + kRows * kUnit <= count; i += kRows * kUnit)
    add_up<kCount, kRows>(tables, index + i / kUnit * fours, fours, channel, sums + i);
  for (; i < count; i += kUnit) add_up<kCount, 1>(tables, index + i / kUnit * fours, fours, channel, sums + i);
}

// Transposes the sums of kOut channels, `step` apart: totals (pixels, channels) of 32 pixels.
void transpose(const float* sums, std::int64_t step, float* totals) {
  for (int k = 0; k < 4; ++k) {
    const auto channel = [&](int o) { return _mm256_load_ps(sums + o * step + 8 * k); };
    const auto pair = [](__m256 a, __m256 b, bool high) {
      const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
      return _mm256_castpd_ps(high ? _mm256_unpackhi_pd(x, y) : _mm256_unpacklo_pd(x, y));
    };
    const __m256 low01 = _mm256_unpacklo_ps(channel(0), channel(1)),
                 high01 = _mm256_unpackhi_ps(channel(0), channel(1));
    const __m256 low23 = _mm256_unpacklo_ps(channel(2), channel(3)),
                 high23 = _mm256_unpackhi_ps(channel(2), channel(3));
    const __m256 pixel[4] = {pair(low01, low23, false), pair(low01, low23, true), pair(high01, high23, false),
                             pair(high01, high23, true)};
    float* first = totals + (16 * (k % 2) + k / 2) * kOut;
    for (int p = 0; p < 4; ++p) {
      _mm_store_ps(first + 2 * p * kOut, _mm256_castps256_ps128(pixel[p]));
      _mm_store_ps(first + (8 + 2 * p) * kOut, _mm256_extractf128_ps(pixel[p], 1));
    }
  }
}

// Computes the indices (count / 32, taps x in / 4) of `count` pixels. Bits outside the image are 0.
void make_indices(const Convolution& shape, const Chunk& chunk, const std::uint8_t* image, std::int64_t first,
                  std::int64_t count, std::uint8_t* copy, Places* index) {
  const __m256i low_bits = _mm256_set1_epi8(15);
  const auto load_bytes = [](const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
  const std::int64_t groups = shape.in_channels / 8, fours = shape.taps() * groups * 2;
  for (int tap = 0; tap < shape.taps(); ++tap) {
    const std::uint8_t* valid = chunk.valid(tap) + first;
    for (std::int64_t g = 0; g < groups; ++g, index += 2) {
      const std::uint8_t* seen = chunk.bytes(image, tap, g, first, count, copy);
      for (std::int64_t i = 0; i < count; i += kUnit) {
        const __m256i bits = _mm256_and_si256(load_bytes(seen + i), load_bytes(valid + i));
        Places* to = index + i / kUnit * fours;
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[0].places), _mm256_and_si256(bits, low_bits));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[1].places),
                           _mm256_and_si256(_mm256_srli_epi16(bits, 4), low_bits));
      }
    }
  }
}

}  // namespace

void convolution_forward(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                         const float* scale, void* result, ThreadPool& pool) {
  with_type(type, [&](const float*) {
    float* out = static_cast<float*>(result);
    const std::int64_t fours = shape.taps() * shape.in_channels / 4, outs = shape.out_channels;
    const int blocks = static_cast<int>(outs / kOut);
    const std::int64_t size_of_tables = fours * kDigits;  // of an output channel
    const bool kept = outs * size_of_tables * 16 <= kKeptBytes;
    const Buffer<Digits> tables = buffer<Digits>(kept ? outs * size_of_tables : 0);
    const Buffer<float> tap_sums = buffer<float>(outs * shape.taps());  // (blocks, taps, kOut)
    std::vector<Channel> channels(static_cast<std::size_t>(outs));
    pool.run(static_cast<int>(outs), [&](int o) {
      const float* w = weight + o * fours * 4;
      if (kept) channels[static_cast<std::size_t>(o)] = build_tables(w, fours, tables.get() + o * size_of_tables);
      for (int tap = 0; tap < shape.taps(); ++tap) {
        float total = 0;
        for (std::int64_t i = 0; i < shape.in_channels; ++i) total += *w++;
        tap_sums[static_cast<std::size_t>((o / kOut * shape.taps() + tap) * kOut + o % kOut)] = total;
      }
    });

    const Chunks chunks(shape, kChunkPixels, kUnit);
    const int wanted = pool.threads() == 1 ? 1 : 4 * pool.threads();
    const int splits = std::clamp((wanted + chunks.count - 1) / chunks.count, 1, blocks);  // of the output channels
    pool.run(chunks.count * splits, [&](int part) {
      const int number = part / splits, split = part % splits;
      const Chunk& chunk = chunks.at(number);
      const std::int64_t image = number * chunks.images;
      const std::uint8_t* from = bits + image * shape.in_channels / 8 * shape.in_pixels();
      float* to = out + image * shape.out_pixels() * outs;
      const std::int64_t most = std::max(kIndexBytes / fours / kUnit, std::int64_t{1}) * kUnit;
      const std::int64_t size = std::min(most, chunk.padded());
      const Buffer<Places> index = buffer<Places>(fours * size / kUnit);
      const Buffer<float> sums = buffer<float>(kOut * size);
      const Buffer<Digits> own_tables = buffer<Digits>(kept ? 0 : size_of_tables);
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
      for (std::int64_t first = 0; first < chunk.padded(); first += size) {
        const std::int64_t count = std::min(size, chunk.padded() - first);
        make_indices(shape, chunk, from, first, count, bytes.data(), index.get());
        for (int block = blocks * split / splits; block < blocks * (split + 1) / splits; ++block) {
          for (int k = 0; k < kOut; ++k) {
            const std::int64_t o = block * kOut + k;
            const Digits* table = kept ? tables.get() + o * size_of_tables : own_tables.get();
            const Channel channel = kept ? channels[static_cast<std::size_t>(o)]
                                         : build_tables(weight + o * fours * 4, fours, own_tables.get());
            float* sum = sums.get() + k * size;
            if (channel.digits == 1)
              add_up_pixels<1>(table, index.get(), fours, count, channel, sum);
            else
              add_up_pixels<kDigits>(table, index.get(), fours, count, channel, sum);
          }
          const __m128 factor = _mm_loadu_ps(scale + block * kOut);
          const float* tap_sum = tap_sums.get() + block * kOut * shape.taps();
          auto u = chunk.first_unseen(first);
          for (std::int64_t i = 0; i < count; i += kUnit) {
            alignas(32) float totals[kUnit * kOut];
            transpose(sums.get() + i, size, totals);
            // Where a tap is outside the image, its bits are 0 and were counted as -1. These sums undo that.
            for (; u != chunk.no_more_unseen() && u->pixel < first + i + kUnit; ++u) {
              float* total = totals + (u->pixel - first - i) * kOut;
              _mm_store_ps(total, _mm_add_ps(_mm_load_ps(total), _mm_load_ps(tap_sum + u->tap * kOut)));
            }
            const std::int64_t pixels = std::min<std::int64_t>(chunk.pixels() - first - i, kUnit);
            float* place = to + (first + i) * outs + block * kOut;
            const std::int64_t step = outs;
            for (std::int64_t p = 0; p < pixels; ++p, place += step)
              _mm_storeu_ps(place, _mm_mul_ps(_mm_load_ps(totals + p * kOut), factor));
          }
        }
      }
    });
  });
}

}  // namespace biper::training::BIPER_TRAINING_SET
