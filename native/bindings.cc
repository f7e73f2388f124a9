// The Python module biper._native. It converts arguments and releases the interpreter lock, and does nothing else.
#include "training/bindings.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "common/cpu.h"
#include "engine/engine.h"
#include "gil_release.h"

namespace nb = nanobind;
using biper::Emitted;
using biper::Engine;
using biper::EpilogueSpec;
using biper::GilRelease;
using biper::View;

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

// Copies an array of any shape.
template <typename T>
std::vector<T> vector_of(const Array<T>& array) {
  return std::vector<T>(array.data(), array.data() + array.size());
}

// A field of the epilogue that is a number for each channel: it is given as an array.
template <typename T>
auto number_setter(std::vector<T> EpilogueSpec::* field) {
  return [field](EpilogueSpec& spec, Array<T> array) { spec.*field = vector_of(array); };
}

using Results = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

// Where the arrays of all inputs begin, each of which must be of `count` images.
std::vector<const float*> pointers_of(const Engine& engine, const std::vector<Array<float>>& arrays,
                                      std::int64_t count) {
  std::vector<const float*> pointers;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (static_cast<std::int64_t>(arrays[i].size()) != count * engine.input_elements(i))
      throw std::invalid_argument("an input of another size");
    pointers.push_back(arrays[i].data());
  }
  return pointers;
}

nb::tuple ids(Emitted emitted) { return nb::make_tuple(emitted.real, emitted.bits); }

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "The native part of biper.";
  nb::set_leak_warnings(false);  // daemon threads may hold an engine until the process has ended
  module.def("instruction_sets", &biper::instruction_sets,
             "Names of the instruction sets that this processor and operating system support.");
#ifdef BIPER_TRAINING
  biper::training::add_to(module);
#endif

  nb::class_<EpilogueSpec>(module, "Epilogue",
                           "What happens to the result of an operation before it is stored; see biper.runtime.program.")
      .def(nb::init<>())
      .def_prop_rw(
          "multiplier", [](const EpilogueSpec& e) { return e.multiplier; }, number_setter(&EpilogueSpec::multiplier))
      .def_prop_rw(
          "offset", [](const EpilogueSpec& e) { return e.offset; }, number_setter(&EpilogueSpec::offset))
      .def_prop_rw(
          "slope", [](const EpilogueSpec& e) { return e.slope; }, number_setter(&EpilogueSpec::slope))
      .def_prop_rw(
          "threshold", [](const EpilogueSpec& e) { return e.threshold; }, number_setter(&EpilogueSpec::threshold))
      .def_prop_rw(
          "flip", [](const EpilogueSpec& e) { return e.flip; }, number_setter(&EpilogueSpec::flip))
      .def_rw("activation", &EpilogueSpec::activation)
      .def_rw("low", &EpilogueSpec::low)
      .def_rw("high", &EpilogueSpec::high)
      .def_rw("residual", &EpilogueSpec::residual)
      .def_rw("real", &EpilogueSpec::real)
      .def_rw("bits", &EpilogueSpec::bits);

  nb::class_<View>(module, "View", "How an operation reads or writes a value as an array; see native/engine/views.h.")
      .def(nb::init<int, std::vector<std::int64_t>, std::vector<std::int64_t>, std::int64_t>());

  nb::class_<Engine>(module, "Engine", "Runs packed programs; see biper.runtime.engine.")
      .def(nb::init<int, int, int, const std::string&, int, std::int64_t>(), nb::arg("channels"), nb::arg("height"),
           nb::arg("width"), nb::arg("instruction_set"), nb::arg("threads"), nb::arg("max_bytes") = INT64_MAX)
      .def("add_convolution",
           [](Engine& engine, int input, Array<float> weight, const std::vector<int>& geometry, const EpilogueSpec& e) {
             return ids(engine.add_convolution(input, weight.data(), shape_of(weight), geometry, e));
           })
      .def("add_bfloat16_convolution",
           [](Engine& engine, int input, Array<std::uint16_t> weight, const std::vector<int>& geometry,
              const EpilogueSpec& e) {
             return ids(engine.add_bfloat16_convolution(input, weight.data(), shape_of(weight), geometry, e));
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
      .def("add_input", &Engine::add_input)
      .def("add_constant",
           [](Engine& engine, Array<float> value) {
             return engine.add_constant(value.data(), static_cast<std::int64_t>(value.size()));
           })
      .def("add_function", &Engine::add_function)
      .def("add_reduction", &Engine::add_reduction)
      .def("add_normalization", &Engine::add_normalization)
      .def("add_softmax", &Engine::add_softmax)
      .def("add_product", &Engine::add_product)
      .def("add_sample",
           [](Engine& engine, const View& input, int axis, Array<int> index, Array<float> weight, bool maximum,
              const View& result) {
             return engine.add_sample(input, axis, vector_of(index), vector_of(weight), maximum, result);
           })
      .def("add_copies", &Engine::add_copies)
      .def("add_image", &Engine::add_image)
      .def("add_output", &Engine::add_output)
      .def("finish", &Engine::finish)
      .def("run",
           [](Engine& engine, const std::vector<Array<float>>& inputs, const std::vector<Results>& results) {
             if (inputs.size() != engine.inputs() || results.size() != engine.outputs())
               throw std::invalid_argument("another number of inputs or results");
             const std::int64_t count = inputs[0].ndim() ? static_cast<std::int64_t>(inputs[0].shape(0)) : 1;
             std::vector<float*> to;
             const auto from = pointers_of(engine, inputs, count);
             for (std::size_t i = 0; i < results.size(); ++i) {
               if (static_cast<std::int64_t>(results[i].size()) != count * engine.output_elements(i))
                 throw std::invalid_argument("a result of another size");
               to.push_back(results[i].data());
             }
             const GilRelease release;
             engine.run(from, count, to);
           })
      .def("profile",
           [](Engine& engine, const std::vector<Array<float>>& inputs, int rounds) {
             if (inputs.size() != engine.inputs()) throw std::invalid_argument("another number of inputs");
             const auto from = pointers_of(engine, inputs, 1);
             const GilRelease release;
             return engine.profile(from, rounds);
           })
      .def("measure_peak", &Engine::measure_peak, nb::call_guard<GilRelease>())
      .def_prop_ro("operations", &Engine::operations)
      .def_prop_ro("threads", &Engine::threads)
      .def_prop_ro("instruction_set", &Engine::instruction_set)
      .def_prop_ro("arena_bytes", &Engine::arena_bytes);
}
