// What an operation needs besides itself in order to run on one image.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "common/threads.h"
#include "engine/operation.h"
#include "kernels/kernels.h"

namespace biper {

// Vector instructions that take longer than waking another thread, which takes about ten microseconds.
inline constexpr std::int64_t kWorthSplitting = 50'000;

struct Context {
  const Kernels& kernels;
  const std::vector<Value>& values;
  std::uint8_t* arena;
  ThreadPool& pool;
  bool parallel;              // whether threads share the operation
  std::atomic<bool>& failed;  // set by an operation that cannot compute its input, which is not finite

  std::uint8_t* memory(int id) const { return arena + values[id].offset; }
  float* real(int id) const { return reinterpret_cast<float*>(memory(id)); }
  std::uint16_t* bits(int id) const { return reinterpret_cast<std::uint16_t*>(memory(id)); }
  // A real value that is read: a constant is outside the arena.
  const float* read(int id) const { return values[id].constant ? values[id].constant : real(id); }

  // Calls work(begin, end, part) for parts of [0, units), in several threads if that pays; `cost` is the approximate
  // number of vector instructions of all units together. There are at most as many parts as threads.
  template <typename F>
  void split_numbered(int units, std::int64_t cost, F&& work) const {
    const int parts = parallel && cost > kWorthSplitting ? std::min(units, pool.threads()) : 1;
    pool.run(parts, [&](int part) {
      work(static_cast<int>(std::int64_t{units} * part / parts),
           static_cast<int>(std::int64_t{units} * (part + 1) / parts), part);
    });
  }
  template <typename F>
  void split(int units, std::int64_t cost, F&& work) const {
    split_numbered(units, cost, [&](int begin, int end, int) { work(begin, end); });
  }
};

}  // namespace biper
