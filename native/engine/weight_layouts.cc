#include "engine/weight_layouts.h"

namespace biper {
namespace {

std::int64_t blocks_of(int channels) { return round_up(channels, kLanes) / kLanes; }

int words_of(const Geometry& g) { return round_up(g.channels / g.groups, 32) / 32; }

// From (out, in, ky, kx) to [block][ky][run][word of inputs][16], see Levels.
template <typename Weight>
Aligned<std::uint32_t> run_layout(const Geometry& g, const Weight* weight) {
  constexpr int kBits = 8 * sizeof(Weight), kInputs = 32 / kBits;
  const int runs = g.row_runs(), words = g.run_steps(kInputs);
  Aligned<std::uint32_t> layout(blocks_of(g.out_channels) * g.kernel_y * runs * words * kLanes);
  for (int o = 0; o < g.out_channels; ++o)
    for (int c = 0; c < g.channels; ++c)
      for (int y = 0; y < g.kernel_y; ++y)
        for (int x = 0; x < g.kernel_x; ++x) {
          const Weight w = weight[((std::int64_t{o} * g.channels + c) * g.kernel_y + y) * g.kernel_x + x];
          const int run = runs == 1 ? 0 : x, place = runs == 1 ? x * g.channels + c : c;
          const std::int64_t word =
              ((std::int64_t{o / kLanes} * g.kernel_y + y) * runs + run) * words + place / kInputs;
          layout[word * kLanes + o % kLanes] |= std::uint32_t{w} << (kBits * (place % kInputs));
        }
  return layout;
}

}  // namespace

Aligned<float> real_layout(const Geometry& g, const float* weight) {
  const int inside = g.channels / g.groups, taps = g.kernel_y * g.kernel_x;
  Aligned<float> layout(blocks_of(g.out_channels) * kLanes * taps * inside);
  for (int o = 0; o < g.out_channels; ++o)
    for (int c = 0; c < inside; ++c)
      for (int tap = 0; tap < taps; ++tap)
        layout[((std::int64_t{o / kLanes} * taps + tap) * inside + c) * kLanes + o % kLanes] =
            weight[(std::int64_t{o} * inside + c) * taps + tap];
  return layout;
}

Aligned<float> grouped_layout(const Geometry& g, const float* weight) {
  const GroupedInputs in = grouped_inputs(g);
  const int taps = g.kernel_y * g.kernel_x;
  Aligned<float> layout(blocks_of(g.out_channels) * kLanes * taps * in.inputs);
  for (int o = 0; o < g.out_channels; ++o) {
    const int block = o / kLanes, first = o / in.outside * in.inside - in.first_input(block);
    for (int c = 0; c < in.inside; ++c)
      for (int tap = 0; tap < taps; ++tap)
        layout[((std::int64_t{block} * taps + tap) * in.inputs + first + c) * kLanes + o % kLanes] =
            weight[(std::int64_t{o} * in.inside + c) * taps + tap];
  }
  return layout;
}

Aligned<std::uint32_t> bit_layout(const Geometry& g, const std::uint8_t* weight,
                                  const std::vector<std::uint8_t>& flip) {
  const int inside = g.channels / g.groups, taps = g.kernel_y * g.kernel_x, words = words_of(g);
  const int bytes = round_up(inside, 8) / 8;
  Aligned<std::uint32_t> layout(blocks_of(g.out_channels) * kLanes * taps * words);
  for (int o = 0; o < g.out_channels; ++o)
    for (int tap = 0; tap < taps; ++tap)
      for (int byte = 0; byte < bytes; ++byte) {
        const int left = inside - 8 * byte;
        const bool flipped = !flip.empty() && flip[o];
        const std::uint32_t bits = (weight[(std::int64_t{o} * taps + tap) * bytes + byte] ^ (flipped ? 0xffu : 0u)) &
                                   (left >= 8 ? 0xffu : (1u << left) - 1);
        layout[((std::int64_t{o / kLanes} * taps + tap) * words + byte / 4) * kLanes + o % kLanes] |=
            bits << (8 * (byte % 4));
      }
  return layout;
}

Aligned<std::uint32_t> pair_layout(const Geometry& g, const Aligned<std::uint32_t>& bits) {
  const int pairs = (g.kernel_x + 1) / 2;
  if (g.groups != 1 || g.channels > 16 || g.dilation_x != 1 || pairs > kMaxPairs) return Aligned<std::uint32_t>();
  const std::int64_t rows = blocks_of(g.out_channels) * g.kernel_y, row = std::int64_t{g.kernel_x} * kLanes;
  Aligned<std::uint32_t> layout(rows * pairs * kLanes);
  for (std::int64_t y = 0; y < rows; ++y)
    for (int x = 0; x < g.kernel_x; ++x)
      for (int lane = 0; lane < kLanes; ++lane)
        layout[(y * pairs + x / 2) * kLanes + lane] |= bits[y * row + x * kLanes + lane] << (16 * (x % 2));
  return layout;
}

Aligned<std::uint32_t> all_rows_layout(const Geometry& g, const Aligned<std::uint32_t>& bits) {
  if (g.groups != 1 || g.channels <= 16 || g.kernel_y != 3) return Aligned<std::uint32_t>();
  const std::int64_t blocks = blocks_of(g.out_channels), row = std::int64_t{g.kernel_x} * words_of(g) * kLanes;
  Aligned<std::uint32_t> layout(blocks * row);
  for (std::int64_t block = 0; block < blocks; ++block)
    for (std::int64_t i = 0; i < row; ++i)
      for (int y = 0; y < 3; ++y) layout[block * row + i] ^= bits[(3 * block + y) * row + i];
  return layout;
}

Aligned<std::uint32_t> masked_layout(const Geometry& g, const Aligned<std::uint32_t>& bits) {
  if (groups_fill_blocks(g)) return Aligned<std::uint32_t>();
  const GroupedInputs in = grouped_inputs(g);
  const int taps = g.kernel_y * g.kernel_x, words = words_of(g);
  Aligned<std::uint32_t> layout(blocks_of(g.out_channels) * taps * in.words * 2 * kLanes);
  for (int o = 0; o < g.out_channels; ++o) {
    const int block = o / kLanes, lane = o % kLanes;
    const int first = o / in.outside * in.inside - 16 * in.first_half(block);  // the place of its first input
    for (int tap = 0; tap < taps; ++tap)
      for (int c = 0; c < in.inside; ++c) {
        const std::int64_t from = (std::int64_t{block} * taps + tap) * words + c / 32;
        const std::int64_t to = (std::int64_t{block} * taps + tap) * in.words + (first + c) / 32;
        const std::uint32_t bit = bits[from * kLanes + lane] >> (c % 32) & 1;
        layout[2 * to * kLanes + lane] |= bit << ((first + c) % 32);
        layout[(2 * to + 1) * kLanes + lane] |= std::uint32_t{1} << ((first + c) % 32);
      }
  }
  return layout;
}

Aligned<std::uint32_t> int8_layout(const Geometry& g, const std::int8_t* weight) {
  return run_layout(g, reinterpret_cast<const std::uint8_t*>(weight));
}

Aligned<std::uint32_t> bfloat16_layout(const Geometry& g, const std::uint16_t* weight) { return run_layout(g, weight); }

Aligned<std::int32_t> int8_initial_sums(const Geometry& g, const std::int8_t* weight, int zero) {
  Aligned<std::int32_t> sums(blocks_of(g.out_channels) * kLanes);
  const std::int64_t size = std::int64_t{g.channels} * g.kernel_y * g.kernel_x;
  for (int o = 0; o < g.out_channels; ++o)
    for (std::int64_t i = 0; i < size; ++i) sums[o] -= zero * weight[o * size + i];
  return sums;
}

}  // namespace biper
