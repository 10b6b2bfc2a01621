// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Data outside of RAM: behind its end, across it, across the end of the addresses, and where nothing will
// ever be. memory=N: MiB of RAM.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const std::uint64_t end = parse_number(boot.option("memory"), 128) << 20;
  for (const std::uint64_t address : std::initializer_list<std::uint64_t>{
           end, end - 256, end + (1ull << 40), 0ull - 256, 0ull - 512, 1ull << 63}) {
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, data, sizeof(data));
    disk.queue.descriptors[head + 1].address = address;
    expect_broken(head);
    expect_recovery();
  }
  return 0;
}
