// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr std::uint64_t feature_config_wce = 1 << 11;
constexpr std::uint32_t writeback = 32;  // in configuration space
constinit VirtioDisk disk{};
constinit volatile char data[VirtioDisk::sector_size]{};

}  // namespace

// The driver sets the write cache in configuration space (virtio 1.2, 5.2.5.2) and reads back what it has
// set; a reset forgets it. Nothing else there can be set.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot, feature_config_wce), "disk");
  check(2, (disk.device->features() & feature_config_wce) != 0, "feature");
  check(3, disk.device->config<std::uint8_t>(writeback) == 1, "a write cache at first");
  auto* const field = reinterpret_cast<volatile std::uint8_t*>(disk.device->config_address() + writeback);
  for (const std::uint8_t value : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{0}}) {
    *field = value;
    check(4, *field == value, "what was set");
    check(5, disk.request(VirtioDisk::out, 0, data, sizeof(data)) == VirtioDisk::ok, "write");
  }
  const std::uint64_t capacity = disk.capacity();
  *reinterpret_cast<volatile std::uint32_t*>(disk.device->config_address()) = 1;
  check(6, disk.capacity() == capacity, "the capacity cannot be set");
  check(7, disk.start(feature_config_wce), "reset");
  check(8, disk.device->config<std::uint8_t>(writeback) == 1, "a write cache again");
  return 0;
}
