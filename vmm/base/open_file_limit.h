// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace hum {

// How many descriptors this process may have open.
std::uint64_t open_file_limit();

// Lets it have as many as the host allows without more rights. Once, by a program's main: the limit is the
// process's, and its children have it from it.
void raise_open_file_limit();

}  // namespace hum
