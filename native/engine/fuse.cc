// Which operations are computed together with the one before them, so that values are not written and read again.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/engine.h"
#include "engine/operation.h"

namespace biper {
namespace {

// Whether the epilogue of a convolution never makes the larger of two sums the smaller of two results. Rounded products
// and sums keep this order, too.
bool keeps_order(const Operation& op) {
  const Epilogue& e = op.epilogue;
  const auto rises = [&](const float* factors) {
    return std::all_of(factors, factors + op.channels, [](float f) { return f >= 0 && std::isfinite(f); });
  };
  if (op.residual >= 0 || (e.multiplier && !rises(e.multiplier))) return false;
  return e.activation != Activation::kPrelu || rises(e.slope);
}

// Whether a pool does nothing to its maxima but to store them.
bool is_plain_maximum(const Operation& pool) {
  const Epilogue& e = pool.epilogue;
  return pool.pooling.maximum && pool.residual < 0 && !e.multiplier && !e.offset && e.activation == Activation::kNone;
}

// Whether an operation does nothing but to make the signs of a multiple of its input and an offset, as RSign does.
bool makes_signs_alone(const Operation& op) {
  const Epilogue& e = op.epilogue;
  return op.kind == Operation::Kind::kElementwise && op.real < 0 && op.residual < 0 &&
         e.activation == Activation::kNone;
}

}  // namespace

// Operations that are computed together with the one before them do nothing in their turn. Threads share the rows of an
// operation, and the rows of the next one wait for all of them; this saves such a wait, too.
void Engine::fuse() {
  fuse_pools();
  fuse_signs();
}

// Where a pool is the only one to read the result of the convolution before it, both are computed some rows at a time,
// so that the rows in between stay in the cache. Each thread has memory for its own rows. The maximum of results is the
// result of the maximal sum, so that an epilogue which keeps the order is computed once for a window, by the pool.
void Engine::fuse_pools() {
  constexpr std::int64_t kBandBytes = 256 << 10;
  for (std::size_t i = 1; i < operations_.size(); ++i) {
    Operation &pool = *operations_[i], &convolution = *operations_[i - 1];
    if (pool.kind != Operation::Kind::kPool || !convolution.is_convolution()) continue;
    const int id = convolution.real;
    if (pool.inputs[0] != id || pool.residual == id || convolution.bits >= 0) continue;
    Value& value = values_[id];
    const auto is_part = [&](const Value& other) { return other.base == id; };
    const auto returns = [&](const Output& output) { return output.value == id; };
    if (value.last_read != static_cast<int>(i) || dying_residual(value)) continue;
    if (std::any_of(values_.begin(), values_.end(), is_part)) continue;
    if (std::any_of(outputs_.begin(), outputs_.end(), returns)) continue;
    const std::int64_t row = std::int64_t{value.width} * value.stride;
    const std::int64_t rows = kBandBytes / 4 / row / pool.pooling.step_y;
    const int pool_rows = static_cast<int>(std::clamp<std::int64_t>(rows, 1, pool.height));
    const std::int64_t floats = pool.pooling.rows_read(pool_rows) * row * pool_.threads();
    if (floats >= value.all_floats()) continue;
    convolution.pool = &pool, convolution.pool_rows = pool_rows;
    pool.is_fused = true;
    if (is_plain_maximum(pool) && keeps_order(convolution)) {
      std::swap(convolution.epilogue, pool.epilogue);
      const bool integers = convolution.kind == Operation::Kind::kInt8Convolution ||
                            convolution.kind == Operation::Kind::kBinaryConvolution;
      pool.pooling.never_nan = integers;
    }
    value.floats = floats;
    for (const int result : {pool.real, pool.bits})
      if (result >= 0) values_[result].made = value.made;
  }
}

// Where an operation makes nothing but the signs of what the one before it makes, that one makes them, too.
void Engine::fuse_signs() {
  for (std::size_t i = 1; i < operations_.size(); ++i) {
    Operation &signs = *operations_[i], &before = *operations_[i - 1];
    const bool has_epilogue = before.is_convolution() || before.kind == Operation::Kind::kPool ||
                              before.kind == Operation::Kind::kElementwise;
    if (!makes_signs_alone(signs) || !has_epilogue || before.real != signs.inputs[0] || before.bits >= 0) continue;
    const float* factors = signs.epilogue.multiplier;
    const bool are_ones = factors && std::all_of(factors, factors + signs.channels, [](float f) { return f == 1; });
    before.epilogue.sign_multiplier = are_ones ? nullptr : factors;
    before.epilogue.sign_offset = signs.epilogue.offset;
    before.bits = std::exchange(signs.bits, -1);
    values_[before.bits].made = values_[before.real].made;
    signs.is_fused = true;
  }
}

}  // namespace biper
