// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

// The kernel's vhost devices (linux/vhost.h, which is no C++). Numbers are the host's own.
namespace hum::vhost_wire {

struct RingState {
  std::uint32_t ring = 0;
  std::uint32_t number = 0;
};
struct RingFile {
  std::uint32_t ring = 0;
  std::int32_t fd = -1;  // -1: none any more
};
struct RingAddress {
  std::uint32_t ring = 0;
  std::uint32_t flags = 0;
  std::uint64_t descriptors = 0;  // in this process, as those below
  std::uint64_t used = 0;
  std::uint64_t available = 0;
  std::uint64_t log = 0;
};
struct MemoryTable {  // followed by the regions
  std::uint32_t regions = 0;
  std::uint32_t padding = 0;
};
struct Region {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t user_address = 0;
  std::uint64_t padding = 0;
};
static_assert(sizeof(RingState) == 8 && sizeof(RingFile) == 8 && sizeof(RingAddress) == 40 &&
              sizeof(MemoryTable) == 8 && sizeof(Region) == 32);

inline constexpr unsigned long get_features = _IOR(0xaf, 0x00, std::uint64_t);
inline constexpr unsigned long set_features = _IOW(0xaf, 0x00, std::uint64_t);
inline constexpr unsigned long set_owner = _IO(0xaf, 0x01);
inline constexpr unsigned long set_memory = _IOW(0xaf, 0x03, MemoryTable);
inline constexpr unsigned long set_ring_size = _IOW(0xaf, 0x10, RingState);
inline constexpr unsigned long set_ring_address = _IOW(0xaf, 0x11, RingAddress);
inline constexpr unsigned long set_ring_base = _IOW(0xaf, 0x12, RingState);
inline constexpr unsigned long set_ring_kick = _IOW(0xaf, 0x20, RingFile);
inline constexpr unsigned long set_ring_call = _IOW(0xaf, 0x21, RingFile);
inline constexpr unsigned long set_ring_error = _IOW(0xaf, 0x22, RingFile);
inline constexpr unsigned long net_set_backend = _IOW(0xaf, 0x30, RingFile);

}  // namespace hum::vhost_wire
