// The Python module biper._native. It converts arguments and releases the interpreter lock, and does nothing else.
#include "training/bindings.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "common/cpu.h"
#include "engine/engine.h"

namespace nb = nanobind;
using biper::Emitted;
using biper::Engine;
using biper::EpilogueSpec;

namespace {

template <typename T>
using Array = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;

template <typename T>
std::vector<int> shape_of(const Array<T>& array) {
  std::vector<int> shape;
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    if (array.shape(i) > (1u << 28)) throw std::invalid_argument("an array is too large");
    shape.push_back(static_cast<int>(array.shape(i)));
  }
  return shape;
}

nb::tuple ids(Emitted emitted) { return nb::make_tuple(emitted.real, emitted.bits); }

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "The native part of biper.";
  module.def("instruction_sets", &biper::instruction_sets,
             "Names of the instruction sets that this processor and operating system support.");
#ifdef BIPER_TRAINING
  biper::training::add_to(module);
#endif

  nb::class_<EpilogueSpec>(module, "Epilogue",
                           "What happens to the result of an operation before it is stored; see biper.runtime.program.")
      .def(nb::init<>())
      .def_rw("multiplier", &EpilogueSpec::multiplier)
      .def_rw("offset", &EpilogueSpec::offset)
      .def_rw("slope", &EpilogueSpec::slope)
      .def_rw("threshold", &EpilogueSpec::threshold)
      .def_rw("flip", &EpilogueSpec::flip)
      .def_rw("activation", &EpilogueSpec::activation)
      .def_rw("low", &EpilogueSpec::low)
      .def_rw("high", &EpilogueSpec::high)
      .def_rw("residual", &EpilogueSpec::residual)
      .def_rw("real", &EpilogueSpec::real)
      .def_rw("bits", &EpilogueSpec::bits);

  nb::class_<Engine>(module, "Engine", "Runs packed programs; see biper.runtime.engine.")
      .def(nb::init<int, int, int, const std::string&, int>())
      .def("add_convolution",
           [](Engine& engine, int input, Array<float> weight, const std::vector<int>& geometry, const EpilogueSpec& e) {
             return ids(engine.add_convolution(input, weight.data(), shape_of(weight), geometry, e));
           })
      .def("add_int8_convolution",
           [](Engine& engine, int input, Array<std::int8_t> weight, const std::vector<int>& geometry, float factor,
              int zero, const EpilogueSpec& e) {
             return ids(engine.add_int8_convolution(input, weight.data(), shape_of(weight), geometry, factor, zero, e));
           })
      .def("add_binary_convolution",
           [](Engine& engine, int input, Array<std::uint8_t> weight, const std::vector<int>& geometry,
              const EpilogueSpec& e) {
             return ids(engine.add_binary_convolution(input, weight.data(), shape_of(weight), geometry, e));
           })
      .def("add_pool", [](Engine& engine, int input, bool maximum, const std::vector<int>& geometry,
                          const EpilogueSpec& e) { return ids(engine.add_pool(input, maximum, geometry, e)); })
      .def("add_elementwise",
           [](Engine& engine, int input, const EpilogueSpec& e) { return ids(engine.add_elementwise(input, e)); })
      .def("add_pad_channels",
           [](Engine& engine, int input, int before, int after, const EpilogueSpec& e) {
             return ids(engine.add_pad_channels(input, before, after, e));
           })
      .def("add_concatenate", [](Engine& engine, const std::vector<int>& inputs,
                                 const EpilogueSpec& e) { return ids(engine.add_concatenate(inputs, e)); })
      .def("add_resize", [](Engine& engine, int input, int height, int width,
                            const EpilogueSpec& e) { return ids(engine.add_resize(input, height, width, e)); })
      .def("add_flatten",
           [](Engine& engine, int input, const EpilogueSpec& e) { return ids(engine.add_flatten(input, e)); })
      .def("finish", &Engine::finish)
      .def("run",
           [](Engine& engine, Array<float> images, nb::ndarray<float, nb::c_contig, nb::device::cpu> results,
              int output) {
             const std::vector<int> in = engine.shape(0), out = engine.shape(output);
             const auto fits = [&](const auto& array, const std::vector<int>& shape) {
               return array.ndim() == 4 && array.shape(0) == images.shape(0) &&
                      array.shape(1) == static_cast<std::size_t>(shape[0]) &&
                      array.shape(2) == static_cast<std::size_t>(shape[1]) &&
                      array.shape(3) == static_cast<std::size_t>(shape[2]);
             };
             if (!fits(images, in) || !fits(results, out)) throw std::invalid_argument("an array of another shape");
             const nb::gil_scoped_release release;
             engine.run(images.data(), static_cast<std::int64_t>(images.shape(0)), results.data());
           })
      .def("profile",
           [](Engine& engine, Array<float> image, int rounds) {
             const std::vector<int> in = engine.shape(0);
             if (static_cast<std::int64_t>(image.size()) != std::int64_t{in[0]} * in[1] * in[2])
               throw std::invalid_argument("an image of another size");
             const nb::gil_scoped_release release;
             return engine.profile(image.data(), rounds);
           })
      .def("measure_peak", &Engine::measure_peak, nb::call_guard<nb::gil_scoped_release>())
      .def("shape", &Engine::shape)
      .def_prop_ro("threads", &Engine::threads)
      .def_prop_ro("instruction_set", &Engine::instruction_set)
      .def_prop_ro("arena_bytes", &Engine::arena_bytes);
}
