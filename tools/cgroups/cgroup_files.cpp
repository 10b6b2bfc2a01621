// SPDX-License-Identifier: Apache-2.0
#include "tools/cgroups/cgroup_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

// A field of /proc/self/mounts: blanks and the like are octal there.
std::string unescaped(std::string_view text) {
  const auto octal = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      result += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace

bool has_word(std::string_view list, std::string_view word, char separator) {
  while (!list.empty()) {
    const std::string_view each = list.substr(0, list.find(separator));
    if (each == word) return true;
    list.remove_prefix(std::min(list.size(), each.size() + 1));
  }
  return false;
}

std::optional<std::string> cgroup_mount(std::string_view mounts, std::string_view controller) {
  std::istringstream lines{std::string(mounts)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string device;
    std::string folder;
    std::string type;
    std::string options;
    fields >> device >> folder >> type >> options;
    if (controller.empty() ? type == "cgroup2" : type == "cgroup" && has_word(options, controller, ','))
      return unescaped(folder);
  }
  return {};
}

std::string cgroup_text(const std::string& path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

void write_cgroup_file(const std::string& path, const std::string& value) {
  const Fd file = open_file(path, O_WRONLY | O_NOFOLLOW, 0, "see whether the controller has such a file");
  if (::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    throw HostError(errno, "write '" + value + "' to '" + path + "'",
                    "see what the kernel's description of cgroups accepts there");
}

}  // namespace hum
