// The forward convolution of bits with real weights. Sixteen output pixels are the lanes of a register, and
// tables hold sums of weights.
#include <cmath>
#include <limits>

#include "common/portability.h"
#include "training/avx512/lookup.h"

namespace biper::training::BIPER_TRAINING_SET {
namespace {

constexpr int kOut = 8;      // output channels of a block
constexpr int kVectors = 3;  // registers of sixteen pixels of a block: its 24 totals stay in registers
constexpr std::int64_t kIndexBytes = 448 << 10;  // memory of the indices that are computed at a time
constexpr std::int64_t kChunkPixels = 1024;

// Builds the tables of an output channel; those of each eight weights are `step` registers apart. Returns the unit of
// the numbers in the tables.
float build_tables(Integers, const float* weight, std::int64_t eights, Register* to, std::int64_t step) {
  float largest = 0, total = 0;
  for (std::int64_t i = 0; i < eights * 2; ++i) {
    const float* w = weight + 4 * i;
    const float size = std::fabs(w[0]) + std::fabs(w[1]) + std::fabs(w[2]) + std::fabs(w[3]);
    largest = std::max(largest, size), total += size;
  }
  if (!std::isfinite(total)) return std::numeric_limits<float>::quiet_NaN();
  int exponent = 0;
  std::frexp(largest / 32767, &exponent);  // 2^exponent > largest / 32767
  exponent = std::max(exponent, kSmallestUnit);
  const __m512 factor = _mm512_set1_ps(std::ldexp(1.0f, -exponent));
  for (std::int64_t i = 0; i < eights; ++i) {
    const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(sixteen_sums(weight + 8 * i), factor));
    const __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(sixteen_sums(weight + 8 * i + 4), factor));
    const __m512i first = _mm512_castsi256_si512(_mm512_cvtsepi32_epi16(low));
    _mm512_store_si512(to + i * step, _mm512_inserti64x4(first, _mm512_cvtsepi32_epi16(high), 1));
  }
  return std::ldexp(1.0f, exponent);
}

float build_tables(Floats, const float* weight, std::int64_t eights, Register* to, std::int64_t step) {
  for (std::int64_t i = 0; i < eights; ++i)
    for (int half = 0; half < 2; ++half) _mm512_store_ps(to + i * step + half, sixteen_sums(weight + 8 * i + 4 * half));
  return 1;
}

// Computes the totals of kOut channels of kVectors x 16 pixels. The indices of successive taps and
// groups are `pixels` apart.
template <typename Lookup>
void add_up(const Register* table, const std::uint32_t* index, std::int64_t pixels, const Chunk& chunk,
            std::int64_t first, int taps, std::int64_t groups, typename Lookup::Total (&totals)[kOut][kVectors]) {
  typename Lookup::Total local[kOut][kVectors];  // a local array, whose address goes nowhere, stays in registers
  for (auto& row : local)
    for (auto& total : row) total = Lookup::zero();
  for (int tap = 0; tap < taps; ++tap) {
    typename Lookup::Lanes valid[kVectors];
    unsigned all = 0xFFFF;
    for (int v = 0; v < kVectors; ++v) {
      const std::uint8_t* bytes = chunk.valid(tap) + first + 16 * v;
      const __mmask16 lanes = _mm_movepi8_mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
      all &= lanes;
      valid[v] = Lookup::lanes(lanes);
    }
    const auto add_groups = [&]<bool kBorder>() BIPER_INLINE_LAMBDA {
      for (std::int64_t g = 0; g < groups; ++g, index += pixels, table += kOut * Lookup::kRegisters) {
        __m512i at[kVectors];
        for (int v = 0; v < kVectors; ++v) at[v] = _mm512_load_si512(index + 16 * v);
#pragma GCC unroll 8
        for (int o = 0; o < kOut; ++o) {
          const typename Lookup::Table t = Lookup::table(table + o * Lookup::kRegisters);
#pragma GCC unroll 3
          for (int v = 0; v < kVectors; ++v) {
            if constexpr (kBorder)
              local[o][v] = Lookup::add(local[o][v], at[v], valid[v], t);
            else
              local[o][v] = Lookup::add(local[o][v], at[v], t);
          }
        }
      }
    };
    if (all == 0xFFFF)
      add_groups.template operator()<false>();
    else
      add_groups.template operator()<true>();
  }
  for (int o = 0; o < kOut; ++o)
    for (int v = 0; v < kVectors; ++v) totals[o][v] = local[o][v];
}

// Transposes eight channels of sixteen pixels. quads[half][k] holds four channels of the pixels
// k, 4 + k, 8 + k and 12 + k.
void transpose(const __m512 (&channel)[kOut], __m512 (&quads)[2][4]) {
  for (int half = 0; half < 2; ++half) {
    const __m512* c = channel + 4 * half;
    const __m512 low01 = _mm512_unpacklo_ps(c[0], c[1]), high01 = _mm512_unpackhi_ps(c[0], c[1]);
    const __m512 low23 = _mm512_unpacklo_ps(c[2], c[3]), high23 = _mm512_unpackhi_ps(c[2], c[3]);
    const auto pair = [](__m512 a, __m512 b, bool high) {
      const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
      return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
    };
    quads[half][0] = pair(low01, low23, false), quads[half][1] = pair(low01, low23, true);
    quads[half][2] = pair(high01, high23, false), quads[half][3] = pair(high01, high23, true);
  }
}

