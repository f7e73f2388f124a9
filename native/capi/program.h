// A packed program that was read and checked; biper.runtime.program describes the format.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "capi/checks.h"
#include "capi/container.h"
#include "capi/json.h"
#include "capi/operation_table.h"

namespace biper::capi {

// The attributes of an operation; those that the file leaves out have their default values.
class Attributes {
 public:
  Attributes() = default;
  Attributes(const Object& given, const Object& defaults) : given_(&given), defaults_(&defaults) {}
  const Json* find(std::string_view name) const;
  std::vector<std::string> names() const;  // sorted

  // Values that the rules have checked.
  std::int64_t integer(std::string_view name) const { return *find(name)->integer(); }
  double number(std::string_view name) const { return *find(name)->number(); }
  bool flag(std::string_view name) const { return *find(name)->flag(); }
  const std::string& text(std::string_view name) const { return *find(name)->text(); }
  Shape integers(std::string_view name) const;

 private:
  const Object* given_ = nullptr;
  const Object* defaults_ = nullptr;
};

class Tensors {
 public:
  const Tensor* find(std::string_view name) const;
  void add(const std::string& name, const Tensor& tensor) { tensors_.emplace(name, &tensor); }
  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::vector<std::string> names() const;  // sorted

 private:
  std::map<std::string, const Tensor*, std::less<>> tensors_;
};

struct Step {
  const OperationInfo* info;
  std::vector<std::string> inputs;
  Shape shape;
  std::optional<std::string> real, bits, residual;
  Attributes attributes;
  Tensors tensors;
};

struct Preprocessing {
  std::int64_t height, width;
  std::int64_t resize_height, resize_width;  // the width is 0 where the first is the shorter side
  std::string interpolation, channels;
  std::int64_t background[3];
  double white;  // 0 where the file does not say
  bool exif_orientation;
  std::int64_t draft_margin;
};

struct NamedShape {
  std::string name;
  Shape shape;
};

struct Result {
  std::string name, value;
};

struct Program {
  Container container;  // the steps point to its parts
  Shape image;
  std::vector<double> mean, std;
  std::vector<std::string> classes;
  std::vector<Step> steps;
  std::vector<NamedShape> inputs;                  // beside the image
  std::vector<Result> results;                     // one or more
  std::map<std::string, Shape, std::less<>> real;  // the shapes of all real values
  std::optional<Preprocessing> preprocessing;
};

// Reads and checks a program. `bytes` must stay where they are while it is used. Throws FormatError or LimitError.
Program read_program(std::string_view bytes, bool verify, std::int64_t max_memory, std::int64_t max_work);

// The entry `preprocessing` of a file for images of this shape, checked.
Preprocessing read_preprocessing(const Checker& check, const Json* given, const Shape& image);

}  // namespace biper::capi
