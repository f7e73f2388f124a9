// The engine: a list of operations on the values of one image, built once and run often.
//
// Building checks everything that running relies on: every value that an operation names exists and is of the right
// kind, and every array has the size that its geometry asks for. Running allocates memory only if more threads call at
// once than ever before.
//
// build.cc adds operations, weight_layouts.cc arranges their weights, memory_plan.cc places the values, run.cc runs.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/threads.h"
#include "kernels/kernels.h"

namespace biper {

// The epilogue of an operation as the caller describes it; see Epilogue. Arrays have a number for each channel, or are
// empty where the epilogue has no such step. `flip`: the bits of a channel are inverted. `residual`: the id of a real
// value, or -1. `real` and `bits`: whether the operation emits such a value.
struct EpilogueSpec {
  std::vector<float> multiplier, offset, slope;
  std::vector<std::int32_t> threshold;
  std::vector<std::uint8_t> flip;
  std::string activation;  // "", "clip", "relu" or "prelu"
  float low = 0, high = 0;
  int residual = -1;
  bool real = false, bits = false;
};

// The ids of the values that an operation emits; -1 stands for none.
struct Emitted {
  int real, bits;
};

struct Value;  // these three are defined in operation.h
struct Operation;
struct Arena;

class Engine {
 public:
  // For images (channels, height, width). choose.h says what `instruction_set` may be;
  // `threads` share the work of a call.
  Engine(int channels, int height, int width, const std::string& instruction_set, int threads);
  ~Engine();

  // Each adds an operation that reads the values whose ids are given; the input of the engine has id 0. The
  // weights are copied; `shape` is theirs. An operation that cannot run is refused by
  // std::invalid_argument, which says what is wrong.
  Emitted add_convolution(int input, const float* weight, const std::vector<int>& shape,
                          const std::vector<int>& geometry, const EpilogueSpec& epilogue);
  // Rounds its input to levels, see Levels.
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

  // Ends building and plans the memory. `output` is the id of the real value that `run` returns.
  void finish(int output);

  // Computes (count, C', H', W') results from (count, C, H, W) normalized images. Many threads may call it at once.
  void run(const float* images, std::int64_t count, float* results);

  // The seconds that each operation takes on an image (C, H, W): the median of `rounds` runs.
  std::vector<double> profile(const float* image, int rounds);

  // The most binary multiply-accumulates per second that the kernels can do on one core: with operands in registers.
  double measure_peak() const;

  std::vector<int> shape(int value) const;  // channels, height, width
  int threads() const;
  std::string instruction_set() const { return kernels_->name; }
  std::int64_t arena_bytes() const { return arena_bytes_; }

 private:
  const Value& real_value(int id) const;
  const Value& any_value(int id) const;
  // Adds a value that the operation being added makes (`make_rows`: as a number of rows of floats), and returns its id.
  int make_value(bool real, int channels, int height, int width);
  int make_rows(int rows, int floats);
  Emitted finish_operation(std::unique_ptr<Operation> operation, int channels, int height, int width,
                           const EpilogueSpec& spec);
  void pack_input();
  void plan_memory();
  const Value* dying_residual(const Value& value) const;
  void run_one(const float* image, float* result, std::uint8_t* arena, bool parallel);
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
