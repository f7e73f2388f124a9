// Copies of parts of arrays, sampling along an axis, and products of matrices.
#include <algorithm>
#include <cstring>

#include "engine/arrays.h"
#include "kernels/float_functions.h"

namespace biper {

Copies::Copies(const std::vector<View>& sources, const std::vector<View>& targets, bool fills, float value,
               std::int64_t floats)
    : fills_(fills), value_(value), floats_(floats) {
  require(!sources.empty() && sources.size() == targets.size(), "each source needs a target");
  result_ = targets[0].value;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    require(targets[i].value == result_, "an operation writes two values");
    sources_.push_back(sources[i].value);
    copies_.emplace_back(targets[i], sources[i]);
  }
}

void Copies::run(const Context& context) const {
  float* to = context.real(result_);
  if (fills_) std::fill(to, to + floats_, value_);
  for (std::size_t i = 0; i < copies_.size(); ++i) {
    const Copy& copy = copies_[i];
    const float* from = context.read(sources_[i]);
    context.split(static_cast<int>(copy.chunks()), copy.elements(),
                  [&](int begin, int end) { copy.run(to, from, begin, end); });
  }
}

Sample::Sample(const View& input, int axis, const std::vector<int>& index, const std::vector<float>& weight,
               bool maximum, const View& result)
    : input_(input), result_(result), index_(index), weight_(weight), maximum_(maximum) {
  require(axis >= 0 && static_cast<std::size_t>(axis) < input.sizes.size(), "an axis is out of range");
  require(result.sizes.size() == input.sizes.size(), "a result has another shape than its operation makes");
  const std::int64_t length = result.sizes[axis], count = static_cast<std::int64_t>(index.size());
  require(count >= length && count % length == 0, "an index has another length than the result");
  require(weight.empty() || (weight.size() == index.size() && !maximum), "weights do not fit their index");
  for (const int place : index) require(place >= 0 && place < input.sizes[axis], "an index is out of range");
  taps_ = count / length;
  View whole = input;  // with the size of the result along the axis, so that all axes are the same
  whole.sizes[axis] = length;
  Axes axes = axes_of({&result, &whole});
  axis_ = axes[axis];
  axes.erase(axes.begin() + axis);
  others_ = merged(std::move(axes), 1);
  inner_ = others_.back();
  others_.pop_back();
  if (inner_.strides[0] != 1 || inner_.strides[1] != 1) {  // rows of one element
    others_.push_back(inner_);
    inner_ = Axis{1, {1, 1}};
  }
}

void Sample::run(const Context& context) const {
  const std::int64_t length = axis_.size, n = inner_.size, rows = count_of(others_) * length;
  context.split(static_cast<int>(rows), rows * taps_ * (4 + n / 4), [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const Offsets at = offsets_at(others_, row / length);
      const std::int64_t place = row % length;
      const float* x = context.read(input_.value) + input_.offset + at[1];
      float* y = context.real(result_.value) + result_.offset + at[0] + place * axis_.strides[0];
      for (std::int64_t tap = 0; tap < taps_; ++tap) {
        const std::int64_t number = tap * length + place;
        const float* from = x + index_[number] * axis_.strides[1];
        const float weight = weight_.empty() ? 1.0f : weight_[number];
        if (tap == 0)
          for (std::int64_t i = 0; i < n; ++i) y[i] = weight * from[i];
        else if (maximum_)
          for (std::int64_t i = 0; i < n; ++i) y[i] = larger_of(y[i], from[i]);
        else
          for (std::int64_t i = 0; i < n; ++i) y[i] += weight * from[i];
      }
    }
  });
}

