// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace hum {

// Is told of each change of the host before it is made. A test ends the process there.
using ChangeHook = std::function<void(std::string_view change)>;

// Files that other users' programs read, which this user alone writes. All throw HostError.

// Nothing where there is none.
std::optional<std::string> read_text_file(const std::string& path);
// In one piece, readable by all; nothing happens where the content is there already.
void write_public_file(const std::string& path, std::string_view content, const ChangeHook& before_change);
// Where such a file is while it is written; a process that was killed may leave it.
std::string temporary_of(const std::string& path);
// Nothing happens where it is there. Refuses what is no folder of this user's.
void make_public_folder(const std::string& path, const ChangeHook& before_change);

}  // namespace hum
