// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace hum {

// MiB of a size in an option, like "512M". Throws ConfigError: no size, nothing, or no whole number of MiB.
std::uint64_t mib_of(const std::string& key, const std::string& text);

}  // namespace hum
