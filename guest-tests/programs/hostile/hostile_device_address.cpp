// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Data in registers instead of RAM: local APIC, I/O APIC, configuration space, the device itself, and the
// hole.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const std::uint64_t own = disk.device->config_address();
  for (const std::uint64_t address : std::initializer_list<std::uint64_t>{
           local_apic_base, io_apic_base, 0xe0000000ull, own, unbacked_address}) {
    const std::uint16_t head = disk.place(VirtioDisk::out, 0, data, sizeof(data));
    disk.queue.descriptors[head + 1].address = address;
    expect_broken(head);
    expect_recovery();
  }
  return 0;
}
