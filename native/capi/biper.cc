// The functions of biper.h: they check arguments, and turn exceptions into codes and a text.
#include "capi/biper.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "capi/build_engine.h"
#include "capi/error_text.h"
#include "capi/program.h"
#include "capi/read_file.h"
#include "kernels/choose.h"

using namespace biper;
using namespace biper::capi;

struct biper_model {
  struct Array {
    std::string name;
    Shape shape;
  };

  biper_model(const Shape& image, const std::string& instruction_set, int threads, std::int64_t max_memory)
      : engine(static_cast<int>(image[0]), static_cast<int>(image[1]), static_cast<int>(image[2]), instruction_set,
               threads, max_memory) {}

  Engine engine;
  std::vector<Array> inputs, outputs;
  std::vector<std::string> classes;
  std::vector<double> mean, std;
  std::string instruction_set;
  std::vector<float> factor, shift;  // a pixel becomes pixel * factor - shift
  Preprocessing preprocessing{};
};

namespace {

constexpr std::int64_t kBatch = 64;  // the images whose pixels are normalized at once

biper_status failed(biper_status status, const char* text) noexcept {
  remember(text);
  return status;
}

struct ArgumentError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Input values that cannot be computed.
struct DataError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct ThreadError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require_argument(bool condition, const char* problem) {
  if (!condition) throw ArgumentError(problem);
}

// Calls `work`; no exception leaves it.
template <typename F>
biper_status guarded(F&& work) noexcept {
  try {
    work();
    return BIPER_OK;
  } catch (const ArgumentError& error) {
    return failed(BIPER_BAD_ARGUMENT, error.what());
  } catch (const ReadError& error) {
    return failed(BIPER_UNREADABLE, error.what());
  } catch (const LimitError& error) {
    return failed(BIPER_OVER_LIMIT, error.what());
  } catch (const FormatError& error) {
    return failed(BIPER_BAD_FORMAT, error.what());
  } catch (const DataError& error) {
    return failed(BIPER_BAD_DATA, error.what());
  } catch (const ThreadError& error) {
    return failed(BIPER_NO_THREADS, error.what());
  } catch (const std::bad_alloc&) {
    return failed(BIPER_OUT_OF_MEMORY, "the system has no more memory");
  } catch (const std::length_error&) {
    return failed(BIPER_OUT_OF_MEMORY, "the system has no more memory");
  } catch (const std::exception& error) {
    return failed(BIPER_INTERNAL, error.what());
  } catch (...) {
    return failed(BIPER_INTERNAL, "an unknown exception");
  }
}

biper_options checked(const biper_options* given) {
  biper_options options;
  biper_options_init(&options);
  if (!given) return options;
  require_argument(given->size >= sizeof(biper_options), "expected options that biper_options_init() has filled in");
  options = *given;
  require_argument(options.threads >= 1 && options.threads <= kMaxThreads, "threads expects a number from 1 to 1024");
  return options;
}

std::int64_t as_limit(std::uint64_t limit) {
  return static_cast<std::int64_t>(std::min<std::uint64_t>(limit, std::numeric_limits<std::int64_t>::max()));
}

void fill_classes(biper_model& model, const Program& program, const Shape& shape) {
  model.classes = program.classes;
  if (!model.classes.empty()) return;
  const bool is_map = shape.size() == 3 && product(shape[1], shape[2]) > 1;
  const std::int64_t count = is_map ? shape[0] : product(shape);
  if (count == 1) model.classes = {"positive"};
  for (std::int64_t number = 0; count > 1 && number < count; ++number) model.classes.push_back(std::to_string(number));
}

std::unique_ptr<biper_model> load(std::string_view bytes, const biper_options& options) {
  const std::string instruction_set = options.instruction_set ? options.instruction_set : "";
  try {
    choose_kernels(instruction_set);
  } catch (const std::invalid_argument& error) {
    throw ArgumentError(error.what());
  }
  const std::int64_t max_memory = as_limit(options.max_memory);
  const Program program = read_program(bytes, options.verify != 0, max_memory, as_limit(options.max_work));
  std::unique_ptr<biper_model> model;
  try {
    model = std::make_unique<biper_model>(program.image, instruction_set, options.threads, max_memory);
    build_engine(program, model->engine);
  } catch (const EngineLimitError& error) {
    throw LimitError(std::string("the engine refuses the model: ") + error.what());
  } catch (const std::invalid_argument& error) {
    throw FormatError(std::string("the engine refuses the model: ") + error.what());
  }
  model->instruction_set = model->engine.instruction_set();
  model->inputs.push_back({"image", program.image});
  for (const NamedShape& input : program.inputs) model->inputs.push_back({input.name, input.shape});
  for (const Result& result : program.results) {
    Shape shape = program.real.find(result.value)->second;
    if (shape.size() == 3 && shape[1] == 1 && shape[2] == 1) shape.resize(1);
    model->outputs.push_back({result.name, shape});
  }
  fill_classes(*model, program, program.real.find(program.results[0].value)->second);
  model->mean = program.mean, model->std = program.std;
  for (std::size_t c = 0; c < program.mean.size(); ++c) {
    const auto mean = static_cast<float>(program.mean[c]), std = static_cast<float>(program.std[c]);
    model->factor.push_back(1.0f / (255.0f * std));
    model->shift.push_back(mean / std);
  }
  if (program.preprocessing) {
    model->preprocessing = *program.preprocessing;
  } else {  // the whole picture is squeezed to the size of the input
    const std::int64_t height = program.image[1], width = program.image[2];
    model->preprocessing = {height,          width, height, width, "bilinear", program.image[0] == 1 ? "L" : "RGB",
                            {255, 255, 255}, 0,     true,   0};
  }
  return model;
}

void describe(const biper_model::Array& from, biper_array* to) {
  to->name = from.name.c_str();
  to->rank = static_cast<int>(from.shape.size());
  std::fill(to->sizes, to->sizes + BIPER_MAX_RANK, 0);
  std::copy(from.shape.begin(), from.shape.end(), to->sizes);
  to->elements = product(from.shape);
}

void require_finite(const float* values, std::int64_t elements, std::int64_t count, const std::string& name) {
  for (std::int64_t image = 0; image < count; ++image)
    for (std::int64_t i = 0; i < elements; ++i)
      if (!std::isfinite(values[image * elements + i]))
        throw DataError("expected finite numbers, got NaN or infinity in " + name + " " + std::to_string(image) +
                        " of " + std::to_string(count));
}

void compute(biper_model& model, const std::vector<const float*>& inputs, std::int64_t count,
             const std::vector<float*>& outputs) {
  try {
    model.engine.run(inputs, count, outputs);
  } catch (const std::domain_error& error) {
    throw DataError(std::string("the model cannot compute these inputs: ") + error.what());
  } catch (const std::runtime_error& error) {
    throw ThreadError(std::string(error.what()) + "; load the model with fewer threads");
  }
}

// The checked pointers of the inputs from number `first` on, and of the results.
std::vector<const float*> checked_inputs(const biper_model& model, const float* const* given, std::size_t first,
                                         std::int64_t count) {
  std::vector<const float*> inputs;
  require_argument(given || first == model.inputs.size(), "expected inputs, got NULL");
  for (std::size_t i = first; i < model.inputs.size(); ++i) {
    const float* values = given[i - first];
    require_argument(values, "expected an input, got NULL");
    require_finite(values, product(model.inputs[i].shape), count, i ? model.inputs[i].name + " of image" : "image");
    inputs.push_back(values);
  }
  return inputs;
}

std::vector<float*> checked_outputs(const biper_model& model, float* const* given) {
  require_argument(given, "expected memory for the results, got NULL");
  std::vector<float*> outputs(given, given + model.outputs.size());
  for (const float* output : outputs) require_argument(output, "expected memory for a result, got NULL");
  return outputs;
}

void normalize(const biper_model& model, const std::uint8_t* pixels, std::int64_t count, float* to) {
  const Shape& image = model.inputs[0].shape;
  const std::int64_t channels = image[0], places = image[1] * image[2];
  for (std::int64_t n = 0; n < count; ++n, pixels += channels * places)
    for (std::int64_t c = 0; c < channels; ++c, to += places) {
      const float factor = model.factor[c], shift = model.shift[c];
      for (std::int64_t p = 0; p < places; ++p) to[p] = static_cast<float>(pixels[p * channels + c]) * factor - shift;
    }
}

}  // namespace

