// The Python face of the kernels of training.
#pragma once

#include <nanobind/nanobind.h>

namespace biper::training {

void add_to(nanobind::module_& module);

}  // namespace biper::training
