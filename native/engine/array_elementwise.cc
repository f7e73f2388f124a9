// Functions of the elements of one, two or three arrays.
#include <algorithm>
#include <cstring>

#include "engine/arrays.h"

namespace biper {
namespace {

constexpr std::int64_t kChunk = 512;  // floats, of which four arrays fit into the first cache

std::vector<const View*> operands_of(const View& result, const std::vector<View>& inputs) {
  std::vector<const View*> all{&result};
  for (const View& input : inputs) all.push_back(&input);
  return all;
}

std::int64_t parts_of(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

}  // namespace

Elementwise::Elementwise(const FloatLoops& loops, const std::string& function, const std::vector<float>& parameters,
                         const std::vector<View>& inputs, const View& result)
    : parameters_(parameters), inputs_(inputs), result_(result) {
  const FloatFunction* const end = loops.functions + loops.count;
  const auto* found = std::find_if(loops.functions, end, [&](const FloatFunction& f) { return function == f.name; });
  require(found != end, "an unknown function");
  require(found->operands == inputs.size(), "a function has another number of operands");
  require(parameters.size() <= found->parameters, "a function has other parameters");
  loop_ = found->loop, cost_ = found->cost;
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
      loop_(operands, parameters_.data(), result, rows * length);
      continue;
    }
    float* copy = copies[count];
    loop_(operands, parameters_.data(), copy, rows * length);
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
