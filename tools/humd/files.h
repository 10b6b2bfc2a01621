// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// For this user alone; nothing is changed where it is there already. Throws HostError, also where it belongs
// to somebody else, others may write there, or it is no folder.
void make_private_folder(const std::filesystem::path& path);

// In one piece: whoever reads it finds the old content or the new. Throws HostError.
void write_private_file(const std::string& path, std::string_view content);

// Throws HostError. Nothing is done where there is none.
void remove_tree(const std::filesystem::path& path);

// The entries of a folder whose names are numbers, in no order; none where there is no such folder. Entries
// may come and go meanwhile.
std::vector<std::int64_t> numbers_in(const std::filesystem::path& folder);

// In one piece. Nothing happens where there is none or it cannot be done.
void copy_file(const std::string& from, const std::string& to);

// Where a file is longer than that, its content goes to a file of the same name with ".1" behind it, and it
// is begun anew: for one that another process adds to. What that adds in this moment may be lost.
void rotate_file(const std::string& path, std::size_t most);

// What stands at a file's end, up to that many bytes; empty: there is none.
std::string end_of_file(const std::string& path, std::size_t most);

// The last line of a text file that says something; empty: there is none.
std::string last_line_of(const std::string& path);

}  // namespace hum
