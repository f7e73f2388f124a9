// Views that operations on arrays make of values, which take no work at run time; biper.runtime.views has the same.
#pragma once

#include <optional>
#include <vector>

#include "capi/checks.h"
#include "engine/views.h"

namespace biper::capi {

Shape dense_strides(const Shape& shape);  // in row-major order
Shape image_strides(const Shape& shape);  // in the layout of images

// Whether an array (C, H, W) is in the layout of images.
bool is_image(const View& view);
View permuted(const View& view, const Shape& order);
View sliced(const View& view, const Shape& starts, const Shape& sizes, const Shape& steps);
View expanded(const View& view, const Shape& shape);
// The same elements in row-major order in another shape; nothing if no strides describe them.
std::optional<View> reshaped(const View& view, const Shape& shape);
// Strides of a new array, in the order in which one of the views has its elements in memory.
Shape strides_like(const std::vector<View>& views, const Shape& shape);
std::int64_t rounded(std::int64_t count);  // to whole blocks of channels

}  // namespace biper::capi