const char* biper_version(void) { return BIPER_VERSION; }

const char* biper_error_text(void) { return remembered(); }

void biper_options_init(biper_options* options) {
  if (!options) return;
  *options = {sizeof(biper_options),
              1,
              1,
              static_cast<std::uint64_t>(kMaxMemory),
              static_cast<std::uint64_t>(kMaxWork),
              nullptr};
}

biper_status biper_load(const char* path, const biper_options* options, biper_model** model) {
  if (model) *model = nullptr;
  return guarded([&] {
    require_argument(path && model, "expected a path and a place for the model, got NULL");
    const biper_options given = checked(options);
    *model = load(read_file(path, as_limit(given.max_memory)), given).release();
  });
}

biper_status biper_load_memory(const void* content, size_t size, const biper_options* options, biper_model** model) {
  if (model) *model = nullptr;
  return guarded([&] {
    require_argument((content || !size) && model, "expected the content of a file and a place for the model, got NULL");
    *model = load(std::string_view(static_cast<const char*>(content), size), checked(options)).release();
  });
}

void biper_free(biper_model* model) { delete model; }

size_t biper_input_count(const biper_model* model) { return model ? model->inputs.size() : 0; }

biper_status biper_input(const biper_model* model, size_t index, biper_array* input) {
  return guarded([&] {
    require_argument(model && input && index < model->inputs.size(), "expected the number of an input of a model");
    describe(model->inputs[index], input);
  });
}

