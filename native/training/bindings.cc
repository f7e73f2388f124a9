// Python passes tensors as addresses: biper.fast has checked their dtypes, shapes and layouts.
#include "training/bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "gil_release.h"
#include "training/training.h"

namespace nb = nanobind;

namespace biper::training {
namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Type type_of(bool bfloat16) { return bfloat16 ? Type::kBfloat16 : Type::kFloat; }

Shape shape_of(const std::vector<std::int64_t>& s) {
  if (s.size() != 3) throw std::invalid_argument("a shape is samples, pixels, channels");
  return {s[0], s[1], s[2]};
}

ImageShape images_of(const std::vector<std::int64_t>& s) {
  if (s.size() != 4) throw std::invalid_argument("a shape of images is count, height, width, channels");
  return {s[0], s[1], s[2], s[3]};
}

// From samples, in and out (channels, height, width), kernel, stride, padding and dilation (y, x).
Convolution convolution_of(const std::vector<std::int64_t>& s) {
  if (s.size() != 15) throw std::invalid_argument("a convolution has 15 numbers");
  const auto small = [&](int i) { return static_cast<int>(s[static_cast<std::size_t>(i)]); };
  return {s[0],     s[1],     s[2],      s[3],      s[4],      s[5],      s[6],     small(7),
          small(8), small(9), small(10), small(11), small(12), small(13), small(14)};
}

// The kernels that the processor runs, or those that use_kernels has chosen. Python asks for their name before it calls
// any of them.
const Kernels*& chosen() {
  static const Kernels* kernels = runnable_kernels().empty() ? nullptr : runnable_kernels().front();
  return kernels;
}

const Kernels& kernels() {
  if (!chosen()) throw std::runtime_error("this processor runs none of the training kernels");
  return *chosen();
}

ParallelCall parallel_call = nullptr;  // that of torch's OpenMP runtime, once use_openmp has set it

// A pool of this number of threads, kept for the next call, and never destroyed: when the process ends, other threads
// may still be using it.
std::shared_ptr<ThreadPool> pool_of(int threads) {
  static auto& pool = *new std::shared_ptr<ThreadPool>;
  const std::lock_guard<std::mutex> lock(fork_safe_mutex());
  if (!pool || pool->threads() != threads)
    pool = parallel_call ? std::make_shared<ThreadPool>(threads, parallel_call) : std::make_shared<ThreadPool>(threads);
  return pool;
}

}  // namespace

