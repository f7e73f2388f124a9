// Sums, means, products and extremes over axes; normalization over axes; softmax along an axis.
//
// Sums are taken in double precision: the number of terms is not bounded by anything small.
#include <algorithm>
#include <cmath>

#include "engine/arrays.h"
#include "kernels/float_functions.h"

namespace biper {
namespace {

constexpr std::int64_t kMostLanes = 64;
constexpr int kParts = 8;  // partial results of a contiguous row, which a compiler keeps in vectors

// Calls f(offsets) for the first element of each row of the reduced axes.
template <typename F>
void for_each_row(const ReducedAxes& axes, F f) {
  const std::int64_t rows = count_of(axes.reduced);
  for (std::int64_t row = 0; row < rows; ++row) f(offsets_at(axes.reduced, row));
}

// Folds the reduced elements of `lanes` neighbours that start at x: total[lane] = fold(total[lane], element, lane).
// `join` folds two partial results.
template <typename T, typename F, typename J>
void fold_lanes(const ReducedAxes& axes, const float* x, std::int64_t lanes, T initial, T* total, F fold, J join) {
  std::fill(total, total + lanes, initial);
  const std::int64_t step = axes.inner.strides[0], lane_step = axes.lanes.strides[0];
  if (lanes == 1 && step == 1) {
    T parts[kParts];
    std::fill(parts, parts + kParts, initial);
    for_each_row(axes, [&](const Offsets& at) {
      const float* row = x + at[0];
      std::int64_t i = 0;
      for (; i + kParts <= axes.inner.size; i += kParts)
        for (int k = 0; k < kParts; ++k) parts[k] = fold(parts[k], row[i + k], 0);
      for (; i < axes.inner.size; ++i) parts[0] = fold(parts[0], row[i], 0);
    });
    for (int k = 0; k < kParts; ++k) total[0] = join(total[0], parts[k]);
    return;
  }
  for_each_row(axes, [&](const Offsets& at) {
    const float* row = x + at[0];
    for (std::int64_t i = 0; i < axes.inner.size; ++i, row += step) {
      if (lane_step == 1)
        for (std::int64_t lane = 0; lane < lanes; ++lane) total[lane] = fold(total[lane], row[lane], lane);
      else
        for (std::int64_t lane = 0; lane < lanes; ++lane) total[lane] = fold(total[lane], row[lane * lane_step], lane);
    }
  });
}

// Calls work(first lane's offsets, lanes) for each chunk of the kept elements.
template <typename F>
void for_each_chunk(const Context& context, const ReducedAxes& axes, std::int64_t cost, F work) {
  const std::int64_t parts = (axes.lanes.size + kMostLanes - 1) / kMostLanes;
  const std::int64_t vectors = count_of(axes.kept) * axes.lanes.size * axes.count / 4;
  context.split(static_cast<int>(axes.chunks()), vectors * cost, [&](int begin, int end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      Offsets at = offsets_at(axes.kept, chunk / parts);
      const std::int64_t first = chunk % parts * kMostLanes;
      for (int k = 0; k < 2; ++k) at[k] += first * axes.lanes.strides[k];
      work(at, std::min(kMostLanes, axes.lanes.size - first));
    }
  });
}

// The softmax of n elements that are `from` floats apart, or its logarithm, to where they are `to` floats apart.
void softmax_apart(const FloatLoops& loops, const float* x, std::int64_t from, float* y, std::int64_t to,
                   std::int64_t n, bool log) {
  constexpr std::int64_t kMost = 4096;  // of a row that is copied
  if (n < 1) return;
  if (n <= kMost) {
    float row[kMost], result[kMost];
    row[0] = *x;
    for (std::int64_t i = 1; i < n; ++i) row[i] = x[i * from];
    loops.softmax(row, result, n, log);
    for (std::int64_t i = 0; i < n; ++i) y[i * to] = result[i];
    return;
  }
  float largest = -INFINITY;
  for (std::int64_t i = 0; i < n; ++i) largest = larger_of(largest, x[i * from]);
  double total = 0;
  for (std::int64_t i = 0; i < n; ++i) total += y[i * to] = exp_of(x[i * from] - largest);
  const float sum = static_cast<float>(total), logarithm = std::log(sum);
  if (log)
    for (std::int64_t i = 0; i < n; ++i) y[i * to] = (x[i * from] - largest) - logarithm;
  else
    for (std::int64_t i = 0; i < n; ++i) y[i * to] /= sum;
}

Reduction::Kind kind_of(const std::string& function) {
  if (function == "sum") return Reduction::Kind::kSum;
  if (function == "mean") return Reduction::Kind::kMean;
  if (function == "max") return Reduction::Kind::kMax;
  if (function == "min") return Reduction::Kind::kMin;
  require(function == "product", "an unknown function");
  return Reduction::Kind::kProduct;
}

}  // namespace

