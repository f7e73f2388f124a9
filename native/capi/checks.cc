#include "capi/checks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace biper::capi {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

}  // namespace

std::int64_t sum(std::int64_t a, std::int64_t b) { return a > kMost - b ? kMost : a + b; }

std::int64_t product(std::int64_t a, std::int64_t b) { return a && b > kMost / a ? kMost : a * b; }

std::int64_t product(const Shape& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t all = 1;
  for (const std::int64_t size : shape) all = product(all, size);
  return all;
}

std::string to_text(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

const Object& Checker::object(const Json* value, const char* name) const {
  const Object* found = value ? value->object() : nullptr;
  if (!found) fail(std::string("has no ") + name);
  return *found;
}

Shape Checker::integers(const Json* value, const char* name, std::size_t count, std::int64_t low,
                        std::int64_t high) const {
  const auto* list = value ? value->list() : nullptr;
  bool valid = list && list->size() == count;
  Shape found;
  for (std::size_t i = 0; valid && i < count; ++i) {
    const std::int64_t* number = (*list)[i].integer();
    valid = number && *number >= low && *number <= high;
    if (valid) found.push_back(*number);
  }
  if (!valid)
    fail(std::string("has another ") + name + " than " + std::to_string(count) + " integers from " +
         std::to_string(low) + " to " + std::to_string(high));
  return found;
}

std::int64_t Checker::integer(const Json* value, const char* name, std::int64_t low, std::int64_t high) const {
  const std::int64_t* number = value ? value->integer() : nullptr;
  if (!number || *number < low || *number > high)
    fail(std::string("has another ") + name + " than an integer from " + std::to_string(low) + " to " +
         std::to_string(high));
  return *number;
}

double Checker::number(const Json* value, const char* name) const {
  const auto number = value ? value->number() : std::nullopt;
  if (!number || !(std::abs(*number) < 1e30)) fail(std::string("has another ") + name + " than a finite number");
  return *number;
}

std::vector<double> Checker::numbers(const Json* value, const char* name, std::size_t count) const {
  const auto* list = value ? value->list() : nullptr;
  if (!list || list->size() != count)
    fail(std::string("has another ") + name + " than " + std::to_string(count) + " finite numbers");
  std::vector<double> found;
  for (const Json& entry : *list) found.push_back(number(&entry, name));
  return found;
}

bool Checker::flag(const Json* value, const char* name) const {
  const bool* found = value ? value->flag() : nullptr;
  if (!found) fail(std::string("has another ") + name + " than true or false");
  return *found;
}

const std::string& Checker::text(const Json* value, const char* name) const {
  const std::string* found = value ? value->text() : nullptr;
  if (!found) fail(std::string("has no text as its ") + name);
  return *found;
}

std::vector<std::string> Checker::texts(const Json* value, const char* problem) const {
  const auto* list = value ? value->list() : nullptr;
  require(list, problem);
  std::vector<std::string> found;
  for (const Json& entry : *list) {
    require(entry.text(), problem);
    found.push_back(*entry.text());
  }
  return found;
}

void Checker::size(const Shape& shape) const {
  const bool full = std::all_of(shape.begin(), shape.end(), [](std::int64_t size) { return size >= 1; });
  if (!full || product(shape) > kMaxSize) fail("makes a value of shape " + to_text(shape));
}

Shape Checker::shape(const Json* value) const {
  const auto* list = value ? value->list() : nullptr;
  require(list && list->size() <= static_cast<std::size_t>(kMaxRankOfValue), "has no shape, or one of too many sizes");
  return integers(value, "shape", list->size(), 1, kMaxSize);
}

}  // namespace biper::capi
