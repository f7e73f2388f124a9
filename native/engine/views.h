// Views: how an operation on arrays reads a value, or writes one, as an array of some shape.
//
// Real values lie in memory as floats, in any order. A view says where the element with the index (i, j, ...) is:
// offset + i * strides[0] + j * strides[1] + ... An image (C, H, W) has the strides (1, W * S, S), where S is the
// number of channels rounded up to 16. Other orders of axes, parts, repetitions (stride 0) and many other shapes of a
// value are views of it, and take no work.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace biper {

inline constexpr int kMaxRank = 8, kMaxOperands = 4;

struct View {
  int value;  // the id of the value
  std::vector<std::int64_t> sizes, strides;
  std::int64_t offset;
};

// An axis that several operands share: its size, and the distance of its elements in each operand.
using Offsets = std::array<std::int64_t, kMaxOperands>;
struct Axis {
  std::int64_t size;
  Offsets strides;
};
using Axes = std::vector<Axis>;

// Throws std::invalid_argument unless every element of the view is among the `floats` floats of its value.
void check_view(const View& view, std::int64_t floats);

// The number of elements of an array of these sizes. Throws std::invalid_argument where there are too many, or none.
std::int64_t elements_of(const std::vector<std::int64_t>& sizes);

// The axes of views that have the same sizes. Throws std::invalid_argument where they differ.
Axes axes_of(const std::vector<const View*>& views);

// The same elements with as few axes as possible, the one of the smallest strides of the first operand last. There are
// at least `least` axes: the first of them may have the size 1.
Axes merged(Axes axes, std::size_t least);

inline std::int64_t count_of(const Axes& axes) {
  std::int64_t count = 1;
  for (const Axis& axis : axes) count *= axis.size;
  return count;
}

// Where the element number `index`, in row-major order, is in each operand.
inline Offsets offsets_at(const Axes& axes, std::int64_t index) {
  Offsets offsets{};
  for (std::size_t i = axes.size(); i-- > 0;) {
    const std::int64_t place = index % axes[i].size;
    index /= axes[i].size;
    for (int k = 0; k < kMaxOperands; ++k) offsets[k] += place * axes[i].strides[k];
  }
  return offsets;
}

// Copies all elements of one view to another. The axes are those of the target and the source.
class Copy {
 public:
  Copy(const View& target, const View& source);
  std::int64_t chunks() const { return chunks_; }
  std::int64_t elements() const { return elements_; }
  // Copies the chunks [begin, end). `to` and `from` are where the values begin.
  void run(float* to, const float* from, std::int64_t begin, std::int64_t end) const;

 private:
  std::int64_t to_, from_;  // the offsets of the views
  Axes outer_;
  Axis rows_, inner_;
  std::int64_t row_chunk_, chunks_, elements_;
};

}  // namespace biper
