// A target of libFuzzer: bytes become calls that build an engine, which is then run. Building must refuse by
// std::invalid_argument what cannot run; the sanitizers find everything else.
//
// The bytes are those that engine_calls.py writes: the size of the image, the instruction set, and calls, each of which
// is the number of a method and its arguments. Numbers that are missing at the end are 0. The numbers in weights are
// made here: only their count matters for memory.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/cpu.h"
#include "engine/engine.h"

namespace {

using biper::EpilogueSpec;
using biper::View;

constexpr std::int64_t kMaxBytes = 256 << 10;  // of memory for an engine
constexpr std::int64_t kMaxWork = 1 << 24;     // elements that operations on arrays may visit in a run
constexpr std::int64_t kMaxWeights = 1 << 20;  // elements of a weight, of an input or of a result

class Calls {
 public:
  Calls(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  bool empty() const { return place_ >= size_; }
  bool too_large() const { return too_large_; }

  template <typename T>
  T number() {
    T value{};
    const std::size_t left = size_ - place_, count = left < sizeof(T) ? left : sizeof(T);
    std::memcpy(&value, data_ + place_, count);
    place_ += count;
    return value;
  }

  template <typename T>
  std::vector<T> list() {
    std::vector<T> values(number<std::uint8_t>());
    for (T& value : values) value = number<T>();
    return values;
  }

  // As many numbers as the input says; they are small, and of both signs.
  template <typename T>
  std::vector<T> numbers(std::int64_t count) {
    if (count < 0 || count > kMaxWeights) {
      too_large_ = true;
      count = 0;
    }
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values)
      value = static_cast<T>(static_cast<int>((state_ = state_ * 1664525 + 1013904223) >> 28) - 8);
    return values;
  }
  template <typename T>
  std::vector<T> counted() {
    return numbers<T>(number<std::int32_t>());
  }

  // The numbers of an array of this shape, which the caller of the engine has.
  template <typename T>
  std::vector<T> weights(const std::vector<int>& shape) {
    std::int64_t count = 1;
    for (const int size : shape) count = size < 0 || count < 0 || count > kMaxWeights ? -1 : count * size;
    return numbers<T>(count);
  }

  View view() {
    const int value = number<std::int32_t>();
    std::vector<std::int64_t> sizes = list<std::int64_t>(), strides = list<std::int64_t>();
    visit(sizes);
    return View{value, std::move(sizes), std::move(strides), number<std::int64_t>()};
  }
  std::vector<View> views() {
    std::vector<View> found(number<std::uint8_t>() % 6);
    for (View& view : found) view = this->view();
    return found;
  }

  // Counts work: a view whose strides are 0 has many elements in little memory.
  void visit(const std::vector<std::int64_t>& sizes, std::int64_t times = 1) {
    times = std::clamp<std::int64_t>(times, 1, kMaxWork);
    for (const std::int64_t size : sizes)
      times = size < 1 || times > kMaxWork ? times : times * (size < kMaxWork ? size : kMaxWork);
    work_ += times;
    too_large_ |= work_ > kMaxWork;
  }

