#include "engine/views.h"

#include <algorithm>
#include <cstring>

#include "engine/operation.h"

namespace biper {
namespace {

constexpr std::int64_t kTile = 16;  // rows that are transposed together: as many floats as a cache line has

}  // namespace

std::int64_t elements_of(const std::vector<std::int64_t>& sizes) {
  require(sizes.size() <= static_cast<std::size_t>(kMaxRank), "an array has too many dimensions");
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) {
    require(size >= 1, "an array is empty");
    require(size <= kMaxElements / count, "an array is too large");
    count *= size;
  }
  return count;
}

void check_view(const View& view, std::int64_t floats) {
  require(view.sizes.size() == view.strides.size(), "a view needs a stride for each axis");
  elements_of(view.sizes);
  require(view.offset >= 0 && view.offset < floats, "a view begins outside its value");
  std::int64_t last = view.offset;
  for (std::size_t i = 0; i < view.sizes.size(); ++i) {
    require(view.strides[i] >= 0 && view.strides[i] <= kMaxElements, "a stride is out of range");
    last += (view.sizes[i] - 1) * view.strides[i];  // at most eight times 2^56
  }
  require(last < floats, "a view ends outside its value");
}

Axes axes_of(const std::vector<const View*>& views) {
  require(!views.empty() && views.size() <= static_cast<std::size_t>(kMaxOperands), "too many operands");
  Axes axes;
  for (std::size_t i = 0; i < views[0]->sizes.size(); ++i) {
    Axis axis{views[0]->sizes[i], {}};
    for (std::size_t k = 0; k < views.size(); ++k) {
      require(views[k]->sizes == views[0]->sizes, "the operands of an operation have different shapes");
      axis.strides[k] = views[k]->strides[i];
    }
    axes.push_back(axis);
  }
  return axes;
}

Axes merged(Axes axes, std::size_t least) {
  std::erase_if(axes, [](const Axis& axis) { return axis.size == 1; });
  std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.strides[0] > b.strides[0]; });
  Axes result;
  for (const Axis& axis : axes) {
    const auto follows = [&](const Axis& outer) {
      for (int k = 0; k < kMaxOperands; ++k)
        if (outer.strides[k] != axis.size * axis.strides[k]) return false;
      return true;
    };
    if (!result.empty() && follows(result.back()))
      result.back() = Axis{result.back().size * axis.size, axis.strides};
    else
      result.push_back(axis);
  }
  while (result.size() < least) result.insert(result.begin(), Axis{1, {}});
  return result;
}

Copy::Copy(const View& target, const View& source) : to_(target.offset), from_(source.offset) {
  Axes axes = merged(axes_of({&target, &source}), 2);
  inner_ = axes.back();
  axes.pop_back();
  // A transposition: the axis along which the source is contiguous comes second to last, and is taken in tiles.
  const auto contiguous = std::find_if(axes.begin(), axes.end(), [](const Axis& a) { return a.strides[1] == 1; });
  const bool transposes = inner_.strides[1] != 1 && contiguous != axes.end();
  if (transposes) std::rotate(contiguous, contiguous + 1, axes.end());
  rows_ = axes.back();
  axes.pop_back();
  outer_ = std::move(axes);
  row_chunk_ = transposes ? std::min(kTile, rows_.size) : 1;
  const std::int64_t parts = (rows_.size + row_chunk_ - 1) / row_chunk_;
  chunks_ = count_of(outer_) * parts;
  elements_ = count_of(outer_) * rows_.size * inner_.size;
}

void Copy::run(float* to, const float* from, std::int64_t begin, std::int64_t end) const {
  const std::int64_t parts = (rows_.size + row_chunk_ - 1) / row_chunk_;
  const std::int64_t to_step = inner_.strides[0], from_step = inner_.strides[1];
  for (std::int64_t chunk = begin; chunk < end; ++chunk) {
    const Offsets at = offsets_at(outer_, chunk / parts);
    const std::int64_t first = chunk % parts * row_chunk_, rows = std::min(row_chunk_, rows_.size - first);
    float* y = to + to_ + at[0] + first * rows_.strides[0];
    const float* x = from + from_ + at[1] + first * rows_.strides[1];
    if (row_chunk_ > 1) {
      for (std::int64_t i = 0; i < inner_.size; ++i)
        for (std::int64_t row = 0; row < rows; ++row)
          y[row * rows_.strides[0] + i * to_step] = x[row * rows_.strides[1] + i * from_step];
    } else if (to_step == 1 && from_step == 1) {
      std::memcpy(y, x, inner_.size * sizeof(float));
    } else if (to_step == 1 && from_step == 0) {
      std::fill(y, y + inner_.size, *x);
    } else {
      for (std::int64_t i = 0; i < inner_.size; ++i) y[i * to_step] = x[i * from_step];
    }
  }
}

}  // namespace biper
