// What a packed program may cost: memory and work, as biper.runtime.budget counts them.
#pragma once

#include <set>
#include <string>

#include "capi/program.h"

namespace biper::capi {

using ImageNames = std::set<std::string, std::less<>>;  // the values that operations on images make

class Budget {
 public:
  Budget(const Checker& check, std::int64_t max_memory, std::int64_t max_work)
      : check_(check), max_memory_(max_memory), max_work_(max_work) {}

  // Each throws LimitError where more is needed than allowed.
  void add_memory(std::int64_t bytes, const char* what);
  void add_work(std::int64_t operations);
  // The work of an operation; `each` as work_of gives it.
  void add_operation(const std::vector<Shape>& inputs, const Shape& shape, std::int64_t each, bool on_images);
  // The most memory of values that are needed at the same time, and a copy of each result.
  void add_values(const Program& program, const ImageNames& images);

 private:
  const Checker& check_;
  std::int64_t max_memory_, max_work_, memory_ = 0, work_ = 0;
};

}  // namespace biper::capi
