// The rules of operations on arrays.
#include <algorithm>
#include <iterator>
#include <numeric>

#include "capi/rules.h"

namespace biper::capi {
namespace {

// The shape to which arrays of these shapes are broadcast.
Shape broadcast(const Checker& check, const std::vector<Shape>& shapes) {
  Shape all;
  for (const Shape& shape : shapes) {
    if (shape.size() > all.size()) all.insert(all.begin(), shape.size() - all.size(), 1);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      std::int64_t& size = all[all.size() - shape.size() + i];
      check.require(size == 1 || shape[i] == 1 || size == shape[i], "reads values that cannot be broadcast together");
      if (size == 1) size = shape[i];
    }
  }
  return all;
}

template <std::size_t N>
void check_function(const Checker& check, const Json* function, const char* const (&known)[N]) {
  const std::string& name = check.text(function, "function");
  check.require(std::find(std::begin(known), std::end(known), name) != std::end(known), "has an unknown function");
}

std::int64_t check_axis(const Checker& check, const Attributes& attributes, const Shape& shape) {
  return check.integer(attributes.find("axis"), "axis", 0, static_cast<std::int64_t>(shape.size()) - 1);
}

// Axes of an array: one or more, ascending, none twice.
Shape check_axes(const Checker& check, const Attributes& attributes, const Shape& shape) {
  const Json* value = attributes.find("axes");
  const auto* list = value ? value->list() : nullptr;
  check.require(list && !list->empty() && list->size() <= shape.size(), "has no axes of its value");
  const Shape axes = check.integers(value, "axes", list->size(), 0, static_cast<std::int64_t>(shape.size()) - 1);
  for (std::size_t i = 1; i < axes.size(); ++i) check.require(axes[i - 1] < axes[i], "has axes that do not ascend");
  return axes;
}

Checked check_unary(const Checker& check, const Shape& input, const Attributes& attributes) {
  const UnaryFunction* function = unary_function(&check.text(attributes.find("function"), "function"));
  check.require(function, "has an unknown function");
  Checked checked{input, {"function"}, {}};
  for (const char* name : function->parameters)
    if (name) {
      check.number(attributes.find(name), "parameter");
      checked.attributes.push_back(name);
    }
  return checked;
}

Checked check_reduce(const Checker& check, const Shape& input, const Attributes& attributes) {
  check_function(check, attributes.find("function"), kReductions);
  const Shape axes = check_axes(check, attributes, input);
  const bool keep = check.flag(attributes.find("keep"), "keep");
  Checked checked{{}, {"function", "axes", "keep"}, {}};
  for (std::size_t axis = 0; axis < input.size(); ++axis) {
    const bool reduced = std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(axis)) != axes.end();
    if (keep || !reduced) checked.shape.push_back(reduced ? 1 : input[axis]);
  }
  return checked;
}

Checked check_matmul(const Checker& check, Shape left, Shape right) {
  const bool matrices = left.size() >= 2 && right.size() >= 2;
  check.require(matrices && left.back() == right[right.size() - 2], "multiplies matrices that do not fit together");
  const std::int64_t rows = left[left.size() - 2], columns = right.back();
  left.resize(left.size() - 2);
  right.resize(right.size() - 2);
  Checked checked{broadcast(check, {left, right}), {}, {}};
  checked.shape.insert(checked.shape.end(), {rows, columns});
  return checked;
}

Checked check_permute(const Checker& check, const Shape& input, const Attributes& attributes) {
  const auto rank = static_cast<std::int64_t>(input.size());
  const Shape order =
      check.integers(attributes.find("order"), "order", input.size(), 0, std::max<std::int64_t>(rank - 1, 0));
  Shape sorted = order, all(input.size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(all.begin(), all.end(), 0);
  check.require(sorted == all, "has an order with an axis twice");
  Checked checked{{}, {"order"}, {}};
  for (const std::int64_t axis : order) checked.shape.push_back(input[axis]);
  return checked;
}

Checked check_slice(const Checker& check, const Shape& input, const Attributes& attributes) {
  const Shape starts = check.integers(attributes.find("starts"), "starts", input.size(), 0, kMaxSize);
  const Shape sizes = check.integers(attributes.find("sizes"), "sizes", input.size(), 1, kMaxSize);
  const Shape steps = check.integers(attributes.find("steps"), "steps", input.size(), 1, kMaxSize);
  for (std::size_t i = 0; i < input.size(); ++i)
    check.require(starts[i] + (sizes[i] - 1) * steps[i] < input[i], "reads beyond its value");
  return {sizes, {"starts", "sizes", "steps"}, {}};
}

Checked check_expand(const Checker& check, const Shape& input, const Attributes& attributes) {
  const Shape shape = check.shape(attributes.find("shape"));
  bool fits = input.size() <= shape.size();
  for (std::size_t i = 0; fits && i < input.size(); ++i) {
    const std::int64_t size = shape[shape.size() - input.size() + i];
    fits = input[i] == 1 || input[i] == size;
  }
  check.require(fits, "expands to a shape that its value does not fit");
  return {shape, {"shape"}, {}};
}

Checked check_join(const Checker& check, const std::vector<Shape>& inputs, const Attributes& attributes) {
  const std::int64_t axis = check_axis(check, attributes, inputs[0]);
  Shape whole = inputs[0];
  whole[axis] = 0;
  for (Shape shape : inputs) {
    check.require(shape.size() == whole.size(), "joins values of different ranks");
    std::swap(shape[axis], whole[axis]);
    const std::int64_t total = shape[axis], size = whole[axis];
    shape[axis] = whole[axis] = total + size;
    check.require(shape == whole, "joins values of different shapes");
  }
  return {whole, {"axis"}, {}};
}

Checked check_pad(const Checker& check, const Shape& input, const Attributes& attributes) {
  const Shape low = check.integers(attributes.find("low"), "low", input.size(), -kMaxSize, kMaxSize);
  const Shape high = check.integers(attributes.find("high"), "high", input.size(), -kMaxSize, kMaxSize);
  const Shape interior = check.integers(attributes.find("interior"), "interior", input.size(), 0, kMaxSize);
  check.number(attributes.find("value"), "value");
  Checked checked{{}, {"low", "high", "interior", "value"}, {}};
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::int64_t size = input[i] + (input[i] - 1) * interior[i] + low[i] + high[i];
    check.require(size >= 1, "pads to an empty shape");
    // What is removed on one side must be there, and not be what is added on the other side.
    const std::int64_t kept = size - std::max<std::int64_t>(low[i], 0) - std::max<std::int64_t>(high[i], 0);
    check.require(kept >= 1, "removes all of its value");
    checked.shape.push_back(size);
  }
  return checked;
}

