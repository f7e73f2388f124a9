// Adding inputs, constants, operations on arrays and results. Every view is checked against the value behind it.
#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "engine/arrays.h"
#include "engine/engine.h"
#include "engine/operation.h"

namespace biper {

// The value behind a view, which must lie inside it.
const Value& Engine::viewed(const View& view) const {
  const Value& value = any_value(view.value);
  require(value.real, "an operation on arrays reads bits");
  check_view(view, value.all_floats());
  return value;
}

// Whole blocks, so that a part of an array that has the layout of an image can be read as one.
int Engine::make_array(std::int64_t floats) {
  require(!finished_, "the engine is finished");
  require(floats >= 1 && floats <= kMaxElements, "a value is too large");
  const int index = static_cast<int>(operations_.size());
  values_.push_back(Value{true, 0, 0, 0, 0, index, index});
  values_.back().floats = (floats + kLanes - 1) / kLanes * kLanes;
  return static_cast<int>(values_.size()) - 1;
}

int Engine::make_result(View& result) {
  result.offset = 0;
  check_view(result, std::numeric_limits<std::int64_t>::max());
  std::int64_t last = 0;
  for (std::size_t i = 0; i < result.sizes.size(); ++i) last += (result.sizes[i] - 1) * result.strides[i];
  return result.value = make_array(last + 1);
}

int Engine::finish_array(std::unique_ptr<ArrayOperation> array, const std::vector<View>& inputs, int result) {
  auto op = std::make_unique<Operation>(Operation::Kind::kArray);
  op->array = std::move(array);
  for (const View& input : inputs) {
    op->inputs.push_back(input.value);
    mark_read(input.value, static_cast<int>(operations_.size()));
  }
  operations_.push_back(std::move(op));
  return result;
}

int Engine::add_input(std::int64_t elements) {
  require(operations_.empty(), "an input is added after an operation");
  const int id = make_array(elements);
  values_[id].made = values_[id].last_read = -1;
  input_sizes_.push_back(elements);
  inputs_.push_back(id);
  return id;
}

std::int64_t Engine::input_elements(std::size_t index) const {
  return index == 0 ? values_[0].channels * values_[0].pixels() : input_sizes_[index - 1];
}

int Engine::add_constant(const float* elements, std::int64_t count) {
  const int id = make_array(count);
  reserve(4 * values_[id].floats);
  constants_.emplace_back(values_[id].floats);
  std::copy(elements, elements + count, constants_.back().data());
  values_[id].constant = constants_.back().data();
  return id;
}

int Engine::add_function(const std::string& function, const std::vector<float>& parameters,
                         const std::vector<View>& inputs, View result) {
  for (const View& input : inputs) viewed(input);
  const int id = make_result(result);
  return finish_array(std::make_unique<Elementwise>(*kernels_->loops, function, parameters, inputs, result), inputs,
                      id);
}

int Engine::add_reduction(const std::string& function, const View& input, const std::vector<int>& axes, View result) {
  viewed(input);
  const int id = make_result(result);
  return finish_array(std::make_unique<Reduction>(function, input, axes, result), {input}, id);
}

int Engine::add_normalization(const View& input, const std::vector<int>& axes, bool center, float epsilon,
                              View result) {
  viewed(input);
  const int id = make_result(result);
  return finish_array(std::make_unique<Normalization>(input, axes, center, epsilon, result), {input}, id);
}

int Engine::add_softmax(const View& input, int axis, bool log, View result) {
  viewed(input);
  const int id = make_result(result);
  return finish_array(std::make_unique<Softmax>(input, axis, log, result), {input}, id);
}

int Engine::add_product(const View& left, const View& right, View result) {
  viewed(left);
  const float* constant = viewed(right).constant;
  const int id = make_result(result);
  auto product = std::make_unique<Product>(left, right, result);
  if (constant) {
    reserve(4 * product->scratch_floats());
    product->pack_constant(constant);
  }
  if (const std::int64_t floats = product->scratch_floats()) product->set_scratch(make_array(floats));
  return finish_array(std::move(product), {left, right}, id);
}

int Engine::add_sample(const View& input, int axis, const std::vector<int>& index, const std::vector<float>& weight,
                       bool maximum, View result) {
  viewed(input);
  reserve(4 * static_cast<std::int64_t>(index.size() + weight.size()));
  const int id = make_result(result);
  return finish_array(std::make_unique<Sample>(input, axis, index, weight, maximum, result), {input}, id);
}

int Engine::add_copies(const std::vector<View>& sources, std::vector<View> targets, bool fills, float fill,
                       View result) {
  for (const View& source : sources) viewed(source);
  const int id = make_result(result);
  for (View& target : targets) {
    target.value = id;
    viewed(target);
  }
  const std::int64_t floats = values_[id].floats;
  return finish_array(std::make_unique<Copies>(sources, targets, fills, fill, floats), sources, id);
}

int Engine::add_image(int value, std::int64_t first, int channels, int height, int width) {
  const Value behind = any_value(value);
  require(behind.real && !behind.constant && behind.base < 0, "an image is part of a value that is not in the arena");
  require(channels > 0 && height > 0 && width > 0 && channels <= kMaxElements, "an image is empty");
  const int stride = round_up(channels, kLanes);
  require(std::int64_t{height} * width <= kMaxElements / stride, "an image is too large");
  const std::int64_t floats = std::int64_t{height} * width * stride;
  require(first >= 0 && first % kLanes == 0 && first + floats <= behind.all_floats(), "an image is outside its value");
  values_.push_back(Value{true, channels, height, width, stride, behind.made, behind.made});
  values_.back().base = value;
  values_.back().first = first;
  return static_cast<int>(values_.size()) - 1;
}

void Engine::add_output(const View& view) {
  viewed(view);
  mark_read(view.value, std::numeric_limits<int>::max());
  const View dense{-1, view.sizes,
                   [&] {
                     std::vector<std::int64_t> strides(view.sizes.size());
                     std::int64_t step = 1;
                     for (std::size_t i = strides.size(); i-- > 0; step *= view.sizes[i]) strides[i] = step;
                     return strides;
                   }(),
                   0};
  outputs_.push_back(Output{view.value, Copy(dense, view)});
}

}  // namespace biper
