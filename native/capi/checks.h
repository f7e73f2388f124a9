// Elementary checks of an untrusted document: each names the place and the problem when it fails.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "capi/json.h"
#include "capi/operation_table.h"

namespace biper::capi {

// A file that cannot be used; `what` says what is wrong and where.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A file that needs more memory or work than it may.
struct LimitError : FormatError {
  using FormatError::FormatError;
};

using Shape = std::vector<std::int64_t>;

// Sums and products of numbers that are not negative; the largest number where the result would be larger.
std::int64_t sum(std::int64_t a, std::int64_t b);
std::int64_t product(std::int64_t a, std::int64_t b);
std::int64_t product(const Shape& shape);

// The quotient rounded down, for a positive divisor.
inline std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0); }

std::string to_text(const Shape& shape);

// Numbers that the rules have checked to be small.
inline std::vector<int> as_ints(const Shape& numbers) { return {numbers.begin(), numbers.end()}; }

class Checker {
 public:
  std::string where = "the model";  // the part that is being checked

  [[noreturn]] void fail(const std::string& problem) const { throw FormatError(where + " " + problem); }
  void require(bool condition, const char* problem) const {
    if (!condition) fail(problem);
  }

  const Object& object(const Json* value, const char* name) const;
  // A list of so many integers from `low` to `high`.
  Shape integers(const Json* value, const char* name, std::size_t count, std::int64_t low, std::int64_t high) const;
  std::int64_t integer(const Json* value, const char* name, std::int64_t low, std::int64_t high) const;
  // A number that is smaller than 1e30 in size.
  double number(const Json* value, const char* name) const;
  std::vector<double> numbers(const Json* value, const char* name, std::size_t count) const;
  bool flag(const Json* value, const char* name) const;
  const std::string& text(const Json* value, const char* name) const;
  std::vector<std::string> texts(const Json* value, const char* problem) const;
  // Requires that a value of this shape is neither empty nor too large.
  void size(const Shape& shape) const;
  // A list of sizes.
  Shape shape(const Json* value) const;
};

}  // namespace biper::capi
