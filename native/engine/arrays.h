// Operations on arrays: they read views of real values and write one value.
//
// Each is checked and prepared when it is added; running it walks over axes that were merged as far as possible.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/aligned.h"
#include "engine/context.h"
#include "engine/views.h"

namespace biper {

struct ArrayOperation {
  virtual ~ArrayOperation() = default;
  virtual void run(const Context& context) const = 0;
};

// A function of one, two or three operands of the result's shape.
class Elementwise : public ArrayOperation {
 public:
  Elementwise(const FloatLoops& loops, const std::string& function, const std::vector<float>& parameters,
              const std::vector<View>& inputs, const View& result);
  void run(const Context& context) const override;

 private:
  void run_chunks(const Context& context, std::int64_t begin, std::int64_t end) const;

  decltype(FloatFunction::loop) loop_;
  int cost_;  // see FloatFunction
  std::vector<float> parameters_;
  std::vector<View> inputs_;
  View result_;
  // A chunk has a number of neighbouring rows, or a part of one row.
  Axes outer_;
  Axis rows_, inner_;
  std::int64_t chunk_rows_, chunk_length_, row_parts_, inner_parts_, chunks_;
};

// The axes of an operation over some axes of its input. Operands: the input, the result. Neighbours along the last kept
// axis are computed together, as `lanes_`.
struct ReducedAxes {
  ReducedAxes(const View& input, const View& result, const std::vector<int>& axes);
  std::int64_t chunks() const;

  Axes kept, reduced;
  Axis lanes, inner;   // the last of `kept` and of `reduced`, which are not in them
  std::int64_t count;  // elements over which a result is taken
};

class Reduction : public ArrayOperation {
 public:
  enum class Kind { kSum, kMean, kMax, kMin, kProduct };
  // `result` has the size 1 along the axes.
  Reduction(const std::string& function, const View& input, const std::vector<int>& axes, const View& result);
  void run(const Context& context) const override;

 private:
  Kind kind_;
  View input_, result_;
  ReducedAxes axes_;
};

class Normalization : public ArrayOperation {
 public:
  Normalization(const View& input, const std::vector<int>& axes, bool center, float epsilon, const View& result);
  void run(const Context& context) const override;

 private:
  bool center_;
  float epsilon_;
  View input_, result_;
  ReducedAxes axes_;
};

class Softmax : public ArrayOperation {
 public:
  Softmax(const View& input, int axis, bool log, const View& result);
  void run(const Context& context) const override;

 private:
  bool log_;
  View input_, result_;
  Axes others_;
  Axis axis_;
};

// Fills the result, if `fills`, then copies each source to its part of the result.
class Copies : public ArrayOperation {
 public:
  Copies(const std::vector<View>& sources, const std::vector<View>& targets, bool fills, float value,
         std::int64_t floats);
  void run(const Context& context) const override;

 private:
  int result_;
  bool fills_;
  float value_;
  std::int64_t floats_;  // of the result
  std::vector<int> sources_;
  std::vector<Copy> copies_;
};

// result[l] = sum over t of weight[t][l] * input[index[t][l]] along an axis, or the largest of the elements.
class Sample : public ArrayOperation {
 public:
  Sample(const View& input, int axis, const std::vector<int>& index, const std::vector<float>& weight, bool maximum,
         const View& result);
  void run(const Context& context) const override;

 private:
  View input_, result_;
  std::vector<int> index_;
  std::vector<float> weight_;
  bool maximum_;
  Axes others_;
  Axis inner_, axis_;  // the size of axis_ is that of the result
  std::int64_t taps_;
};

// Products of matrices (..., M, K) and (..., K, N), by the kernels of convolutions. The rows of the left one are
// contiguous; those of the result have whole blocks of 16 floats.
class Product : public ArrayOperation {
 public:
  Product(const View& left, const View& right, const View& result);
  std::int64_t scratch_floats() const;  // 0 once the right matrices are packed
  void set_scratch(int value) { scratch_ = value; }
  // Arranges the right matrices as the kernels read them, once and for all: they are a constant.
  void pack_constant(const float* right);
  void run(const Context& context) const override;

 private:
  void pack(const float* right, float* packed, std::int64_t begin, std::int64_t end) const;

  View left_, right_, result_;
  Axes batches_;  // operands: the result, left, right
  std::int64_t rows_, inside_, columns_, blocks_;
  std::int64_t packed_;  // how many right matrices are packed: one for each product, or one for all
  int scratch_ = -1;
  Aligned<float> constant_;
};

}  // namespace biper
