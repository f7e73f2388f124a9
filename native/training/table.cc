// The table of the kernels of one instruction set.
#include "training/set.h"

#define BIPER_TEXT(name) #name
#define BIPER_NAME(name) BIPER_TEXT(name)

namespace biper::training::BIPER_TRAINING_SET {

const Kernels kKernels = {
    .name = BIPER_NAME(BIPER_TRAINING_SET),
    .sign_forward = sign_forward,
    .sign_backward = sign_backward,
    .threshold_backward = threshold_backward,
    .channel_sums = channel_sums,
    .affine_clamp = affine_clamp,
    .clamp_backward = clamp_backward,
    .affine_rprelu = affine_rprelu,
    .rprelu_backward = rprelu_backward,
    .norm_backward = norm_backward,
    .convolution_forward = convolution_forward,
    .convolution_weight_gradient = convolution_weight_gradient,
    .lookup_input_gradient = lookup_input_gradient,
    .input_gradient = nullptr,
    .standardize = standardize,
    .standardize_backward = standardize_backward,
    .wave_gradient = wave_gradient,
    .squared_sines = squared_sines,
    .double_angle_sines = double_angle_sines,
    .scale_gradient = scale_gradient,
    .scaled_weights = scaled_weights,
    .crop_and_mirror = crop_and_mirror,
    .normalize = normalize,
};

}  // namespace biper::training::BIPER_TRAINING_SET
