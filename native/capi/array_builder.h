// Operations on arrays for the engine: each becomes a view, or one or a few operations of the engine.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "capi/program.h"
#include "engine/engine.h"

namespace biper::capi {

class ArrayBuilder {
 public:
  explicit ArrayBuilder(Engine& engine) : engine_(engine) {}

  // Adds an operation and returns its result. `for_images`: whether operations on images read it, so that it has their
  // layout where possible.
  View add(const Step& step, const std::vector<View>& inputs, bool for_images);
  // Notes a value that an operation on images made, whose id needs no further view.
  void remember_image(const View& view) { images_[key_of(view)] = view.value; }
  // The id under which operations on images read a view (C, H, W); it is copied if its layout is another.
  int image(const View& view);

 private:
  using Key = std::tuple<int, Shape, Shape, std::int64_t>;
  static Key key_of(const View& view);

  View constant(const std::vector<float>& values, const Shape& shape);
  View result(const Shape& shape, const std::vector<View>& like) const;
  View copies(const std::vector<View>& sources, const std::vector<View>& targets, View result, bool fills, float fill);
  View copied(const View& view, const Shape& strides);
  View function(const std::string& name, const std::vector<float>& parameters, const std::vector<View>& inputs,
                View result);
  View unary(const Step& step, const std::vector<View>& inputs);
  View elementwise(const Step& step, const std::string& name, const std::vector<View>& inputs);
  View reduce(const Step& step, const View& input);
  View matmul(const Step& step, const std::vector<View>& inputs);
  View reshape(const Step& step, const View& input);
  View join(const Step& step, const std::vector<View>& inputs);
  View pad(const Step& step, const View& input);
  View sample(const Step& step, const View& input);

  Engine& engine_;
  bool wants_image_ = false;
  std::set<int> constants_;
  std::map<Key, int> images_;
};

}  // namespace biper::capi
