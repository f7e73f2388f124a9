// Adds the training kernels to the Python module biper._native.
#pragma once

#include <nanobind/nanobind.h>

namespace biper::training {

void add_to(nanobind::module_& module);

}  // namespace biper::training