ReducedAxes::ReducedAxes(const View& input, const View& result, const std::vector<int>& which) {
  const std::size_t rank = input.sizes.size();
  require(!which.empty() && input.strides.size() == rank && result.sizes.size() == rank,
          "a reduction needs axes, and a result of the same rank");
  std::vector<bool> is_reduced(rank);
  for (const int axis : which) {
    require(axis >= 0 && static_cast<std::size_t>(axis) < rank && !is_reduced[axis], "an axis is out of range");
    is_reduced[axis] = true;
  }
  for (std::size_t i = 0; i < rank; ++i) {
    const bool same = result.sizes[i] == input.sizes[i];
    require(same || (is_reduced[i] && result.sizes[i] == 1), "a result has another shape than its operation makes");
    const Axis axis{input.sizes[i], {input.strides[i], result.sizes[i] == 1 ? 0 : result.strides[i]}};
    (is_reduced[i] ? reduced : kept).push_back(axis);
  }
  kept = merged(std::move(kept), 1), reduced = merged(std::move(reduced), 1);
  count = count_of(reduced);
  inner = reduced.back(), reduced.pop_back();
  lanes = kept.back(), kept.pop_back();
  // Where the reduced elements are contiguous and the kept ones are not, rows are taken one after another.
  if (lanes.strides[0] != 1 && inner.strides[0] == 1 && inner.size >= kParts) {
    kept.push_back(lanes);
    lanes = Axis{1, {}};
  }
}

std::int64_t ReducedAxes::chunks() const { return count_of(kept) * ((lanes.size + kMostLanes - 1) / kMostLanes); }

Reduction::Reduction(const std::string& function, const View& input, const std::vector<int>& axes, const View& result)
    : kind_(kind_of(function)), input_(input), result_(result), axes_(input, result, axes) {
  for (const int axis : axes) require(result.sizes[axis] == 1, "a reduction keeps an axis");
}

void Reduction::run(const Context& context) const {
  const float* input = context.read(input_.value) + input_.offset;
  float* result = context.real(result_.value) + result_.offset;
  const auto run_as = [&](auto initial, auto fold, auto last) {
    for_each_chunk(context, axes_, 2, [&](const Offsets& at, std::int64_t lanes) {
      decltype(initial) total[kMostLanes];
      const auto element = [&](auto a, float b, std::int64_t) { return fold(a, static_cast<decltype(a)>(b)); };
      fold_lanes(axes_, input + at[0], lanes, initial, total, element, fold);
      for (std::int64_t lane = 0; lane < lanes; ++lane)
        result[at[1] + lane * axes_.lanes.strides[1]] = static_cast<float>(last(total[lane]));
    });
  };
  const auto same = [](auto x) { return x; };
  const auto add = [](double a, double b) { return a + b; };
  switch (kind_) {
    case Kind::kSum: return run_as(0.0, add, same);
    case Kind::kMean: return run_as(0.0, add, [&](double sum) { return sum / static_cast<double>(axes_.count); });
    case Kind::kMax: return run_as(-INFINITY, [](float a, float b) { return larger_of(a, b); }, same);
    case Kind::kMin: return run_as(INFINITY, [](float a, float b) { return smaller_of(a, b); }, same);
    case Kind::kProduct: return run_as(1.0f, [](float a, float b) { return a * b; }, same);
  }
}

