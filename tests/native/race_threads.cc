// Sixteen threads share engines for some seconds: race_threads SECONDS. Built with the thread sanitizer, it finds data
// races; it also compares every result with that of one thread, and prints how many calls were made and differ.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/cpu.h"
#include "engine/engine.h"

namespace {

using biper::Emitted;
using biper::Engine;
using biper::EpilogueSpec;
using biper::View;

constexpr int kThreads = 16, kChannels = 40, kSide = 16, kImages = 6;

// A real convolution, one of bits, one of int8, a pool, and operations on arrays: a network that uses every kind of
// scratch memory, and whose operations are large enough to be shared by the threads of a pool.
std::unique_ptr<Engine> make_engine(const std::string& set, int threads) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  auto engine = std::make_unique<Engine>(3, kSide, kSide, set, threads);
  EpilogueSpec both, real;
  both.real = both.bits = real.real = true;
  std::vector<float> first(kChannels * 3 * 9);
  for (float& value : first) value = normal(random);
  const std::vector<int> padded{1, 1, 1, 1, 1, 1, 1, 1, 1};
  const Emitted a = engine->add_convolution(0, first.data(), {kChannels, 3, 3, 3}, padded, both);
  std::vector<std::uint8_t> bits(kChannels * 9 * kChannels / 8);
  for (std::uint8_t& value : bits) value = static_cast<std::uint8_t>(random());
  real.residual = a.real;
  const Emitted b = engine->add_binary_convolution(a.bits, bits.data(), {kChannels, 3, 3, kChannels / 8}, padded, real);
  std::vector<std::int8_t> bytes(kChannels * kChannels);
  for (std::int8_t& value : bytes) value = static_cast<std::int8_t>(random());
  real.residual = -1;
  const Emitted c = engine->add_int8_convolution(b.real, bytes.data(), {kChannels, kChannels, 1, 1},
                                                 {1, 1, 0, 0, 0, 0, 1, 1, 1}, 1.5f, 128, real);
  const Emitted d = engine->add_pool(c.real, true, {2, 2, 2, 2, 0, 0, kSide / 2, kSide / 2, 0}, real);
  const std::int64_t pixel = (kChannels + 15) / 16 * 16, pixels = kSide / 2 * kSide / 2;
  const View image{d.real, {pixels, kChannels}, {pixel, 1}, 0};
  const int e = engine->add_softmax(image, 1, false, View{-1, {pixels, kChannels}, {kChannels, 1}, 0});
  const View left{e, {pixels, kChannels}, {kChannels, 1}, 0}, right{e, {kChannels, pixels}, {1, kChannels}, 0};
  const std::int64_t columns = (pixels + 15) / 16 * 16;
  const int f = engine->add_product(left, right, View{-1, {pixels, pixels}, {columns, 1}, 0});
  const int g = engine->add_reduction("sum", View{f, {pixels, pixels}, {columns, 1}, 0}, {0},
                                      View{-1, {1, pixels}, {pixels, 1}, 0});
  engine->add_output(View{g, {pixels}, {1}, 0});
  engine->add_output(image);
  engine->finish();
  return engine;
}

struct Shared {
  std::unique_ptr<Engine> engine;
  std::vector<std::vector<float>> expected;  // for each output, of kImages images
};

// Runs `count` images, beginning with number `first`; returns whether the results are the expected bits.
bool same(Engine& engine, const Shared& shared, const std::vector<float>& images, int first, int count) {
  std::vector<std::vector<float>> results;
  std::vector<float*> to;
  for (std::size_t i = 0; i < engine.outputs(); ++i)
    results.emplace_back(static_cast<std::size_t>(count * engine.output_elements(i)));
  for (auto& result : results) to.push_back(result.data());
  engine.run({images.data() + first * engine.input_elements(0)}, count, to);
  for (std::size_t i = 0; i < results.size(); ++i)
    for (std::size_t k = 0; k < results[i].size(); ++k)
      if (results[i][k] != shared.expected[i][static_cast<std::size_t>(first * engine.output_elements(i)) + k])
        return false;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(std::atof(argv[1]));
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> images(kImages * 3 * kSide * kSide);
  for (float& value : images) value = normal(random);
  std::vector<Shared> shared;
  for (const std::string& set : {std::string("scalar"), std::string()})  // the latter is the fastest one
    for (const int threads : {1, 4}) {
      Shared made{make_engine(set, threads), {}};
      const auto alone = make_engine(set, 1);
      std::vector<float*> to;
      for (std::size_t i = 0; i < alone->outputs(); ++i)
        made.expected.emplace_back(static_cast<std::size_t>(kImages * alone->output_elements(i)));
      for (auto& result : made.expected) to.push_back(result.data());
      alone->run({images.data()}, kImages, to);
      shared.push_back(std::move(made));
    }
  std::atomic<long> calls{0}, wrong{0};
  std::vector<std::thread> users;
  for (int number = 0; number < kThreads; ++number)
    users.emplace_back([&, number] {
      std::mt19937 own(static_cast<unsigned>(number));
      while (std::chrono::steady_clock::now() < end) {
        const Shared& chosen = shared[own() % shared.size()];
        const int count = own() % 4 == 0 ? kImages : 1, first = count == 1 ? static_cast<int>(own() % kImages) : 0;
        const bool temporary = own() % 50 == 0;  // an engine of its own, which is made and freed beside the others
        const auto mine = temporary ? make_engine("scalar", 2) : nullptr;
        Engine& engine = temporary ? *mine : *chosen.engine;
        if (!same(engine, temporary ? shared[0] : chosen, images, first, count)) ++wrong;
        ++calls;
      }
    });
  for (std::thread& user : users) user.join();
  std::printf("%ld calls, %ld differ\n", calls.load(), wrong.load());
  return wrong.load() != 0;
}
