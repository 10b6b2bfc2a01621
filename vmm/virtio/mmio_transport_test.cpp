// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/mmio_transport.h"

#include <algorithm>

#include "vmm/base/testing.h"
#include "vmm/virtio/fake_guest.h"

namespace hum::virtio {
namespace {

using testing::FakeQueue;
using testing::mmio_base;
using testing::MmioGuest;

TEST_CASE("virtio-mmio: the fixed registers") {
  MmioGuest guest;
  CHECK(guest.get(0) == 0x74726976);
  CHECK(guest.get(4) == 2);
  CHECK(guest.get(8) == 4);
  CHECK(guest.get(0xc) != 0);
  CHECK(guest.get(0xb0) == ~0u);  // no shared memory region
  CHECK(guest.get(0xb4) == ~0u);
  CHECK(guest.get(0x18) == 0);
  CHECK(guest.machine.read<std::uint16_t>(mmio_base) == 0xffff);
  CHECK(guest.machine.read<std::uint32_t>(mmio_base + 2) == ~0u);
  guest.machine.write<std::uint8_t>(mmio_base + 0x70, 1);
  CHECK(guest.status() == 0);
}

TEST_CASE("virtio-mmio: the guest finds the window and the pin in its node") {
  MmioGuest guest;
  const acpi::Aml node = guest.mmio_transport().acpi_node(0x1a);
  const auto contains = [&](const acpi::Aml& part) {
    return std::search(node.begin(), node.end(), part.begin(), part.end()) != node.end();
  };
  CHECK(contains({'V', 'I', '1', 'A'}));
  CHECK(contains(acpi::memory32(mmio_base, 0x200)));
  CHECK(contains(acpi::interrupt_edge(5)));
}

TEST_CASE("virtio-mmio: a queue can be taken back before DRIVER_OK") {
  MmioGuest guest;
  guest.negotiate();
  const FakeQueue ring(guest.machine.memory, {0x10000}, 16);
  guest.set_queue(0, ring);
  CHECK(guest.enabled());
  guest.set(0x44, 0);
  CHECK_FALSE(guest.enabled());
  guest.set_status(15);
  CHECK(guest.device.queues.empty());
}

TEST_CASE("virtio-mmio: interrupt reasons stay until they are acknowledged") {
  MmioGuest guest;
  guest.start();
  guest.device.events->config_changed();
  CHECK(guest.get(0x60) == 2);
  guest.set(0x64, 1);
  CHECK(guest.get(0x60) == 2);
  guest.set(0x64, 2);
  CHECK(guest.get(0x60) == 0);
  guest.device.events->config_changed();
  guest.set_status(0);
  CHECK(guest.get(0x60) == 0);
}

TEST_CASE("virtio-mmio: kicks are bound for each queue's number") {
  MmioGuest guest;
  guest.start();
  REQUIRE(guest.machine.kicks.bound.size() == 2);
  CHECK(guest.machine.kicks.bound[1].first == KickAddress{mmio_base + 0x50, 4, 1});
  CHECK(guest.machine.kicks.bound[1].second == guest.device.queues[1].kick_fd);
}

}  // namespace
}  // namespace hum::virtio
