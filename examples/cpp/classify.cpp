// Classifies a picture (PPM, P6) that has the size of the model: classify MODEL.biper PICTURE.ppm
#include <biper.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

void check(biper_status status) {
  if (status != BIPER_OK) throw std::runtime_error(biper_error_text());
}

std::vector<std::uint8_t> read_ppm(const char* path, const biper_array& image) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  std::int64_t width = 0, height = 0, white = 0;
  file >> kind >> width >> height >> white;
  if (kind != "P6" || height != image.sizes[1] || width != image.sizes[2] || white != 255 || image.sizes[0] != 3)
    throw std::runtime_error("expected a PPM file (P6) of the size of the model");
  std::vector<std::uint8_t> pixels(image.elements);
  file.ignore().read(reinterpret_cast<char*>(pixels.data()), image.elements);
  if (!file) throw std::runtime_error("the picture is cut short");
  return pixels;
}

void classify(const char* model_path, const char* picture_path) {
  biper_model* loaded = nullptr;
  check(biper_load(model_path, nullptr, &loaded));
  const std::unique_ptr<biper_model, decltype(&biper_free)> model(loaded, biper_free);
  biper_array image, result;
  check(biper_input(model.get(), 0, &image));
  check(biper_output(model.get(), 0, &result));
  std::vector<float> scores(result.elements);
  float* outputs[] = {scores.data()};
  check(biper_run_pixels(model.get(), read_ppm(picture_path, image).data(), nullptr, 1, outputs));
  const auto best = std::max_element(scores.begin(), scores.end());
  std::cout << biper_class_name(model.get(), best - scores.begin()) << ' ' << *best << '\n';
}

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "usage: classify MODEL.biper PICTURE.ppm\n", 2;
  try {
    classify(argv[1], argv[2]);
  } catch (const std::exception& error) {
    return std::cerr << error.what() << '\n', 1;
  }
}
