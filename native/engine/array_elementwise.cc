// Functions of the elements of one, two or three arrays.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string_view>
#include <type_traits>

#include "engine/array_functions.h"
#include "engine/arrays.h"

namespace biper {
namespace {

constexpr std::int64_t kChunk = 512;  // floats, of which four arrays fit into the first cache

// A loop over the elements, made from a function of floats. The parameters are copied, so that the compiler knows that
// writing the results does not change them.
template <typename F>
void over_elements(const float* const* operands, const float* parameters, float* __restrict result, std::int64_t n) {
  if constexpr (std::is_invocable_v<F, float>) {
    const float* x = operands[0];
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i]);
  } else if constexpr (std::is_invocable_v<F, float, const float*>) {
    const float* x = operands[0];
    const float own[3] = {parameters[0], parameters[1], parameters[2]};
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i], own);
  } else if constexpr (std::is_invocable_v<F, float, float>) {
    const float *x = operands[0], *y = operands[1];
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i], y[i]);
  } else {
    const float *x = operands[0], *y = operands[1], *z = operands[2];
    for (std::int64_t i = 0; i < n; ++i) result[i] = F{}(x[i], y[i], z[i]);
  }
}

struct Entry {
  std::string_view name;
  std::size_t operands, parameters;
  int cost;
  Function function;
};

template <typename F>
Entry entry(std::string_view name, int cost, F) {
  if constexpr (std::is_invocable_v<F, float, const float*>) return {name, 1, 3, cost, over_elements<F>};
  return {name, std::is_invocable_v<F, float> ? 1u : (std::is_invocable_v<F, float, float> ? 2u : 3u), 0, cost,
          over_elements<F>};
}

// Names, approximate vector instructions, and functions. Functions of one number with parameters take up to three.
const Entry kFunctions[] = {
    entry("abs", 1, [](float x) { return std::fabs(x); }),
    entry("atan", 30, [](float x) { return atan_of(x); }),
    entry("bfloat16", 4, [](float x) { return x == x ? from_bfloat16(to_bfloat16(x)) : x; }),
    entry("ceil", 20, [](float x) { return std::ceil(x); }),
    entry("clip", 2, [](float x, const float* p) { return clip_of(x, p[0], p[1]); }),
    entry("cos", 60, [](float x) { return std::cos(x); }),
    entry("elu", 30,
          [](float x, const float* p) {
            const float below = expm1_of((x > 0 ? 0 : x) * p[2]) * (p[0] * p[1]);
            return x > 0 ? x * p[1] : below;
          }),
    entry("erf", 50, [](float x) { return erf_of(x); }),
    entry("exp", 20, [](float x) { return exp_of(x); }),
    entry("expm1", 30, [](float x) { return expm1_of(x); }),
    entry("floor", 20, [](float x) { return std::floor(x); }),
    entry("gelu", 50, [](float x) { return gelu_of(x); }),
    entry("gelu_tanh", 40, [](float x) { return gelu_tanh_of(x); }),
    entry("hardsigmoid", 8, [](float x) { return hardsigmoid_of(x); }),
    entry("hardswish", 8, [](float x) { return x * hardsigmoid_of(x); }),
    entry("leaky_relu", 3, [](float x, const float* p) { return x > 0 ? x : x * p[0]; }),
    entry("log", 60, [](float x) { return std::log(x); }),
    entry("log1p", 60, [](float x) { return std::log1p(x); }),
    entry("mish", 30, [](float x) { return mish_of(x); }),
    entry("negative", 1, [](float x) { return -x; }),
    entry("power_by", 80, [](float x, const float* p) { return std::pow(x, p[0]); }),
    entry("reciprocal", 5, [](float x) { return 1.0f / x; }),
    entry("relu", 1, [](float x) { return x < 0 ? 0.0f : x; }),
    entry("round", 20, [](float x) { return std::nearbyint(x); }),
    entry("rsqrt", 10, [](float x) { return 1.0f / std::sqrt(x); }),
    entry("sigmoid", 25, [](float x) { return sigmoid_of(x); }),
    entry("sign", 4, [](float x) { return x > 0 ? 1.0f : (x < 0 ? -1.0f : (x == 0 ? 0.0f : x)); }),
    entry("silu", 25, [](float x) { return x * sigmoid_of(x); }),
    entry("sin", 60, [](float x) { return std::sin(x); }),
    entry("softplus", 100,
          [](float x, const float* p) {
            const float scaled = x * p[0];
            return scaled > p[1] ? x : std::log1p(exp_of(scaled > p[1] ? p[1] : scaled)) / p[0];
          }),
    entry("sqrt", 5, [](float x) { return std::sqrt(x); }),
    entry("square", 1, [](float x) { return x * x; }),
    entry("tanh", 35, [](float x) { return tanh_of(x); }),
    entry("add", 1, [](float x, float y) { return x + y; }),
    entry("divide", 5, [](float x, float y) { return x / y; }),
    entry("equal", 2, [](float x, float y) { return x == y ? 1.0f : 0.0f; }),
    entry("greater", 2, [](float x, float y) { return x > y ? 1.0f : 0.0f; }),
    entry("greater_equal", 2, [](float x, float y) { return x >= y ? 1.0f : 0.0f; }),
    entry("less", 2, [](float x, float y) { return x < y ? 1.0f : 0.0f; }),
    entry("less_equal", 2, [](float x, float y) { return x <= y ? 1.0f : 0.0f; }),
    entry("maximum", 3, [](float x, float y) { return larger_of(x, y); }),
    entry("minimum", 3, [](float x, float y) { return smaller_of(x, y); }),
    entry("multiply", 1, [](float x, float y) { return x * y; }),
    entry("not_equal", 2, [](float x, float y) { return x != y ? 1.0f : 0.0f; }),
    entry("power", 80, [](float x, float y) { return std::pow(x, y); }),
    entry("subtract", 1, [](float x, float y) { return x - y; }),
    entry("select", 3, [](float x, float y, float z) { return x != 0 ? y : z; }),
};

