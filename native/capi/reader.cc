// Reading a packed program strictly, as biper.runtime.reader does: reading trusts no name, type, shape or count.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "capi/budget.h"
#include "capi/program.h"
#include "capi/rules.h"

namespace biper::capi {

const Json* Attributes::find(std::string_view name) const {
  const Json* found = given_->find(name);
  return found ? found : defaults_->find(name);
}

std::vector<std::string> Attributes::names() const {
  std::set<std::string> names;
  for (const Object* object : {given_, defaults_})
    for (const Member& member : object->members) names.insert(member.key);
  return {names.begin(), names.end()};
}

Shape Attributes::integers(std::string_view name) const {
  Shape found;
  for (const Json& entry : *find(name)->list()) found.push_back(*entry.integer());
  return found;
}

const Tensor* Tensors::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second;
}

std::vector<std::string> Tensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

namespace {

const Object& defaults_of(Kind kind) {
  static const std::vector<Json> parsed = [] {
    std::vector<Json> made;
    for (const OperationInfo& info : kOperations) made.push_back(*parse_json(info.defaults));
    return made;
  }();
  return *parsed[static_cast<std::size_t>(kind)].object();
}

// Whether the values of a tensor are finite; minus and plus infinity are allowed in the masks that constants are.
bool is_usable(const Tensor& tensor, bool constant) {
  if (tensor.type == Type::kUint16) {  // the bits of bfloat16
    const auto values = tensor.values<std::uint16_t>();
    return std::none_of(values.begin(), values.end(), [](std::uint16_t bits) { return (bits & 0x7f80) == 0x7f80; });
  }
  if (tensor.type != Type::kFloat32 && tensor.type != Type::kFloat16) return true;
  const auto values = tensor.floats();
  return std::none_of(values.begin(), values.end(),
                      [&](float value) { return constant ? std::isnan(value) : !std::isfinite(value); });
}

std::optional<std::string> optional_text(const Checker& check, const Json* value, const char* name) {
  if (!value || value->is_null()) return std::nullopt;
  return check.text(value, name);
}

class Reader {
 public:
  Reader(Program& program, Checker& check, Budget& budget) : program_(program), check_(check), budget_(budget) {}

  void read() {
    const Object& document = *program_.container.document.object();
    const Json* format = document.find("format");
    const std::string* name = format ? format->text() : nullptr;
    check_.require(name && (*name == kFormats[0] || *name == kFormats[1]), "has an unknown format");
    version_1_ = *name == kFormats[0];
    read_input(check_.object(document.find("input"), "input"));
    program_.classes = check_.texts(document.find("classes"), "has no list of class names");
    if (const Json* given = document.find("preprocessing"); given && !version_1_)
      program_.preprocessing = read_preprocessing(check_, given, program_.image);
    if (const Json* given = document.find("inputs"); given && !version_1_) read_inputs(check_.object(given, "inputs"));
    const Json* steps = document.find("operations");
    const auto* list = steps ? steps->list() : nullptr;
    check_.require(list && list->size() <= static_cast<std::size_t>(kMaxOperations), "has no list of operations");
    for (std::size_t number = 0; number < list->size(); ++number) read_step(number, (*list)[number]);
    check_.where = "the model";
    const std::string& output = check_.text(document.find("output"), "output");
    check_.require(program_.real.count(output), "has an output that is no real value");
    check_classes(program_.real.find(output)->second);
    if (const Json* given = document.find("outputs"); given && !version_1_)
      read_outputs(check_.object(given, "outputs"), output);
    if (program_.results.empty()) program_.results.push_back({output, output});
    budget_.add_values(program_, images_);
  }

 private:
  void read_input(const Object& given) {
    program_.image = check_.integers(given.find("shape"), "input shape", 3, 1, 1 << 16);
    check_.size(program_.image);
    program_.mean = check_.numbers(given.find("mean"), "mean", program_.image[0]);
    program_.std = check_.numbers(given.find("std"), "std", program_.image[0]);
    for (const double value : program_.std) check_.require(value > 0, "has a std that is not positive");
    program_.real["image"] = program_.image;
  }

