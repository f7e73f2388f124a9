#include "capi/build_engine.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include "capi/array_builder.h"
#include "capi/array_views.h"

namespace biper::capi {
namespace {

// The weights of a convolution as float32 (O, I / groups, kh, kw), from any form in which they are stored.
std::vector<float> real_weight(const Tensor& weight, std::int64_t inside) {
  if (weight.type != Type::kUint8) return weight.floats();
  const std::int64_t out = weight.shape[0], taps = weight.shape[1] * weight.shape[2], packed = weight.shape[3];
  std::vector<float> real(out * inside * taps);
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t tap = 0; tap < taps; ++tap)
      for (std::int64_t c = 0; c < inside; ++c) {
        const auto byte = static_cast<unsigned char>(weight.data[(o * taps + tap) * packed + c / 8]);
        real[(o * inside + c) * taps + tap] = byte >> (c % 8) & 1 ? 1.0f : -1.0f;
      }
  return real;
}

std::vector<int> joined(const Attributes& attributes, std::initializer_list<const char*> names) {
  std::vector<int> all;
  for (const char* name : names)
    for (const std::int64_t number : attributes.integers(name)) all.push_back(static_cast<int>(number));
  return all;
}

class EngineBuilder {
 public:
  EngineBuilder(const Program& program, Engine& engine) : program_(program), engine_(engine), arrays_(engine) {}

  void build() {
    add_image("image", 0, program_.image);
    for (const NamedShape& input : program_.inputs)
      views_[input.name] = {engine_.add_input(product(input.shape)), input.shape, dense_strides(input.shape), 0};
    for (const Step& step : program_.steps)
      if (step.info->on_images) {
        wanted_.insert(step.inputs.begin(), step.inputs.end());
        if (step.residual) wanted_.insert(*step.residual);
      }
    for (const Step& step : program_.steps) add(step);
    for (const Result& result : program_.results) engine_.add_output(views_.at(result.value));
    engine_.finish();
  }

 private:
  void add(const Step& step) {
    if (!step.info->on_images) {
      std::vector<View> inputs;
      for (const std::string& name : step.inputs) inputs.push_back(views_.at(name));
      views_[*step.real] = arrays_.add(step, inputs, wanted_.count(*step.real) > 0);
      return;
    }
    std::vector<int> inputs;
    for (const std::string& name : step.inputs)
      inputs.push_back(step.info->kind == Kind::kBinaryConvolution ? bits_.at(name) : image(name));
    const EpilogueSpec epilogue = epilogue_of(step);
    const Emitted emitted = add_on_images(step, inputs, epilogue);
    if (step.real) add_image(*step.real, emitted.real, step.shape);
    if (step.bits) bits_[*step.bits] = emitted.bits;
  }

  Emitted add_on_images(const Step& step, const std::vector<int>& inputs, const EpilogueSpec& epilogue) {
    const Attributes& get = step.attributes;
    const auto number = [&](const char* name) { return static_cast<int>(get.integer(name)); };
    switch (step.info->kind) {
      case Kind::kConvolution:
      case Kind::kBinaryConvolution: return add_convolution(step, inputs[0], epilogue);
      case Kind::kPool: {
        std::vector<int> geometry = joined(get, {"kernel", "stride", "padding", "size"});
        geometry.push_back(get.flag("count_padding"));
        return engine_.add_pool(inputs[0], get.text("kind") == "max", geometry, epilogue);
      }
      case Kind::kPadChannels: return engine_.add_pad_channels(inputs[0], number("before"), number("after"), epilogue);
      case Kind::kConcatenate: return engine_.add_concatenate(inputs, epilogue);
      case Kind::kResize: return engine_.add_resize(inputs[0], number("height"), number("width"), epilogue);
      case Kind::kFlatten: return engine_.add_flatten(inputs[0], epilogue);
      default: return engine_.add_elementwise(inputs[0], epilogue);
    }
  }

  Emitted add_convolution(const Step& step, int input, const EpilogueSpec& epilogue) {
    const Tensor& weight = *step.tensors.find("weight");
    const Attributes& get = step.attributes;
    std::vector<int> geometry = joined(get, {"stride", "padding", "dilation"});
    geometry.push_back(static_cast<int>(get.integer("groups")));
    if (step.info->kind == Kind::kBinaryConvolution)
      return engine_.add_binary_convolution(input, weight.values<std::uint8_t>().data(), as_ints(weight.shape),
                                            geometry, epilogue);
    if (weight.type == Type::kUint16)
      return engine_.add_bfloat16_convolution(input, weight.values<std::uint16_t>().data(), as_ints(weight.shape),
                                              geometry, epilogue);
    if (weight.type == Type::kInt8)
      return engine_.add_int8_convolution(input, weight.values<std::int8_t>().data(), as_ints(weight.shape), geometry,
                                          static_cast<float>(get.number("input_factor")),
                                          static_cast<int>(get.integer("input_zero")), epilogue);
    const std::int64_t inside = views_.at(step.inputs[0]).sizes[0] / get.integer("groups");
    const Shape& s = weight.shape;
    const Shape shape = weight.type == Type::kUint8 ? Shape{s[0], inside, s[1], s[2]} : s;
    return engine_.add_convolution(input, real_weight(weight, inside).data(), as_ints(shape), geometry, epilogue);
  }

  EpilogueSpec epilogue_of(const Step& step) {
    EpilogueSpec spec;
    const auto floats = [&](const char* name) {
      const Tensor* tensor = step.tensors.find(name);
      return tensor ? tensor->floats() : std::vector<float>();
    };
    spec.multiplier = floats("multiplier"), spec.offset = floats("offset"), spec.slope = floats("slope");
    if (const Tensor* threshold = step.tensors.find("threshold")) {
      spec.threshold = threshold->values<std::int32_t>();
      spec.flip = step.tensors.find("flip")->values<std::uint8_t>();
    }
    if (step.attributes.find("activation")) spec.activation = step.attributes.text("activation");
    if (spec.activation == "clip") {
      spec.low = static_cast<float>(step.attributes.number("low"));
      spec.high = static_cast<float>(step.attributes.number("high"));
    }
    if (step.residual) spec.residual = image(*step.residual);
    spec.real = step.real.has_value(), spec.bits = step.bits.has_value();
    return spec;
  }

  // The id under which operations on images read a value.
  int image(const std::string& name) {
    const auto found = images_.find(name);
    if (found != images_.end()) return found->second;
    return images_[name] = arrays_.image(views_.at(name));
  }

  // Notes a value that is an image (C, H, W) of the engine.
  void add_image(const std::string& name, int value, const Shape& shape) {
    views_[name] = {value, shape, image_strides(shape), 0};
    arrays_.remember_image(views_[name]);
  }

  const Program& program_;
  Engine& engine_;
  ArrayBuilder arrays_;
  std::map<std::string, int, std::less<>> bits_, images_;
  std::map<std::string, View, std::less<>> views_;
  std::set<std::string, std::less<>> wanted_;  // the values that operations on images read
};

}  // namespace

void build_engine(const Program& program, Engine& engine) { EngineBuilder(program, engine).build(); }

}  // namespace biper::capi
