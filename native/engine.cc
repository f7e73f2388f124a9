#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

#include "cpu.h"
#include "row_transform.h"

namespace biper {
namespace {

constexpr std::int64_t kAlignment = 64, kMaxBytes = std::int64_t{1} << 33, kMaxElements = std::int64_t{1} << 28;

// Vector instructions that take longer than waking another thread: about ten microseconds.
constexpr std::int64_t kWorthSplitting = 50'000;

[[noreturn]] void refuse(const std::string& problem) { throw std::invalid_argument(problem); }
void require(bool condition, const char* problem) {
  if (!condition) refuse(problem);
}

std::int64_t aligned(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A vector whose storage starts at a cache line.
template <typename T>
class Aligned {
 public:
  explicit Aligned(std::int64_t count = 0) : size_(count) {
    if (count) data_ = static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kAlignment}));
    std::fill(data_, data_ + count, T{});
  }
  Aligned(Aligned&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Aligned& operator=(Aligned&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Aligned() { ::operator delete(data_, std::align_val_t{kAlignment}); }
  T* data() { return data_; }
  const T* data() const { return size_ ? data_ : nullptr; }
  T& operator[](std::int64_t index) { return data_[index]; }
  bool empty() const { return size_ == 0; }

 private:
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

// By channel, padded with zeros to whole blocks.
template <typename T>
Aligned<T> by_channel(const std::vector<T>& values, int channels, const char* problem) {
  if (values.empty()) return Aligned<T>();
  require(static_cast<std::int64_t>(values.size()) == channels, problem);
  Aligned<T> padded(round_up(channels, kLanes));
  std::copy(values.begin(), values.end(), padded.data());
  return padded;
}

const Kernels* choose(const std::string& name) {
  const std::vector<std::string> has = instruction_sets();
  [[maybe_unused]] const auto supports = [&](const char* set) {
    return std::find(has.begin(), has.end(), set) != has.end();
  };
#if defined(__x86_64__) || defined(_M_X64)
  const bool avx512 = supports("avx512f") && supports("avx512bw") && supports("avx512vl") &&
                      supports("avx512vpopcntdq") && supports("avx512vnni");
  const bool avx2 = supports("avx2") && supports("fma");
  if (name == "avx512" && !avx512) refuse("this processor has no AVX-512 with VPOPCNTDQ and VNNI");
  if (name == "avx2" && !avx2) refuse("this processor has no AVX2 with FMA");
  if (name == "avx512" || (name.empty() && avx512)) return &kAvx512;
  if (name == "avx2" || (name.empty() && avx2)) return &kAvx2;
#elif defined(__aarch64__) || defined(_M_ARM64)
  if (name == "dotprod" && !supports("dotprod")) refuse("this processor has no dot product of bytes");
  if (name == "dotprod" || (name.empty() && supports("dotprod"))) return &kDotProd;
  if (name == "neon" || name.empty()) return &kNeon;
#endif
  if (name == "scalar" || name.empty()) return &kScalar;
  refuse("unknown instruction set " + name);
}

}  // namespace

struct Engine::Value {
  bool real;
  int channels, height, width;
  int stride;  // floats or halves (16 bits) a pixel
  int made, last_read;  // operations; -1 made: the input
  std::int64_t offset = 0;

  std::int64_t pixels() const { return static_cast<std::int64_t>(height) * width; }
  std::int64_t bytes() const { return aligned(pixels() * stride * (real ? 4 : 2) + kAlignment); }
};

struct Engine::Operation {
  enum class Kind { kConvolution, kInt8Convolution, kBinaryConvolution, kPool, kElementwise, kPad, kConcatenate, kResize, kFlatten };
  explicit Operation(Kind k) : kind(k) {}

  Kind kind;
  std::vector<int> inputs;
  Geometry geometry{};
  Pooling pooling{};
  int before = 0;
  Aligned<float> weights;
  Levels levels{};                          // of int8, whose weights are in `bit_weights`
  Aligned<std::int32_t> initial;
  std::optional<RowTransform> transform;    // its transformed rows are in `scratch`
  Aligned<std::uint32_t> bit_weights, all_rows_weights, pair_weights;  // see BitWeights
  Aligned<float> multiplier, offset, slope;
  Aligned<std::int32_t> threshold;
  Epilogue epilogue{};
  int residual = -1, real = -1, bits = -1;
  int channels = 0, height = 0, width = 0;  // of the result
  int scratch = -1;                         // a value of the operation's own
};

struct Engine::Arena {
  explicit Arena(std::int64_t bytes) : memory(bytes) {}
  Aligned<std::uint8_t> memory;
};

Engine::Engine(int channels, int height, int width, const std::string& instruction_set, int threads)
    : kernels_(choose(instruction_set)), pool_(threads) {
  require(threads >= 1 && threads <= 1024, "the number of threads is out of range");
  require(channels > 0 && height > 0 && width > 0, "the input is empty");
  require(static_cast<std::int64_t>(channels) * height <= kMaxElements / width, "the input is too large");
  values_.push_back(Value{true, channels, height, width, round_up(channels, kLanes), -1, -1});
}

Engine::~Engine() = default;

const Engine::Value& Engine::any_value(int id) const {
  require(id >= 0 && id < static_cast<int>(values_.size()), "an operation reads a value that is not there");
  require(output_ < 0, "the engine is finished");
  return values_[id];
}

const Engine::Value& Engine::real_value(int id) const {
  const Value& value = any_value(id);
  require(value.real, "an operation reads bits where it needs real values");
  return value;
}

std::vector<int> Engine::shape(int value) const {
  require(value >= 0 && value < static_cast<int>(values_.size()), "there is no such value");
  const Value& v = values_[value];
  return {v.channels, v.height, v.width};
}

// Geometry: stride y x, padding top bottom left right, dilation y x, groups. Fills all but the input's stride.
static Geometry checked_geometry(int channels, int height, int width, const std::vector<int>& numbers, int out_channels,
                                 int kernel_y, int kernel_x) {
  require(numbers.size() == 9, "a convolution needs nine numbers of geometry");
  for (int number : numbers) require(number >= 0 && number <= 1 << 10, "a number of geometry is out of range");
  const int step_y = numbers[0], step_x = numbers[1], top = numbers[2], bottom = numbers[3], left = numbers[4],
            right = numbers[5], dilation_y = numbers[6], dilation_x = numbers[7], groups = numbers[8];
  require(step_y > 0 && step_x > 0 && dilation_y > 0 && dilation_x > 0 && groups > 0, "a stride, dilation or group is 0");
  require(channels % groups == 0 && out_channels % groups == 0, "the channels are not a multiple of the groups");
  require(kernel_y > 0 && kernel_x > 0 && kernel_y <= 1 << 14 && kernel_x <= 1 << 14, "the kernel is out of range");
  const std::int64_t rows = std::int64_t{height} + top + bottom - std::int64_t{dilation_y} * (kernel_y - 1) - 1;
  const std::int64_t columns = std::int64_t{width} + left + right - std::int64_t{dilation_x} * (kernel_x - 1) - 1;
  require(rows >= 0 && columns >= 0, "the kernel is larger than the image");
  return Geometry{channels,     height, width,    0,        out_channels, static_cast<int>(rows / step_y + 1),
                  static_cast<int>(columns / step_x + 1), kernel_y, kernel_x, step_y, step_x, top, left, dilation_y,
                  dilation_x,   groups};
}

Emitted Engine::add_convolution(int input, const float* weight, const std::vector<int>& shape,
                                const std::vector<int>& geometry, const EpilogueSpec& epilogue) {
  const Value& value = real_value(input);
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = std::make_unique<Operation>(Operation::Kind::kConvolution);
  Geometry& g = op->geometry =
      checked_geometry(value.channels, value.height, value.width, geometry, shape[0], shape[2], shape[3]);
  const int inside = g.channels / g.groups, taps = g.kernel_y * g.kernel_x;
  require(shape[1] == inside, "the weight has another number of input channels");
  op->inputs = {input};
  if (kernels_->transform_rows && row_transform_fits(g)) {
    op->transform = make_row_transform(g);
    const std::vector<float> weights = transform_weights(g, *op->transform, weight);
    op->weights = Aligned<float>(static_cast<std::int64_t>(weights.size()));
    std::copy(weights.begin(), weights.end(), op->weights.data());
    return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
  }
  op->weights = Aligned<float>(std::int64_t{round_up(g.out_channels, kLanes)} * taps * inside);
  for (int o = 0; o < g.out_channels; ++o)
    for (int c = 0; c < inside; ++c)
      for (int tap = 0; tap < taps; ++tap)
        op->weights[((std::int64_t{o / kLanes} * taps + tap) * inside + c) * kLanes + o % kLanes] =
            weight[(std::int64_t{o} * inside + c) * taps + tap];
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

// The other arrangements of the weights that the kernels can use.
template <typename Operation>
static void arrange_bit_weights(Operation& op, int words) {
  const Geometry& g = op.geometry;
  const std::int64_t blocks = round_up(g.out_channels, kLanes) / kLanes, row = std::int64_t{g.kernel_x} * words * kLanes;
  const std::uint32_t* from = op.bit_weights.data();
  const int pairs = (g.kernel_x + 1) / 2;
  if (g.groups == 1 && g.channels <= 16 && g.dilation_x == 1 && pairs <= kMaxPairs) {
    op.pair_weights = Aligned<std::uint32_t>(blocks * g.kernel_y * pairs * kLanes);
    for (std::int64_t y = 0; y < blocks * g.kernel_y; ++y)
      for (int x = 0; x < g.kernel_x; ++x)
        for (int lane = 0; lane < kLanes; ++lane)
          op.pair_weights[(y * pairs + x / 2) * kLanes + lane] |= from[y * row + x * kLanes + lane] << (16 * (x % 2));
  } else if (g.groups == 1 && g.channels > 16 && g.kernel_y == 3) {
    op.all_rows_weights = Aligned<std::uint32_t>(blocks * row);
    for (std::int64_t block = 0; block < blocks; ++block)
      for (std::int64_t i = 0; i < row; ++i)
        for (int y = 0; y < 3; ++y) op.all_rows_weights[block * row + i] ^= from[(3 * block + y) * row + i];
  }
}

Emitted Engine::add_binary_convolution(int input, const std::uint8_t* weight, const std::vector<int>& shape,
                                       const std::vector<int>& geometry, EpilogueSpec epilogue) {
  const Value& value = any_value(input);
  require(!value.real, "a binary convolution reads real values");
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = std::make_unique<Operation>(Operation::Kind::kBinaryConvolution);
  Geometry& g = op->geometry =
      checked_geometry(value.channels, value.height, value.width, geometry, shape[0], shape[1], shape[2]);
  const int inside = g.channels / g.groups, taps = g.kernel_y * g.kernel_x, words = round_up(inside, 32) / 32;
  const int bytes = round_up(inside, 8) / 8;
  require(shape[3] == bytes, "the weight bits have another number of input channels");
  op->inputs = {input};
  // !(sum >= t) is -sum >= 1 - t: a flipped channel becomes one with the opposite weights.
  require(epilogue.flip.empty() || static_cast<int>(epilogue.flip.size()) == g.out_channels, "the flip is not one bit a channel");
  require(epilogue.flip.size() == epilogue.threshold.size(), "a threshold and a flip go together");
  for (std::size_t o = 0; o < epilogue.flip.size(); ++o) {
    const std::int64_t threshold = epilogue.threshold[o];
    epilogue.threshold[o] = static_cast<std::int32_t>(
        std::clamp<std::int64_t>(epilogue.flip[o] ? 1 - threshold : threshold, -kMaxThreshold, kMaxThreshold));
  }
  op->bit_weights = Aligned<std::uint32_t>(std::int64_t{round_up(g.out_channels, kLanes)} * taps * words);
  for (int o = 0; o < g.out_channels; ++o)
    for (int tap = 0; tap < taps; ++tap)
      for (int byte = 0; byte < bytes; ++byte) {
        // Bits beyond the channels stay 0 whatever the file says: sums rely on it.
        const int left = inside - 8 * byte;
        const bool flipped = !epilogue.flip.empty() && epilogue.flip[o];
        const std::uint32_t bits = (weight[(std::int64_t{o} * taps + tap) * bytes + byte] ^ (flipped ? 0xffu : 0u)) &
                                   (left >= 8 ? 0xffu : (1u << left) - 1);
        op->bit_weights[((std::int64_t{o / kLanes} * taps + tap) * words + byte / 4) * kLanes + o % kLanes] |=
            bits << (8 * (byte % 4));
      }
  arrange_bit_weights(*op, words);
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

Emitted Engine::add_int8_convolution(int input, const std::int8_t* weight, const std::vector<int>& shape,
                                     const std::vector<int>& geometry, float factor, int zero,
                                     const EpilogueSpec& epilogue) {
  const Value& value = real_value(input);
  require(shape.size() == 4 && shape[0] > 0, "a weight needs four dimensions");
  auto op = std::make_unique<Operation>(Operation::Kind::kInt8Convolution);
  Geometry& g = op->geometry =
      checked_geometry(value.channels, value.height, value.width, geometry, shape[0], shape[2], shape[3]);
  require(g.groups == 1 && shape[1] == g.channels, "the weight has another number of input channels");
  require(std::int64_t{g.channels} * g.kernel_y * g.kernel_x < (std::int64_t{1} << 31) / (255 * 128), "sums could overflow");
  require(factor > 0 && factor < 1e30f && zero >= 0 && zero <= 255, "the levels are out of range");
  op->inputs = {input};
  const int runs = g.row_runs(), quads = g.run_quads();
  const std::int64_t row = std::int64_t{g.padded_width()} * g.channels;
  require(row <= kMaxElements / g.padded_height(), "a convolution is too large");
  op->levels = Levels{factor, zero, round_up(static_cast<int>(row), 4)};
  const std::int64_t blocks = round_up(g.out_channels, kLanes) / kLanes;
  op->bit_weights = Aligned<std::uint32_t>(blocks * g.kernel_y * runs * quads * kLanes);
  op->initial = Aligned<std::int32_t>(blocks * kLanes);
  for (int o = 0; o < g.out_channels; ++o)
    for (int c = 0; c < g.channels; ++c)
      for (int y = 0; y < g.kernel_y; ++y)
        for (int x = 0; x < g.kernel_x; ++x) {
          const std::int8_t w = weight[((std::int64_t{o} * g.channels + c) * g.kernel_y + y) * g.kernel_x + x];
          const int run = runs == 1 ? 0 : x, place = runs == 1 ? x * g.channels + c : c;
          const std::int64_t quad = ((std::int64_t{o / kLanes} * g.kernel_y + y) * runs + run) * quads + place / 4;
          op->bit_weights[quad * kLanes + o % kLanes] |= std::uint32_t{static_cast<std::uint8_t>(w)} << (8 * (place % 4));
          op->initial[o] -= (zero - kernels_->level_shift) * w;
        }
  return finish_operation(std::move(op), g.out_channels, g.out_height, g.out_width, epilogue);
}

// Geometry: kernel y x, stride y x, padding y x, size y x, count_padding.
Emitted Engine::add_pool(int input, bool maximum, const std::vector<int>& geometry, const EpilogueSpec& epilogue) {
  const Value& value = real_value(input);
  require(geometry.size() == 9, "a pool needs nine numbers of geometry");
  for (int number : geometry) require(number >= 0 && number <= 1 << 16, "a number of geometry is out of range");
  auto op = std::make_unique<Operation>(Operation::Kind::kPool);
  Pooling& p = op->pooling = Pooling{value.channels, value.height, value.width, geometry[6], geometry[7],
                                     geometry[0],    geometry[1],  geometry[2], geometry[3], geometry[4],
                                     geometry[5],    maximum,      geometry[8] != 0};
  require(p.kernel_y > 0 && p.kernel_x > 0 && p.step_y > 0 && p.step_x > 0, "a pool of nothing");
  require(p.out_height > 0 && p.out_width > 0, "a pool makes nothing");
  require(2 * p.pad_y <= p.kernel_y && 2 * p.pad_x <= p.kernel_x, "a pool pads more than half of its window");
  require(std::int64_t{p.out_height - 1} * p.step_y < p.height + p.pad_y &&
              std::int64_t{p.out_width - 1} * p.step_x < p.width + p.pad_x,
          "a pool has windows outside the image");
  op->inputs = {input};
  return finish_operation(std::move(op), p.channels, p.out_height, p.out_width, epilogue);
}

Emitted Engine::add_elementwise(int input, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  auto op = std::make_unique<Operation>(Operation::Kind::kElementwise);
  op->inputs = {input};
  return finish_operation(std::move(op), value.channels, value.height, value.width, epilogue);
}

Emitted Engine::add_pad_channels(int input, int before, int after, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  require(before >= 0 && after >= 0 && before <= 1 << 20 && after <= 1 << 20, "a padding is out of range");
  auto op = std::make_unique<Operation>(Operation::Kind::kPad);
  op->inputs = {input};
  op->before = before;
  return finish_operation(std::move(op), before + value.channels + after, value.height, value.width, epilogue);
}

Emitted Engine::add_concatenate(const std::vector<int>& inputs, const EpilogueSpec& epilogue) {
  require(!inputs.empty(), "a concatenation of nothing");
  const Value first = real_value(inputs[0]);
  std::int64_t channels = 0;
  for (int input : inputs) {
    const Value& value = real_value(input);
    require(value.height == first.height && value.width == first.width, "a concatenation of different sizes");
    channels += value.channels;
    require(channels <= 1 << 24, "a concatenation is too large");
  }
  auto op = std::make_unique<Operation>(Operation::Kind::kConcatenate);
  op->inputs = inputs;
  return finish_operation(std::move(op), static_cast<int>(channels), first.height, first.width, epilogue);
}

Emitted Engine::add_resize(int input, int height, int width, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  require(height > 0 && width > 0 && height <= 1 << 16 && width <= 1 << 16, "a size is out of range");
  auto op = std::make_unique<Operation>(Operation::Kind::kResize);
  op->inputs = {input};
  return finish_operation(std::move(op), value.channels, height, width, epilogue);
}

Emitted Engine::add_flatten(int input, const EpilogueSpec& epilogue) {
  const Value value = real_value(input);
  const std::int64_t channels = value.pixels() * value.channels;
  require(channels <= 1 << 26, "a flattened value is too large");
  auto op = std::make_unique<Operation>(Operation::Kind::kFlatten);
  op->inputs = {input};
  return finish_operation(std::move(op), static_cast<int>(channels), 1, 1, epilogue);
}

Emitted Engine::finish_operation(std::unique_ptr<Operation> op, int channels, int height, int width,
                                 const EpilogueSpec& spec) {
  require(channels > 0 && height > 0 && width > 0, "an operation makes nothing");
  require(static_cast<std::int64_t>(height) * width <= kMaxElements / round_up(channels, 32), "a value is too large");
  require(spec.real || spec.bits, "an operation emits nothing");
  op->channels = channels, op->height = height, op->width = width;
  op->multiplier = by_channel(spec.multiplier, channels, "the multiplier is not one number a channel");
  op->offset = by_channel(spec.offset, channels, "the offset is not one number a channel");
  op->slope = by_channel(spec.slope, channels, "the slope is not one number a channel");
  op->threshold = by_channel(spec.threshold, channels, "the threshold is not one number a channel");
  if (!spec.threshold.empty()) {
    require(op->kind == Operation::Kind::kBinaryConvolution && !spec.real, "a threshold where none can be");
    for (int c = channels; c < round_up(channels, kLanes); ++c) op->threshold[c] = kMaxThreshold;
  }
  Epilogue& e = op->epilogue;
  if (spec.activation == "clip") {
    e.activation = Activation::kClip;
  } else if (spec.activation == "relu") {
    e.activation = Activation::kRelu;
  } else if (spec.activation == "prelu") {
    require(!op->slope.empty(), "a prelu without slope");
    e.activation = Activation::kPrelu;
  } else {
    require(spec.activation.empty(), "an unknown activation");
  }
  e.low = spec.low, e.high = spec.high, e.channels = channels;
  e.multiplier = op->multiplier.data(), e.offset = op->offset.data(), e.slope = op->slope.data();
  e.threshold = op->threshold.data();
  if (spec.residual >= 0) {
    const Value& residual = real_value(spec.residual);
    require(residual.channels == channels && residual.height == height && residual.width == width,
            "a residual of another shape");
    op->residual = spec.residual;
  }
  const int index = static_cast<int>(operations_.size());
  for (int input : op->inputs) values_[input].last_read = index;
  if (op->residual >= 0) values_[op->residual].last_read = index;
  const auto make = [&](bool real) {
    const int stride = real ? round_up(channels, kLanes) : halves_of(channels);
    values_.push_back(Value{real, channels, height, width, stride, index, index});
    return static_cast<int>(values_.size()) - 1;
  };
  using Kind = Operation::Kind;
  const bool moves = op->kind == Kind::kPad || op->kind == Kind::kConcatenate || op->kind == Kind::kResize ||
                     op->kind == Kind::kFlatten;
  const bool plain = spec.real && !spec.bits && spec.residual < 0 && !e.multiplier && !e.offset &&
                     e.activation == Activation::kNone;
  if (moves && !plain) op->scratch = make(true);  // else it moves values to where they stay
  const auto make_rows = [&](int rows, int stride) {  // of floats
    require(rows <= kMaxElements / stride, "a convolution is too large");
    values_.push_back(Value{true, stride, rows, 1, stride, index, index});
    op->scratch = static_cast<int>(values_.size()) - 1;
  };
  if (op->transform) make_rows(op->geometry.height, op->transform->row_stride());
  if (op->kind == Kind::kInt8Convolution) make_rows(op->geometry.padded_height(), op->levels.row_stride / 4);
  if (spec.real) op->real = make(true);
  if (spec.bits) op->bits = make(false);
  const Emitted emitted{op->real, op->bits};
  operations_.push_back(std::move(op));
  return emitted;
}

void Engine::finish(int output) {
  real_value(output);  // refuses anything else
  values_[output].last_read = std::numeric_limits<int>::max();
  pack_input();
  plan_memory();
  output_ = output;
  give_arena(std::make_unique<Arena>(arena_bytes_));
}

// The image has few channels: where only convolutions of one group read it, without a gap between pixels.
void Engine::pack_input() {
  for (const auto& op : operations_) {
    const bool reads = std::find(op->inputs.begin(), op->inputs.end(), 0) != op->inputs.end();
    const bool convolves = op->kind == Operation::Kind::kConvolution || op->kind == Operation::Kind::kInt8Convolution;
    const bool dense = convolves && op->geometry.groups == 1;
    if (op->residual == 0 || (reads && !dense)) return;
  }
  if (output_ != 0) values_[0].stride = values_[0].channels;
}

// First fit: a value takes the lowest place that no value alive at the same time takes. A real result takes the place of the
// residual that it is the last to read, where nothing else of the operation reads that: the memory is in the cache.
void Engine::plan_memory() {
  std::vector<const Value*> placed;
  for (Value& value : values_) {
    placed.push_back(&value);
    if (const Value* residual = dying_residual(value)) {
      value.offset = residual->offset;
      continue;
    }
    std::int64_t offset = 0;
    std::vector<const Value*> alive;
    for (const Value* other : placed)
      if (other != &value && other->last_read >= value.made && value.last_read >= other->made) alive.push_back(other);
    std::sort(alive.begin(), alive.end(), [](const Value* a, const Value* b) { return a->offset < b->offset; });
    for (const Value* other : alive) {
      if (offset + value.bytes() <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes());
    }
    value.offset = offset;
    arena_bytes_ = std::max(arena_bytes_, offset + value.bytes());
    require(arena_bytes_ <= kMaxBytes, "the program needs too much memory");
  }
}

const Engine::Value* Engine::dying_residual(const Value& value) const {
  if (value.made < 0) return nullptr;
  const Operation& op = *operations_[value.made];
  if (op.residual < 0 || op.real < 0 || &values_[op.real] != &value) return nullptr;
  const Value& residual = values_[op.residual];
  const bool read_otherwise = std::find(op.inputs.begin(), op.inputs.end(), op.residual) != op.inputs.end();
  return residual.last_read == value.made && !read_otherwise && residual.stride == value.stride ? &residual : nullptr;
}

std::unique_ptr<Engine::Arena> Engine::take_arena() {
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
  // Enough images for every thread: one image a thread. Fewer: all threads on the rows of each operation.
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
  if (in.stride == 3) {  // written in order, which is what takes the time
    for (std::int64_t p = 0; p < pixels; ++p)
      for (int c = 0; c < 3; ++c) input[3 * p + c] = image[c * pixels + p];
  } else {
    for (int c = 0; c < in.channels; ++c)
      for (std::int64_t p = 0; p < pixels; ++p) input[p * in.stride + c] = image[c * pixels + p];
  }
  for (const auto& operation : operations_) execute(*operation, arena, parallel);
  const float* output = reinterpret_cast<const float*>(arena + out.offset);
  for (int c = 0; c < out.channels; ++c)
    for (std::int64_t p = 0; p < out.pixels(); ++p) result[c * out.pixels() + p] = output[p * out.stride + c];
}

std::vector<double> Engine::profile(const float* image, int rounds) {
  require(output_ >= 0, "the engine is not finished");
  require(rounds >= 1 && rounds <= 100'000, "the number of rounds is out of range");
  std::vector<float> result(values_[output_].channels * values_[output_].pixels());
  auto arena = take_arena();
  run_one(image, result.data(), arena->memory.data(), pool_.threads() > 1);
  std::vector<std::vector<double>> times(operations_.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      execute(*operations_[i], arena->memory.data(), pool_.threads() > 1);
      times[i].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
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
  volatile std::uint32_t sink = 0;
  for (int trial = 0; trial < 7; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    sink = sink + kernels_->peak(rounds);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(rounds) * kernels_->peak_bits / seconds);
  }
  return best;
}

void Engine::execute(const Operation& op, std::uint8_t* arena, bool parallel) {
  const auto real = [&](int id) { return reinterpret_cast<float*>(arena + values_[id].offset); };
  Epilogue e = op.epilogue;
  if (op.residual >= 0) e.residual = real(op.residual);
  if (op.real >= 0) e.real = real(op.real);
  if (op.bits >= 0) e.bits = reinterpret_cast<std::uint16_t*>(arena + values_[op.bits].offset);
  const Value& in = values_[op.inputs[0]];
  using Kind = Operation::Kind;
  // Splits [0, units) among the threads where there is enough to do; `cost` in vector instructions, about.
  const auto split = [&](int units, std::int64_t cost, auto&& work) {
    const int parts = parallel && cost > kWorthSplitting ? std::min(units, pool_.threads()) : 1;
    pool_.run(parts, [&](int part) {
      work(static_cast<int>(std::int64_t{units} * part / parts), static_cast<int>(std::int64_t{units} * (part + 1) / parts));
    });
  };
  const int pixels = op.height * op.width;
  const std::int64_t blocks = std::int64_t{pixels} * round_up(op.channels, kLanes) / kLanes;
  if (op.kind == Kind::kConvolution || op.kind == Kind::kInt8Convolution || op.kind == Kind::kBinaryConvolution) {
    Geometry g = op.geometry;
    g.stride = in.stride;
    const std::int64_t taps = std::int64_t{g.kernel_y} * g.kernel_x;
    if (op.kind == Kind::kInt8Convolution) {
      auto* levels = arena + values_[op.scratch].offset;
      split(g.padded_height(), std::int64_t{g.height} * g.width * g.channels / kLanes, [&](int begin, int end) {
        kernels_->round_to_levels(g, op.levels, real(op.inputs[0]), levels, begin, end);
      });
      return split(op.height, blocks * taps * g.channels / 4, [&](int begin, int end) {
        kernels_->int8_convolution(g, op.levels, levels, op.bit_weights.data(), op.initial.data(), e, begin, end);
      });
    }
    if (op.transform) {
      const RowTransform& t = *op.transform;
      split(g.height, std::int64_t{g.height} * t.tiles * t.points * t.points, [&](int begin, int end) {
        kernels_->transform_rows(g, t, real(op.inputs[0]), real(op.scratch), begin, end);
      });
      return split(op.height, blocks * taps * g.channels / 2, [&](int begin, int end) {
        kernels_->transformed_convolution(g, t, real(op.scratch), op.weights.data(), e, begin, end);
      });
    }
    if (op.kind == Kind::kConvolution)
      return split(op.height, blocks * taps * g.channels / g.groups, [&](int begin, int end) {
        kernels_->convolution(g, real(op.inputs[0]), op.weights.data(), e, begin, end);
      });
    const auto* bits = reinterpret_cast<const std::uint16_t*>(arena + in.offset);
    const BitWeights weights{op.bit_weights.data(), op.all_rows_weights.data(), op.pair_weights.data()};
    return split(op.height, 3 * blocks * taps * (g.stride + 1) / 2, [&](int begin, int end) {
      kernels_->binary_convolution(g, bits, weights, e, begin, end);
    });
  }
  if (op.kind == Kind::kPool)
    return split(op.height, blocks * op.pooling.kernel_y * op.pooling.kernel_x, [&](int begin, int end) {
      kernels_->pool(op.pooling, real(op.inputs[0]), e, begin, end);
    });
  if (op.kind == Kind::kElementwise)
    return split(pixels, 4 * blocks, [&](int begin, int end) { kernels_->elementwise(real(op.inputs[0]), e, begin, end); });
  float* scratch = real(op.scratch >= 0 ? op.scratch : op.real);
  const int stride = values_[op.scratch >= 0 ? op.scratch : op.real].stride;
  const float* x = real(op.inputs[0]);
  switch (op.kind) {
    case Kind::kPad:
      for (std::int64_t p = 0; p < pixels; ++p) {
        std::memset(scratch + p * stride, 0, stride * sizeof(float));
        std::memcpy(scratch + p * stride + op.before, x + p * in.stride, in.channels * sizeof(float));
      }
      break;
    case Kind::kConcatenate: {
      int first = 0;
      for (int id : op.inputs) {
        const Value& value = values_[id];
        for (std::int64_t p = 0; p < pixels; ++p)
          std::memcpy(scratch + p * stride + first, real(id) + p * value.stride, value.channels * sizeof(float));
        first += value.channels;
      }
      break;
    }
    case Kind::kResize:
      for (std::int64_t row = 0; row < op.height; ++row)
        for (std::int64_t column = 0; column < op.width; ++column) {
          const std::int64_t from = row * in.height / op.height * in.width + column * in.width / op.width;
          std::memcpy(scratch + (row * op.width + column) * stride, x + from * in.stride, in.channels * sizeof(float));
        }
      break;
    default:  // flatten
      for (int c = 0; c < in.channels; ++c)
        for (std::int64_t p = 0; p < in.pixels(); ++p) scratch[c * in.pixels() + p] = x[p * in.stride + c];
  }
  if (op.scratch >= 0) kernels_->elementwise(scratch, e, 0, pixels);
}

}  // namespace biper