  void read_inputs(const Object& given) {
    check_.require(given.members.size() <= static_cast<std::size_t>(kMaxNames), "has too many inputs");
    for (const Member& member : given.members) {
      check_.require(member.key != "image", "has a second input 'image'");
      const Shape shape = check_.shape(&member.value);
      check_.size(shape);
      program_.real[member.key] = shape;
      program_.inputs.push_back({member.key, shape});
    }
  }

  void read_outputs(const Object& given, const std::string& first) {
    check_.require(given.members.size() <= static_cast<std::size_t>(kMaxNames), "has too many outputs");
    for (const Member& member : given.members) {
      const std::string* value = member.value.text();
      check_.require(value && program_.real.count(*value), "has no real value for one of its outputs");
      program_.results.push_back({member.key, *value});
    }
    check_.require(program_.results.empty() || program_.results[0].value == first, "has another output than its first");
  }

  // A map has a name for each channel.
  void check_classes(const Shape& shape) {
    const auto count = static_cast<std::int64_t>(program_.classes.size());
    const bool is_map = shape.size() == 3 && product(shape[1], shape[2]) > 1;
    check_.require(count == 0 || count == product(shape) || (is_map && count == shape[0]),
                   "has another number of class names than of outputs");
  }

  void read_step(std::size_t number, const Json& given) {
    check_.where = "operation " + std::to_string(number);
    const Object& entry = check_.object(&given, "entry");
    const std::string& kind = check_.text(entry.find("operation"), "operation");
    const auto* info = std::find_if(std::begin(kOperations), std::end(kOperations),
                                    [&](const OperationInfo& known) { return kind == known.name; });
    check_.require(info != std::end(kOperations) && (info->version_1 || !version_1_), "is an unknown operation");
    check_.where +=
        std::string(" (") + info->name + " of " + check_.text(entry.find("source"), "source").substr(0, 100) + ")";
    static const std::set<std::string_view> allowed{"operation", "source",   "inputs",     "real",
                                                    "bits",      "residual", "attributes", "tensors"};
    for (const Member& member : entry.members) check_.require(allowed.count(member.key), "has an unknown entry");
    Step step{info, check_.texts(entry.find("inputs"), "has no inputs"), {}, {}, {}, {}, {}, {}};
    const auto& known = info->kind == Kind::kBinaryConvolution ? bits_ : program_.real;
    std::vector<Shape> shapes;
    for (const std::string& name : step.inputs) {
      const auto found = known.find(name);
      if (found == known.end())
        check_.fail("reads " + name.substr(0, 100) + ", which no earlier operation emits as it needs it");
      shapes.push_back(found->second);
      check_.require(!info->on_images || found->second.size() == 3, "reads a value that is no image");
    }
    const auto count = static_cast<std::int64_t>(shapes.size());
    check_.require(count >= info->least_inputs && count <= info->most_inputs, "reads another number of values");
    read_tensors(number, entry, step);
    step.attributes = {check_.object(entry.find("attributes"), "attributes"), defaults_of(info->kind)};
    Checked checked = check_rule(check_, info->kind, shapes, step.attributes, step.tensors);
    check_.size(checked.shape);
    step.shape = checked.shape;
    budget_.add_operation(shapes, step.shape, work_of(info->kind, shapes, step.shape, step.attributes, step.tensors),
                          info->on_images);
    step.real = optional_text(check_, entry.find("real"), "real value");
    step.bits = optional_text(check_, entry.find("bits"), "bits");
    step.residual = optional_text(check_, entry.find("residual"), "residual");
    if (info->on_images) check_epilogue(check_, step, program_.real, checked);
    std::sort(checked.attributes.begin(), checked.attributes.end());
    std::sort(checked.tensors.begin(), checked.tensors.end());
    check_.require(step.attributes.names() == checked.attributes, "has other attributes than it takes");
    check_.require(step.tensors.names() == checked.tensors, "has other tensors than it takes");
    check_.require(step.real || step.bits, "emits nothing");
    check_.require(info->on_images || (!step.bits && !step.residual),
                   "has a residual or bits, which operations on arrays have not");
    emit(step.real, step, program_.real);
    emit(step.bits, step, bits_);
    program_.steps.push_back(std::move(step));
  }

