// Reading a whole file.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace biper::capi {

// A file that cannot be read; `what` says why.
struct ReadError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The content of a regular file, or of a link to one. A pipe or a device is refused before anything is read. Throws
// LimitError where it has more than `limit` bytes.
std::string read_file(const char* path, std::int64_t limit);

}  // namespace biper::capi
