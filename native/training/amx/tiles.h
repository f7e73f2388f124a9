// Tile registers of AMX: eight matrices of 16 rows of 64 bytes. An instruction multiplies two of them in 16 cycles:
// 16 x 64 by 64 x 16 integers of 8 bits, or 16 x 32 by 32 x 16 numbers in bfloat16.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "training/avx512/vectors.h"
#include "training/chunks.h"

namespace biper::training::BIPER_TRAINING_SET {

constexpr std::int64_t kRows = 16, kRowBytes = 64, kTileBytes = kRows * kRowBytes;

// While it exists, all tiles of this thread have the largest size.
class WithTiles {
 public:
  WithTiles() {
    struct alignas(64) Sizes {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } sizes;
    for (int i = 0; i < 8; ++i) sizes.row_bytes[i] = kRowBytes, sizes.rows[i] = kRows;
    _tile_loadconfig(&sizes);
  }
  ~WithTiles() { _tile_release(); }
  WithTiles(const WithTiles&) = delete;
  WithTiles& operator=(const WithTiles&) = delete;
};

// The bits (channels / 8, pixels) of an image as bytes -1 and +1 in a buffer (rows, width, channels), where the
// image begins at row `top` and column `left`. Nothing else in the buffer is written.
inline void spread_bits(const Convolution& shape, const std::uint8_t* bits, std::int64_t width, std::int64_t top,
                        std::int64_t left, std::int8_t* to) {
  const std::int64_t channels = shape.in_channels, pixels = shape.in_pixels();
  const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
  for (std::int64_t y = 0; y < shape.in_height; ++y)
    for (std::int64_t g = 0; g < channels / 16; ++g) {
      const std::uint8_t* low = bits + 2 * g * pixels + y * shape.in_width;
      const std::uint8_t* high = low + pixels;
      std::int8_t* row = to + ((y + top) * width + left) * channels + 16 * g;
      for (std::int64_t x = 0; x < shape.in_width; x += 16) {
        const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low + x));
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high + x));
        alignas(32) std::uint64_t fours[4];  // sixteen bits of four pixels each
        _mm_store_si128(reinterpret_cast<__m128i*>(fours), _mm_unpacklo_epi8(a, b));
        _mm_store_si128(reinterpret_cast<__m128i*>(fours + 2), _mm_unpackhi_epi8(a, b));
        for (std::int64_t first = 0; first < 4 && x + 4 * first < shape.in_width; ++first) {
          const __m512i v = _mm512_mask_blend_epi8(fours[first], minus, plus);
          const std::int64_t count = std::min<std::int64_t>(4, shape.in_width - x - 4 * first);
          std::int8_t* place = row + (x + 4 * first) * channels;
          if (channels == 16 && count == 4) {
            _mm512_storeu_si512(place, v);
          } else {
            alignas(64) std::int8_t values[64];
            _mm512_store_si512(values, v);
            for (std::int64_t k = 0; k < count; ++k) std::memcpy(place + k * channels, values + 16 * k, 16);
          }
        }
      }
    }
}

}  // namespace biper::training::BIPER_TRAINING_SET
