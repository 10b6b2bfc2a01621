// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_victim.h"

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

namespace guest {
namespace {

constinit VirtioDisk disk{};
constinit VirtioDevice* bystander = nullptr;
constinit VirtioQueue bystander_queue{};
constinit std::uint64_t features = 0;
constinit volatile char data[VirtioDisk::sector_size]{};

}  // namespace

void open_bystander(const BootInfo& boot) {
  enable_local_apic();
  bystander = find_virtio_device(boot, virtio_rng);
  check(103, bystander != nullptr && bystander->begin(), "entropy device");
  bystander->set_queue(0, bystander_queue);
  bystander->finish();
}

void expect_bystander() {
  std::uint8_t bytes[8];
  const VirtioBuffer buffer{bytes, sizeof(bytes), true};
  std::uint32_t written = 0;
  check(106, bystander->request(0, bystander_queue, &buffer, 1, written) && written == sizeof(bytes),
        "the other device works");
}

VirtioDisk& open_victim(const BootInfo& boot, std::uint64_t wanted_features) {
  features = wanted_features;
  enable_local_apic();
  check(101, disk.open(boot, features), "disk");
  check(102, (wanted_features & ~disk.device->features()) == 0, "features");
  open_bystander(boot);
  return disk;
}

void expect_broken(std::uint16_t head) {
  disk.queue.offer(head);
  disk.device->notify(0);
  expect_broken();
}

void expect_broken() {
  check(104, wait_until([] { return (disk.device->status() & virtio_needs_reset) != 0; }, 3),
        "the device needs a reset");
  check(105, !disk.queue.has_used(), "the broken request is not answered");
}

void expect_recovery() {
  expect_bystander();
  check(107, disk.start(features), "reset");
  check(108, disk.request(VirtioDisk::in, 0, data, sizeof(data)) == VirtioDisk::ok, "the disk works again");
  check(109, is_disk_pattern(data, sizeof(data)), "content of the disk");
}

}  // namespace guest
