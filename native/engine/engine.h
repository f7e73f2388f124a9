// The engine: a list of operations on the values of one image, built once and run often.
//
// Building checks everything that running relies on: every value that an operation names exists and is of the right
// kind, and every array has the size that its geometry asks for. Running allocates memory only if more threads call at
// once than ever before.
//
// build.cc adds operations on images, build_arrays.cc those on arrays (views.h, arrays.h), weight_layouts.cc arranges
// weights, fuse.cc joins operations, memory_plan.cc places the values, run.cc runs.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/threads.h"
#include "engine/aligned.h"
#include "engine/views.h"
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

// What an engine throws that would take more memory than it may.
struct EngineLimitError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The ids of the values that an operation emits; -1 stands for none.
struct Emitted {
  int real, bits;
};

// A result of the engine: the value and the elements of it that are copied.
struct Output {
  int value;
  Copy copy;
};

struct ArrayOperation;  // see arrays.h
struct Context;         // see context.h
struct Value;           // these three are defined in operation.h
struct Operation;
struct Arena;

class Engine {
 public:
  // For images (channels, height, width). choose.h says what `instruction_set` may be;
  // `threads` share the work of a call. An operation is refused before weights, constants and the values of one image
  // together take more than `max_bytes` of memory.
  Engine(int channels, int height, int width, const std::string& instruction_set, int threads,
         std::int64_t max_bytes = std::numeric_limits<std::int64_t>::max());
  ~Engine();

  // Each adds an operation that reads the values whose ids are given; the input of the engine has id 0. The
  // weights are copied; `shape` is theirs. An operation that cannot run is refused by
  // std::invalid_argument, which says what is wrong.
  Emitted add_convolution(int input, const float* weight, const std::vector<int>& shape,
                          const std::vector<int>& geometry, const EpilogueSpec& epilogue);
  // Rounds its input to bfloat16. The weights are bfloat16, too, the upper halves of floats.
  Emitted add_bfloat16_convolution(int input, const std::uint16_t* weight, const std::vector<int>& shape,
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

  // Operations on arrays read views of real values; see views.h and arrays.h. Each returns the id of its result, whose
  // elements have the places that the sizes and strides of `result` say.
  int add_input(std::int64_t elements);  // besides the image, which has id 0
  int add_constant(const float* elements, std::int64_t count);
  int add_function(const std::string& function, const std::vector<float>& parameters, const std::vector<View>& inputs,
                   View result);
  int add_reduction(const std::string& function, const View& input, const std::vector<int>& axes, View result);
  int add_normalization(const View& input, const std::vector<int>& axes, bool center, float epsilon, View result);
  int add_softmax(const View& input, int axis, bool log, View result);
  int add_product(const View& left, const View& right, View result);
  int add_sample(const View& input, int axis, const std::vector<int>& index, const std::vector<float>& weight,
                 bool maximum, View result);
  // Copies each source to its target, a part of the result; what no target covers has the value `fill`, if `fills`.
  int add_copies(const std::vector<View>& sources, std::vector<View> targets, bool fills, float fill, View result);
  // Lets operations on images read (channels, height, width) from the floats of a value, from number `first` on, if
  // they have the layout of an image there.
  int add_image(int value, std::int64_t first, int channels, int height, int width);

  // Adds a result of `run`; it may be a view of any real value.
  void add_output(const View& view);

  // Ends building and plans the memory.
  void finish();

  // Computes a result of each output for `count` images: inputs[0] are normalized images (count, C, H, W), the others
  // are of the inputs in the order in which they were added. Many threads may call it at once. std::domain_error says
  // that the values of an image cannot be computed; the results are then undefined.
  void run(const std::vector<const float*>& inputs, std::int64_t count, const std::vector<float*>& results);

  // The seconds that each operation takes on an image: the median of `rounds` runs. The inputs are those of one image.
  std::vector<double> profile(const std::vector<const float*>& inputs, int rounds);

  // The number of elements of an input, and of a result, for one image.
  std::int64_t input_elements(std::size_t index) const;
  std::int64_t output_elements(std::size_t index) const { return outputs_[index].copy.elements(); }
  std::size_t inputs() const { return inputs_.size(); }
  std::size_t outputs() const { return outputs_.size(); }
  int operations() const { return static_cast<int>(operations_.size()); }

  // The most binary multiply-accumulates per second that the kernels can do on one core: with operands in registers.
  double measure_peak() const;

  int threads() const;
  std::string instruction_set() const { return kernels_->name; }
  std::int64_t arena_bytes() const { return arena_bytes_; }

 private:
  const Value& real_value(int id) const;
  const Value& any_value(int id) const;
  // Adds a value that the operation being added makes (`make_rows`: as a number of rows of floats), and returns its id.
  int make_value(bool real, int channels, int height, int width);
  int make_rows(int rows, int floats);
  void arrange_weights(Operation& operation, const float* weight);
  Emitted finish_operation(std::unique_ptr<Operation> operation, int channels, int height, int width,
                           const EpilogueSpec& spec);
  void mark_read(int id, int operation);
  const Value& viewed(const View& view) const;
  // Adds a value of so many floats that the operation being added makes.
  int make_array(std::int64_t floats);
  int make_result(View& result);
  int finish_array(std::unique_ptr<ArrayOperation> array, const std::vector<View>& inputs, int result);
  // Counts memory that is about to be allocated. `layout` is of weights: `floats` words of 32 bits for each output
  // channel, in whole blocks of channels.
  void reserve(std::int64_t bytes);
  void reserve_layout(int out_channels, std::int64_t floats);
  void pack_input();
  void fuse();
  void fuse_pools();
  void fuse_signs();
  void plan_memory();
  const Value* dying_residual(const Value& value) const;
  void read_image(const float* image, std::uint8_t* arena) const;
  void read_inputs(const std::vector<const float*>& inputs, std::int64_t image, const Context& context) const;
  void run_one(const std::vector<const float*>& inputs, const std::vector<float*>& results, std::int64_t image,
               std::uint8_t* arena, bool parallel, std::atomic<bool>& failed);
  void compute(const std::vector<const float*>& inputs, std::int64_t count, const std::vector<float*>& results,
               std::atomic<bool>& failed);
  std::unique_ptr<Arena> take_arena();
  void give_arena(std::unique_ptr<Arena> arena);

  const Kernels* kernels_;
  std::int64_t max_bytes_, reserved_bytes_ = 0;
  std::vector<Value> values_;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<int> inputs_;
  std::vector<std::int64_t> input_sizes_;  // of the inputs beside the image
  std::vector<Output> outputs_;
  std::vector<Aligned<float>> constants_;
  bool finished_ = false;
  std::int64_t arena_bytes_ = 0;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Arena>> idle_;  // guarded by fork_safe_mutex()
};

}  // namespace biper
