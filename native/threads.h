// A few threads that share the work of one operation at a time.
#pragma once

#include <memory>
#include <type_traits>

namespace biper {

// Calls work(data) on each of some threads, of which the calling one is one: GOMP_parallel of an OpenMP runtime.
using ParallelCall = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the calling thread is one of them
  ThreadPool(int threads, ParallelCall parallel);  // none of its own: those of an OpenMP runtime
  ~ThreadPool();

  int threads() const { return threads_; }

  // Calls work(context, part) for every part in [0, parts), on all threads, and returns when all are done. If another
  // caller is using the pool, the calling thread does everything by itself.
  void run(int parts, void (*work)(void*, int), void* context);

  template <typename F>
  void run(int parts, F&& work) {
    run(parts, [](void* context, int part) { (*static_cast<std::remove_reference_t<F>*>(context))(part); }, &work);
  }

 private:
  struct Shared;
  int threads_;
  ParallelCall parallel_ = nullptr;
  std::unique_ptr<Shared> shared_;  // null for one thread
};

}  // namespace biper
