// Building an engine: every operation is checked when it is added, so that running needs no checks.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "engine/arrays.h"
#include "engine/engine.h"
#include "engine/operation.h"
#include "engine/weight_layouts.h"
#include "kernels/choose.h"
#include "kernels/row_transform.h"

namespace biper {
namespace {

// One number for each channel, padded with zeros to whole blocks. Stays empty if `values` is empty.
template <typename T>
Aligned<T> by_channel(const std::vector<T>& values, int channels, const char* problem) {
  if (values.empty()) return Aligned<T>();
  require(static_cast<std::int64_t>(values.size()) == channels, problem);
  Aligned<T> padded(round_up(channels, kLanes));
  std::copy(values.begin(), values.end(), padded.data());
  return padded;
}

// `numbers` are stride y x, padding top bottom left right, dilation y x, groups. Fills in all but the input's stride.
Geometry checked_geometry(const Value& input, const std::vector<int>& numbers, int out_channels, int kernel_y,
                          int kernel_x) {
  require(numbers.size() == 9, "a convolution needs nine numbers of geometry");
  for (int i = 0; i < 8; ++i) require(numbers[i] >= 0 && numbers[i] <= 1 << 10, "a number of geometry is out of range");
  const int step_y = numbers[0], step_x = numbers[1], top = numbers[2], bottom = numbers[3], left = numbers[4],
            right = numbers[5], dilation_y = numbers[6], dilation_x = numbers[7], groups = numbers[8];
  require(step_y > 0 && step_x > 0 && dilation_y > 0 && dilation_x > 0 && groups > 0,
          "a stride, dilation or group is 0");
  require(input.channels % groups == 0 && out_channels % groups == 0, "the channels are not a multiple of the groups");
  require(kernel_y > 0 && kernel_x > 0 && kernel_y <= 1 << 14 && kernel_x <= 1 << 14, "the kernel is out of range");
  const std::int64_t rows = std::int64_t{input.height} + top + bottom - std::int64_t{dilation_y} * (kernel_y - 1) - 1;
  const std::int64_t columns = std::int64_t{input.width} + left + right - std::int64_t{dilation_x} * (kernel_x - 1) - 1;
  require(rows >= 0 && columns >= 0, "the kernel is larger than the image");
  Geometry g{};
  g.channels = input.channels, g.height = input.height, g.width = input.width;
  g.out_channels = out_channels;
  g.out_height = static_cast<int>(rows / step_y + 1), g.out_width = static_cast<int>(columns / step_x + 1);
  g.kernel_y = kernel_y, g.kernel_x = kernel_x, g.step_y = step_y, g.step_x = step_x;
  g.pad_top = top, g.pad_left = left, g.dilation_y = dilation_y, g.dilation_x = dilation_x, g.groups = groups;
  return g;
}

Activation activation_of(const std::string& name) {
  if (name == "clip") return Activation::kClip;
  if (name == "relu") return Activation::kRelu;
  if (name == "prelu") return Activation::kPrelu;
  require(name.empty(), "an unknown activation");
  return Activation::kNone;
}

std::unique_ptr<Operation> operation_on(Operation::Kind kind, std::vector<int> inputs) {
  auto op = std::make_unique<Operation>(kind);
  op->inputs = std::move(inputs);
  return op;
}

}  // namespace

Engine::Engine(int channels, int height, int width, const std::string& instruction_set, int threads,
               std::int64_t max_bytes)
    : kernels_(choose_kernels(instruction_set)), max_bytes_(max_bytes), pool_(threads) {
  require(threads >= 1 && threads <= 1024, "the number of threads is out of range");
  require(channels > 0 && height > 0 && width > 0, "the input is empty");
  require(static_cast<std::int64_t>(channels) * height <= kMaxElements / width, "the input is too large");
  values_.push_back(Value{true, channels, height, width, round_up(channels, kLanes), -1, -1});
  inputs_.push_back(0);
}

Engine::~Engine() = default;
Operation::Operation(Kind k) : kind(k) {}
Operation::~Operation() = default;

void Engine::reserve(std::int64_t bytes) {
  if (bytes > max_bytes_ - reserved_bytes_)
    throw EngineLimitError("it needs more memory than max_memory=" + std::to_string(max_bytes_) + " allows");
  reserved_bytes_ += bytes;
}

// The kernels arrange bits of weights in up to three orders.
void Engine::reserve_layout(int out_channels, std::int64_t floats) {
  require(floats <= kMaxElements, "a convolution is too large");
  reserve(std::int64_t{4} * round_up(out_channels, kLanes) * floats);
}

const Value& Engine::any_value(int id) const {
  require(id >= 0 && id < static_cast<int>(values_.size()), "an operation reads a value that is not there");
  require(!finished_, "the engine is finished");
  return values_[id];
}

const Value& Engine::real_value(int id) const {
  const Value& value = any_value(id);
  require(value.real, "an operation reads bits where it needs real values");
  require(value.floats == 0, "an operation on images reads an array");
  return value;
}

void Engine::mark_read(int id, int operation) {
  values_[id].last_read = operation;
  if (values_[id].base >= 0) values_[values_[id].base].last_read = operation;
}

int Engine::make_value(bool real, int channels, int height, int width) {
  const int stride = real ? round_up(channels, kLanes) : halves_of(channels);
  const int index = static_cast<int>(operations_.size());  // of the operation that is being added
  values_.push_back(Value{real, channels, height, width, stride, index, index});
  return static_cast<int>(values_.size()) - 1;
}

int Engine::make_rows(int rows, int floats) {
  require(rows <= kMaxElements / floats, "a convolution is too large");
  const int index = static_cast<int>(operations_.size());
  values_.push_back(Value{true, floats, rows, 1, floats, index, index});
  return static_cast<int>(values_.size()) - 1;
}

int Engine::threads() const { return pool_.threads(); }

Emitted Engine::add_convolution(int input, const float* weight, const std::vector<int>& shape,
                                const std::vector<int>& geometry, const EpilogueSpec& epilogue) {
  const Value& value = real_value(input);
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = operation_on(Operation::Kind::kConvolution, {input});
  const Geometry& g = op->geometry = checked_geometry(value, geometry, shape[0], shape[2], shape[3]);
  require(shape[1] == g.channels / g.groups, "the weight has another number of input channels");
  op->needs_finite = row_transform_fits(g);
  arrange_weights(*op, weight);
  if (blocks_mix_groups(g) && kernels_ != &kScalar) {
    reserve_layout(g.out_channels, std::int64_t{g.channels / g.groups} * g.kernel_y * g.kernel_x);
    op->plain_weights = real_layout(g, weight);
    op->needs_finite = true;
  }
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

// Gives a convolution of floats its weights, (out, in / groups, ky, kx), in the order of the kernel that computes it.
void Engine::arrange_weights(Operation& op, const float* weight) {
  const Geometry& g = op.geometry;
  const std::int64_t inside = g.channels / g.groups;
  if (kernels_->transform_rows && row_transform_fits(g)) {
    op.transform = make_row_transform(g);
    reserve_layout(g.out_channels, 2 * inside * g.kernel_y * g.step_x * op.transform->points);
    const std::vector<float> weights = transform_weights(g, *op.transform, weight);
    op.weights = Aligned<float>(static_cast<std::int64_t>(weights.size()));
    std::copy(weights.begin(), weights.end(), op.weights.data());
  } else if (blocks_mix_groups(g) && kernels_ != &kScalar) {
    reserve_layout(g.out_channels, std::int64_t{grouped_inputs(g).inputs} * g.kernel_y * g.kernel_x);
    op.weights = grouped_layout(g, weight);
  } else {
    reserve_layout(g.out_channels, inside * g.kernel_y * g.kernel_x);
    op.weights = real_layout(g, weight);
  }
}

Emitted Engine::add_bfloat16_convolution(int input, const std::uint16_t* weight, const std::vector<int>& shape,
                                         const std::vector<int>& geometry, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = operation_on(Operation::Kind::kConvolution, {input});
  const Geometry& g = op->geometry = checked_geometry(value, geometry, shape[0], shape[2], shape[3]);
  require(shape[1] == g.channels / g.groups, "the weight has another number of input channels");
  op->needs_finite = true;
  // Tiles of 4x4 results take fewer products of floats than other tiles take pairs of products.
  const bool bands = kernels_->transform_rows && row_transform_fits(g) && make_row_transform(g).bands;
  const std::int64_t row = std::int64_t{g.padded_width()} * g.channels + 1;
  if (kernels_->bfloat16_convolution && g.groups == 1 && !bands) {
    op->kind = Operation::Kind::kBfloat16Convolution;
    require(row <= kMaxElements / g.padded_height(), "a convolution is too large");
    op->row_stride = round_up(static_cast<int>(row), 2);
    reserve_layout(shape[0], std::int64_t{g.kernel_y} * g.row_runs() * g.run_steps(2));
    op->bit_weights = bfloat16_layout(g, weight);
  } else {
    const std::int64_t count = std::int64_t{shape[0]} * shape[1] * shape[2] * shape[3];
    std::vector<float> floats(count);
    std::transform(weight, weight + count, floats.begin(), from_bfloat16);
    arrange_weights(*op, floats.data());
    op->rounded = make_value(true, value.channels, value.height, value.width);
  }
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

Emitted Engine::add_binary_convolution(int input, const std::uint8_t* weight, const std::vector<int>& shape,
                                       const std::vector<int>& geometry, EpilogueSpec epilogue) {
  const Value& value = any_value(input);
  require(!value.real, "a binary convolution reads real values where it needs bits");
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = operation_on(Operation::Kind::kBinaryConvolution, {input});
  const Geometry& g = op->geometry = checked_geometry(value, geometry, shape[0], shape[1], shape[2]);
  require(shape[3] == round_up(g.channels / g.groups, 8) / 8, "the weight bits have another number of input channels");
  // !(sum >= t) is -sum >= 1 - t: a flipped channel becomes one with the opposite weights.
  require(epilogue.flip.empty() || static_cast<int>(epilogue.flip.size()) == g.out_channels,
          "flip needs one bit for each channel");
  require(epilogue.flip.size() == epilogue.threshold.size(), "a threshold and a flip go together");
  for (std::size_t o = 0; o < epilogue.flip.size(); ++o) {
    const std::int64_t threshold = epilogue.threshold[o];
    epilogue.threshold[o] = static_cast<std::int32_t>(
        std::clamp<std::int64_t>(epilogue.flip[o] ? 1 - threshold : threshold, -kMaxThreshold, kMaxThreshold));
  }
  reserve_layout(shape[0], 3 * std::int64_t{g.kernel_y} * g.kernel_x * round_up(g.channels / g.groups, 32) / 32);
  op->bit_weights = bit_layout(g, weight, epilogue.flip);
  op->pair_weights = pair_layout(g, op->bit_weights);
  op->all_rows_weights = all_rows_layout(g, op->bit_weights);
  if (!groups_fill_blocks(g))
    reserve_layout(shape[0], 2 * std::int64_t{g.kernel_y} * g.kernel_x * grouped_inputs(g).words);
  op->masked_weights = masked_layout(g, op->bit_weights);
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

Emitted Engine::add_int8_convolution(int input, const std::int8_t* weight, const std::vector<int>& shape,
                                     const std::vector<int>& geometry, float factor, int zero,
                                     const EpilogueSpec& epilogue) {
  const Value& value = real_value(input);
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = operation_on(Operation::Kind::kInt8Convolution, {input});
  const Geometry& g = op->geometry = checked_geometry(value, geometry, shape[0], shape[2], shape[3]);
  require(g.groups == 1 && shape[1] == g.channels, "the weight has another number of input channels");
  require(std::int64_t{g.channels} * g.kernel_y * g.kernel_x < (std::int64_t{1} << 31) / (255 * 128),
          "sums could overflow");
  require(factor > 0 && factor < 1e30f && zero >= 0 && zero <= 255, "the levels are out of range");
  const std::int64_t row = std::int64_t{g.padded_width()} * g.channels;
  require(row <= kMaxElements / g.padded_height(), "a convolution is too large");
  op->levels = Levels{factor, zero, round_up(static_cast<int>(row), 4)};
  reserve_layout(shape[0], 1 + std::int64_t{g.kernel_y} * g.row_runs() * g.run_steps(4));
  op->bit_weights = int8_layout(g, weight);
  op->initial = int8_initial_sums(g, weight, zero - kernels_->level_shift);
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

// `geometry` is kernel y x, stride y x, padding y x, size y x of the result, count_padding.
Emitted Engine::add_pool(int input, bool maximum, const std::vector<int>& geometry, const EpilogueSpec& epilogue) {
  const Value& value = real_value(input);
  require(geometry.size() == 9, "a pool needs nine numbers of geometry");
  for (int number : geometry) require(number >= 0 && number <= 1 << 16, "a number of geometry is out of range");
  auto op = operation_on(Operation::Kind::kPool, {input});
  Pooling& p = op->pooling =
      Pooling{value.channels, value.height, value.width, geometry[6], geometry[7], geometry[0],     geometry[1],
              geometry[2],    geometry[3],  geometry[4], geometry[5], maximum,     geometry[8] != 0};
  require(p.kernel_y > 0 && p.kernel_x > 0 && p.step_y > 0 && p.step_x > 0, "a kernel or a stride of a pool is 0");
  require(p.out_height > 0 && p.out_width > 0, "the result of a pool is empty");
  require(2 * p.pad_y <= p.kernel_y && 2 * p.pad_x <= p.kernel_x, "a pool pads more than half of its window");
  require(std::int64_t{p.out_height - 1} * p.step_y < p.height + p.pad_y &&
              std::int64_t{p.out_width - 1} * p.step_x < p.width + p.pad_x,
          "a pool has windows outside the image");
  return finish_operation(std::move(op), p.channels, p.out_height, p.out_width, epilogue);
}

Emitted Engine::add_elementwise(int input, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  auto op = operation_on(Operation::Kind::kElementwise, {input});
  return finish_operation(std::move(op), value.channels, value.height, value.width, epilogue);
}

Emitted Engine::add_pad_channels(int input, int before, int after, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  require(before >= 0 && after >= 0 && before <= 1 << 20 && after <= 1 << 20, "a padding is out of range");
  auto op = operation_on(Operation::Kind::kPad, {input});
  op->before = before;
  return finish_operation(std::move(op), before + value.channels + after, value.height, value.width, epilogue);
}

Emitted Engine::add_concatenate(const std::vector<int>& inputs, const EpilogueSpec& epilogue) {
  require(!inputs.empty(), "a concatenation needs an input");
  const Value first = real_value(inputs[0]);
  std::int64_t channels = 0;
  for (int input : inputs) {
    const Value& value = real_value(input);
    require(value.height == first.height && value.width == first.width,
            "the inputs of a concatenation have different sizes");
    channels += value.channels;
    require(channels <= 1 << 24, "a concatenation is too large");
  }
  auto op = operation_on(Operation::Kind::kConcatenate, inputs);
  return finish_operation(std::move(op), static_cast<int>(channels), first.height, first.width, epilogue);
}

Emitted Engine::add_resize(int input, int height, int width, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  require(height > 0 && width > 0 && height <= 1 << 16 && width <= 1 << 16, "a size is out of range");
  auto op = operation_on(Operation::Kind::kResize, {input});
  return finish_operation(std::move(op), value.channels, height, width, epilogue);
}

Emitted Engine::add_flatten(int input, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  const std::int64_t channels = value.pixels() * value.channels;
  require(channels <= 1 << 26, "a flattened value is too large");
  auto op = operation_on(Operation::Kind::kFlatten, {input});
  return finish_operation(std::move(op), static_cast<int>(channels), 1, 1, epilogue);
}

Emitted Engine::finish_operation(std::unique_ptr<Operation> op, int channels, int height, int width,
                                 const EpilogueSpec& spec) {
  require(channels > 0 && height > 0 && width > 0, "the result of an operation is empty");
  require(static_cast<std::int64_t>(height) * width <= kMaxElements / round_up(channels, 32), "a value is too large");
  require(spec.real || spec.bits, "an operation emits neither a real value nor bits");
  op->channels = channels, op->height = height, op->width = width;
  for (const std::size_t size : {spec.multiplier.size(), spec.offset.size(), spec.slope.size(), spec.threshold.size()})
    if (size) reserve_layout(channels, 1);
  op->multiplier = by_channel(spec.multiplier, channels, "multiplier needs one number for each channel");
  op->offset = by_channel(spec.offset, channels, "offset needs one number for each channel");
  op->slope = by_channel(spec.slope, channels, "slope needs one number for each channel");
  op->threshold = by_channel(spec.threshold, channels, "threshold needs one number for each channel");
  if (!spec.threshold.empty()) {
    require(op->kind == Operation::Kind::kBinaryConvolution && !spec.real,
            "only a binary convolution that emits bits alone can have a threshold");
    for (int c = channels; c < round_up(channels, kLanes); ++c) op->threshold[c] = kMaxThreshold;
  }
  Epilogue& e = op->epilogue;
  e.activation = activation_of(spec.activation);
  require(e.activation != Activation::kPrelu || !op->slope.empty(), "a prelu needs a slope");
  e.low = spec.low, e.high = spec.high, e.channels = channels;
  e.multiplier = op->multiplier.data(), e.offset = op->offset.data(), e.slope = op->slope.data();
  e.threshold = op->threshold.data();
  if (spec.residual >= 0) {
    const Value& residual = real_value(spec.residual);
    require(residual.channels == channels && residual.height == height && residual.width == width,
            "a residual has another shape than the result");
    op->residual = spec.residual;
  }
  const int index = static_cast<int>(operations_.size());
  for (int input : op->inputs) mark_read(input, index);
  if (op->residual >= 0) mark_read(op->residual, index);
  // A move without epilogue copies values to where they stay; before an epilogue it copies them to memory of its own,
  // but for values that are joined by whole blocks.
  const bool plain =
      spec.real && !spec.bits && spec.residual < 0 && !e.multiplier && !e.offset && e.activation == Activation::kNone;
  const auto has_blocks = [&](int input) { return values_[input].channels % kLanes == 0; };
  op->joins_blocks = op->kind == Operation::Kind::kConcatenate && !plain &&
                     std::all_of(op->inputs.begin(), op->inputs.end() - 1, has_blocks);
  if (op->is_move() && !plain && !op->joins_blocks) op->scratch = make_value(true, channels, height, width);
  if (op->transform) op->scratch = make_rows(op->geometry.height, op->transform->row_stride());
  if (op->kind == Operation::Kind::kInt8Convolution)
    op->scratch = make_rows(op->geometry.padded_height(), op->levels.row_stride / 4);
  if (op->kind == Operation::Kind::kBfloat16Convolution)
    op->scratch = make_rows(op->geometry.padded_height(), op->row_stride / 2);
  if (spec.real) op->real = make_value(true, channels, height, width);
  if (spec.bits) op->bits = make_value(false, channels, height, width);
  const Emitted emitted{op->real, op->bits};
  operations_.push_back(std::move(op));
  return emitted;
}

void Engine::finish() {
  require(!finished_ && !outputs_.empty(), "the engine is finished, or has no result");
  pack_input();
  fuse();
  plan_memory();
  reserve(arena_bytes_);
  finished_ = true;
  give_arena(std::make_unique<Arena>(arena_bytes_));
}

}  // namespace biper
