// The container of packed files: tensors in the format of safetensors, and a checksummed JSON document.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "capi/checks.h"
#include "capi/json.h"

namespace biper::capi {

enum class Type { kFloat32, kFloat16, kInt8, kUint8, kUint16, kInt32 };

// A tensor, whose elements are in the bytes of the file, at any address.
struct Tensor {
  Type type;
  Shape shape;
  const char* data;

  std::int64_t count() const { return product(shape); }
  std::vector<float> floats() const;  // of float32 and float16
  template <typename T>
  std::vector<T> values() const;  // of the integer types and float32, each as its own type
  bool is(Type other, const Shape& size) const { return type == other && shape == size; }
};

struct Container {
  Json document;
  std::map<std::string, Tensor, std::less<>> tensors;
};

// Reads a container from its bytes, which must stay where they are while its tensors are used. `verify`: whether the
// checksum is compared.
Container open_container(std::string_view bytes, bool verify);

}  // namespace biper::capi
