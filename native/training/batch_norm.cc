// What a batch norm in training computes for each channel, between the passes over its activations.
#include <algorithm>
#include <cmath>

#include "training/training.h"

namespace biper::training {

void norm_statistics(const BatchNorm& norm, const double* sums, float* running_mean, float* running_variance,
                     double* statistics, float* affine) {
  const double count = static_cast<double>(norm.count);
  const double unbiased = count / std::max(count - 1, 1.0);
  const auto momentum = static_cast<float>(norm.momentum);
  for (std::int64_t c = 0; c < norm.channels; ++c) {
    const double mean = sums[c] / count, difference = sums[norm.channels + c] / count - mean * mean;
    const double variance = difference < 0 ? 0 : difference;  // NaN stays NaN
    running_mean[c] += momentum * (static_cast<float>(mean) - running_mean[c]);
    running_variance[c] += momentum * (static_cast<float>(variance * unbiased) - running_variance[c]);
    const double inverse = 1 / std::sqrt(variance + norm.epsilon), multiplier = norm.weight[c] * inverse;
    statistics[c] = mean;
    statistics[norm.channels + c] = inverse;
    affine[c] = static_cast<float>(multiplier);
    affine[norm.channels + c] = static_cast<float>(norm.bias[c] - mean * multiplier);
    affine[2 * norm.channels + c] = static_cast<float>(mean);
  }
}

void norm_gradients(const BatchNorm& norm, const double* sums, const double* statistics, float* affine,
                    float* gradients) {
  const double count = static_cast<double>(norm.count);
  for (std::int64_t c = 0; c < norm.channels; ++c) {
    const double total = sums[c], products = sums[norm.channels + c];
    const double mean = statistics[c], inverse = statistics[norm.channels + c];
    const double a = norm.weight[c] * inverse, b = -a * inverse * inverse * products / count;
    affine[c] = static_cast<float>(a);
    affine[norm.channels + c] = static_cast<float>(b);
    affine[2 * norm.channels + c] = static_cast<float>(-a * total / count - b * mean);
    gradients[c] = static_cast<float>(products * inverse);
    gradients[norm.channels + c] = static_cast<float>(total);
  }
}

}  // namespace biper::training