  EpilogueSpec epilogue() {
    static const char* const kActivations[] = {"", "clip", "relu", "prelu", "other"};
    EpilogueSpec spec;
    const int flags = number<std::uint8_t>();
    if (flags & 1) spec.multiplier = counted<float>();
    if (flags & 2) spec.offset = counted<float>();
    if (flags & 4) spec.slope = counted<float>();
    if (flags & 8) spec.threshold = counted<std::int32_t>();
    if (flags & 16) spec.flip = counted<std::uint8_t>();
    spec.real = flags & 32, spec.bits = flags & 64;
    spec.activation = kActivations[number<std::uint8_t>() % std::size(kActivations)];
    spec.low = number<float>(), spec.high = number<float>();
    spec.residual = number<std::int32_t>();
    return spec;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, place_ = 0;
  std::uint32_t state_ = 1;
  std::int64_t work_ = 0;
  bool too_large_ = false;
};

const std::vector<std::string>& sets() {
  static const std::vector<std::string> found = [] {
    std::vector<std::string> names{"scalar"};
    for (const std::string& name : biper::instruction_sets())
      if (name == "avx2" || name == "neon" || name == "dotprod") names.push_back(name);
    return names;
  }();
  return found;
}

// The numbers of the methods and of the functions are those of METHODS and FUNCTIONS in engine_calls.py.
void call(biper::Engine& engine, Calls& in) {
  static const char* const kFunctions[] = {
      "abs",     "atan",     "ceil",      "clip",      "cos",           "elu",       "erf",        "exp",
      "expm1",   "floor",    "gelu",      "gelu_tanh", "hardsigmoid",   "hardswish", "leaky_relu", "log",
      "log1p",   "mish",     "negative",  "power_by",  "reciprocal",    "relu",      "round",      "rsqrt",
      "sigmoid", "sign",     "silu",      "sin",       "softplus",      "sqrt",      "square",     "tanh",
      "add",     "divide",   "equal",     "greater",   "greater_equal", "less",      "less_equal", "maximum",
      "minimum", "multiply", "not_equal", "power",     "subtract",      "select",    "bfloat16",   "other"};
  static const char* const kReductions[] = {"sum", "mean", "max", "min", "product", "other"};
  switch (in.number<std::uint8_t>() % 20) {
    case 0: {
      const int input = in.number<std::int32_t>();
      const std::vector<int> shape = in.list<std::int32_t>(), geometry = in.list<std::int32_t>();
      const EpilogueSpec epilogue = in.epilogue();
      const std::vector<float> weight = in.weights<float>(shape);
      if (!in.too_large()) engine.add_convolution(input, weight.data(), shape, geometry, epilogue);
      break;
    }
    case 1: {
      const int input = in.number<std::int32_t>();
      const std::vector<int> shape = in.list<std::int32_t>(), geometry = in.list<std::int32_t>();
      const float factor = in.number<float>();
      const int zero = in.number<std::int32_t>();
      const EpilogueSpec epilogue = in.epilogue();
      const std::vector<std::int8_t> weight = in.weights<std::int8_t>(shape);
      if (!in.too_large()) engine.add_int8_convolution(input, weight.data(), shape, geometry, factor, zero, epilogue);
      break;
    }
    case 2: {
      const int input = in.number<std::int32_t>();
      const std::vector<int> shape = in.list<std::int32_t>(), geometry = in.list<std::int32_t>();
      const EpilogueSpec epilogue = in.epilogue();
      const std::vector<std::uint8_t> weight = in.weights<std::uint8_t>(shape);
      if (!in.too_large()) engine.add_binary_convolution(input, weight.data(), shape, geometry, epilogue);
      break;
    }
    case 3: {
      const int input = in.number<std::int32_t>();
      const bool maximum = in.number<std::uint8_t>() & 1;
      const std::vector<int> geometry = in.list<std::int32_t>();
      engine.add_pool(input, maximum, geometry, in.epilogue());
      break;
    }
    case 4: {
      const int input = in.number<std::int32_t>();
      engine.add_elementwise(input, in.epilogue());
      break;
    }
    case 5: {
      const int input = in.number<std::int32_t>(), before = in.number<std::int32_t>(),
                after = in.number<std::int32_t>();
      engine.add_pad_channels(input, before, after, in.epilogue());
      break;
    }
    case 6: {
      const std::vector<int> inputs = in.list<std::int32_t>();
      engine.add_concatenate(inputs, in.epilogue());
      break;
    }
    case 7: {
      const int input = in.number<std::int32_t>(), height = in.number<std::int32_t>(),
                width = in.number<std::int32_t>();
      engine.add_resize(input, height, width, in.epilogue());
      break;
    }
    case 8: {
      const int input = in.number<std::int32_t>();
      engine.add_flatten(input, in.epilogue());
      break;
    }
    case 9: engine.add_input(in.number<std::int64_t>()); break;
    case 10: {
      const std::vector<float> elements = in.counted<float>();
      if (!in.too_large()) engine.add_constant(elements.data(), static_cast<std::int64_t>(elements.size()));
      break;
    }
    case 11: {
      const std::string function = kFunctions[in.number<std::uint8_t>() % std::size(kFunctions)];
      const std::vector<float> parameters = in.list<float>();
      const std::vector<View> inputs = in.views();
      engine.add_function(function, parameters, inputs, in.view());
      break;
    }
    case 12: {
      const std::string function = kReductions[in.number<std::uint8_t>() % std::size(kReductions)];
      const View input = in.view();
      const std::vector<int> axes = in.list<std::int32_t>();
      engine.add_reduction(function, input, axes, in.view());
      break;
    }
    case 13: {
      const View input = in.view();
      const std::vector<int> axes = in.list<std::int32_t>();
      const bool center = in.number<std::uint8_t>() & 1;
      const float epsilon = in.number<float>();
      engine.add_normalization(input, axes, center, epsilon, in.view());
      break;
    }
    case 14: {
      const View input = in.view();
      const int axis = in.number<std::int32_t>();
      const bool log = in.number<std::uint8_t>() & 1;
      engine.add_softmax(input, axis, log, in.view());
      break;
    }
    case 15: {
      const View left = in.view(), right = in.view(), result = in.view();
      if (!right.sizes.empty()) in.visit(left.sizes, right.sizes.back());
      engine.add_product(left, right, result);
      break;
    }
    case 16: {
      const View input = in.view();
      const int axis = in.number<std::int32_t>();
      const std::vector<int> index = in.list<std::int32_t>();
      const std::vector<float> weight = in.counted<float>();
      const bool maximum = in.number<std::uint8_t>() & 1;
      in.visit(input.sizes, static_cast<std::int64_t>(index.size()));
      engine.add_sample(input, axis, index, weight, maximum, in.view());
      break;
    }
    case 17: {
      const std::vector<View> sources = in.views(), targets = in.views();
      const bool fills = in.number<std::uint8_t>() & 1;
      const float fill = in.number<float>();
      engine.add_copies(sources, targets, fills, fill, in.view());
      break;
    }
    case 18: {
      const int input = in.number<std::int32_t>();
      const std::vector<int> shape = in.list<std::int32_t>(), geometry = in.list<std::int32_t>();
      const EpilogueSpec epilogue = in.epilogue();
      const std::vector<std::uint16_t> weight = in.weights<std::uint16_t>(shape);
      if (!in.too_large()) engine.add_bfloat16_convolution(input, weight.data(), shape, geometry, epilogue);
      break;
    }
    default: {
      const int value = in.number<std::int32_t>();
      const std::int64_t first = in.number<std::int64_t>();
      const int channels = in.number<std::int32_t>(), height = in.number<std::int32_t>(),
                width = in.number<std::int32_t>();
      engine.add_image(value, first, channels, height, width);
    }
  }
}

void run(biper::Engine& engine, int images) {
  std::vector<std::vector<float>> inputs, results;
  for (std::size_t i = 0; i < engine.inputs(); ++i) {
    inputs.emplace_back(static_cast<std::size_t>(images * engine.input_elements(i)));
    for (std::size_t k = 0; k < inputs.back().size(); ++k) inputs.back()[k] = static_cast<float>(k % 7) - 3;
  }
  for (std::size_t i = 0; i < engine.outputs(); ++i)
    results.emplace_back(static_cast<std::size_t>(images * engine.output_elements(i)));
  std::vector<const float*> from;
  std::vector<float*> to;
  for (const auto& input : inputs) from.push_back(input.data());
  for (auto& result : results) to.push_back(result.data());
  engine.run(from, images, to);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Calls in(data, size);
  try {
    const int channels = in.number<std::int32_t>(), height = in.number<std::int32_t>(),
              width = in.number<std::int32_t>();
    const std::string set = sets()[in.number<std::uint8_t>() % sets().size()];
    const int outputs = in.number<std::uint8_t>();
    biper::Engine engine(channels, height, width, set, 1, kMaxBytes);
    std::vector<View> results;
    for (int i = 0; i < outputs; ++i) results.push_back(in.view());
    while (!in.empty() && !in.too_large()) call(engine, in);
    for (const View& view : results) engine.add_output(view);
    engine.finish();
    std::int64_t most = 0;
    for (std::size_t i = 0; i < engine.inputs(); ++i) most = std::max(most, engine.input_elements(i));
    for (std::size_t i = 0; i < engine.outputs(); ++i) most = std::max(most, engine.output_elements(i));
    if (!in.too_large() && most <= kMaxWeights) run(engine, 1 + outputs % 2);
  } catch (const std::invalid_argument&) {  // refused while it was built
  } catch (const std::domain_error&) {      // values that cannot be computed
  }
  return 0;
}
