#include "common/threads.h"

#include <algorithm>
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

#include "common/cpu.h"
#include "common/portability.h"

#ifndef _WIN32
#include <pthread.h>
#include <unistd.h>
#endif

namespace biper {
namespace {

// Operations follow each other within microseconds, so that waking a thread for each would take longer than the work. A
// thread checks this many times for new work before it goes to sleep, if every thread can have a processor of its own.
// Otherwise it would take the processor from a thread that works.
constexpr int kSpins = 4000;

// After this many calls the number of processors is asked for again: it may change while a process runs.
constexpr std::uint64_t kCallsBetweenQuestions = 256;

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

// Helpers join a round of work as long as it is open, and the caller waits only for those that have joined: a helper
// that no processor runs at the moment delays nobody.
struct ThreadPool::Shared {
  // The state of the pool in one number: how many helpers are at work, whether more may join, and the round.
  static constexpr std::uint64_t kHelpers = 0xffff, kOpen = 0x10000, kRound = 0x20000;

  const std::int64_t process = this_process();
  std::mutex owner;  // held by the caller that uses the pool
  std::mutex mutex;  // guards `ending`, and the opening of a round against helpers that are about to sleep
  std::condition_variable wake;
  std::atomic<std::uint64_t> state{0};
  std::atomic<int> spins{0};
  Parts parts;
  bool ending = false;
  std::uint64_t calls = 0;  // with `limit` of the owner alone
  int limit = 0;            // the most helpers that work at once
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

  // To be called by the owner, before a round.
  void count_processors(int threads) {
    if (calls++ % kCallsBetweenQuestions != 0) return;
    const int processors = usable_processors();
    limit = std::min(threads, processors) - 1;
    spins.store(processors < threads ? 0 : kSpins, std::memory_order_relaxed);
  }

  void open_round() {
    {
      // With the mutex held no helper can be between its last check of the state and its sleep, and miss the change.
      const std::lock_guard<std::mutex> lock(mutex);
      state.store((state.load(std::memory_order_relaxed) / kRound + 1) * kRound + kOpen, std::memory_order_release);
    }
    if (limit == static_cast<int>(helpers.size())) {
      wake.notify_all();
    } else {
      for (int i = 0; i < limit; ++i) wake.notify_one();
    }
  }

  // Lets no helper join any more, and waits for those that have.
  void close_round() {
    std::uint64_t now = state.fetch_and(~kOpen, std::memory_order_acquire) & kHelpers;
    for (int spin = 0; now != 0; ++spin) {
      if (spin < kSpins) {
        pause_in_loop();
      } else {
        std::this_thread::yield();
      }
      now = state.load(std::memory_order_acquire) & kHelpers;
    }
  }

  // Whether a helper may take part in a round that it has not `seen`, which is then counted.
  bool join(std::uint64_t& seen) {
    std::uint64_t now = state.load(std::memory_order_acquire);
    while ((now & kOpen) && now / kRound != seen) {
      if (state.compare_exchange_weak(now, now + 1, std::memory_order_acquire)) {
        seen = now / kRound;
        return true;
      }
    }
    return false;
  }

  void help() {
    std::uint64_t seen = 0;
    for (;;) {
      bool joined = join(seen);
      for (int spin = spins.load(std::memory_order_relaxed); spin > 0 && !joined; --spin) {
        pause_in_loop();
        joined = join(seen);
      }
      if (!joined) {
        std::unique_lock<std::mutex> lock(mutex);
        wake.wait(lock, [&] { return ending || (joined = join(seen)); });
        if (!joined) return;
      }
      parts.take();
      state.fetch_sub(1, std::memory_order_release);
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
  s->count_processors(threads_);
  if (s->limit < 1) {
    for (int part = 0; part < parts; ++part) work(context, part);
    return;
  }
  s->parts.begin(parts, work, context);
  s->open_round();
  s->parts.take();
  s->close_round();
  s->parts.throw_failure();
}

}  // namespace biper
