// Compares an instruction set with the scalar kernels on random shapes: compare_kernels SET SHAPES SEED. Prints how
// many shapes of binary (with sums and with thresholds), int8 and real convolutions and of pools were run, and how many
// results differ. It needs no Python, so that it runs under an emulator as it is.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace {

std::mt19937 state;
int between(int low, int high) { return low + static_cast<int>(state() % static_cast<unsigned>(high - low + 1)); }
float normal() { return std::normal_distribution<float>()(state); }

struct Case {
  int kind, groups, inside, outside, kernel_y, kernel_x, height, width;
  std::vector<int>
      geometry;  // steps, padding, dilation, groups; of a pool: kernel, steps, padding, size, count_padding
  std::vector<std::uint8_t> bits;
  std::vector<std::int8_t> bytes;
  std::vector<float> reals, image;
  biper::EpilogueSpec epilogue;
  int out_height = 0, out_width = 0;
};

int result_size(int size, int padding, int kernel, int step, int dilation) {
  return (size + padding - dilation * (kernel - 1) - 1) / step + 1;
}

Case random_case() {
  Case c;
  c.kind = between(0, 4);  // sums, thresholds, int8, real, pool
  c.groups = c.kind == 2 || between(0, 3) ? 1 : between(2, 3);
  const int most = c.kind < 2 ? 300 : 60;
  c.inside = between(1, most / c.groups), c.outside = between(1, 80 / c.groups);
  if (between(0, 2) == 0) c.inside = (c.inside + 31) / 32 * 32, c.outside = (c.outside + 15) / 16 * 16;
  c.kernel_y = between(1, 7), c.kernel_x = between(1, 7);
  if (between(0, 1)) c.kernel_y = c.kernel_x = 3;
  const int step_y = between(1, 2), step_x = between(1, 2), dilation_y = between(1, 2), dilation_x = between(1, 2);
  const int pad_y = between(0, c.kernel_y / 2), pad_x = between(0, c.kernel_x / 2);
  c.height = dilation_y * (c.kernel_y - 1) + 1 + between(0, 9);
  c.width = dilation_x * (c.kernel_x - 1) + 1 + between(0, 13);
  const int channels = c.groups * c.inside;
  if (c.kind == 4) {
    c.out_height = result_size(c.height, 2 * pad_y, c.kernel_y, step_y, 1);
    c.out_width = result_size(c.width, 2 * pad_x, c.kernel_x, step_x, 1);
    c.geometry = {c.kernel_y, c.kernel_x, step_y, step_x, pad_y, pad_x, c.out_height, c.out_width, between(0, 1)};
  } else {
    c.out_height = result_size(c.height, 2 * pad_y, c.kernel_y, step_y, dilation_y);
    c.out_width = result_size(c.width, 2 * pad_x, c.kernel_x, step_x, dilation_x);
    c.geometry = {step_y, step_x, pad_y, pad_y, pad_x, pad_x, dilation_y, dilation_x, c.groups};
  }
  const std::size_t out = static_cast<std::size_t>(c.groups * c.outside),
                    taps = static_cast<std::size_t>(c.kernel_y * c.kernel_x);
  const std::size_t row = static_cast<std::size_t>(c.inside + 7) / 8;
  for (std::size_t i = 0; i < out * taps * row; ++i) {
    const bool last = i % row == row - 1 && c.inside % 8;
    c.bits.push_back(static_cast<std::uint8_t>(state() & (last ? (1u << (c.inside % 8)) - 1 : 255u)));
  }
  for (std::size_t i = 0; i < out * taps * static_cast<std::size_t>(c.inside); ++i) {
    c.bytes.push_back(static_cast<std::int8_t>(state() & 255u));
    c.reals.push_back(normal());
  }
  for (std::size_t o = 0; o < out; ++o) {
    if (c.kind == 1) {
      const int largest = c.inside * static_cast<int>(taps);
      c.epilogue.threshold.push_back(between(-largest - 1, largest + 1));
      c.epilogue.flip.push_back(static_cast<std::uint8_t>(between(0, 1)));
    } else if (c.kind == 2) {
      c.epilogue.multiplier.push_back(normal());
      c.epilogue.offset.push_back(normal());
    }
  }
  c.epilogue.real = c.kind != 1, c.epilogue.bits = c.kind == 1;
  for (int i = 0; i < channels * c.height * c.width; ++i) c.image.push_back(normal());
  return c;
}

std::vector<float> results_of(const Case& c, const std::string& set) {
  biper::Engine engine(c.groups * c.inside, c.height, c.width, set, 1);
  biper::EpilogueSpec bits, real;
  bits.bits = true, real.real = true;
  const int out = c.groups * c.outside;
  int result, channels = out;
  if (c.kind < 2) {
    const int input = engine.add_elementwise(0, bits).bits;
    const auto made = engine.add_binary_convolution(
        input, c.bits.data(), {out, c.kernel_y, c.kernel_x, (c.inside + 7) / 8}, c.geometry, c.epilogue);
    result = made.real;
    if (c.kind == 1) {  // the bits, seen one by one through sums of single channels
      std::vector<std::uint8_t> ones(static_cast<std::size_t>(out), 1);
      result =
          engine.add_binary_convolution(made.bits, ones.data(), {out, 1, 1, 1}, {1, 1, 0, 0, 0, 0, 1, 1, out}, real)
              .real;
    }
  } else if (c.kind == 2) {
    result = engine
                 .add_int8_convolution(0, c.bytes.data(), {out, c.inside, c.kernel_y, c.kernel_x}, c.geometry, 37.0f,
                                       101, c.epilogue)
                 .real;
  } else if (c.kind == 3) {
    result =
        engine.add_convolution(0, c.reals.data(), {out, c.inside, c.kernel_y, c.kernel_x}, c.geometry, c.epilogue).real;
  } else {
    result = engine.add_pool(0, c.inside % 2, c.geometry, c.epilogue).real;
    channels = c.groups * c.inside;
  }
  const std::int64_t pixel = (channels + 15) / 16 * 16;
  engine.add_output({result, {channels, c.out_height, c.out_width}, {1, c.out_width * pixel, pixel}, 0});
  engine.finish();
  std::vector<float> results(static_cast<std::size_t>(channels * c.out_height * c.out_width));
  engine.run({c.image.data()}, 1, {results.data()});
  return results;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return std::fprintf(stderr, "expected: compare_kernels SET SHAPES SEED\n"), 2;
  state.seed(static_cast<unsigned>(std::atoi(arguments[3])));
  int shapes[5] = {}, different = 0;
  for (int i = 0; i < std::atoi(arguments[2]); ++i) {
    const Case c = random_case();
    const auto expected = results_of(c, "scalar"), actual = results_of(c, arguments[1]);
    const float scale = 4.0f * std::sqrt(static_cast<float>(c.inside * c.kernel_y * c.kernel_x));  // of a real sum
    bool same = true;
    for (std::size_t at = 0; at < expected.size(); ++at)
      same &= c.kind < 3 ? actual[at] == expected[at] : std::abs(actual[at] - expected[at]) <= 1e-5f * scale;
    ++shapes[c.kind];
    if (!same) {
      ++different;
      std::printf("different: kind %d, groups %d, %d to %d channels, kernel %dx%d, image %dx%d\n", c.kind, c.groups,
                  c.inside, c.outside, c.kernel_y, c.kernel_x, c.height, c.width);
    }
  }
  std::printf("%d sums, %d thresholds, %d int8, %d real, %d pools: %d differ\n", shapes[0], shapes[1], shapes[2],
              shapes[3], shapes[4], different);
  return different != 0;
}