void add_to(nb::module_& module) {
  const auto released = nb::call_guard<GilRelease>();
  module.attr("SLACK") = kSlack;
  module.def(
      "training_kernels",
      [] {
        std::vector<std::string> names;
        for (const Kernels* kernels : runnable_kernels()) names.emplace_back(kernels->name);
        return names;
      },
      "The names of the training kernels that this processor runs, best first: \"amx\", \"avx512\", \"avx2\".");
  module.def("training_kernels_in_use", [] { return std::string(kernels().name); }, "The name of those that run now.");
  module.def(
      "use_training_kernels",
      [](const std::string& name) {
        const auto& all = runnable_kernels();
        const auto found = std::find_if(all.begin(), all.end(), [&](const Kernels* k) { return name == k->name; });
        if (found == all.end()) throw std::invalid_argument("this processor runs no training kernels named " + name);
        chosen() = *found;
      },
      "Run those of this name from now on.");
  module.def(
      "use_openmp", [](Address call) { parallel_call = reinterpret_cast<ParallelCall>(call); },
      "Use the threads of the OpenMP runtime whose GOMP_parallel has this address, and start none.");
  module.def(
      "sign_forward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address x, Address threshold, Address bits,
         Address statistics, float epsilon, int threads) {
        kernels().sign_forward(type_of(bfloat16), shape_of(shape), at<void>(x), at<float>(threshold),
                               at<std::uint8_t>(bits), at<float>(statistics), epsilon, *pool_of(threads));
      },
      released);
  module.def(
      "sign_backward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address x, Address statistics, bool box, Address to_add,
         Address grad, int threads) {
        kernels().sign_backward(type_of(bfloat16), shape_of(shape), at<void>(x), at<float>(statistics),
                                box ? Window::kBox : Window::kTriangle, at<void>(to_add), at<void>(grad),
                                *pool_of(threads));
      },
      released);
  module.def(
      "threshold_backward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address x, Address threshold, bool box, Address to_add,
         Address grad, Address sums, int threads) {
        kernels().threshold_backward(type_of(bfloat16), shape_of(shape), at<void>(x), at<float>(threshold),
                                     box ? Window::kBox : Window::kTriangle, at<void>(to_add), at<void>(grad),
                                     at<double>(sums), *pool_of(threads));
      },
      released);
  module.def(
      "norm_statistics",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address x, Address weight, Address bias, double epsilon,
         double momentum, Address running_mean, Address running_variance, Address statistics, Address affine,
         int threads) {
        const Shape of = shape_of(shape);
        std::vector<double> sums(static_cast<std::size_t>(2 * of.channels));
        kernels().channel_sums(type_of(bfloat16), of, at<void>(x), sums.data(), *pool_of(threads));
        const BatchNorm norm{of.channels, of.samples * of.pixels, at<float>(weight), at<float>(bias), epsilon,
                             momentum};
        norm_statistics(norm, sums.data(), at<float>(running_mean), at<float>(running_variance), at<double>(statistics),
                        at<float>(affine));
      },
      released);
  module.def(
      "affine_clamp",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address x, Address multiplier, Address offset,
         Address residual, float low, float high, Address out, int threads) {
        kernels().affine_clamp(type_of(bfloat16), shape_of(shape), at<void>(x), at<float>(multiplier),
                               at<float>(offset), at<void>(residual), low, high, at<void>(out), *pool_of(threads));
      },
      released);
  module.def(
      "clamp_backward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address grad, Address out, Address x, Address mean,
         float low, float high, Address inner, Address sums, int threads) {
        kernels().clamp_backward(type_of(bfloat16), shape_of(shape), at<void>(grad), at<void>(out), at<void>(x),
                                 at<float>(mean), low, high, at<void>(inner), at<double>(sums), *pool_of(threads));
      },
      released);
  module.def(
      "affine_rprelu",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address x, Address multiplier, Address offset,
         Address residual, Address slope, Address shift_out, Address out, int threads) {
        kernels().affine_rprelu(type_of(bfloat16), shape_of(shape), at<void>(x), at<float>(multiplier),
                                at<float>(offset), at<void>(residual), at<float>(slope), at<float>(shift_out),
                                at<void>(out), *pool_of(threads));
      },
      released);
  module.def(
      "rprelu_backward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address grad, Address x, Address multiplier,
         Address offset, Address residual, Address slope, Address mean, Address inner, Address sums, int threads) {
        kernels().rprelu_backward(type_of(bfloat16), shape_of(shape), at<void>(grad), at<void>(x),
                                  at<float>(multiplier), at<float>(offset), at<void>(residual), at<float>(slope),
                                  at<float>(mean), at<void>(inner), at<double>(sums), *pool_of(threads));
      },
      released);
  module.def(
      "norm_backward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address inner, Address x, Address weight,
         Address statistics, Address sums, Address gradients, Address result, int threads) {
        const Shape of = shape_of(shape);
        const BatchNorm norm{of.channels, of.samples * of.pixels, at<float>(weight), nullptr, 0, 0};
        std::vector<float> affine(static_cast<std::size_t>(3 * of.channels));
        norm_gradients(norm, at<double>(sums), at<double>(statistics), affine.data(), at<float>(gradients));
        const float *a = affine.data(), *b = a + of.channels, *c = b + of.channels;
        if (result)
          kernels().norm_backward(type_of(bfloat16), of, at<void>(inner), at<void>(x), a, b, c, at<void>(result),
                                  *pool_of(threads));
      },
      released);
  module.def(
      "convolution_forward",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address bits, Address weight, Address scale,
         Address out, int threads) {
        kernels().convolution_forward(type_of(bfloat16), convolution_of(shape), at<std::uint8_t>(bits),
                                      at<float>(weight), at<float>(scale), at<void>(out), *pool_of(threads));
      },
      released);
  module.def(
      "convolution_weight_gradient",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address bits, Address grad, Address gradient,
         int threads) {
        kernels().convolution_weight_gradient(type_of(bfloat16), convolution_of(shape), at<std::uint8_t>(bits),
                                              at<void>(grad), at<float>(gradient), *pool_of(threads));
      },
      released);
  module.def(
      "lookup_input_gradient",
      [](bool bfloat16, const std::vector<std::int64_t>& shape, Address grad, Address weight, Address scale,
         Address gradient, int threads) {
        kernels().lookup_input_gradient(type_of(bfloat16), convolution_of(shape), at<void>(grad), at<float>(weight),
                                        at<float>(scale), at<void>(gradient), *pool_of(threads));
      },
      released);
  module.def("has_input_gradient", [] { return kernels().input_gradient != nullptr; });
  module.def(
      "input_gradient",
      [](const std::vector<std::int64_t>& shape, Address grad, Address weight, Address scale, Address gradient,
         int threads) {
        if (!kernels().input_gradient) throw std::runtime_error("these training kernels have no input_gradient");
        kernels().input_gradient(Type::kBfloat16, convolution_of(shape), at<void>(grad), at<float>(weight),
                                 at<float>(scale), at<void>(gradient), *pool_of(threads));
      },
      released);
  module.def(
      "standardize",
      [](std::int64_t groups, std::int64_t size, Address weight, bool centred, Address standard, Address inverse,
         int threads) {
        kernels().standardize(groups, size, at<float>(weight), centred, at<float>(standard), at<float>(inverse),
                              *pool_of(threads));
      },
      released);
  module.def(
      "standardize_backward",
      [](std::int64_t groups, std::int64_t size, Address standard, Address inverse, Address grad, bool centred,
         Address out, int threads) {
        kernels().standardize_backward(groups, size, at<float>(standard), at<float>(inverse), at<float>(grad), centred,
                                       at<float>(out), *pool_of(threads));
      },
      released);
  module.def(
      "wave_gradient",
      [](std::int64_t count, Address weight, Address grad, float frequency, Address out, int threads) {
        kernels().wave_gradient(count, at<float>(weight), at<float>(grad), frequency, at<float>(out),
                                *pool_of(threads));
      },
      released);
  module.def(
      "squared_sines",
      [](std::int64_t count, Address weight, float frequency, int threads) {
        return kernels().squared_sines(count, at<float>(weight), frequency, *pool_of(threads));
      },
      released);
  module.def(
      "double_angle_sines",
      [](std::int64_t count, Address weight, float frequency, float factor, Address out, int threads) {
        kernels().double_angle_sines(count, at<float>(weight), frequency, factor, at<float>(out), *pool_of(threads));
      },
      released);
  module.def(
      "scale_gradient",
      [](std::int64_t channels, std::int64_t size, Address weight, Address scale, Address gradient, Address result,
         int threads) {
        kernels().scale_gradient(channels, size, at<float>(weight), at<float>(scale), at<float>(gradient),
                                 at<float>(result), *pool_of(threads));
      },
      released);
  module.def(
      "scaled_weights",
      [](bool bfloat16, std::int64_t channels, std::int64_t size, Address weight, Address scale, Address out,
         int threads) {
        kernels().scaled_weights(type_of(bfloat16), channels, size, at<float>(weight), at<float>(scale), at<void>(out),
                                 *pool_of(threads));
      },
      released);
  module.def(
      "crop_and_mirror",
      [](const std::vector<std::int64_t>& shape, Address images, Address rows, Address columns, Address mirrored,
         std::int64_t padding, Address out, int threads) {
        kernels().crop_and_mirror(images_of(shape), at<std::uint8_t>(images), at<std::int64_t>(rows),
                                  at<std::int64_t>(columns), at<std::uint8_t>(mirrored), padding, at<std::uint8_t>(out),
                                  *pool_of(threads));
      },
      released);
  module.def(
      "normalize",
      [](const std::vector<std::int64_t>& shape, Address images, Address factor, Address shift, Address out,
         int threads) {
        kernels().normalize(images_of(shape), at<std::uint8_t>(images), at<float>(factor), at<float>(shift),
                            at<float>(out), *pool_of(threads));
      },
      released);
#if defined(__GLIBC__)
  module.def("keep_freed_memory", [] {
    // The memory of a step's tensors stays with the process. Otherwise the kernel maps and
    // clears it anew in every step.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
  });
#endif
}

}  // namespace biper::training
