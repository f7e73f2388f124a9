// The rules of operations on images, their epilogue, and the work of all operations.
#include "capi/rules.h"

#include <algorithm>
#include <cstring>

namespace biper::capi {
namespace {

Checked check_convolution(const Checker& check, bool binary, const Shape& input, const Attributes& attributes,
                          const Tensors& tensors) {
  const std::int64_t channels = input[0];
  const Tensor* weight = tensors.find("weight");
  check.require(!binary || (weight && weight->type == Type::kUint8), "has no weight bits");
  const std::int64_t groups = check.integer(attributes.find("groups"), "groups", 1, channels);
  check.require(channels % groups == 0, "has groups that do not divide its channels");
  const Shape stride = check.integers(attributes.find("stride"), "stride", 2, 1, 1 << 10);
  const Shape dilation = check.integers(attributes.find("dilation"), "dilation", 2, 1, 1 << 10);
  const Shape padding = check.integers(attributes.find("padding"), "padding", 4, 0, 1 << 10);
  check.require(weight && weight->shape.size() == 4, "has no weight of four dimensions");
  const Shape& sizes = weight->shape;
  const std::int64_t inside = channels / groups;
  const bool of_bits = weight->type == Type::kUint8;
  const Shape kernel = of_bits ? Shape{sizes[1], sizes[2]} : Shape{sizes[2], sizes[3]};
  if (of_bits) {
    const std::int64_t packed = sizes[3];
    check.require(packed == (inside + 7) / 8, "has weight bits for another number of channels");
    const std::int64_t spare = packed * 8 - inside, count = weight->count();
    for (std::int64_t last = packed - 1; spare && last < count; last += packed)
      check.require(static_cast<unsigned char>(weight->data[last]) >> (8 - spare) == 0,
                    "has weight bits beyond its channels");
  } else {
    check.require(weight->type != Type::kInt32, "has weights of type int32");
    check.require(sizes[1] == inside, "has a weight for another number of channels");
  }
  check.require(sizes[0] >= 1 && sizes[0] % groups == 0, "has output channels that its groups do not divide");
  check.require(kernel[0] >= 1 && kernel[1] >= 1, "has an empty kernel");
  Checked checked{{sizes[0]}, {"groups", "stride", "dilation", "padding"}, {"weight"}};
  for (int i = 0; i < 2; ++i)
    checked.shape.push_back(
        floor_div(input[i + 1] + padding[2 * i] + padding[2 * i + 1] - product(dilation[i], kernel[i] - 1) - 1,
                  stride[i]) +
        1);
  if (weight->type == Type::kInt8) {
    check.require(groups == 1, "has int8 weights and groups");
    check.require(tensors.has("multiplier"), "has int8 weights without multiplier");
    check.require(product({sizes[1], sizes[2], sizes[3]}) < kMaxInt8Terms, "has int8 sums that could overflow");
    check.require(check.number(attributes.find("input_factor"), "input_factor") > 0, "has no positive input_factor");
    check.integer(attributes.find("input_zero"), "input_zero", 0, 255);
    checked.attributes.insert(checked.attributes.end(), {"input_factor", "input_zero"});
  }
  return checked;
}

Checked check_pool(const Checker& check, const Shape& input, const Attributes& attributes) {
  const Json* kind = attributes.find("kind");
  const bool known = kind && kind->text() && (*kind->text() == "max" || *kind->text() == "average");
  check.require(known, "has an unknown kind");
  check.flag(attributes.find("count_padding"), "count_padding");
  const Shape kernel = check.integers(attributes.find("kernel"), "kernel", 2, 1, 1 << 16);
  const Shape stride = check.integers(attributes.find("stride"), "stride", 2, 1, 1 << 16);
  const Shape padding = check.integers(attributes.find("padding"), "padding", 2, 0, 1 << 10);
  const Shape size = check.integers(attributes.find("size"), "size", 2, 1, 1 << 16);
  for (int i = 0; i < 2; ++i) {
    check.require(2 * padding[i] <= kernel[i], "pads more than half of its windows");
    check.require((size[i] - 1) * stride[i] < input[i + 1] + padding[i], "has windows outside the image");
  }
  return {{input[0], size[0], size[1]}, {"kind", "kernel", "stride", "padding", "count_padding", "size"}, {}};
}

void check_numbers(const Checker& check, const Tensors& tensors, const char* name, std::int64_t channels, Type type) {
  const Tensor* tensor = tensors.find(name);
  if (!tensor || !tensor->is(type, {channels})) check.fail(std::string("has no ") + name + " for each channel");
}

std::int64_t products(const Shape& input, const Shape& shape, const Attributes& attributes, const Tensor& weight) {
  const Shape& sizes = weight.shape;
  const bool of_bits = weight.type == Type::kUint8;
  const std::int64_t taps = of_bits ? product(sizes[1], sizes[2]) : product(sizes[2], sizes[3]);
  const std::int64_t all = product(taps, input[0]) / attributes.integer("groups");
  if (weight.type != Type::kInt8) return all;
  const Shape padding = attributes.integers("padding");
  const Shape padded{input[0], input[1] + padding[0] + padding[1], input[2] + padding[2] + padding[3]};
  return sum(all, product(4, product(padded)) / product(shape));
}

}  // namespace

Checked check_rule(const Checker& check, Kind kind, const std::vector<Shape>& inputs, const Attributes& attributes,
                   const Tensors& tensors) {
  switch (kind) {
    case Kind::kConvolution: return check_convolution(check, false, inputs[0], attributes, tensors);
    case Kind::kBinaryConvolution: return check_convolution(check, true, inputs[0], attributes, tensors);
    case Kind::kPool: return check_pool(check, inputs[0], attributes);
    case Kind::kElementwise: return {inputs[0], {}, {}};
    case Kind::kPadChannels: {
      const std::int64_t before = check.integer(attributes.find("before"), "padding", 0, 1 << 20);
      const std::int64_t after = check.integer(attributes.find("after"), "padding", 0, 1 << 20);
      return {{before + inputs[0][0] + after, inputs[0][1], inputs[0][2]}, {"before", "after"}, {}};
    }
    case Kind::kConcatenate: {
      std::int64_t channels = 0;
      for (const Shape& shape : inputs) {
        check.require(shape[1] == inputs[0][1] && shape[2] == inputs[0][2], "joins images of different sizes");
        channels += shape[0];
      }
      return {{channels, inputs[0][1], inputs[0][2]}, {}, {}};
    }
    case Kind::kResize: {
      const std::int64_t height = check.integer(attributes.find("height"), "size", 1, 1 << 16);
      const std::int64_t width = check.integer(attributes.find("width"), "size", 1, 1 << 16);
      return {{inputs[0][0], height, width}, {"height", "width"}, {}};
    }
    case Kind::kFlatten: return {{product(inputs[0]), 1, 1}, {}, {}};
    default: return check_array_rule(check, kind, inputs, attributes, tensors);
  }
}

void check_epilogue(const Checker& check, const Step& step, const std::map<std::string, Shape, std::less<>>& real,
                    Checked& checked) {
  const Tensors& tensors = step.tensors;
  const std::int64_t channels = step.shape[0];
  for (const char* name : {"multiplier", "offset", "slope"})
    if (tensors.has(name)) {
      check_numbers(check, tensors, name, channels, Type::kFloat32);
      checked.tensors.push_back(name);
    }
  const bool threshold = tensors.has("threshold"), flip = tensors.has("flip");
  if (threshold || flip) {
    check_numbers(check, tensors, "threshold", channels, Type::kInt32);
    check_numbers(check, tensors, "flip", channels, Type::kUint8);
    for (const std::uint8_t value : tensors.find("flip")->values<std::uint8_t>())
      check.require(value <= 1, "has a flip that is neither 0 nor 1");
    const bool others = tensors.has("multiplier") || tensors.has("offset") || tensors.has("slope");
    check.require(step.info->kind == Kind::kBinaryConvolution && !step.real && !step.residual && !others,
                  "has a threshold where it cannot have one");
    checked.tensors.insert(checked.tensors.end(), {"threshold", "flip"});
  }
  check.require(!tensors.has("multiplier") || tensors.has("offset"), "has a multiplier without offset");
  if (step.residual) {
    const auto found = real.find(*step.residual);
    check.require(found != real.end() && found->second == step.shape,
                  "has a residual that is no real value of its shape");
  }
  const Json* activation = step.attributes.find("activation");
  if (!activation) {
    check.require(!tensors.has("slope"), "has a slope without prelu");
    return;
  }
  const std::string& name = check.text(activation, "activation");
  check.require(name == "clip" || name == "relu" || name == "prelu", "has an unknown activation");
  check.require(!threshold, "has an activation beside a threshold");
  check.require((name == "prelu") == tensors.has("slope"), "has a slope without prelu, or prelu without slope");
  checked.attributes.push_back("activation");
  if (name == "clip") {
    const double low = check.number(step.attributes.find("low"), "low");
    check.require(low <= check.number(step.attributes.find("high"), "high"), "clips to an empty range");
    checked.attributes.insert(checked.attributes.end(), {"low", "high"});
  }
}

std::int64_t work_of(Kind kind, const std::vector<Shape>& inputs, const Shape& shape, const Attributes& attributes,
                     const Tensors& tensors) {
  switch (kind) {
    case Kind::kConvolution:
    case Kind::kBinaryConvolution: return products(inputs[0], shape, attributes, *tensors.find("weight"));
    case Kind::kPool: {
      const Shape kernel = attributes.integers("kernel");
      return 2 * product(std::min(kernel[0], inputs[0][1]), std::min(kernel[1], inputs[0][2]));
    }
    case Kind::kUnary: return unary_function(&attributes.text("function"))->cheap ? 4 : 64;
    case Kind::kBinary: return attributes.text("function") == "power" ? 64 : 4;
    case Kind::kReduce: return kGathered * product(inputs[0]) / std::max<std::int64_t>(product(shape), 1);
    case Kind::kSoftmax: return 64;
    case Kind::kNormalize: return 16;
    case Kind::kMatmul: return inputs[0].back();
    case Kind::kSample: return 8 * tensors.find("index")->shape[0];
    default: return 4;
  }
}

const UnaryFunction* unary_function(const std::string* name) {
  const auto* found = std::find_if(std::begin(kUnaryFunctions), std::end(kUnaryFunctions),
                                   [&](const UnaryFunction& function) { return name && *name == function.name; });
  return found == std::end(kUnaryFunctions) ? nullptr : found;
}

}  // namespace biper::capi
