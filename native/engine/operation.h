// What an engine consists of: values of one image, operations on them, and the memory that holds the values.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "engine/aligned.h"
#include "kernels/kernels.h"

namespace biper {

// Values of more elements are refused when the operation that makes them is added.
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;

inline void require(bool condition, const char* problem) {
  if (!condition) throw std::invalid_argument(problem);
}

// A tensor (channels, height, width) of one image, real or bits, in the layouts of kernels.h; or, where `floats` is not
// 0, so many floats, which operations on arrays read and write in any order (see views.h).
struct Value {
  bool real;
  int channels, height, width;
  int stride;           // from pixel to pixel, in floats (real) or in halves of 16 bits
  int made, last_read;  // indices of the operations that make it and that read it last; the input has made == -1

  std::int64_t offset = 0;  // bytes from the start of the arena; memory_plan.cc decides
  std::int64_t floats = 0;
  const float* constant = nullptr;  // the floats of a constant, which is not in the arena
  int base = -1;                    // the value whose floats from number `first` on this image is
  std::int64_t first = 0;

  std::int64_t pixels() const { return static_cast<std::int64_t>(height) * width; }
  // All the floats of a real value, including those beyond the channels of its pixels.
  std::int64_t all_floats() const { return floats ? floats : pixels() * stride; }
  std::int64_t bytes() const {
    return aligned((floats ? 4 * floats : pixels() * stride * (real ? 4 : 2)) + kAlignment);
  }
};

struct ArrayOperation;  // see arrays.h

// One step of a program. Values are referred to by their index; -1 stands for none.
struct Operation {
  enum class Kind {
    kConvolution,
    kInt8Convolution,
    kBfloat16Convolution,
    kBinaryConvolution,
    kPool,
    kElementwise,
    kPad,
    kConcatenate,
    kResize,
    kFlatten,
    kArray
  };
  explicit Operation(Kind k);
  ~Operation();

  bool is_real_convolution() const {
    return kind == Kind::kConvolution || kind == Kind::kInt8Convolution || kind == Kind::kBfloat16Convolution;
  }
  bool is_convolution() const { return is_real_convolution() || kind == Kind::kBinaryConvolution; }
  // Whether it copies values to other places and computes nothing before its epilogue.
  bool is_move() const {
    return kind == Kind::kPad || kind == Kind::kConcatenate || kind == Kind::kResize || kind == Kind::kFlatten;
  }

  Kind kind;
  std::unique_ptr<ArrayOperation> array;  // kArray, which is computed by this alone
  std::vector<int> inputs;
  Geometry geometry{};  // of a convolution; its stride is filled in when it runs
  Pooling pooling{};
  int before = 0;             // kPad: channels of zeros before those of the input
  bool joins_blocks = false;  // kConcatenate: its epilogue reads the inputs, which have whole blocks of channels
  Aligned<float> weights;
  // A convolution whose blocks have several groups: the weights in the order of the scalar kernel, which computes
  // inputs that are not finite, because the products by 0 with inputs of other groups would spread them.
  Aligned<float> plain_weights;
  int row_stride = 0;             // kBfloat16Convolution: inputs in a row of its rounded input
  Levels levels{};                // kInt8Convolution, whose weights are in `bit_weights`
  Aligned<std::int32_t> initial;  // kInt8Convolution: what the sums begin with
  // A convolution in bfloat16, where the kernels have no such products: kConvolution of the rounded input, which is a
  // value of its own. Else kBfloat16Convolution, whose weights are in `bit_weights`.
  int rounded = -1;
  std::optional<RowTransform> transform;  // if set, the transformed rows are in `scratch`
  bool needs_finite = false;              // set where some instruction sets transform rows, on all of them
  Aligned<std::uint32_t> bit_weights, all_rows_weights, pair_weights, masked_weights;  // see BitWeights
  Aligned<float> multiplier, offset, slope;
  Aligned<std::int32_t> threshold;
  Epilogue epilogue{};                      // points to the four above; the rest is filled in when it runs
  int residual = -1, real = -1, bits = -1;  // values that the epilogue reads and writes
  int channels = 0, height = 0, width = 0;  // of the result
  int scratch = -1;                         // a value that only this operation uses
  // A convolution may have a pool that is computed with it, some rows at a time, so that its own result needs no more
  // memory than these rows; see fuse_pools. The pool then does nothing in its turn.
  const Operation* pool = nullptr;
  int pool_rows = 0;      // of the result of the pool at a time
  bool is_fused = false;  // it is computed with the operation before it, see fuse.cc
};

// The memory for the values of one image. Each thread that runs images has one of its own.
struct Arena {
  explicit Arena(std::int64_t bytes) : memory(bytes) {}
  Aligned<std::uint8_t> memory;
};

}  // namespace biper