size_t biper_output_count(const biper_model* model) { return model ? model->outputs.size() : 0; }

biper_status biper_output(const biper_model* model, size_t index, biper_array* output) {
  return guarded([&] {
    require_argument(model && output && index < model->outputs.size(), "expected the number of a result of a model");
    describe(model->outputs[index], output);
  });
}

size_t biper_class_count(const biper_model* model) { return model ? model->classes.size() : 0; }

const char* biper_class_name(const biper_model* model, size_t index) {
  return model && index < model->classes.size() ? model->classes[index].c_str() : nullptr;
}

biper_status biper_preprocessing_of(const biper_model* model, biper_preprocessing* preprocessing) {
  return guarded([&] {
    require_argument(model && preprocessing, "expected a model and a place for its preprocessing, got NULL");
    const std::int64_t channels = model->inputs[0].shape[0];
    if (channels != 1 && channels != 3)
      throw DataError("the model takes " + std::to_string(channels) + " channels, which is no picture");
    const Preprocessing& p = model->preprocessing;
    const auto whole = [](std::int64_t number) { return static_cast<int>(number); };
    *preprocessing = {whole(p.height),
                      whole(p.width),
                      whole(p.resize_height),
                      whole(p.resize_width),
                      p.interpolation.c_str(),
                      p.channels.c_str(),
                      {},
                      p.exif_orientation,
                      p.white,
                      whole(p.draft_margin)};
    for (int i = 0; i < 3; ++i) preprocessing->background[i] = static_cast<std::uint8_t>(p.background[i]);
  });
}

biper_status biper_normalization(const biper_model* model, size_t channel, double* mean, double* std) {
  return guarded([&] {
    require_argument(model && mean && std && channel < model->mean.size(), "expected the number of a channel");
    *mean = model->mean[channel], *std = model->std[channel];
  });
}

const char* biper_instruction_set(const biper_model* model) { return model ? model->instruction_set.c_str() : ""; }

int64_t biper_arena_bytes(const biper_model* model) { return model ? model->engine.arena_bytes() : 0; }

biper_status biper_run(biper_model* model, const float* const* inputs, int64_t count, float* const* outputs) {
  return guarded([&] {
    require_argument(model && count >= 0, "expected a model, and a number of images that is not negative");
    const std::vector<float*> to = checked_outputs(*model, outputs);
    compute(*model, checked_inputs(*model, inputs, 0, count), count, to);
  });
}

biper_status biper_run_pixels(biper_model* model, const uint8_t* pixels, const float* const* others, int64_t count,
                              float* const* outputs) {
  return guarded([&] {
    require_argument(model && count >= 0, "expected a model, and a number of images that is not negative");
    require_argument(pixels || !count, "expected pixels, got NULL");
    std::vector<float*> to = checked_outputs(*model, outputs);
    std::vector<const float*> from = checked_inputs(*model, others, 1, count);
    from.insert(from.begin(), nullptr);
    const std::int64_t each = product(model->inputs[0].shape);
    std::vector<float> normalized(std::min(count, kBatch) * each);
    for (std::int64_t done = 0; done < count; done += kBatch) {
      const std::int64_t part = std::min(count - done, kBatch);
      normalize(*model, pixels + done * each, part, normalized.data());
      from[0] = normalized.data();
      compute(*model, from, part, to);
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += part * product(model->outputs[i].shape);
      for (std::size_t i = 1; i < from.size(); ++i) from[i] += part * product(model->inputs[i].shape);
    }
  });
}
