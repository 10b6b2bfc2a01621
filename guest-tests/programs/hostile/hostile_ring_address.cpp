// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// Queues that cannot be where the driver says: misaligned, outside of RAM, across its end, in registers.
// The device says so at DRIVER_OK. memory=N: MiB of RAM.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const std::uint64_t end = parse_number(boot.option("memory"), 128) << 20;
  const VirtioRings good = disk.queue.rings();
  const auto refused = [&](const VirtioRings& rings) {
    check(1, disk.device->begin(), "reset");
    disk.device->enable_queue(0, rings);
    disk.device->finish();
    disk.device->notify(0);
    expect_broken();
    expect_recovery();
  };
  refused({16, good.descriptors + 8, good.available, good.used});
  refused({16, good.descriptors, good.available + 1, good.used});
  refused({16, good.descriptors, good.available, good.used + 2});
  for (const std::uint64_t address :
       std::initializer_list<std::uint64_t>{end, end - 32, 0xe0000000ull, 0ull - 32}) {
    refused({16, address, good.available, good.used});
    refused({16, good.descriptors, address, good.used});
    refused({16, good.descriptors, good.available, address});
  }
  return 0;
}