  void read_tensors(std::size_t number, const Object& entry, Step& step) {
    for (const std::string& key : check_.texts(entry.find("tensors"), "has no list of tensors")) {
      const auto found = program_.container.tensors.find(std::to_string(number) + "." + key);
      if (found == program_.container.tensors.end()) check_.fail("has no tensor " + key.substr(0, 100));
      check_.require(!step.tensors.has(key), "names a tensor twice");
      check_.require(is_usable(found->second, step.info->kind == Kind::kConstant),
                     "has a tensor with values that are NaN or infinite");
      step.tensors.add(key, found->second);
    }
  }

  void emit(const std::optional<std::string>& name, const Step& step, std::map<std::string, Shape, std::less<>>& to) {
    if (!name) return;
    if (program_.real.count(*name) || bits_.count(*name))
      check_.fail("emits " + name->substr(0, 100) + " a second time");
    to[*name] = step.shape;
    if (step.info->on_images) images_.insert(*name);
  }

  Program& program_;
  Checker& check_;
  Budget& budget_;
  bool version_1_ = false;
  std::map<std::string, Shape, std::less<>> bits_;
  ImageNames images_{"image"};
};

}  // namespace

Program read_program(std::string_view bytes, bool verify, std::int64_t max_memory, std::int64_t max_work) {
  Checker check;
  Budget budget(check, max_memory, max_work);
  if (bytes.size() >= 8) {  // count the memory of a file before it is read
    std::uint64_t header = 0;
    for (int i = 0; i < 8; ++i) header |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
    if (header <= bytes.size() - 8) {
      check.require(header <= static_cast<std::uint64_t>(kMaxHeader),
                    "has a header that is too large for a packed file");
      budget.add_memory(kHeaderFactor * static_cast<std::int64_t>(header), "its header");
      budget.add_memory(static_cast<std::int64_t>(bytes.size() - header), "its tensors");
    }
  }
  Program program;
  program.container = open_container(bytes, verify);
  Reader(program, check, budget).read();
  return program;
}

Preprocessing read_preprocessing(const Checker& check, const Json* given, const Shape& image) {
  const Object& entry = check.object(given, "preprocessing");
  static const std::set<std::string_view> names{"size",       "resize", "interpolation",    "channels",
                                                "background", "white",  "exif_orientation", "draft_margin"};
  check.require(entry.members.size() == names.size(), "has preprocessing with other entries than it takes");
  for (const Member& member : entry.members)
    check.require(names.count(member.key), "has preprocessing with an unknown entry");
  Preprocessing made{};
  const Shape size = check.integers(entry.find("size"), "size of preprocessing", 2, 1, kMaxSide);
  made.height = size[0], made.width = size[1];
  if (entry.find("resize")->integer()) {
    made.resize_height = check.integer(entry.find("resize"), "resize of preprocessing", 1, kMaxSide);
    check.require(made.resize_height >= std::max(made.height, made.width),
                  "has preprocessing that resizes to less than it cuts out");
  } else {
    const Shape resize = check.integers(entry.find("resize"), "resize of preprocessing", 2, 1, kMaxSide);
    made.resize_height = resize[0], made.resize_width = resize[1];
    check.require(resize[0] >= size[0] && resize[1] >= size[1],
                  "has preprocessing that resizes to less than it cuts out");
  }
  made.interpolation = check.text(entry.find("interpolation"), "interpolation");
  check.require(std::find(std::begin(kInterpolations), std::end(kInterpolations), made.interpolation) !=
                    std::end(kInterpolations),
                "has an unknown interpolation");
  made.channels = check.text(entry.find("channels"), "channels");
  const auto* order = std::find_if(std::begin(kChannelOrders), std::end(kChannelOrders),
                                   [&](const ChannelOrder& known) { return made.channels == known.name; });
  check.require(order != std::end(kChannelOrders), "has an unknown order of channels");
  const Shape background = check.integers(entry.find("background"), "background", 3, 0, 255);
  std::copy(background.begin(), background.end(), made.background);
  if (!entry.find("white")->is_null()) {
    made.white = check.number(entry.find("white"), "white");
    check.require(made.white > 0, "has a white that is not positive");
  }
  made.exif_orientation = check.flag(entry.find("exif_orientation"), "exif_orientation");
  made.draft_margin = check.integer(entry.find("draft_margin"), "draft_margin", 0, 64);
  check.require(image == Shape{order->channels, made.height, made.width},
                "has preprocessing to another shape than its images");
  return made;
}

}  // namespace biper::capi
