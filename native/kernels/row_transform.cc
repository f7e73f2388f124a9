#include "kernels/row_transform.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace biper {
namespace {

// With fewer products for each point than this, the transforms take longer than the products that they save.
constexpr int kWorthTransforming = 24;

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
  return transform;
}

std::vector<float> transform_weights(const Geometry& g, const RowTransform& transform, const float* weights) {
  const int points = transform.points, taps = taps_of(g);
  const std::int64_t blocks = round_up(g.out_channels, kLanes) / kLanes;
  std::vector<float> result(static_cast<std::size_t>(points * blocks * g.kernel_y * transform.inside * kLanes));
  for (int j = 0; j < points; ++j) {
    const bool infinity = j == points - 1;
    double divisor = 1, factors[kMaxPoints];
    for (int k = 0; k < points - 1 && !infinity; ++k)
      if (k != j) divisor *= kPoints[j] - kPoints[k];
    for (int tap = 0; tap < taps; ++tap)
      factors[tap] = infinity ? tap == taps - 1 : std::pow(kPoints[j], tap) / divisor;
    for (int o = 0; o < g.out_channels; ++o)
      for (int c = 0; c < g.channels; ++c)
        for (int y = 0; y < g.kernel_y; ++y)
          for (int phase = 0; phase < g.step_x; ++phase) {
            double sum = 0;
            for (int tap = 0; tap < taps; ++tap) {
              const int x = tap * g.step_x + phase;
              if (x < g.kernel_x)
                sum += factors[tap] * weights[((std::int64_t{o} * g.channels + c) * g.kernel_y + y) * g.kernel_x + x];
            }
            const std::int64_t row = (j * blocks + o / kLanes) * g.kernel_y + y;
            result[(row * transform.inside + phase * g.channels + c) * kLanes + o % kLanes] = static_cast<float>(sum);
          }
  }
  return result;
}

}  // namespace biper
