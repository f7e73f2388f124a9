// Where the values of one image are in the arena: values that are not needed at the same time share memory.
#include <algorithm>
#include <vector>

#include "engine/engine.h"
#include "engine/operation.h"

namespace biper {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 33;

}  // namespace

// An image has few channels, so that padding its pixels to 16 channels would waste most of the memory traffic. Where
// only convolutions of one group read the input, its pixels follow each other without padding.
void Engine::pack_input() {
  const auto is_part = [](const Value& value) { return value.base == 0; };
  const auto returns = [](const Output& output) { return output.value == 0; };
  if (std::any_of(values_.begin(), values_.end(), is_part)) return;
  if (std::any_of(outputs_.begin(), outputs_.end(), returns)) return;
  for (const auto& op : operations_) {
    const bool reads = std::find(op->inputs.begin(), op->inputs.end(), 0) != op->inputs.end();
    const bool dense = op->is_real_convolution() && op->geometry.groups == 1;
    if (op->residual == 0 || (reads && !dense)) return;
  }
  values_[0].stride = values_[0].channels;
  for (const auto& op : operations_)
    if (op->rounded >= 0 && op->inputs[0] == 0) values_[op->rounded].stride = values_[0].stride;
}

// First fit: a value takes the lowest place that no value alive at the same time takes. A real result takes the place
// of its residual (see dying_residual), because that memory is in the cache.
void Engine::plan_memory() {
  // In the order of their places. Values are made in the order of their indices, so that those which are not read any
  // more when one is made will never be alive again.
  std::vector<const Value*> alive;
  const auto lower = [](const Value* a, const Value* b) { return a->offset < b->offset; };
  for (Value& value : values_) {
    if (value.constant) continue;
    if (value.base >= 0) {
      value.offset = values_[value.base].offset + 4 * value.first;
      continue;
    }
    std::erase_if(alive, [&](const Value* other) { return other->last_read < value.made; });
    std::int64_t offset = 0;
    if (const Value* residual = dying_residual(value)) {
      value.offset = residual->offset;
      alive.insert(std::upper_bound(alive.begin(), alive.end(), &value, lower), &value);
      continue;
    }
    for (const Value* other : alive) {
      if (offset + value.bytes() <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes());
    }
    value.offset = offset;
    alive.insert(std::upper_bound(alive.begin(), alive.end(), &value, lower), &value);
    arena_bytes_ = std::max(arena_bytes_, offset + value.bytes());
    require(arena_bytes_ <= kMaxBytes, "the program needs too much memory");
  }
}

// The residual of the operation that makes `value`, if `value` can overwrite it: the operation is the last to read the
// residual, reads it nowhere else, and writes each element after reading the one in its place. Else null.
const Value* Engine::dying_residual(const Value& value) const {
  if (value.made < 0) return nullptr;
  const Operation& op = *operations_[value.made];
  if (op.residual < 0 || op.real < 0 || &values_[op.real] != &value) return nullptr;
  const Value& residual = values_[op.residual];
  const bool read_otherwise = std::any_of(op.inputs.begin(), op.inputs.end(), [&](int input) {
    return input == op.residual || values_[input].base == op.residual;
  });
  if (residual.base >= 0) return nullptr;
  return residual.last_read == value.made && !read_otherwise && residual.stride == value.stride ? &residual : nullptr;
}

}  // namespace biper
