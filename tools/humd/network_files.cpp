// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

constexpr mode_t folder_mode = 0755;
constexpr mode_t file_mode = 0644;

}  // namespace

std::optional<std::string> read_text_file(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) return {};
  if (!file) throw HostError(errno, "open '" + path + "'");
  std::string text;
  std::array<char, 4096> buffer{};
  ssize_t count = 0;
  while ((count = ::read(file.get(), buffer.data(), buffer.size())) > 0)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  if (count < 0) throw HostError(errno, "read '" + path + "'");
  return text;
}

std::string temporary_of(const std::string& path) {
  return path + ".new";
}

void write_public_file(const std::string& path, std::string_view content, const ChangeHook& before_change) {
  if (read_text_file(path) == content) return;
  const std::string temporary = temporary_of(path);
  before_change("write " + path);
  {
    const Fd file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, file_mode);
    if (::fchmod(file.get(), file_mode) != 0) throw HostError(errno, "write '" + temporary + "'");
    for (std::string_view rest = content; !rest.empty();) {
      const ssize_t count = ::write(file.get(), rest.data(), rest.size());
      if (count < 0) throw HostError(errno, "write '" + temporary + "'");
      rest.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  before_change("rename " + temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw HostError(errno, "write '" + path + "'");
}

void make_public_folder(const std::string& path, const ChangeHook& before_change) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    before_change("make " + path);
    if (::mkdir(path.c_str(), folder_mode) != 0) throw HostError(errno, "make the folder '" + path + "'");
    if (::lstat(path.c_str(), &status) != 0) throw HostError(errno, "look at '" + path + "'");
  }
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid())
    throw HostError(EPERM, "use '" + path + "'", "it is no folder of this user's; remove it");
  if ((status.st_mode & 07777) == folder_mode) return;
  before_change("open " + path + " to readers");
  if (::chmod(path.c_str(), folder_mode) != 0) throw HostError(errno, "change the mode of '" + path + "'");
}

}  // namespace hum
