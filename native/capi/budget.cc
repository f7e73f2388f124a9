#include "capi/budget.h"

#include <algorithm>
#include <map>

#include "capi/array_views.h"

namespace biper::capi {
namespace {

constexpr std::int64_t kFloat = 4, kMoved = 4;

// The number of elements of a value; those of an image with its channels rounded up to whole blocks.
std::int64_t elements(Shape shape, bool is_image) {
  if (is_image && shape.size() == 3) shape[0] = rounded(shape[0]);
  return product(shape);
}

}  // namespace

void Budget::add_memory(std::int64_t bytes, const char* what) {
  memory_ = sum(memory_, bytes);
  if (memory_ > max_memory_)
    throw LimitError(check_.where + " needs " + std::to_string(memory_) + " bytes of memory with " + what +
                     ", more than max_memory=" + std::to_string(max_memory_) + " allows");
}

void Budget::add_work(std::int64_t operations) {
  work_ = sum(work_, operations);
  if (work_ > max_work_)
    throw LimitError(check_.where + " brings the work for one image to " + std::to_string(work_) +
                     " elementary operations, more than max_work=" + std::to_string(max_work_) + " allows");
}

void Budget::add_operation(const std::vector<Shape>& inputs, const Shape& shape, std::int64_t each, bool on_images) {
  std::int64_t moved = 0;
  for (const Shape& input : inputs) moved = sum(moved, product(product(input), kMoved));
  add_work(sum(moved, product(elements(shape, on_images), sum(each, kMoved))));
}

void Budget::add_values(const Program& program, const ImageNames& images) {
  struct Value {
    std::int64_t bytes;
    std::size_t last_read;  // counted from 1; 0 is before the first step
  };
  std::map<std::string, Value, std::less<>> values;
  std::int64_t alive = 0;
  const auto add = [&](const std::string& name, const Shape& shape, std::int64_t parts, std::size_t made) {
    const std::int64_t bytes = kFloat * elements(shape, images.count(name) > 0) / parts;
    values[name] = {bytes, made};
    return bytes;
  };
  alive += add("image", program.image, 1, 0);
  for (const NamedShape& input : program.inputs) alive += add(input.name, input.shape, 1, 0);
  std::vector<std::int64_t> made(program.steps.size() + 1), ends(program.steps.size() + 2);
  for (std::size_t number = 1; number <= program.steps.size(); ++number) {
    const Step& step = program.steps[number - 1];
    for (const std::string& name : step.inputs) values[name].last_read = number;
    if (step.residual) values[*step.residual].last_read = number;
    if (step.real) made[number] += add(*step.real, step.shape, 1, number);
    if (step.bits) made[number] += add(*step.bits, step.shape, 32, number);
  }
  for (const Result& result : program.results) {
    values[result.value].last_read = program.steps.size() + 1;
    add_memory(values[result.value].bytes, "its results");
  }
  for (const auto& [name, value] : values) ends[value.last_read] += value.bytes;
  std::int64_t most = alive;
  alive -= ends[0];
  for (std::size_t number = 1; number <= program.steps.size(); ++number) {
    alive += made[number];
    most = std::max(most, alive);
    alive -= ends[number];
  }
  add_memory(most, "the values of one image");
}

}  // namespace biper::capi
