// Running an engine: its operations one after another on an image, and the time that each takes.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "engine/engine.h"
#include "engine/operation.h"

namespace biper {
namespace {

// Vector instructions that take longer than waking another thread, which takes about ten microseconds.
constexpr std::int64_t kWorthSplitting = 50'000;

// What an operation needs besides itself in order to run on one image.
struct Context {
  const Kernels& kernels;
  const std::vector<Value>& values;
  std::uint8_t* arena;
  ThreadPool& pool;
  bool parallel;  // whether threads share the operation

  std::uint8_t* memory(int id) const { return arena + values[id].offset; }
  float* real(int id) const { return reinterpret_cast<float*>(memory(id)); }
  std::uint16_t* bits(int id) const { return reinterpret_cast<std::uint16_t*>(memory(id)); }

  // Calls work(begin, end) for parts of [0, units), in several threads if that pays; `cost` is the approximate number
  // of vector instructions of all units together.
  template <typename F>
  void split(int units, std::int64_t cost, F&& work) const {
    const int parts = parallel && cost > kWorthSplitting ? std::min(units, pool.threads()) : 1;
    pool.run(parts, [&](int part) {
      work(static_cast<int>(std::int64_t{units} * part / parts),
           static_cast<int>(std::int64_t{units} * (part + 1) / parts));
    });
  }
};

std::int64_t result_blocks(const Operation& op) {
  return std::int64_t{op.height} * op.width * round_up(op.channels, kLanes) / kLanes;
}

void convolve(const Context& context, const Operation& op, const Epilogue& e) {
  const Kernels& kernels = context.kernels;
  const int input = op.inputs[0];
  Geometry g = op.geometry;
  g.stride = context.values[input].stride;
  const std::int64_t taps = std::int64_t{g.kernel_y} * g.kernel_x, blocks = result_blocks(op);
  if (op.kind == Operation::Kind::kInt8Convolution) {
    std::uint8_t* levels = context.memory(op.scratch);
    context.split(g.padded_height(), std::int64_t{g.height} * g.width * g.channels / kLanes, [&](int begin, int end) {
      kernels.round_to_levels(g, op.levels, context.real(input), levels, begin, end);
    });
    context.split(op.height, blocks * taps * g.channels / 4, [&](int begin, int end) {
      kernels.int8_convolution(g, op.levels, levels, op.bit_weights.data(), op.initial.data(), e, begin, end);
    });
  } else if (op.kind == Operation::Kind::kBinaryConvolution) {
    const BitWeights weights{op.bit_weights.data(), op.all_rows_weights.data(), op.pair_weights.data()};
    context.split(op.height, 3 * blocks * taps * (g.stride + 1) / 2, [&](int begin, int end) {
      kernels.binary_convolution(g, context.bits(input), weights, e, begin, end);
    });
  } else if (op.transform) {
    const RowTransform& t = *op.transform;
    float* transformed = context.real(op.scratch);
    context.split(g.height, std::int64_t{g.height} * t.tiles * t.points * t.points, [&](int begin, int end) {
      kernels.transform_rows(g, t, context.real(input), transformed, begin, end);
    });
    context.split(op.height, blocks * taps * g.channels / 2, [&](int begin, int end) {
      kernels.transformed_convolution(g, t, transformed, op.weights.data(), e, begin, end);
    });
  } else {
    context.split(op.height, blocks * taps * g.channels / g.groups, [&](int begin, int end) {
      kernels.convolution(g, context.real(input), op.weights.data(), e, begin, end);
    });
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
      for (std::int64_t p = 0; p < pixels; ++p) {
        std::memset(to + p * stride, 0, stride * sizeof(float));
        std::memcpy(to + p * stride + op.before, x + p * in.stride, in.channels * sizeof(float));
      }
      break;
    case Operation::Kind::kConcatenate: {
      int first = 0;
      for (int input : op.inputs) {
        const Value& value = context.values[input];
        for (std::int64_t p = 0; p < pixels; ++p)
          std::memcpy(to + p * stride + first, context.real(input) + p * value.stride, value.channels * sizeof(float));
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
  Epilogue e = op.epilogue;
  if (op.residual >= 0) e.residual = context.real(op.residual);
  if (op.real >= 0) e.real = context.real(op.real);
  if (op.bits >= 0) e.bits = context.bits(op.bits);
  const int pixels = op.height * op.width;
  if (op.is_convolution()) {
    convolve(context, op, e);
  } else if (op.kind == Operation::Kind::kPool) {
    const std::int64_t cost = result_blocks(op) * op.pooling.kernel_y * op.pooling.kernel_x;
    context.split(op.height, cost, [&](int begin, int end) {
      context.kernels.pool(op.pooling, context.real(op.inputs[0]), e, begin, end);
    });
  } else if (op.kind == Operation::Kind::kElementwise) {
    context.split(pixels, 4 * result_blocks(op),
                  [&](int begin, int end) { context.kernels.elementwise(context.real(op.inputs[0]), e, begin, end); });
  } else {
    move_values(context, op, op.scratch >= 0 ? op.scratch : op.real);
    if (op.scratch >= 0) context.kernels.elementwise(context.real(op.scratch), e, 0, pixels);
  }
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::unique_ptr<Arena> Engine::take_arena() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      auto arena = std::move(idle_.back());
      idle_.pop_back();
      return arena;
    }
  }
  return std::make_unique<Arena>(arena_bytes_);
}

void Engine::give_arena(std::unique_ptr<Arena> arena) {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(arena));
}

void Engine::run(const float* images, std::int64_t count, float* results) {
  require(output_ >= 0, "the engine is not finished");
  const std::int64_t in = values_[0].channels * values_[0].pixels();
  const std::int64_t out = values_[output_].channels * values_[output_].pixels();
  // With enough images for every thread, each thread computes whole images. With fewer, all threads share
  // the rows of each operation.
  const int threads = pool_.threads();
  if (threads > 1 && count >= 2 * threads) {
    const int parts = static_cast<int>(std::min<std::int64_t>(count, 4 * threads));
    pool_.run(parts, [&](int part) {
      auto arena = take_arena();
      for (std::int64_t image = count * part / parts; image < count * (part + 1) / parts; ++image)
        run_one(images + image * in, results + image * out, arena->memory.data(), false);
      give_arena(std::move(arena));
    });
    return;
  }
  auto arena = take_arena();
  for (std::int64_t image = 0; image < count; ++image)
    run_one(images + image * in, results + image * out, arena->memory.data(), threads > 1);
  give_arena(std::move(arena));
}

void Engine::run_one(const float* image, float* result, std::uint8_t* arena, bool parallel) {
  const Value& in = values_[0];
  const Value& out = values_[output_];
  float* input = reinterpret_cast<float*>(arena + in.offset);
  const std::int64_t pixels = in.pixels();
  if (in.stride == 3) {  // pixel by pixel: writing takes most of the time, and this way it is sequential
    for (std::int64_t p = 0; p < pixels; ++p)
      for (int c = 0; c < 3; ++c) input[3 * p + c] = image[c * pixels + p];
  } else {
    for (int c = 0; c < in.channels; ++c)
      for (std::int64_t p = 0; p < pixels; ++p) input[p * in.stride + c] = image[c * pixels + p];
  }
  const Context context{*kernels_, values_, arena, pool_, parallel};
  for (const auto& operation : operations_) execute(context, *operation);
  const float* output = reinterpret_cast<const float*>(arena + out.offset);
  for (int c = 0; c < out.channels; ++c)
    for (std::int64_t p = 0; p < out.pixels(); ++p) result[c * out.pixels() + p] = output[p * out.stride + c];
}

std::vector<double> Engine::profile(const float* image, int rounds) {
  require(output_ >= 0, "the engine is not finished");
  require(rounds >= 1 && rounds <= 100'000, "the number of rounds is out of range");
  std::vector<float> result(values_[output_].channels * values_[output_].pixels());
  auto arena = take_arena();
  const Context context{*kernels_, values_, arena->memory.data(), pool_, pool_.threads() > 1};
  run_one(image, result.data(), context.arena, context.parallel);
  std::vector<std::vector<double>> times(operations_.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      execute(context, *operations_[i]);
      times[i].push_back(seconds_since(start));
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