std::vector<const View*> operands_of(const View& result, const std::vector<View>& inputs) {
  std::vector<const View*> all{&result};
  for (const View& input : inputs) all.push_back(&input);
  return all;
}

std::int64_t parts_of(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

}  // namespace

Elementwise::Elementwise(const std::string& function, const std::vector<float>& parameters,
                         const std::vector<View>& inputs, const View& result)
    : parameters_(parameters), inputs_(inputs), result_(result) {
  const auto* found =
      std::find_if(std::begin(kFunctions), std::end(kFunctions), [&](const Entry& e) { return e.name == function; });
  require(found != std::end(kFunctions), "an unknown function");
  require(found->operands == inputs.size(), "a function has another number of operands");
  require(parameters.size() <= found->parameters, "a function has other parameters");
  function_ = found->function, cost_ = found->cost;
  parameters_.resize(3);
  Axes axes = merged(axes_of(operands_of(result, inputs)), 2);
  inner_ = axes.back(), axes.pop_back();
  rows_ = axes.back(), axes.pop_back();
  outer_ = std::move(axes);
  if (inner_.size == 1) inner_.strides[0] = 1;
  chunk_length_ = std::min(inner_.size, kChunk);
  chunk_rows_ = std::clamp(kChunk / inner_.size, std::int64_t{1}, rows_.size);
  row_parts_ = parts_of(rows_.size, chunk_rows_), inner_parts_ = parts_of(inner_.size, chunk_length_);
  chunks_ = count_of(outer_) * row_parts_ * inner_parts_;
}

void Elementwise::run_chunks(const Context& context, std::int64_t begin, std::int64_t end) const {
  float copies[kMaxOperands][kChunk];
  const std::size_t count = inputs_.size();
  for (std::int64_t chunk = begin; chunk < end; ++chunk) {
    const std::int64_t column = chunk % inner_parts_ * chunk_length_;
    const std::int64_t row = chunk / inner_parts_ % row_parts_ * chunk_rows_;
    const Offsets at = offsets_at(outer_, chunk / inner_parts_ / row_parts_);
    const std::int64_t length = std::min(chunk_length_, inner_.size - column);
    const std::int64_t rows = std::min(chunk_rows_, rows_.size - row);
    const float* operands[kMaxOperands - 1] = {};
    for (std::size_t k = 0; k < count; ++k) {
      const std::int64_t step = inner_.strides[k + 1], row_step = rows_.strides[k + 1];
      const float* x = context.read(inputs_[k].value) + inputs_[k].offset + at[k + 1] + row * row_step + column * step;
      operands[k] = x;
      if (step == 1 && (rows == 1 || row_step == length)) continue;
      float* copy = copies[k];
      operands[k] = copy;
      for (std::int64_t r = 0; r < rows; ++r, x += row_step, copy += length) {
        if (step == 1)
          std::memcpy(copy, x, length * sizeof(float));
        else if (step == 0)
          std::fill(copy, copy + length, *x);
        else
          for (std::int64_t i = 0; i < length; ++i) copy[i] = x[i * step];
      }
    }
    const std::int64_t step = inner_.strides[0], row_step = rows_.strides[0];
    float* result = context.real(result_.value) + result_.offset + at[0] + row * row_step + column * step;
    if (step == 1 && (rows == 1 || row_step == length)) {
      function_(operands, parameters_.data(), result, rows * length);
      continue;
    }
    float* copy = copies[count];
    function_(operands, parameters_.data(), copy, rows * length);
    for (std::int64_t r = 0; r < rows; ++r, result += row_step, copy += length) {
      if (step == 1)
        std::memcpy(result, copy, length * sizeof(float));
      else
        for (std::int64_t i = 0; i < length; ++i) result[i * step] = copy[i];
    }
  }
}

void Elementwise::run(const Context& context) const {
  const std::int64_t vectors = chunks_ * chunk_rows_ * chunk_length_ / 4;
  context.split(static_cast<int>(chunks_), vectors * (cost_ + 2),
                [&](int begin, int end) { run_chunks(context, begin, end); });
}

}  // namespace biper
