// A pool of threads that share the work of one operation at a time.
#pragma once

#include <atomic>
#include <mutex>
#include <type_traits>

namespace biper {

// The signature of GOMP_parallel of an OpenMP runtime: calls work(data) in `threads` threads,
// one of which is the caller.
using ParallelCall = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

// A mutex that is free in a process which was just forked, whatever other threads did at that moment. It guards what a
// forked process goes on to use, for a few instructions at a time. There is one for the whole library.
std::mutex& fork_safe_mutex();

// The threads are started by the first call of `run` that needs them. A process that was forked has none of the threads
// of its parent; there the next call starts new ones.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);                // threads - 1 threads, which the caller joins in `run`
  ThreadPool(int threads, ParallelCall parallel);  // starts none, and takes those of an OpenMP runtime
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls work(context, part) for every part in [0, parts), shared among the threads, and returns when all are done. If
  // another caller is using the pool at that time, the calling thread does everything itself. The first exception of
  // `work` is thrown again when no thread works any more; parts that no thread has begun are then left out. Throws
  // std::runtime_error, before any work, if the system refuses to start the threads.
  void run(int parts, void (*work)(void*, int), void* context);

  template <typename F>
  void run(int parts, F&& work) {
    run(parts, [](void* context, int part) { (*static_cast<std::remove_reference_t<F>*>(context))(part); }, &work);
  }

 private:
  struct Shared;
  Shared* shared();

  int threads_;
  ParallelCall parallel_ = nullptr;
  std::atomic<Shared*> shared_{nullptr};  // what the threads have in common; null until it is needed
};

}  // namespace biper
