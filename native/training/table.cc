// The table of the kernels of one instruction set.
#include "training/set.h"

#define BIPER_TEXT(name) #name
#define BIPER_NAME(name) BIPER_TEXT(name)

namespace biper::training::BIPER_TRAINING_SET {

const Kernels kKernels = {
    .name = BIPER_NAME(BIPER_TRAINING_SET),
    .sign_forward = sign_forward,
    .sign_backward = sign_backward,
    .channel_sums = channel_sums,
    .affine_clamp = affine_clamp,
    .clamp_backward = clamp_backward,
    .norm_backward = norm_backward,
    .lookup_forward = lookup_forward,
    .lookup_weight_gradient = lookup_weight_gradient,
    .lookup_input_gradient = lookup_input_gradient,
    .wave_gradient = wave_gradient,
    .squared_sines = squared_sines,
    .double_angle_sines = double_angle_sines,
    .scale_gradient = scale_gradient,
    .scaled_weights = scaled_weights,
    .crop_and_mirror = crop_and_mirror,
    .normalize = normalize,
};

}  // namespace biper::training::BIPER_TRAINING_SET
