// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

// The files of control groups (the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).
namespace hum {

// Where a hierarchy is mounted by the text of /proc/self/mounts: the one of version 1 with that controller,
// or (empty) that of version 2.
std::optional<std::string> cgroup_mount(std::string_view mounts, std::string_view controller);

// One word of a list.
bool has_word(std::string_view list, std::string_view word, char separator);

// The file's text without blanks at its end; empty where it cannot be read.
std::string cgroup_text(const std::string& path);

// Throws HostError.
void write_cgroup_file(const std::string& path, const std::string& value);

}  // namespace hum
