// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "devices/block/qcow2_header.h"

namespace hum {

// One cluster. False: from is not one that was compressed to the size of `to`.
bool decompress_cluster(Qcow2Compression type, std::span<const std::byte> from, std::span<std::byte> to);

// Empty where it would not become smaller.
std::vector<std::byte> compress_cluster(Qcow2Compression type, std::span<const std::byte> from);

}  // namespace hum
