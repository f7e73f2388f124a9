// A pool of threads that share the work of one operation at a time.
#pragma once

#include <memory>
#include <type_traits>

namespace biper {

// The signature of GOMP_parallel of an OpenMP runtime: calls work(data) in `threads` threads,
// one of which is the caller.
using ParallelCall = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

class ThreadPool {
 public:
  explicit ThreadPool(int threads);                // starts threads - 1 threads, which the caller joins in `run`
  ThreadPool(int threads, ParallelCall parallel);  // starts none, and takes those of an OpenMP runtime
  ~ThreadPool();

  int threads() const { return threads_; }

  // Calls work(context, part) for every part in [0, parts), shared among the threads, and returns when all are done. If
  // another caller is using the pool at that time, the calling thread does everything itself.
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
