// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace hum {

// The guest image that runs when no kernel is at hand: a 64-bit ELF file for PVH.
std::span<const std::byte> monitor_image();

}  // namespace hum
