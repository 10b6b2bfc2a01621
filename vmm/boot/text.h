// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

// Numbers in the boot layer's error messages.
namespace hum::boot {

// 4096 -> "0x1000".
std::string hexadecimal(std::uint64_t value);

// The guest's memory size that is needed to have `bytes`, in whole MiB: "65M".
std::string format_memory(std::uint64_t bytes);

}  // namespace hum::boot
