// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/line_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/errors.h"

namespace hum {

// Opened for both a fifo never lacks a reader, and so takes what fits into it.
Fd open_output(const std::string& path) {
  struct stat status{};
  const bool is_fifo = ::stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
  return open_file(path, (is_fifo ? O_RDWR : O_WRONLY | O_CREAT | O_APPEND) | O_NONBLOCK | O_NOCTTY, 0640,
                   "give a file that can be written, or a fifo");
}

LineFile::LineFile(const std::string& path) : file_(open_output(path)) {}

bool LineFile::put_rest() {
  while (!rest_.empty()) {
    const ssize_t count = ::write(file_.get(), rest_.data(), rest_.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    rest_.erase(0, static_cast<std::size_t>(count));
  }
  return true;
}

void LineFile::write(std::string_view line) {
  if (!put_rest()) {
    ++lost_;
    return;
  }
  const std::string whole = std::string(line) + "\n";
  rest_ = whole;
  if (!put_rest() && rest_.size() == whole.size()) {
    rest_.clear();
    ++lost_;
  }
}

}  // namespace hum
