// Memory that starts at a cache line.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace biper {

inline constexpr std::int64_t kAlignment = 64;  // bytes of a cache line, and of the longest vector

inline std::int64_t aligned(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// An array of fixed length, filled with zeros, whose storage starts at a cache line.
template <typename T>
class Aligned {
 public:
  explicit Aligned(std::int64_t count = 0) : size_(count) {
    if (count) data_ = static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kAlignment}));
    std::fill(data_, data_ + count, T{});
  }
  Aligned(Aligned&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Aligned& operator=(Aligned&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Aligned() { ::operator delete(data_, std::align_val_t{kAlignment}); }
  T* data() { return data_; }
  const T* data() const { return size_ ? data_ : nullptr; }
  T& operator[](std::int64_t index) { return data_[index]; }
  const T& operator[](std::int64_t index) const { return data_[index]; }
  bool empty() const { return size_ == 0; }

 private:
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace biper
