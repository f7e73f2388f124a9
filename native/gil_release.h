// Releasing the interpreter lock of Python.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace biper {

// Releases the interpreter lock as long as the object exists, as nanobind::gil_scoped_release does. Python before 3.14
// ends a daemon thread that wants the lock back while the interpreter shuts down, by an exception that must not leave a
// destructor: the program would abort. Here such a thread waits until the process has ended, as in Python 3.14.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;
  ~GilRelease() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState* state_;
};

}  // namespace biper
