#include "common/threads.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "common/portability.h"

namespace biper {
namespace {

// Operations follow each other within microseconds, so that waking a thread for each would take longer than the work. A
// thread checks this many times for new work before it goes to sleep.
constexpr int kSpins = 4000;

}  // namespace

struct ThreadPool::Shared {
  std::mutex owner;  // held by the caller that uses the pool
  std::mutex mutex;  // guards `ending`, and changes of `round` against helpers that are about to sleep
  std::condition_variable wake;
  std::atomic<std::uint64_t> round{0};
  std::atomic<int> next{0}, busy{0};
  int parts = 0;
  void (*work)(void*, int) = nullptr;
  void* context = nullptr;
  bool ending = false;
  std::vector<std::thread> helpers;

  void take_parts() {
    for (int part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) work(context, part);
  }

  void help() {
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && round.load(std::memory_order_acquire) == seen; ++spin) pause_in_loop();
      if (round.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex);
        wake.wait(lock, [&] { return ending || round.load(std::memory_order_acquire) != seen; });
        if (ending) return;
      }
      seen = round.load(std::memory_order_acquire);
      take_parts();
      busy.fetch_sub(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ == 1) return;
  shared_ = std::make_unique<Shared>();
  for (int i = 1; i < threads_; ++i) shared_->helpers.emplace_back([shared = shared_.get()] { shared->help(); });
}

ThreadPool::ThreadPool(int threads, ParallelCall parallel) : threads_(threads < 1 ? 1 : threads), parallel_(parallel) {}

ThreadPool::~ThreadPool() {
  if (!shared_) return;
  {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->ending = true;
  }
  shared_->wake.notify_all();
  for (std::thread& helper : shared_->helpers) helper.join();
}

void ThreadPool::run(int parts, void (*work)(void*, int), void* context) {
  if (parallel_ && threads_ > 1 && parts > 1) {
    struct Work {
      std::atomic<int> next;
      int parts;
      void (*work)(void*, int);
      void* context;
    } shared{0, parts, work, context};
    parallel_(
        [](void* data) {
          Work& w = *static_cast<Work*>(data);
          for (int part; (part = w.next.fetch_add(1, std::memory_order_relaxed)) < w.parts;) w.work(w.context, part);
        },
        &shared, static_cast<unsigned>(threads_), 0);
    return;
  }
  std::unique_lock<std::mutex> mine;
  if (shared_ && parts > 1) mine = std::unique_lock<std::mutex>(shared_->owner, std::try_to_lock);
  if (!mine.owns_lock()) {
    for (int part = 0; part < parts; ++part) work(context, part);
    return;
  }
  Shared& s = *shared_;
  s.parts = parts, s.work = work, s.context = context;
  s.next.store(0, std::memory_order_relaxed);
  s.busy.store(threads_ - 1, std::memory_order_relaxed);
  {
    // With the mutex held no helper can be between its last check of the round and its sleep, and miss the change.
    const std::lock_guard<std::mutex> lock(s.mutex);
    s.round.fetch_add(1, std::memory_order_release);
  }
  s.wake.notify_all();
  s.take_parts();
  while (s.busy.load(std::memory_order_acquire) != 0) pause_in_loop();
}

}  // namespace biper