Product::Product(const View& left, const View& right, const View& result)
    : left_(left), right_(right), result_(result) {
  const std::size_t rank = result.sizes.size();
  require(rank >= 2 && left.sizes.size() == rank && right.sizes.size() == rank,
          "a product needs matrices of the same rank");
  rows_ = left.sizes[rank - 2], inside_ = left.sizes[rank - 1], columns_ = right.sizes[rank - 1];
  blocks_ = (columns_ + kLanes - 1) / kLanes;
  require(right.sizes[rank - 2] == inside_ && result.sizes[rank - 2] == rows_ && result.sizes[rank - 1] == columns_,
          "matrices of these shapes have no product");
  require(inside_ > 1 && left.strides[rank - 1] == 1, "the rows of the left matrix are not contiguous");
  require(rows_ == 1 || result.strides[rank - 2] == blocks_ * kLanes, "the rows of a product have other strides");
  require(columns_ == 1 || result.strides[rank - 1] == 1, "the rows of a product are not contiguous");
  require(result.offset == 0, "a product begins inside its value");
  View batch[3] = {result, left, right};
  for (View& view : batch) view.sizes.resize(rank - 2), view.strides.resize(rank - 2);
  batches_ = axes_of({&batch[0], &batch[1], &batch[2]});
  for (const Axis& axis : batches_)
    require(axis.size == 1 || axis.strides[0] % (rows_ * blocks_ * kLanes) == 0, "products overlap");
  const bool same = std::all_of(batches_.begin(), batches_.end(),
                                [](const Axis& axis) { return axis.size == 1 || axis.strides[2] == 0; });
  packed_ = same ? 1 : count_of(batches_);
  require(blocks_ * kLanes <= kMaxElements / inside_ / packed_, "a product is too large");
}

std::int64_t Product::scratch_floats() const { return constant_.empty() ? packed_ * blocks_ * kLanes * inside_ : 0; }

void Product::pack_constant(const float* right) {
  Aligned<float> packed(scratch_floats());
  pack(right, packed.data(), 0, packed_ * blocks_);
  constant_ = std::move(packed);
}

// From (K, N) to [block][K][16], for the blocks [begin, end) of all matrices.
void Product::pack(const float* right, float* packed, std::int64_t begin, std::int64_t end) const {
  const std::size_t rank = right_.sizes.size();
  const std::int64_t row = right_.strides[rank - 2], column = right_.strides[rank - 1];
  for (std::int64_t number = begin; number < end; ++number) {
    const std::int64_t block = number % blocks_, lanes = std::min<std::int64_t>(kLanes, columns_ - block * kLanes);
    const float* from = right + right_.offset + offsets_at(batches_, number / blocks_)[2] + block * kLanes * column;
    float* to = packed + number * inside_ * kLanes;
    if (lanes < kLanes) std::fill(to, to + inside_ * kLanes, 0.0f);
    if (column == 1)
      for (std::int64_t k = 0; k < inside_; ++k) std::memcpy(to + k * kLanes, from + k * row, lanes * sizeof(float));
    else
      for (std::int64_t lane = 0; lane < lanes; ++lane)
        for (std::int64_t k = 0; k < inside_; ++k) to[k * kLanes + lane] = from[k * row + lane * column];
  }
}

void Product::run(const Context& context) const {
  const float* packed = constant_.data();
  const std::int64_t batches = count_of(batches_), panel = blocks_ * inside_ * kLanes;
  if (constant_.empty()) {
    float* scratch = context.real(scratch_);
    context.split(static_cast<int>(packed_ * blocks_), packed_ * panel / 2,
                  [&](int begin, int end) { pack(context.read(right_.value), scratch, begin, end); });
    packed = scratch;
  }
  // A product is a convolution of 1 x 1: the rows of the left matrix are the pixels of an image of height 1.
  constexpr std::int64_t kRows = 32;
  const std::int64_t parts = (rows_ + kRows - 1) / kRows;
  const std::int64_t cost = batches * rows_ * blocks_ * inside_;
  context.split(static_cast<int>(batches * parts), cost, [&](int begin, int end) {
    Geometry g{};
    g.channels = static_cast<int>(inside_), g.stride = static_cast<int>(left_.strides[left_.strides.size() - 2]);
    g.out_channels = static_cast<int>(columns_);
    g.height = g.out_height = g.kernel_y = g.kernel_x = g.step_y = g.step_x = 1;
    g.dilation_y = g.dilation_x = g.groups = 1;
    Epilogue epilogue;
    epilogue.channels = g.out_channels;
    for (int part = begin; part < end; ++part) {
      const std::int64_t batch = part / parts, first = part % parts * kRows;
      const Offsets at = offsets_at(batches_, batch);
      g.width = g.out_width = static_cast<int>(std::min(kRows, rows_ - first));
      epilogue.real = context.real(result_.value) + at[0] + first * blocks_ * kLanes;
      context.kernels.convolution(g, context.read(left_.value) + left_.offset + at[1] + first * g.stride,
                                  packed + (packed_ == 1 ? 0 : batch * panel), epilogue, 0, 1);
    }
  });
}

}  // namespace biper
