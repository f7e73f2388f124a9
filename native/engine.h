// The executor: a list of operations on values of one image, built once and run often.
//
// Building checks everything that running will rely on: every value that is named exists and is of the right kind, every
// array has the size that its geometry asks for. Running allocates nothing, unless more threads call at once than before.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "threads.h"

namespace biper {

// What the bindings hand over for an epilogue: arrays by channel, empty where absent.
struct EpilogueSpec {
  std::vector<float> multiplier, offset, slope;
  std::vector<std::int32_t> threshold;
  std::vector<std::uint8_t> flip;
  std::string activation;  // "", "clip", "relu" or "prelu"
  float low = 0, high = 0;
  int residual = -1;
  bool real = false, bits = false;
};

// Ids of the values that an operation emits; -1 where it emits none.
struct Emitted {
  int real, bits;
};

class Engine {
 public:
  // Throws std::invalid_argument for an instruction set that is unknown or not supported here; "" takes the best.
  Engine(int channels, int height, int width, const std::string& instruction_set, int threads);
  ~Engine();

  // Each adds an operation and throws std::invalid_argument, saying what is wrong, if it cannot run.
  Emitted add_convolution(int input, const float* weight, const std::vector<int>& shape, const std::vector<int>& geometry,
                          const EpilogueSpec& epilogue);
  // With inputs rounded to levels, see Levels.
  Emitted add_int8_convolution(int input, const std::int8_t* weight, const std::vector<int>& shape,
                               const std::vector<int>& geometry, float factor, int zero, const EpilogueSpec& epilogue);
  Emitted add_binary_convolution(int input, const std::uint8_t* weight, const std::vector<int>& shape,
                                 const std::vector<int>& geometry, EpilogueSpec epilogue);
  Emitted add_pool(int input, bool maximum, const std::vector<int>& geometry, const EpilogueSpec& epilogue);
  Emitted add_elementwise(int input, const EpilogueSpec& epilogue);
  Emitted add_pad_channels(int input, int before, int after, const EpilogueSpec& epilogue);
  Emitted add_concatenate(const std::vector<int>& inputs, const EpilogueSpec& epilogue);
  Emitted add_resize(int input, int height, int width, const EpilogueSpec& epilogue);
  Emitted add_flatten(int input, const EpilogueSpec& epilogue);

  // Ends building: plans the memory. `output` is the real value that `run` returns.
  void finish(int output);

  // (count, C, H, W) normalized images to (count, C', H', W') results. Safe from many threads at once.
  void run(const float* images, std::int64_t count, float* results);

  // Seconds that each operation takes on one image: the median of `rounds` runs.
  std::vector<double> profile(const float* image, int rounds);

  // Binary multiply-accumulates a second of one core, from registers: what the instruction set can do at most.
  double measure_peak() const;

  std::vector<int> shape(int value) const;  // channels, height, width
  int threads() const { return pool_.threads(); }
  std::string instruction_set() const { return kernels_->name; }
  std::int64_t arena_bytes() const { return arena_bytes_; }

 private:
  struct Value;
  struct Operation;
  struct Arena;

  const Value& real_value(int id) const;
  const Value& any_value(int id) const;
  Emitted finish_operation(std::unique_ptr<Operation> operation, int channels, int height, int width,
                           const EpilogueSpec& spec);
  void pack_input();
  void plan_memory();
  const Value* dying_residual(const Value& value) const;
  void run_one(const float* image, float* result, std::uint8_t* arena, bool parallel);
  void execute(const Operation& operation, std::uint8_t* arena, bool parallel);
  std::unique_ptr<Arena> take_arena();
  void give_arena(std::unique_ptr<Arena> arena);

  const Kernels* kernels_;
  std::vector<Value> values_;
  std::vector<std::unique_ptr<Operation>> operations_;
  int output_ = -1;
  std::int64_t arena_bytes_ = 0;
  ThreadPool pool_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Arena>> idle_;
};

}  // namespace biper