// Stores eight channels of sixteen pixels, which come as one register for each channel. Pixels are `step` values apart
// in memory; only the first `pixels` of them are stored.
void store_pixels(const __m512 (&channel)[kOut], float* out, std::int64_t step, int pixels) {
  __m512 quads[2][4];
  transpose(channel, quads);
  alignas(64) float pixel[16];
  for (int k = 0; k < 4; ++k)
    for (int half = 0; half < 2; ++half) {
      _mm512_store_ps(pixel, quads[half][k]);
      for (int lane = 0; lane < 4; ++lane)
        if (4 * lane + k < pixels) std::memcpy(out + (4 * lane + k) * step + 4 * half, pixel + 4 * lane, 16);
    }
}

void store_pixels(const __m512 (&channel)[kOut], Bfloat16* out, std::int64_t step, int pixels) {
  __m512 quads[2][4];
  transpose(channel, quads);
  const __m512i together = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  alignas(64) Bfloat16 pixel[32];
  for (int k = 0; k < 4; ++k) {
    const __m512bh both = _mm512_cvtne2ps_pbh(quads[1][k], quads[0][k]);
    _mm512_store_si512(pixel, _mm512_permutexvar_epi64(together, reinterpret_cast<const __m512i&>(both)));
    for (int lane = 0; lane < 4; ++lane)
      if (4 * lane + k < pixels) std::memcpy(out + (4 * lane + k) * step, pixel + 8 * lane, 16);
  }
}

template <typename Lookup, typename T>
void forward(const Convolution& shape, const std::uint8_t* bits, const float* weight, const float* scale, T* out,
             ThreadPool& pool) {
  const std::int64_t groups = shape.in_channels / 8, eights = shape.taps() * groups, outs = shape.out_channels;
  const int blocks = static_cast<int>(outs / kOut);
  const std::int64_t registers = eights * kOut * Lookup::kRegisters;  // of the tables of a block
  const Buffer<Register> tables = buffer<Register>(blocks * registers);
  std::vector<float> multiplier(static_cast<std::size_t>(outs));
  pool.run(blocks, [&](int block) {
    for (int o = 0; o < kOut; ++o) {
      const std::int64_t channel = block * kOut + o;
      Register* to = tables.get() + block * registers + o * Lookup::kRegisters;
      const float unit = build_tables(Lookup(), weight + channel * eights * 8, eights, to, kOut * Lookup::kRegisters);
      multiplier[static_cast<std::size_t>(channel)] = unit * scale[channel];
    }
  });

  const Chunks chunks(shape, kChunkPixels);
  const int wanted = pool.threads() == 1 ? 1 : 4 * pool.threads();
  const int splits = std::clamp((wanted + chunks.count - 1) / chunks.count, 1, blocks);  // parts of the output channels
  constexpr std::int64_t unit = 16 * kVectors;
  static_assert(Chunk::kUnit == unit, "a chunk is padded to whole blocks");
  pool.run(chunks.count * splits, [&](int part) {
    const int number = part / splits, split = part % splits;
    const Chunk& chunk = chunks.at(number);
    const std::int64_t image = number * chunks.images;
    const std::uint8_t* from = bits + image * groups * shape.in_pixels();
    T* to = out + image * shape.out_pixels() * outs;
    const std::int64_t most = std::max(kIndexBytes / (eights * 4) / unit, std::int64_t{1}) * unit;
    const std::int64_t size = std::min(most, chunk.padded());
    const Buffer<std::uint32_t> index = buffer<std::uint32_t>(eights * size);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
    for (std::int64_t first = 0; first < chunk.padded(); first += size) {
      const std::int64_t count = std::min(size, chunk.padded() - first);
      for (int tap = 0; tap < shape.taps(); ++tap)
        for (std::int64_t g = 0; g < groups; ++g) {
          const std::uint8_t* seen = chunk.bytes(from, tap, g, first, count, bytes.data());
          std::uint32_t* place = index.get() + (tap * groups + g) * size;
          for (std::int64_t i = 0; i < count; i += 16)
            _mm512_store_si512(place + i, indices(_mm_loadu_si128(reinterpret_cast<const __m128i*>(seen + i))));
        }
      for (int block = blocks * split / splits; block < blocks * (split + 1) / splits; ++block)
        for (std::int64_t i = 0; i < count; i += unit) {
          typename Lookup::Total totals[kOut][kVectors];
          add_up<Lookup>(tables.get() + block * registers, index.get() + i, size, chunk, first + i, shape.taps(),
                         groups, totals);
          for (int v = 0; v < kVectors; ++v) {
            const std::int64_t pixel = first + i + 16 * v;
            const int pixels = static_cast<int>(std::clamp<std::int64_t>(chunk.pixels() - pixel, 0, 16));
            __m512 channel[kOut];
            for (int o = 0; o < kOut; ++o)
              channel[o] = _mm512_mul_ps(Lookup::value(totals[o][v]),
                                         _mm512_set1_ps(multiplier[static_cast<std::size_t>(block * kOut + o)]));
            store_pixels(channel, to + pixel * outs + block * kOut, outs, pixels);
          }
        }
    }
  });
}

}  // namespace

void convolution_forward(Type type, const Convolution& shape, const std::uint8_t* bits, const float* weight,
                         const float* scale, void* out, ThreadPool& pool) {
  if (type == Type::kFloat)
    forward<Floats>(shape, bits, weight, scale, static_cast<float*>(out), pool);
  else
    forward<Integers>(shape, bits, weight, scale, static_cast<Bfloat16*>(out), pool);
}

}  // namespace biper::training::BIPER_TRAINING_SET
