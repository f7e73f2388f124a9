#include "kernels/row_transform.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace biper {
namespace {

// With fewer products for each point than this, the transforms take longer than the products that they save.
constexpr int kWorthTransforming = 24;

// The same for bands, which have as many products for each point as channels in all phases of both axes.
constexpr int kWorthBands = 12;

constexpr double kPoints[] = {0, 1, -1, 0.5, -2, -0.5};

int taps_of(const Geometry& g) { return (g.kernel_x + g.step_x - 1) / g.step_x; }

// Coefficients of the product of (z - p) over the first `finite` points p, leaving out number
// `without`; constant first.
std::vector<double> polynomial(int finite, int without) {
  std::vector<double> product{1};
  for (int k = 0; k < finite; ++k) {
    if (k == without) continue;
    product.push_back(0);
    for (std::size_t i = product.size() - 1; i > 0; --i) product[i] = product[i - 1] - kPoints[k] * product[i];
    product[0] *= -kPoints[k];
  }
  return product;
}

// The factors G of a point for the taps of a phase.
struct Factors {
  double of_tap[kMaxPoints];
};
Factors factors_of(int point, int points, int taps) {
  const bool infinity = point == points - 1;
  double divisor = 1;
  for (int k = 0; k < points - 1 && !infinity; ++k)
    if (k != point) divisor *= kPoints[point] - kPoints[k];
  Factors factors{};
  for (int tap = 0; tap < taps; ++tap)
    factors.of_tap[tap] = infinity ? tap == taps - 1 : std::pow(kPoints[point], tap) / divisor;
  return factors;
}

bool has_bands(const Geometry& g, const RowTransform& t) {
  const bool square = g.kernel_y == g.kernel_x && g.step_y == g.step_x && g.dilation_y == 1;
  return square && g.step_x == 2 && g.step_y * t.inside >= kWorthBands && t.inside <= kLanes &&
         t.row_stride() <= kMaxBandRow;
}

}  // namespace

bool row_transform_fits(const Geometry& g) {
  const int taps = taps_of(g), inside = g.step_x * g.channels;
  if (g.groups != 1 || g.dilation_x != 1 || g.step_x > 2 || taps < 3 || taps > 4 || g.out_channels < kLanes)
    return false;
  if (inside > kLanes && inside % kLanes != 0) return false;
  if (g.kernel_y * inside < kWorthTransforming) return false;
  const std::int64_t tiles = (g.out_width + kTileOutputs - 1) / kTileOutputs;
  return ((tiles - 1) * kTileOutputs + kMaxPoints) * inside + kLanes <= kMaxTransformedRow;
}

RowTransform make_row_transform(const Geometry& g) {
  RowTransform transform{};
  const int points = transform.points = kTileOutputs + taps_of(g) - 1;
  transform.inside = g.step_x * g.channels;
  transform.tiles = (g.out_width + kTileOutputs - 1) / kTileOutputs;
  for (int j = 0; j < points; ++j) {
    const bool infinity = j == points - 1;
    const std::vector<double> coefficients = polynomial(points - 1, infinity ? -1 : j);
    for (std::size_t i = 0; i < coefficients.size(); ++i) transform.in[j][i] = static_cast<float>(coefficients[i]);
    for (int o = 0; o < kTileOutputs; ++o)
      transform.out[o][j] =
          infinity ? static_cast<float>(o == kTileOutputs - 1) : static_cast<float>(std::pow(kPoints[j], o));
  }
  transform.bands = has_bands(g, transform);
  return transform;
}

std::vector<float> transform_weights(const Geometry& g, const RowTransform& transform, const float* weights) {
  const int points = transform.points, taps = taps_of(g);
  const std::int64_t blocks = round_up(g.out_channels, kLanes) / kLanes;
  // Along the columns, a row of the kernel stands for itself, or bands have points and phases.
  const int points_y = transform.bands ? points : 1, rows = transform.bands ? g.step_y : g.kernel_y;
  std::vector<float> result(static_cast<std::size_t>(points_y * points * blocks * rows * transform.inside * kLanes));
  const auto weight = [&](int o, int c, int y, int x) {
    const bool inside = y < g.kernel_y && x < g.kernel_x;
    return inside ? weights[((std::int64_t{o} * g.channels + c) * g.kernel_y + y) * g.kernel_x + x] : 0.0;
  };
  for (int k = 0; k < points_y; ++k) {
    const Factors down = transform.bands ? factors_of(k, points, taps) : Factors{{1}};
    for (int j = 0; j < points; ++j) {
      const Factors along = factors_of(j, points, taps);
      for (int o = 0; o < g.out_channels; ++o)
        for (int c = 0; c < g.channels; ++c)
          for (int y = 0; y < rows; ++y)
            for (int phase = 0; phase < g.step_x; ++phase) {
              double sum = 0;
              for (int tap_y = 0; tap_y < (transform.bands ? taps : 1); ++tap_y)
                for (int tap = 0; tap < taps; ++tap)
                  sum +=
                      down.of_tap[tap_y] * along.of_tap[tap] * weight(o, c, tap_y * rows + y, tap * g.step_x + phase);
              const std::int64_t row = ((std::int64_t{k} * points + j) * blocks + o / kLanes) * rows + y;
              result[(row * transform.inside + phase * g.channels + c) * kLanes + o % kLanes] = static_cast<float>(sum);
            }
    }
  }
  return result;
}

}  // namespace biper
