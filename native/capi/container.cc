#include "capi/container.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "capi/sha256.h"

namespace biper::capi {
namespace {

constexpr std::size_t kLengthBytes = 8, kHashDigits = 64;

struct TypeInfo {
  const char* name;
  Type type;
  std::int64_t bytes;
};
constexpr TypeInfo kTypes[] = {{"F32", Type::kFloat32, 4}, {"F16", Type::kFloat16, 2}, {"I8", Type::kInt8, 1},
                               {"U8", Type::kUint8, 1},    {"U16", Type::kUint16, 2},  {"I32", Type::kInt32, 4}};

float from_half(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const auto fraction = static_cast<float>(half & 1023);
  float size;
  if (exponent == 31)
    size = fraction ? std::nanf("") : HUGE_VALF;
  else
    size = std::ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
  return half >> 15 ? -size : size;
}

[[noreturn]] void refuse(const std::string& problem) { throw FormatError("the model " + problem); }

[[noreturn]] void refuse_header() { refuse("is corrupt: its header is not the JSON that biper writes"); }

bool is_hash(const std::string& text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// The hash of the file with zeros in place of the recorded hash, which is at `position`.
std::string blanked_hash(std::string_view bytes, std::size_t position) {
  Sha256 hash;
  hash.add(bytes.substr(0, position));
  hash.add(std::string(kHashDigits, '0'));
  hash.add(bytes.substr(position + kHashDigits));
  return hash.hex();
}

struct Placed {
  std::int64_t begin, end;
  const std::string* name;
};

// The sizes of a list of integers that are not negative.
Shape sizes_of(const Json* value, std::size_t most) {
  const auto* list = value ? value->list() : nullptr;
  if (!list || list->size() > most) refuse_header();
  Shape sizes;
  for (const Json& entry : *list) {
    if (!entry.integer() || *entry.integer() < 0) refuse_header();
    sizes.push_back(*entry.integer());
  }
  return sizes;
}

}  // namespace

std::vector<float> Tensor::floats() const {
  if (type == Type::kFloat32) return values<float>();
  std::vector<float> found(count());
  for (std::size_t i = 0; i < found.size(); ++i) {
    std::uint16_t half;
    std::memcpy(&half, data + 2 * i, 2);
    found[i] = from_half(half);
  }
  return found;
}

template <typename T>
std::vector<T> Tensor::values() const {
  static_assert(std::endian::native == std::endian::little);
  std::vector<T> found(count());
  if (!found.empty()) std::memcpy(found.data(), data, found.size() * sizeof(T));
  return found;
}
template std::vector<float> Tensor::values() const;
template std::vector<std::int8_t> Tensor::values() const;
template std::vector<std::uint8_t> Tensor::values() const;
template std::vector<std::uint16_t> Tensor::values() const;
template std::vector<std::int32_t> Tensor::values() const;

Container open_container(std::string_view bytes, bool verify) {
  if (bytes.empty()) refuse("is empty");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes && i < bytes.size(); ++i)
    length |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  if (bytes.size() < kLengthBytes || length > bytes.size() - kLengthBytes)
    refuse("is truncated or not a safetensors file (" + std::to_string(bytes.size()) + " bytes)");
  const std::string_view header = bytes.substr(kLengthBytes, length), data = bytes.substr(kLengthBytes + length);
  const auto entries = header.substr(0, 1) == "{" ? parse_json(header) : std::nullopt;
  if (!entries) refuse_header();

  Container container;
  const Json* metadata = entries->object()->find("__metadata__");
  if (!metadata || !metadata->object()) refuse("is a safetensors file, but not one that biper wrote");
  for (const Member& member : metadata->object()->members)
    if (!member.value.text()) refuse_header();
  const Json* text = metadata->object()->find("biper");
  if (!text) refuse("is a safetensors file, but not one that biper wrote");
  auto document = parse_json(*text->text());
  if (!document) refuse_header();
  if (!document->object()) refuse("is corrupt: its document is no JSON object");
  container.document = std::move(*document);

  std::vector<Placed> placed;
  for (const Member& member : entries->object()->members) {
    if (&member.value == metadata) continue;
    const Object* entry = member.value.object();
    if (!entry || entry->members.size() != 3) refuse_header();
    const Json* dtype = entry->find("dtype");
    const std::string* name = dtype ? dtype->text() : nullptr;
    if (!name) refuse_header();
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& t) { return t.name == *name; });
    if (type == std::end(kTypes)) refuse("has a tensor " + member.key + " of type " + *name);
    Tensor tensor{type->type, sizes_of(entry->find("shape"), 32), nullptr};
    const Shape offsets = sizes_of(entry->find("data_offsets"), 2);
    std::int64_t bytes_needed = type->bytes;
    bool countable = true;
    for (const std::int64_t size : tensor.shape) {
      bytes_needed = product(bytes_needed, size);
      countable &= bytes_needed <= static_cast<std::int64_t>(data.size());
    }
    const bool fits = countable && offsets.size() == 2 && offsets[0] <= offsets[1] &&
                      offsets[1] <= static_cast<std::int64_t>(data.size()) && offsets[1] - offsets[0] == bytes_needed;
    if (!fits) refuse("is corrupt: the tensor " + member.key + " has another size than its shape");
    tensor.data = data.data() + offsets[0];
    const auto place = container.tensors.emplace(member.key, std::move(tensor)).first;
    placed.push_back({offsets[0], offsets[1], &place->first});
  }
  std::sort(placed.begin(), placed.end(),
            [](auto& a, auto& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::int64_t end = 0;
  for (const Placed& part : placed) {
    if (part.begin != end) refuse("is corrupt: the tensor " + *part.name + " does not follow the one before it");
    end = part.end;
  }
  if (end != static_cast<std::int64_t>(data.size())) refuse("is corrupt: it has bytes that are in no tensor");

  const Json* recorded = container.document.object()->find("sha256");
  if (!recorded || !recorded->text() || !is_hash(*recorded->text()))
    refuse("is a safetensors file, but not one that biper wrote");
  if (verify) {
    const std::size_t position = header.find(*recorded->text());
    if (position == header.npos || blanked_hash(bytes, kLengthBytes + position) != *recorded->text())
      refuse("is corrupt: its content does not match its checksum");
  }
  return container;
}

}  // namespace biper::capi
