// Running an engine: its operations one after another on an image, and the time that each takes.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "engine/arrays.h"
#include "engine/context.h"
#include "engine/engine.h"
#include "engine/operation.h"

namespace biper {
namespace {

std::int64_t result_blocks(const Operation& op) {
  return std::int64_t{op.height} * op.width * round_up(op.channels, kLanes) / kLanes;
}

// Whether a convolution reads a value that it cannot compute alike on every instruction set: levels have no NaN, the
// row transform spreads what is not finite to neighbouring results, and a block of several groups to their results.
bool fails(const Operation& op, const float* x, const Value& value) {
  const bool levels = op.kind == Operation::Kind::kInt8Convolution;
  const bool bfloat16 = op.kind == Operation::Kind::kBfloat16Convolution || op.rounded >= 0;
  if (!levels && !op.needs_finite) return false;
  constexpr std::uint32_t kSign = 1u << 31, kInfinite = 0xffu << 23;  // of a float; NaN has more bits than infinity
  constexpr std::uint32_t kRoundedToInfinity = 0x7f7f8000;            // the least float that bfloat16 makes infinite
  const std::uint32_t least = levels ? kInfinite + 1 : bfloat16 ? kRoundedToInfinity : kInfinite;
  const auto any_from = [least](const float* at, int count) {
    std::uint32_t found = 0;  // its highest bit: some float has the bits of `least` or more, without its sign
    for (int i = 0; i < count; ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, at + i, sizeof(bits));
      found |= (bits & ~kSign) + (kSign - least);
    }
    return (found & kSign) != 0;
  };
  const Geometry& g = op.geometry;
  const std::int64_t row_floats = std::int64_t{value.width} * value.stride;
  for (int row = 0; row < value.height; ++row, x += row_floats) {
    if (!g.reads_row(g.pad_top + row)) continue;
    if (value.stride == value.channels && g.reads_all_columns()) {
      if (any_from(x, value.width * value.channels)) return true;
      continue;
    }
    for (int column = 0; column < value.width; ++column)
      if (g.reads_column(g.pad_left + column) && any_from(x + std::int64_t{column} * value.stride, value.channels))
        return true;
  }
  return false;
}

// Computes rows [begin, end) of the result of a pool, and the rows of the convolution before it that they need, some at
// a time in `memory`. `rows` computes rows of the convolution.
template <typename F>
void convolve_and_pool(const Context& context, const Operation& op, const Epilogue& e, const Epilogue& of_pool,
                       float* memory, int begin, int end, F&& rows) {
  const Pooling& p = op.pool->pooling;
  const std::int64_t row = std::int64_t{op.width} * context.values[op.real].stride;
  int last = 0;  // rows from here on have not been computed
  float* in_memory = memory;
  for (int first = begin; first < end; first += op.pool_rows) {
    const int behind = std::min(first + op.pool_rows, end);
    const int top = std::max(first * p.step_y - p.pad_y, 0);
    const int bottom = std::min((behind - 1) * p.step_y - p.pad_y + p.kernel_y, p.height);
    float* moved = memory - top * row;  // where row 0 would be
    if (last > top) std::memmove(memory, in_memory + top * row, (last - top) * row * sizeof(float));
    in_memory = moved;
    Epilogue here = e;
    here.real = moved;
    if (std::max(top, last) < bottom) rows(here, std::max(top, last), bottom);
    last = std::max(last, bottom);
    context.kernels.pool(p, moved, of_pool, first, behind);
  }
}

// The epilogue of an operation with the addresses of what it reads and writes.
Epilogue epilogue_of(const Context& context, const Operation& op) {
  Epilogue e = op.epilogue;
  if (op.residual >= 0) e.residual = context.real(op.residual);
  if (op.real >= 0) e.real = context.real(op.real);
  if (op.bits >= 0) e.bits = context.bits(op.bits);
  return e;
}

// Whether each result is made of the input pixel in its place alone.
bool is_pointwise(const Geometry& g) {
  const bool one = g.kernel_y == 1 && g.kernel_x == 1 && g.step_y == 1 && g.step_x == 1;
  return one && g.pad_top == 0 && g.pad_left == 0 && g.out_height == g.height && g.out_width == g.width;
}

// Calls work(geometry, first input, epilogue, begin, end) for rows [begin, end) of a convolution. Those of a pointwise
// one are taken as one row, because tiles are pixels of a row, of which a sequence of tokens has one.
template <typename T, typename F>
void on_rows(const Geometry& g, const T* in, const Epilogue& e, int begin, int end, F&& work) {
  if (!is_pointwise(g)) return work(g, in, e, begin, end);
  const std::int64_t first = std::int64_t{begin} * g.width, stride = round_up(e.channels, kLanes);
  Geometry row = g;
  row.height = row.out_height = 1;
  row.width = row.out_width = (end - begin) * g.width;
  Epilogue from = e;
  if (e.residual) from.residual += first * stride;
  if (e.real) from.real += first * stride;
  if (e.bits) from.bits += first * halves_of(e.channels);
  work(row, in + first * g.stride, from, 0, 1);
}

void convolve(const Context& context, const Operation& op) {
  const Kernels& kernels = context.kernels;
  const int input = op.inputs[0];
  Geometry g = op.geometry;
  g.stride = context.values[input].stride;
  const std::int64_t taps = std::int64_t{g.kernel_y} * g.kernel_x, blocks = result_blocks(op);
  const float* x = context.real(input);
  const bool is_plain = fails(op, x, context.values[input]);
  if (is_plain && !op.plain_weights.data()) {
    context.failed = true;
    return;
  }
  if (op.rounded >= 0) {
    const std::int64_t row = std::int64_t{g.width} * g.stride;
    float* rounded = context.real(op.rounded);
    context.split(g.height, g.height * row / kLanes, [&](int begin, int end) {
      for (std::int64_t i = begin * row; i < end * row; ++i) rounded[i] = from_bfloat16(to_bfloat16(x[i]));
    });
    x = rounded;
  }
  const Epilogue e = epilogue_of(context, op);
  // `rows` computes rows [begin, end) of the result, with an epilogue; `cost` is that of all rows.
  const auto compute = [&](std::int64_t cost, auto&& rows) {
    if (!op.pool) return context.split(op.height, cost, [&](int begin, int end) { rows(e, begin, end); });
    const Epilogue of_pool = epilogue_of(context, *op.pool);
    const std::int64_t row = std::int64_t{op.width} * context.values[op.real].stride;
    const std::int64_t floats = op.pool->pooling.rows_read(op.pool_rows) * row;
    context.split_numbered(op.pool->height, cost, [&](int begin, int end, int part) {
      convolve_and_pool(context, op, e, of_pool, context.real(op.real) + part * floats, begin, end, rows);
    });
  };
  if (op.kind == Operation::Kind::kInt8Convolution) {
    std::uint8_t* levels = context.memory(op.scratch);
    context.split(g.padded_height(), std::int64_t{g.height} * g.width * g.channels / kLanes,
                  [&](int begin, int end) { kernels.round_to_levels(g, op.levels, x, levels, begin, end); });
    compute(blocks * taps * g.channels / 4, [&](const Epilogue& to, int begin, int end) {
      kernels.int8_convolution(g, op.levels, levels, op.bit_weights.data(), op.initial.data(), to, begin, end);
    });
  } else if (op.kind == Operation::Kind::kBfloat16Convolution) {
    auto* rows = reinterpret_cast<std::uint16_t*>(context.memory(op.scratch));
    context.split(g.padded_height(), std::int64_t{g.height} * g.width * g.channels / kLanes,
                  [&](int begin, int end) { kernels.round_to_bfloat16(g, op.row_stride, x, rows, begin, end); });
    compute(blocks * taps * g.channels / 2, [&](const Epilogue& to, int begin, int end) {
      kernels.bfloat16_convolution(g, op.row_stride, rows, op.bit_weights.data(), to, begin, end);
    });
  } else if (op.kind == Operation::Kind::kBinaryConvolution) {
    const BitWeights weights{op.bit_weights.data(), op.all_rows_weights.data(), op.pair_weights.data(),
                             op.masked_weights.data()};
    compute(3 * blocks * taps * (g.stride + 1) / 2, [&](const Epilogue& to, int begin, int end) {
      on_rows(g, context.bits(input), to, begin, end,
              [&](const Geometry& part, const std::uint16_t* in, const Epilogue& result, int first, int last) {
                kernels.binary_convolution(part, in, weights, result, first, last);
              });
    });
  } else if (op.transform) {
    const RowTransform& t = *op.transform;
    float* transformed = context.real(op.scratch);
    context.split(g.height, std::int64_t{g.height} * t.tiles * t.points * t.points,
                  [&](int begin, int end) { kernels.transform_rows(g, t, x, transformed, begin, end); });
    compute(blocks * taps * g.channels / 2, [&](const Epilogue& to, int begin, int end) {
      kernels.transformed_convolution(g, t, transformed, op.weights.data(), to, begin, end);
    });
  } else {
    compute(blocks * taps * g.channels / g.groups, [&](const Epilogue& to, int begin, int end) {
      on_rows(g, x, to, begin, end,
              [&](const Geometry& part, const float* in, const Epilogue& result, int first, int last) {
                const Kernels& chosen = is_plain ? kScalar : kernels;
                const Aligned<float>& weights = is_plain ? op.plain_weights : op.weights;
                chosen.convolution(part, in, weights.data(), result, first, last);
              });
    });
  }
}

// Copies the channels of pixels that are `stride` floats apart to where they are `to_stride` floats apart.
void copy_pixels(const float* from, int stride, int channels, float* to, int to_stride, std::int64_t pixels) {
  for (; pixels-- > 0; from += stride, to += to_stride) {
    int c = 0;
    for (; c + kLanes <= channels; c += kLanes)
      std::memcpy(to + c, from + c, kLanes * sizeof(float));  // of a constant size, so that it is no call
    if (c < channels) std::memcpy(to + c, from + c, (channels - c) * sizeof(float));
  }
}

// Copies the inputs of a move to their places in the value `id`.
void move_values(const Context& context, const Operation& op, int id) {
  const Value& in = context.values[op.inputs[0]];
  const float* x = context.real(op.inputs[0]);
  float* to = context.real(id);
  const int stride = context.values[id].stride;
  const std::int64_t pixels = std::int64_t{op.height} * op.width;
  switch (op.kind) {
    case Operation::Kind::kPad:
      std::memset(to, 0, pixels * stride * sizeof(float));
      copy_pixels(x, in.stride, in.channels, to + op.before, stride, pixels);
      break;
    case Operation::Kind::kConcatenate: {
      int first = 0;
      for (int input : op.inputs) {
        const Value& value = context.values[input];
        copy_pixels(context.real(input), value.stride, value.channels, to + first, stride, pixels);
        first += value.channels;
      }
      break;
    }
    case Operation::Kind::kResize:
      for (std::int64_t row = 0; row < op.height; ++row)
        for (std::int64_t column = 0; column < op.width; ++column) {
          const std::int64_t from = row * in.height / op.height * in.width + column * in.width / op.width;
          std::memcpy(to + (row * op.width + column) * stride, x + from * in.stride, in.channels * sizeof(float));
        }
      break;
    default:  // kFlatten
      for (int c = 0; c < in.channels; ++c)
        for (std::int64_t p = 0; p < in.pixels(); ++p) to[c * in.pixels() + p] = x[p * in.stride + c];
  }
}

void execute(const Context& context, const Operation& op) {
  if (op.array) return op.array->run(context);
  if (op.is_fused) return;
  if (op.is_convolution()) return convolve(context, op);
  const Epilogue e = epilogue_of(context, op);
  const int pixels = op.height * op.width;
  if (op.kind == Operation::Kind::kPool) {
    const std::int64_t cost = result_blocks(op) * op.pooling.kernel_y * op.pooling.kernel_x;
    context.split(op.height, cost, [&](int begin, int end) {
      context.kernels.pool(op.pooling, context.real(op.inputs[0]), e, begin, end);
    });
  } else if (op.kind == Operation::Kind::kElementwise) {
    context.split(pixels, 4 * result_blocks(op), [&](int begin, int end) {
      context.kernels.elementwise(context.real(op.inputs[0]), op.channels, 0, e, begin, end);
    });
  } else if (op.joins_blocks) {
    context.split(pixels, 4 * result_blocks(op), [&](int begin, int end) {
      int first = 0;
      for (const int input : op.inputs) {
        const int channels = context.values[input].channels;
        context.kernels.elementwise(context.real(input), channels, first, e, begin, end);
        first += channels;
      }
    });
  } else {
    move_values(context, op, op.scratch >= 0 ? op.scratch : op.real);
    if (op.scratch >= 0) context.kernels.elementwise(context.real(op.scratch), op.channels, 0, e, 0, pixels);
  }
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::unique_ptr<Arena> Engine::take_arena() {
  {
    const std::lock_guard<std::mutex> lock(fork_safe_mutex());
    if (!idle_.empty()) {
      auto arena = std::move(idle_.back());
      idle_.pop_back();
      return arena;
    }
  }
  return std::make_unique<Arena>(arena_bytes_);
}

void Engine::give_arena(std::unique_ptr<Arena> arena) {
  const std::lock_guard<std::mutex> lock(fork_safe_mutex());
  idle_.push_back(std::move(arena));
}

void Engine::run(const std::vector<const float*>& inputs, std::int64_t count, const std::vector<float*>& results) {
  require(finished_, "the engine is not finished");
  require(inputs.size() == inputs_.size() && results.size() == outputs_.size(), "another number of inputs or results");
  std::atomic<bool> failed{false};
  compute(inputs, count, results, failed);
  if (failed)
    throw std::domain_error(
        "a value that is not finite (NaN or infinite) reaches a convolution that needs finite ones");
}

void Engine::compute(const std::vector<const float*>& inputs, std::int64_t count, const std::vector<float*>& results,
                     std::atomic<bool>& failed) {
  // With enough images for every thread, each thread computes whole images. With fewer, all threads share
  // the rows of each operation.
  const int threads = pool_.threads();
  if (threads > 1 && count >= 2 * threads) {
    const int parts = static_cast<int>(std::min<std::int64_t>(count, 4 * threads));
    pool_.run(parts, [&](int part) {
      auto arena = take_arena();
      for (std::int64_t image = count * part / parts; image < count * (part + 1) / parts; ++image)
        run_one(inputs, results, image, arena->memory.data(), false, failed);
      give_arena(std::move(arena));
    });
    return;
  }
  auto arena = take_arena();
  for (std::int64_t image = 0; image < count; ++image)
    run_one(inputs, results, image, arena->memory.data(), threads > 1, failed);
  give_arena(std::move(arena));
}

void Engine::read_image(const float* image, std::uint8_t* arena) const {
  const Value& in = values_[0];
  float* input = reinterpret_cast<float*>(arena + in.offset);
  const std::int64_t pixels = in.pixels();
  if (in.stride == 3) {  // pixel by pixel: writing takes most of the time, and this way it is sequential
    for (std::int64_t p = 0; p < pixels; ++p)
      for (int c = 0; c < 3; ++c) input[3 * p + c] = image[c * pixels + p];
  } else {
    for (int c = 0; c < in.channels; ++c)
      for (std::int64_t p = 0; p < pixels; ++p) input[p * in.stride + c] = image[c * pixels + p];
  }
}

void Engine::read_inputs(const std::vector<const float*>& inputs, std::int64_t image, const Context& context) const {
  read_image(inputs[0] + image * input_elements(0), context.arena);
  for (std::size_t i = 1; i < inputs_.size(); ++i) {
    const std::int64_t floats = input_elements(i);
    std::memcpy(context.real(inputs_[i]), inputs[i] + image * floats, floats * sizeof(float));
  }
}

void Engine::run_one(const std::vector<const float*>& inputs, const std::vector<float*>& results, std::int64_t image,
                     std::uint8_t* arena, bool parallel, std::atomic<bool>& failed) {
  const Context context{*kernels_, values_, arena, pool_, parallel, failed};
  read_inputs(inputs, image, context);
  for (const auto& operation : operations_) execute(context, *operation);
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const Output& output = outputs_[i];
    output.copy.run(results[i] + image * output.copy.elements(), context.read(output.value), 0, output.copy.chunks());
  }
}

std::vector<double> Engine::profile(const std::vector<const float*>& inputs, int rounds) {
  require(finished_ && inputs.size() == inputs_.size(), "the engine is not finished, or has other inputs");
  require(rounds >= 1 && rounds <= 100'000, "the number of rounds is out of range");
  std::vector<std::vector<float>> memory;
  std::vector<float*> results;
  for (const Output& output : outputs_) memory.emplace_back(output.copy.elements());
  for (auto& result : memory) results.push_back(result.data());
  auto arena = take_arena();
  std::atomic<bool> failed{false};  // only the time matters
  const Context context{*kernels_, values_, arena->memory.data(), pool_, pool_.threads() > 1, failed};
  run_one(inputs, results, 0, context.arena, context.parallel, failed);
  std::vector<std::vector<double>> times(operations_.size());
  for (int round = 0; round < rounds; ++round) {
    // Later values lie in the memory of the inputs. A convolution that reads what is not finite there returns at once.
    read_inputs(inputs, 0, context);
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      execute(context, *operations_[i]);
      times[i].push_back(seconds_since(start));
    }
  }
  give_arena(std::move(arena));
  std::vector<double> medians;
  for (auto& samples : times) {
    std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
    medians.push_back(samples[samples.size() / 2]);
  }
  return medians;
}

double Engine::measure_peak() const {
  const std::int64_t rounds = 200'000;
  double best = 0;
  volatile std::uint32_t sink = 0;  // so that the compiler cannot leave the work out
  for (int trial = 0; trial < 7; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    sink = sink + kernels_->peak(rounds);
    best = std::max(best, static_cast<double>(rounds) * kernels_->peak_bits / seconds_since(start));
  }
  return best;
}

}  // namespace biper
