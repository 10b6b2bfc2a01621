// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "devices/net/net_wire.h"

namespace hum {

// What the host gets of the header that a driver with these features put before a frame of so many bytes:
// what the frame needs and nothing else. Nothing if the header lies (virtio 1.2, 5.1.6.2).
std::optional<net_wire::Header> checked_header(const net_wire::Header& header, std::size_t frame_bytes,
                                               std::uint64_t driver_features);

// Whether a driver that has these of net_wire::guest_offloads can take a frame with this header from the host
// (5.1.6.4.1).
bool can_take(const net_wire::Header& header, std::uint64_t offloads);

}  // namespace hum
