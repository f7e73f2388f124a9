// The Python face of the native code, and nothing clever.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu.h"

NB_MODULE(_native, module) {
  module.doc() = "The native part of biper.";
  module.def("instruction_sets", &biper::instruction_sets,
             "Names of the instruction sets that this processor and operating system support.");
}
