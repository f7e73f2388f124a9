#include "common/threads.h"

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/portability.h"

#ifndef _WIN32
#include <pthread.h>
#include <unistd.h>
#endif

namespace biper {
namespace {

// Operations follow each other within microseconds, so that waking a thread for each would take longer than the work. A
// thread checks this many times for new work before it goes to sleep.
constexpr int kSpins = 4000;

// The number of this process, which differs after a fork; Windows does not fork.
std::int64_t this_process() {
#ifdef _WIN32
  return 0;
#else
  return static_cast<std::int64_t>(getpid());
#endif
}

// The parts of one call of `run`, which several threads take one after another.
struct Parts {
  std::atomic<int> next{0};
  int count = 0;
  void (*work)(void*, int) = nullptr;
  void* context = nullptr;
  std::mutex mutex;  // guards `failure`
  std::exception_ptr failure;

  void begin(int parts, void (*each)(void*, int), void* its_context) {
    count = parts, work = each, context = its_context;
    next.store(0, std::memory_order_relaxed);
  }

  void take() noexcept {
    try {
      for (int part; (part = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(context, part);
    } catch (...) {
      next.store(count, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  // To be called when no thread takes parts any more.
  void throw_failure() {
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
  }
};

std::mutex fork_mutex;

}  // namespace

std::mutex& fork_safe_mutex() {
#ifndef _WIN32
  static const int registered =
      pthread_atfork([] { fork_mutex.lock(); }, [] { fork_mutex.unlock(); }, [] { fork_mutex.unlock(); });
  static_cast<void>(registered);
#endif
  return fork_mutex;
}

struct ThreadPool::Shared {
  const std::int64_t process = this_process();
  std::mutex owner;  // held by the caller that uses the pool
  std::mutex mutex;  // guards `ending`, and changes of `round` against helpers that are about to sleep
  std::condition_variable wake;
  std::atomic<std::uint64_t> round{0};
  std::atomic<int> busy{0};
  Parts parts;
  bool ending = false;
  std::vector<std::thread> helpers;

  ~Shared() { stop(); }

  void start(int count) {
    if (static_cast<int>(helpers.size()) == count) return;
    try {
      helpers.reserve(static_cast<std::size_t>(count));
      while (static_cast<int>(helpers.size()) < count) helpers.emplace_back([this] { help(); });
    } catch (const std::system_error& error) {
      const std::size_t started = helpers.size();
      stop();
      throw std::runtime_error("the system started " + std::to_string(started) + " threads and refused the next of " +
                               std::to_string(count) + ": " + error.what());
    }
  }

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      ending = true;
    }
    wake.notify_all();
    for (std::thread& helper : helpers) helper.join();
    helpers.clear();
    ending = false;
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
      parts.take();
      busy.fetch_sub(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {}

ThreadPool::ThreadPool(int threads, ParallelCall parallel) : threads_(threads < 1 ? 1 : threads), parallel_(parallel) {}

ThreadPool::~ThreadPool() {
  Shared* shared = shared_.load(std::memory_order_acquire);
  if (shared && shared->process == this_process()) delete shared;
}

// What the threads of this process have in common. What a forked process has of its parent is never freed: it has no
// threads to join, and its mutexes may be locked for ever.
ThreadPool::Shared* ThreadPool::shared() {
  Shared* found = shared_.load(std::memory_order_acquire);
  if (found && found->process == this_process()) return found;
  auto made = std::make_unique<Shared>();
  if (shared_.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel)) return made.release();
  return found;  // another thread was faster
}

void ThreadPool::run(int parts, void (*work)(void*, int), void* context) {
  if (threads_ > 1 && parts > 1 && parallel_) {
    Parts all;
    all.begin(parts, work, context);
    parallel_([](void* data) { static_cast<Parts*>(data)->take(); }, &all, static_cast<unsigned>(threads_), 0);
    all.throw_failure();
    return;
  }
  Shared* s = threads_ > 1 && parts > 1 ? shared() : nullptr;
  std::unique_lock<std::mutex> mine;
  if (s) mine = std::unique_lock<std::mutex>(s->owner, std::try_to_lock);
  if (!mine.owns_lock()) {
    for (int part = 0; part < parts; ++part) work(context, part);
    return;
  }
  s->start(threads_ - 1);
  s->parts.begin(parts, work, context);
  s->busy.store(threads_ - 1, std::memory_order_relaxed);
  {
    // With the mutex held no helper can be between its last check of the round and its sleep, and miss the change.
    const std::lock_guard<std::mutex> lock(s->mutex);
    s->round.fetch_add(1, std::memory_order_release);
  }
  s->wake.notify_all();
  s->parts.take();
  while (s->busy.load(std::memory_order_acquire) != 0) pause_in_loop();
  s->parts.throw_failure();
}

}  // namespace biper