Checked check_sample(const Checker& check, const Shape& input, const Attributes& attributes, const Tensors& tensors) {
  const std::int64_t axis = check_axis(check, attributes, input);
  const std::string& function = check.text(attributes.find("function"), "function");
  check.require(function == "sum" || function == "max", "has an unknown function");
  const Tensor* index = tensors.find("index");
  check.require(index && index->shape.size() == 2 && index->type == Type::kInt32, "has no index of int32 (T, L)");
  check.require(index->count() > 0, "has an empty index");
  for (const std::int32_t place : index->values<std::int32_t>())
    check.require(place >= 0 && place < input[axis], "reads beyond its value");
  Checked checked{input, {"axis", "function"}, {"index"}};
  checked.shape[axis] = index->shape[1];
  if (const Tensor* weight = tensors.find("weight")) {
    check.require(function == "sum", "has weights of a maximum");
    check.require(weight->is(Type::kFloat32, index->shape), "has weights of another shape than its index");
    checked.tensors.push_back("weight");
  }
  return checked;
}

}  // namespace

Checked check_array_rule(const Checker& check, Kind kind, const std::vector<Shape>& inputs,
                         const Attributes& attributes, const Tensors& tensors) {
  switch (kind) {
    case Kind::kConstant: {
      const Tensor* value = tensors.find("value");
      check.require(value && value->type == Type::kFloat32, "has no value of type float32");
      check.require(value->shape.size() <= static_cast<std::size_t>(kMaxRankOfValue), "has a value of too many axes");
      return {value->shape, {}, {"value"}};
    }
    case Kind::kUnary: return check_unary(check, inputs[0], attributes);
    case Kind::kBinary:
      check_function(check, attributes.find("function"), kBinaryFunctions);
      return {broadcast(check, inputs), {"function"}, {}};
    case Kind::kSelect: return {broadcast(check, inputs), {}, {}};
    case Kind::kReduce: return check_reduce(check, inputs[0], attributes);
    case Kind::kSoftmax:
      check_axis(check, attributes, inputs[0]);
      check.flag(attributes.find("log"), "log");
      return {inputs[0], {"axis", "log"}, {}};
    case Kind::kNormalize:
      check_axes(check, attributes, inputs[0]);
      check.flag(attributes.find("center"), "center");
      check.require(check.number(attributes.find("epsilon"), "epsilon") >= 0, "has a negative epsilon");
      return {inputs[0], {"axes", "center", "epsilon"}, {}};
    case Kind::kMatmul: return check_matmul(check, inputs[0], inputs[1]);
    case Kind::kReshape: {
      const Shape shape = check.shape(attributes.find("shape"));
      check.require(product(shape) == product(inputs[0]), "changes the number of elements");
      return {shape, {"shape"}, {}};
    }
    case Kind::kPermute: return check_permute(check, inputs[0], attributes);
    case Kind::kSlice: return check_slice(check, inputs[0], attributes);
    case Kind::kExpand: return check_expand(check, inputs[0], attributes);
    case Kind::kJoin: return check_join(check, inputs, attributes);
    case Kind::kPad: return check_pad(check, inputs[0], attributes);
    case Kind::kSample: return check_sample(check, inputs[0], attributes, tensors);
    case Kind::kConvolution:
    case Kind::kBinaryConvolution:
    case Kind::kPool:
    case Kind::kElementwise:
    case Kind::kPadChannels:
    case Kind::kConcatenate:
    case Kind::kResize:
    case Kind::kFlatten: break;  // on images; no `default`, so that the compiler names an operation without a rule
  }
  check.fail("has no rule");
}

}  // namespace biper::capi
