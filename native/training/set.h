// The kernels are compiled once for each instruction set, in a namespace of its own: BIPER_TRAINING_SET, "avx2" or
// "avx512", which the compiler's command line defines.
#pragma once

#include <type_traits>

#include "training/training.h"

namespace biper::training::BIPER_TRAINING_SET {

std::remove_pointer_t<decltype(Kernels::sign_forward)> sign_forward;
std::remove_pointer_t<decltype(Kernels::sign_backward)> sign_backward;
std::remove_pointer_t<decltype(Kernels::threshold_backward)> threshold_backward;
std::remove_pointer_t<decltype(Kernels::channel_sums)> channel_sums;
std::remove_pointer_t<decltype(Kernels::affine_clamp)> affine_clamp;
std::remove_pointer_t<decltype(Kernels::clamp_backward)> clamp_backward;
std::remove_pointer_t<decltype(Kernels::affine_rprelu)> affine_rprelu;
std::remove_pointer_t<decltype(Kernels::rprelu_backward)> rprelu_backward;
std::remove_pointer_t<decltype(Kernels::norm_backward)> norm_backward;
std::remove_pointer_t<decltype(Kernels::convolution_forward)> convolution_forward;
std::remove_pointer_t<decltype(Kernels::convolution_weight_gradient)> convolution_weight_gradient;
std::remove_pointer_t<decltype(Kernels::lookup_input_gradient)> lookup_input_gradient;
std::remove_pointer_t<decltype(Kernels::input_gradient)> input_gradient;
std::remove_pointer_t<decltype(Kernels::standardize)> standardize;
std::remove_pointer_t<decltype(Kernels::standardize_backward)> standardize_backward;
std::remove_pointer_t<decltype(Kernels::wave_gradient)> wave_gradient;
std::remove_pointer_t<decltype(Kernels::squared_sines)> squared_sines;
std::remove_pointer_t<decltype(Kernels::double_angle_sines)> double_angle_sines;
std::remove_pointer_t<decltype(Kernels::scale_gradient)> scale_gradient;
std::remove_pointer_t<decltype(Kernels::scaled_weights)> scaled_weights;
std::remove_pointer_t<decltype(Kernels::crop_and_mirror)> crop_and_mirror;
std::remove_pointer_t<decltype(Kernels::normalize)> normalize;

extern const Kernels kKernels;

}  // namespace biper::training::BIPER_TRAINING_SET
