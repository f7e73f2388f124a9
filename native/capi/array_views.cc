#include "capi/array_views.h"

#include <algorithm>
#include <utility>

namespace biper::capi {
namespace {

constexpr std::int64_t kBlock = 16;

}  // namespace

std::int64_t rounded(std::int64_t count) { return (count + kBlock - 1) / kBlock * kBlock; }

Shape dense_strides(const Shape& shape) {
  Shape strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; step *= shape[axis]) strides[axis] = step;
  return strides;
}

Shape image_strides(const Shape& shape) {
  const std::int64_t pixel = rounded(shape[0]);
  return {1, shape[2] * pixel, pixel};
}

bool is_image(const View& view) {
  if (view.sizes.size() != 3 || view.offset % kBlock) return false;
  const Shape expected = image_strides(view.sizes);
  for (int axis = 0; axis < 3; ++axis)
    if (view.sizes[axis] != 1 && view.strides[axis] != expected[axis]) return false;
  return true;
}

View permuted(const View& view, const Shape& order) {
  View made{view.value, {}, {}, view.offset};
  for (const std::int64_t axis : order) {
    made.sizes.push_back(view.sizes[axis]);
    made.strides.push_back(view.strides[axis]);
  }
  return made;
}

View sliced(const View& view, const Shape& starts, const Shape& sizes, const Shape& steps) {
  View made{view.value, sizes, {}, view.offset};
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    made.offset += starts[axis] * view.strides[axis];
    made.strides.push_back(sizes[axis] > 1 ? steps[axis] * view.strides[axis] : 0);
  }
  return made;
}

View expanded(const View& view, const Shape& shape) {
  const std::size_t more = shape.size() - view.sizes.size();
  View made{view.value, shape, Shape(more, 0), view.offset};
  for (std::size_t axis = 0; axis < view.sizes.size(); ++axis)
    made.strides.push_back(view.sizes[axis] != shape[more + axis] ? 0 : view.strides[axis]);
  return made;
}

std::optional<View> reshaped(const View& view, const Shape& shape) {
  std::vector<std::pair<std::int64_t, std::int64_t>> old;  // sizes and strides
  for (std::size_t axis = 0; axis < view.sizes.size(); ++axis)
    if (view.sizes[axis] > 1) old.emplace_back(view.sizes[axis], view.strides[axis]);
  std::vector<std::size_t> axes;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] > 1) axes.push_back(axis);
  Shape strides(shape.size());
  std::size_t first = 0, begin = 0;
  while (begin < axes.size()) {
    // The least groups of old axes and of new axes that have the same number of elements.
    std::size_t last = first + 1, end = begin + 1;
    std::int64_t before = old[first].first, after = shape[axes[begin]];
    while (before != after) {
      if (before < after)
        before *= old[last++].first;
      else
        after *= shape[axes[end++]];
    }
    for (std::size_t i = first; i + 1 < last; ++i)
      if (old[i].second != old[i + 1].first * old[i + 1].second) return std::nullopt;
    std::int64_t step = old[last - 1].second;
    for (std::size_t i = end; i-- > begin;) {
      strides[axes[i]] = step;
      step *= shape[axes[i]];
    }
    first = last, begin = end;
  }
  return View{view.value, shape, strides, view.offset};
}

Shape strides_like(const std::vector<View>& views, const Shape& shape) {
  for (const View& view : views) {
    std::vector<std::size_t> order, all;
    bool repeats = false;
    for (std::size_t axis = 0; axis < view.sizes.size(); ++axis)
      if (view.sizes[axis] > 1) {
        order.push_back(axis);
        repeats |= view.strides[axis] == 0;
      }
    if (view.sizes.size() != shape.size() || order.empty() || repeats) continue;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      if (view.sizes[axis] <= 1) all.push_back(axis);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return view.strides[a] > view.strides[b]; });
    const std::size_t inner = order.back();
    bool pads = order.size() > 1 && view.strides[inner] == 1 && shape[inner] > 1;
    pads = pads && view.strides[order[order.size() - 2]] == rounded(view.sizes[inner]) &&
           rounded(view.sizes[inner]) != view.sizes[inner];
    all.insert(all.end(), order.begin(), order.end());
    Shape strides(shape.size());
    std::int64_t step = 1;
    for (std::size_t i = all.size(); i-- > 0;) {
      const std::size_t axis = all[i];
      strides[axis] = shape[axis] > 1 ? step : 0;
      step *= pads && axis == inner ? rounded(shape[axis]) : shape[axis];
    }
    return strides;
  }
  return dense_strides(shape);
}

}  // namespace biper::capi
