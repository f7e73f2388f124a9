#include "capi/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include "capi/checks.h"

#if defined(_WIN32)
#include <io.h>
#define BIPER_OPEN(path) _open(path, _O_RDONLY | _O_BINARY)
#define BIPER_READ(file, to, count) _read(file, to, static_cast<unsigned>(count))
#define BIPER_CLOSE _close
#define BIPER_IS_REGULAR(mode) (((mode) & _S_IFMT) == _S_IFREG)
#else
#include <unistd.h>
#define BIPER_OPEN(path) open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
#define BIPER_READ(file, to, count) read(file, to, count)
#define BIPER_CLOSE close
#define BIPER_IS_REGULAR(mode) S_ISREG(mode)
#endif

namespace biper::capi {
namespace {

[[noreturn]] void refuse() { throw ReadError("the model cannot be read: " + std::generic_category().message(errno)); }

struct File {
  explicit File(const char* path) : descriptor(BIPER_OPEN(path)) {
    if (descriptor < 0) refuse();
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { BIPER_CLOSE(descriptor); }
  int descriptor;
};

}  // namespace

std::string read_file(const char* path, std::int64_t limit) {
  const File file(path);
  struct stat status;
  if (fstat(file.descriptor, &status)) refuse();
  if (!BIPER_IS_REGULAR(status.st_mode))
    throw ReadError("the model cannot be read: it is a pipe, a device or a folder, expected a regular file");
  if (status.st_size > limit)
    throw LimitError("the model needs more than max_memory=" + std::to_string(limit) + " allows: it has " +
                     std::to_string(status.st_size) + " bytes");
  std::string content(static_cast<std::size_t>(status.st_size), '\0');
  constexpr std::size_t kPart = 1 << 24;
  std::size_t read_bytes = 0;
  while (read_bytes < content.size()) {  // the file may be cut in the meantime
    const std::size_t part = content.size() - read_bytes < kPart ? content.size() - read_bytes : kPart;
    const auto count = BIPER_READ(file.descriptor, content.data() + read_bytes, part);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse();
    if (count == 0) break;
    read_bytes += static_cast<std::size_t>(count);
  }
  content.resize(read_bytes);
  return content;
}

}  // namespace biper::capi
