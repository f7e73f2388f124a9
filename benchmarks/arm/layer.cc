// Runs one binary 3x3 layer a number of times: layer SET SIZE CHANNELS LAYER RUNS. It prints a checksum of the results.
// LAYER is 1, or 0 for what is before and after the layer alone: the signs of the input, and a 1x1 layer of 8 outputs.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/engine.h"

int main(int count, char** arguments) {
  if (count != 6) return std::fprintf(stderr, "expected: layer SET SIZE CHANNELS LAYER RUNS\n"), 2;
  const int size = std::atoi(arguments[2]), channels = std::atoi(arguments[3]);
  const bool layer = std::atoi(arguments[4]) != 0;
  biper::Engine engine(channels, size, size, arguments[1], 1);
  biper::EpilogueSpec bits, real;
  bits.bits = true, real.real = true;
  std::uint32_t state = 1;
  const auto random = [&] { return state = state * 1664525u + 1013904223u, state >> 16; };
  int value = engine.add_elementwise(0, bits).bits;
  if (layer) {
    std::vector<std::uint8_t> weight(static_cast<std::size_t>(channels) * 9 * channels / 8);
    for (auto& byte : weight) byte = static_cast<std::uint8_t>(random());
    biper::EpilogueSpec thresholds = bits;
    thresholds.threshold.assign(static_cast<std::size_t>(channels), 0);
    thresholds.flip.assign(static_cast<std::size_t>(channels), 0);
    value = engine
                .add_binary_convolution(value, weight.data(), {channels, 3, 3, channels / 8},
                                        {1, 1, 1, 1, 1, 1, 1, 1, 1}, thresholds)
                .bits;
  }
  std::vector<std::uint8_t> reader(static_cast<std::size_t>(channels));
  for (auto& byte : reader) byte = static_cast<std::uint8_t>(random());
  const int result =
      engine.add_binary_convolution(value, reader.data(), {8, 1, 1, channels / 8}, {1, 1, 0, 0, 0, 0, 1, 1, 1}, real)
          .real;
  engine.add_output({result, {8, size, size}, {1, 16 * size, 16}, 0});  // pixels have whole blocks of 16 channels
  engine.finish();
  std::vector<float> image(static_cast<std::size_t>(channels) * size * size), results(8u * size * size);
  for (auto& x : image) x = static_cast<float>(random() % 3) - 1.0f;
  for (int run = 0; run < std::atoi(arguments[5]); ++run) engine.run({image.data()}, 1, {results.data()});
  double sum = 0;
  for (std::size_t i = 0; i < results.size(); ++i) sum += results[i] * static_cast<double>(i % 97);
  std::printf("%.0f\n", sum);
}
