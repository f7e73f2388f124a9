#include "capi/array_builder.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "capi/array_views.h"
#include "capi/rules.h"

namespace biper::capi {
namespace {

// A view of the value that the engine has added.
View made(int value, View result) {
  result.value = value;
  return result;
}

}  // namespace

ArrayBuilder::Key ArrayBuilder::key_of(const View& view) {
  Shape strides = view.strides;  // those of axes of size 1 mean nothing
  for (std::size_t axis = 0; axis < strides.size(); ++axis)
    if (view.sizes[axis] <= 1) strides[axis] = 0;
  return {view.value, view.sizes, strides, view.offset};
}

View ArrayBuilder::add(const Step& step, const std::vector<View>& inputs, bool for_images) {
  wants_image_ = for_images && step.shape.size() == 3;
  const Attributes& get = step.attributes;
  switch (step.info->kind) {
    case Kind::kConstant: {
      const Tensor& value = *step.tensors.find("value");
      return constant(value.floats(), value.shape);
    }
    case Kind::kUnary: return unary(step, inputs);
    case Kind::kBinary: return elementwise(step, get.text("function"), inputs);
    case Kind::kSelect: return elementwise(step, "select", inputs);
    case Kind::kReduce: return reduce(step, inputs[0]);
    case Kind::kSoftmax: {
      const View to = result(step.shape, inputs);
      const auto axis = static_cast<int>(get.integer("axis"));
      return made(engine_.add_softmax(inputs[0], axis, get.flag("log"), to), to);
    }
    case Kind::kNormalize: {
      const View to = result(step.shape, inputs);
      const auto epsilon = static_cast<float>(get.number("epsilon"));
      const auto axes = as_ints(get.integers("axes"));
      return made(engine_.add_normalization(inputs[0], axes, get.flag("center"), epsilon, to), to);
    }
    case Kind::kMatmul: return matmul(step, inputs);
    case Kind::kReshape: return reshape(step, inputs[0]);
    case Kind::kPermute: return permuted(inputs[0], get.integers("order"));
    case Kind::kSlice: return sliced(inputs[0], get.integers("starts"), get.integers("sizes"), get.integers("steps"));
    case Kind::kExpand: return expanded(inputs[0], step.shape);
    case Kind::kJoin: return join(step, inputs);
    case Kind::kPad: return pad(step, inputs[0]);
    case Kind::kSample: return sample(step, inputs[0]);
    case Kind::kConvolution:
    case Kind::kBinaryConvolution:
    case Kind::kPool:
    case Kind::kElementwise:
    case Kind::kPadChannels:
    case Kind::kConcatenate:
    case Kind::kResize:
    case Kind::kFlatten: break;  // on images
  }
  throw std::invalid_argument("an operation on arrays is unknown");
}

int ArrayBuilder::image(const View& view) {
  const Key key = key_of(view);
  const auto found = images_.find(key);
  if (found != images_.end()) return found->second;
  const View source = is_image(view) && !constants_.count(view.value) ? view : copied(view, image_strides(view.sizes));
  const int channels = static_cast<int>(view.sizes[0]), height = static_cast<int>(view.sizes[1]);
  const int id = engine_.add_image(source.value, source.offset, channels, height, static_cast<int>(view.sizes[2]));
  images_[key] = id;
  return id;
}

View ArrayBuilder::constant(const std::vector<float>& values, const Shape& shape) {
  const int value = engine_.add_constant(values.data(), static_cast<std::int64_t>(values.size()));
  constants_.insert(value);
  return {value, shape, dense_strides(shape), 0};
}

// A new array, in the order of the operands or, if operations on images read it, in theirs.
View ArrayBuilder::result(const Shape& shape, const std::vector<View>& like) const {
  return {-1, shape, wants_image_ ? image_strides(shape) : strides_like(like, shape), 0};
}

View ArrayBuilder::copies(const std::vector<View>& sources, const std::vector<View>& targets, View result, bool fills,
                          float fill) {
  return made(engine_.add_copies(sources, targets, fills, fill, result), result);
}

View ArrayBuilder::copied(const View& view, const Shape& strides) {
  const View to{-1, view.sizes, strides, 0};
  return copies({view}, {to}, to, false, 0);
}

View ArrayBuilder::function(const std::string& name, const std::vector<float>& parameters,
                            const std::vector<View>& inputs, View result) {
  std::vector<View> operands;
  for (const View& view : inputs) operands.push_back(expanded(view, result.sizes));
  return made(engine_.add_function(name, parameters, operands, result), result);
}

View ArrayBuilder::unary(const Step& step, const std::vector<View>& inputs) {
  std::string name = step.attributes.text("function");
  std::vector<float> parameters;
  for (const char* key : unary_function(&name)->parameters)
    if (key) parameters.push_back(static_cast<float>(step.attributes.number(key)));
  if (name == "power") {
    const bool square = step.attributes.number("exponent") == 2.0;
    name = square ? "square" : "power_by";
    if (square) parameters.clear();
  }
  return function(name, parameters, inputs, result(step.shape, inputs));
}

View ArrayBuilder::elementwise(const Step& step, const std::string& name, const std::vector<View>& inputs) {
  std::vector<View> whole;
  for (const View& view : inputs)
    if (view.sizes == step.shape) whole.push_back(view);
  return function(name, {}, inputs, result(step.shape, whole));
}

View ArrayBuilder::reduce(const Step& step, const View& input) {
  const Shape axes = step.attributes.integers("axes");
  Shape kept = input.sizes;
  for (const std::int64_t axis : axes) kept[axis] = 1;
  wants_image_ &= step.attributes.flag("keep");
  const View to = result(kept, {input});
  const int value = engine_.add_reduction(step.attributes.text("function"), input, as_ints(axes), to);
  return *reshaped(made(value, to), step.shape);  // leaving out axes of size 1 changes no stride
}

View ArrayBuilder::matmul(const Step& step, const std::vector<View>& inputs) {
  const Shape& shape = step.shape;
  const std::size_t rank = shape.size();
  const auto whole = [&](const View& view) {
    Shape sizes(shape.begin(), shape.end() - 2);
    sizes.insert(sizes.end(), view.sizes.end() - 2, view.sizes.end());
    return expanded(view, sizes);
  };
  View left = whole(inputs[0]), right = whole(inputs[1]);
  const std::int64_t rows = shape[rank - 2], columns = shape[rank - 1];
  if (left.sizes.back() == 1) {
    wants_image_ = false;
    return function("multiply", {}, {left, right}, View{-1, shape, dense_strides(shape), 0});
  }
  Shape swap(rank);
  std::iota(swap.begin(), swap.end(), 0);
  std::swap(swap[rank - 2], swap[rank - 1]);
  // The kernels compute columns in whole blocks: the transposed product may have fewer of them.
  const bool transposed = rounded(rows) * columns < rounded(columns) * rows;
  if (transposed) {
    const View first = permuted(right, swap);
    right = permuted(left, swap);
    left = first;
  }
  Shape sizes = left.sizes;
  sizes.back() = right.sizes.back();
  Shape padded = sizes;
  padded.back() = rounded(padded.back());
  if (left.strides.back() != 1) left = copied(left, dense_strides(left.sizes));
  const View to{-1, sizes, dense_strides(padded), 0};
  const View product = made(engine_.add_product(left, right, to), to);
  return transposed ? permuted(product, swap) : product;
}

View ArrayBuilder::reshape(const Step& step, const View& input) {
  if (const auto view = reshaped(input, step.shape)) return *view;
  View to = result(step.shape, {});
  auto target = reshaped(to, input.sizes);  // where the elements in the old shape come to lie
  if (!target) {
    to = {-1, step.shape, dense_strides(step.shape), 0};
    target = View{-1, input.sizes, dense_strides(input.sizes), 0};
  }
  return copies({input}, {*target}, to, false, 0);
}

View ArrayBuilder::join(const Step& step, const std::vector<View>& inputs) {
  const std::int64_t axis = step.attributes.integer("axis");
  const View to = result(step.shape, inputs);
  Shape starts(step.shape.size()), steps(step.shape.size(), 1);
  std::vector<View> targets;
  for (const View& view : inputs) {
    targets.push_back(sliced(to, starts, view.sizes, steps));
    starts[axis] += view.sizes[axis];
  }
  return copies(inputs, targets, to, false, 0);
}

View ArrayBuilder::pad(const Step& step, const View& input) {
  const View to = result(step.shape, {input});
  const Shape low = step.attributes.integers("low"), interior = step.attributes.integers("interior");
  Shape starts, sizes, places, steps;
  for (std::size_t axis = 0; axis < low.size(); ++axis) {
    const std::int64_t each = interior[axis] + 1;  // element i comes to lie at low + i * each
    const std::int64_t first = std::max<std::int64_t>(0, -floor_div(low[axis], each));
    const std::int64_t last = std::min(input.sizes[axis] - 1, floor_div(step.shape[axis] - 1 - low[axis], each));
    starts.push_back(first);
    sizes.push_back(last - first + 1);
    places.push_back(low[axis] + first * each);
    steps.push_back(each);
  }
  const auto fill = static_cast<float>(step.attributes.number("value"));
  if (std::any_of(sizes.begin(), sizes.end(), [](std::int64_t size) { return size < 1; }))  // nothing of it is kept
    return constant(std::vector<float>(product(step.shape), fill), step.shape);
  const View source = sliced(input, starts, sizes, Shape(sizes.size(), 1));
  return copies({source}, {sliced(to, places, sizes, steps)}, to, true, fill);
}

View ArrayBuilder::sample(const Step& step, const View& input) {
  const Tensor* weight = step.tensors.find("weight");
  const View to = result(step.shape, {input});
  const auto index = step.tensors.find("index")->values<std::int32_t>();
  const auto axis = static_cast<int>(step.attributes.integer("axis"));
  const std::vector<float> weights = weight ? weight->floats() : std::vector<float>();
  return made(engine_.add_sample(input, axis, index, weights, step.attributes.text("function") == "max", to), to);
}

}  // namespace biper::capi
