// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace hum {

// A read of a device's configuration space, a wire structure given as its bytes: what lies past its end reads
// as zero (virtio 1.2, 2.5).
inline void read_config_space(std::span<const std::byte> space, std::uint32_t offset,
                              std::span<std::byte> data) {
  std::memset(data.data(), 0, data.size());
  if (offset >= space.size()) return;
  const std::span<const std::byte> rest = space.subspan(offset);
  std::memcpy(data.data(), rest.data(), rest.size() < data.size() ? rest.size() : data.size());
}

}  // namespace hum
