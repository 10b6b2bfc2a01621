// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

constexpr unsigned private_folder = 0700;
constexpr unsigned private_file = 0600;

}  // namespace

void make_private_folder(const std::filesystem::path& path) {
  if (::mkdir(path.c_str(), private_folder) == 0) return;
  if (errno != EEXIST) throw HostError(errno, "make the folder '" + path.string() + "'");
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) throw HostError(errno, "look at '" + path.string() + "'");
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid())
    throw HostError(EPERM, "use '" + path.string() + "'",
                    "it is no folder of this user's; remove it or name another");
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    throw HostError(EPERM, "use '" + path.string() + "'", "others may write there; chmod go-w it");
}

void write_private_file(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".new";
  const Fd file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, private_file);
  while (!content.empty()) {
    const ssize_t count = ::write(file.get(), content.data(), content.size());
    if (count < 0) throw HostError(errno, "write '" + temporary + "'");
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw HostError(errno, "write '" + path + "'");
}

void remove_tree(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) throw HostError(error.value(), "remove '" + path.string() + "'");
}

std::vector<std::int64_t> numbers_in(const std::filesystem::path& folder) {
  std::vector<std::int64_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::int64_t number = 0;
    const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (wrong == std::errc() && end == name.data() + name.size()) found.push_back(number);
  }
  return found;
}

void copy_file(const std::string& from, const std::string& to) {
  std::error_code error;
  const std::string temporary = to + ".new";
  std::filesystem::copy_file(from, temporary, std::filesystem::copy_options::overwrite_existing, error);
  if (!error) std::filesystem::rename(temporary, to, error);
}

void rotate_file(const std::string& path, std::size_t most) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size <= most) return;
  const std::string end = end_of_file(path, most);
  if (::truncate(path.c_str(), 0) != 0) return;
  try {
    write_private_file(path + ".1", end);
  } catch (const HostError&) {  // a full disk has room again now
  }
}

std::string end_of_file(const std::string& path, std::size_t most) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return {};
  const off_t from = std::max<off_t>(0, ::lseek(file.get(), 0, SEEK_END) - static_cast<off_t>(most));
  std::string text(most, '\0');
  const ssize_t count = ::pread(file.get(), text.data(), text.size(), from);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

std::string last_line_of(const std::string& path) {
  constexpr std::size_t enough = 4096;
  std::string text = end_of_file(path, enough);
  while (text.ends_with('\n')) text.pop_back();
  const std::size_t before = text.rfind('\n');
  return before == std::string::npos ? text : text.substr(before + 1);
}

}  // namespace hum
