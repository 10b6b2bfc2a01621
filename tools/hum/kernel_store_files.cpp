// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_store_files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {

std::vector<std::byte> read_whole_file(const std::filesystem::path& path) {
  const Fd file = open_file(path, O_RDONLY);
  std::vector<std::byte> content;
  std::size_t used = 0;
  struct stat status{};
  if (fstat(file.get(), &status) == 0) content.resize(static_cast<std::size_t>(status.st_size) + 1);
  while (true) {
    const ssize_t count = read(file.get(), content.data() + used, content.size() - used);
    if (count < 0) throw HostError(errno, "read " + path.string());
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
    if (used == content.size()) content.resize(2 * used);
  }
  content.resize(used);
  return content;
}

void write_whole_file(const std::filesystem::path& path, std::span<const std::byte> content) {
  const Fd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  while (!content.empty()) {
    const ssize_t count = write(file.get(), content.data(), content.size());
    if (count < 0) throw HostError(errno, "write " + path.string());
    content = content.subspan(static_cast<std::size_t>(count));
  }
  if (fsync(file.get()) != 0) throw HostError(errno, "write " + path.string());
}

void write_whole_file(const std::filesystem::path& path, std::string_view content) {
  write_whole_file(path, std::as_bytes(std::span(content)));
}

TemporaryFolder::TemporaryFolder(const std::filesystem::path& parent) {
  std::string name = parent / (std::string(prefix) + "XXXXXX");
  if (mkdtemp(name.data()) == nullptr) throw HostError(errno, "make a folder in " + parent.string());
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace hum