Normalization::Normalization(const View& input, const std::vector<int>& axes, bool center, float epsilon,
                             const View& result)
    : center_(center), epsilon_(epsilon), input_(input), result_(result), axes_(input, result, axes) {
  require(result.sizes == input.sizes, "a result has another shape than its operation makes");
  require(epsilon >= 0, "an epsilon is negative");
}

void Normalization::run(const Context& context) const {
  const float* input = context.read(input_.value) + input_.offset;
  float* result = context.real(result_.value) + result_.offset;
  const auto add = [](double a, double b) { return a + b; };
  const double share = 1.0 / static_cast<double>(axes_.count);
  const bool is_row = axes_.lanes.size == 1 && axes_.reduced.empty();
  for_each_chunk(context, axes_, 5, [&](const Offsets& at, std::int64_t lanes) {
    const float* x = input + at[0];
    if (is_row && axes_.inner.strides[0] == 1 && axes_.inner.strides[1] == 1)
      return context.kernels.loops->normalize(x, result + at[1], axes_.inner.size, center_, epsilon_);
    double total[kMostLanes];
    float mean[kMostLanes] = {}, factor[kMostLanes];
    if (center_) {
      fold_lanes(axes_, x, lanes, 0.0, total, [](double a, float b, std::int64_t) { return a + b; }, add);
      for (std::int64_t lane = 0; lane < lanes; ++lane) mean[lane] = static_cast<float>(total[lane] * share);
    }
    const auto square = [&](double a, float b, std::int64_t lane) {
      const double difference = static_cast<double>(b - mean[lane]);
      return a + difference * difference;
    };
    fold_lanes(axes_, x, lanes, 0.0, total, square, add);
    for (std::int64_t lane = 0; lane < lanes; ++lane)
      factor[lane] = 1.0f / std::sqrt(static_cast<float>(total[lane] * share) + epsilon_);
    const std::int64_t from_lane = axes_.lanes.strides[0], to_lane = axes_.lanes.strides[1];
    const std::int64_t from_step = axes_.inner.strides[0], to_step = axes_.inner.strides[1];
    for_each_row(axes_, [&](const Offsets& row) {
      const float* from = x + row[0];
      float* to = result + at[1] + row[1];
      if (lanes == 1 && from_step == 1 && to_step == 1) {
        const float own_mean = mean[0], own_factor = factor[0];
        for (std::int64_t i = 0; i < axes_.inner.size; ++i) to[i] = (from[i] - own_mean) * own_factor;
        return;
      }
      for (std::int64_t i = 0; i < axes_.inner.size; ++i, from += from_step, to += to_step) {
        if (from_lane == 1 && to_lane == 1)
          for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane] = (from[lane] - mean[lane]) * factor[lane];
        else
          for (std::int64_t lane = 0; lane < lanes; ++lane)
            to[lane * to_lane] = (from[lane * from_lane] - mean[lane]) * factor[lane];
      }
    });
  });
}

Softmax::Softmax(const View& input, int axis, bool log, const View& result)
    : log_(log), input_(input), result_(result) {
  Axes axes = axes_of({&result, &input});
  require(axis >= 0 && static_cast<std::size_t>(axis) < axes.size(), "an axis is out of range");
  axis_ = axes[axis];
  axes.erase(axes.begin() + axis);
  others_ = merged(std::move(axes), 1);
}

void Softmax::run(const Context& context) const {
  const std::int64_t rows = count_of(others_), n = axis_.size;
  context.split(static_cast<int>(rows), rows * n * 8, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const Offsets at = offsets_at(others_, row);
      const float* x = context.read(input_.value) + input_.offset + at[1];
      float* y = context.real(result_.value) + result_.offset + at[0];
      if (axis_.strides[0] == 1 && axis_.strides[1] == 1)
        context.kernels.loops->softmax(x, y, n, log_);
      else
        softmax_apart(*context.kernels.loops, x, axis_.strides[1], y, axis_.strides[0], n, log_);
    }
  });
}

}  // namespace biper
