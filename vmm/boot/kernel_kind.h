// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "vmm/boot/boot_file.h"

namespace hum::boot {

// Throws the ConfigError for a file that is no kernel that could be started here, with what it seems to be
// from its first bytes.
[[noreturn]] void fail_unknown_kind(const BootFile& file, std::span<const std::byte> head);

}  // namespace hum::boot
