// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/pci_transport.h"

#include <unistd.h>

#include <tuple>

#include "vmm/base/testing.h"
#include "vmm/virtio/fake_guest.h"

namespace hum::virtio {
namespace {

using testing::guest_data;
using testing::PciGuest;

TEST_CASE("virtio-pci: identity and structures") {
  PciGuest guest;
  CHECK(guest.config<std::uint32_t>(0) == 0x10441af4);
  CHECK(guest.config<std::uint8_t>(8) == 1);
  for (std::size_t type = 1; type <= 4; ++type) CHECK(guest.offset[type] % 4096 == 0);
  CHECK(guest.length[1] == 0x40);
  CHECK(guest.multiplier == 4);
  CHECK(guest.msix != 0);
  CHECK(guest.config<std::uint16_t>(guest.msix + 2) == (0x8000 | 2));
  CHECK(guest.access != 0);
  CHECK(guest.get<std::uint16_t>(0x12) == 2);
  CHECK(guest.get<std::uint32_t>(0x3c) == 0);
  CHECK(guest.get<std::uint64_t>(0x3c) == ~0ull);
  CHECK(guest.machine.read<std::uint32_t>(guest.bar + 0x6000) == ~0u);
}

TEST_CASE("virtio-pci: vectors that do not exist read back as none") {
  PciGuest guest;
  CHECK(guest.get<std::uint16_t>(0x10) == 0xffff);
  guest.set<std::uint16_t>(0x10, 3);
  CHECK(guest.get<std::uint16_t>(0x10) == 0xffff);
  guest.set<std::uint16_t>(0x10, 2);
  CHECK(guest.get<std::uint16_t>(0x10) == 2);
  guest.select(1);
  guest.set<std::uint16_t>(0x1a, 1);
  CHECK(guest.get<std::uint16_t>(0x1a) == 1);
  guest.set<std::uint16_t>(0x1a, 0x8000);
  CHECK(guest.get<std::uint16_t>(0x1a) == 0xffff);
  guest.set<std::uint16_t>(0x1a, 1);
  guest.set_status(0);
  CHECK(guest.get<std::uint16_t>(0x10) == 0xffff);
  CHECK(guest.get<std::uint16_t>(0x1a) == 0xffff);
}

TEST_CASE("virtio-pci: without MSI-X the status tells and reading takes it away") {
  PciGuest guest(false);
  guest.start();
  CHECK(guest.device.queues[0].call_fd == -1);
  const std::uint64_t isr = guest.bar + guest.offset[3];
  CHECK(guest.machine.read<std::uint8_t>(isr) == 0);
  DescriptorChain chain;
  guest.rings[0].add({{guest_data, 64, true}});
  REQUIRE(guest.device.queues[0].queue->pop(chain));
  guest.device.queues[0].queue->push(chain.head, 0);
  guest.device.queues[0].queue->publish();
  guest.device.events->config_changed();
  CHECK(guest.machine.read<std::uint8_t>(isr) == 3);
  CHECK(guest.machine.read<std::uint8_t>(isr) == 0);
  CHECK_FALSE(guest.take_queue_interrupt(0));
}

TEST_CASE("virtio-pci: a masked queue's interrupt is pending and comes when it is unmasked") {
  PciGuest guest;
  guest.start();
  const std::uint64_t table = guest.bar + guest.config<std::uint32_t>(guest.msix + 4);
  const std::uint64_t pending = guest.bar + guest.config<std::uint32_t>(guest.msix + 8);
  guest.machine.write<std::uint32_t>(table + 12, 1);
  DescriptorChain chain;
  guest.rings[0].add({{guest_data, 64, true}});
  REQUIRE(guest.device.queues[0].queue->pop(chain));
  guest.device.queues[0].queue->push(chain.head, 0);
  guest.device.queues[0].queue->publish();
  CHECK_FALSE(guest.take_queue_interrupt(0));
  CHECK(guest.machine.read<std::uint64_t>(pending) == 1);
  guest.machine.write<std::uint32_t>(table + 12, 0);
  CHECK(guest.machine.read<std::uint64_t>(pending) == 0);
  CHECK(guest.take_queue_interrupt(0));
}

TEST_CASE("virtio-pci: a device is lent the eventfd of a queue's vector") {
  PciGuest guest;
  guest.start();
  for (const std::size_t queue : {0u, 1u}) {
    CHECK(guest.device.queues[queue].call_fd == guest.machine.msi.interrupts[queue]->fd());
    const std::uint64_t one = 1;
    REQUIRE(::write(guest.device.queues[queue].call_fd, &one, sizeof one) == sizeof one);
    CHECK(guest.take_queue_interrupt(static_cast<std::uint16_t>(queue)));
  }
  CHECK(guest.device.activations == 1);
}

TEST_CASE("virtio-pci: a running device that is interrupted in another way gets its queues anew") {
  PciGuest guest;
  guest.start();
  DescriptorChain chain;
  guest.rings[0].add({{guest_data, 64, true}});
  REQUIRE(guest.device.queues[0].queue->pop(chain));
  guest.device.queues[0].queue->push(chain.head, 0);
  guest.device.queues[0].queue->publish();
  guest.select(0);
  guest.set<std::uint16_t>(0x1a, 0);  // the vector it has
  CHECK(guest.device.activations == 1);

  guest.set<std::uint16_t>(0x1a, 1);
  CHECK(guest.device.activations == 2);
  CHECK(guest.device.queues[0].call_fd == guest.machine.msi.interrupts[1]->fd());
  CHECK(guest.device.queues[0].queue->next_available() == 1);
  guest.set<std::uint16_t>(0x1a, 77);  // none
  CHECK(guest.device.activations == 3);
  CHECK(guest.device.queues[0].call_fd == -1);
  CHECK(guest.device.queues[1].call_fd == guest.machine.msi.interrupts[1]->fd());

  guest.set_config<std::uint16_t>(guest.msix + 2, 0xc000);  // all are masked: the eventfds stay
  CHECK(guest.device.activations == 3);
  guest.set_config<std::uint16_t>(guest.msix + 2, 0);
  CHECK(guest.device.activations == 4);
  CHECK(guest.device.queues[1].call_fd == -1);
  guest.set_config<std::uint16_t>(guest.msix + 2, 0x8000);
  CHECK(guest.device.activations == 5);
  CHECK(guest.device.queues[1].call_fd == guest.machine.msi.interrupts[1]->fd());
  CHECK(guest.status() == 15);
  CHECK(guest.machine.kicks.mistakes == 0);
  CHECK(guest.machine.kicks.bound.size() == 2);

  guest.set_status(0);
  guest.set<std::uint16_t>(0x1a, 1);
  guest.set_config<std::uint16_t>(guest.msix + 2, 0);
  CHECK(guest.device.activations == 5);
}

TEST_CASE("virtio-pci: a device without use for the eventfds keeps its queues while vectors change") {
  PciGuest guest;
  guest.device.uses_call_fds = false;
  guest.start();
  guest.select(0);
  guest.set<std::uint16_t>(0x1a, 1);
  guest.set_config<std::uint16_t>(guest.msix + 2, 0);
  CHECK(guest.device.activations == 1);
}

TEST_CASE("virtio-pci: a device that waits for its reset gets no queues by another vector") {
  PciGuest guest;
  guest.start();
  guest.device.events->needs_reset("a test");
  guest.select(0);
  guest.set<std::uint16_t>(0x1a, 1);
  CHECK(guest.device.activations == 1);
  CHECK(guest.status() == (15 | 64));
  guest.start();
  CHECK(guest.device.activations == 2);
}

TEST_CASE("virtio-pci: kicks follow the BAR of a running device") {
  PciGuest guest;
  guest.start();
  REQUIRE(guest.machine.kicks.bound.size() == 2);
  CHECK(guest.machine.kicks.bound[1].first == KickAddress{guest.notify_address(1)});
  guest.set_config<std::uint16_t>(4, 4);
  CHECK(guest.machine.kicks.bound.empty());
  guest.bar = 0xc0800000;
  guest.set_config<std::uint32_t>(0x10, 0xc0800000);
  CHECK(guest.machine.kicks.bound.empty());
  guest.set_config<std::uint16_t>(4, 6);
  REQUIRE(guest.machine.kicks.bound.size() == 2);
  CHECK(guest.machine.kicks.bound[0].first == KickAddress{guest.notify_address(0)});
  CHECK(guest.status() == 15);
  guest.set_status(0);
  CHECK(guest.machine.kicks.mistakes == 0);
  CHECK(guest.machine.kicks.bound.empty());
}

TEST_CASE("virtio-pci: the BAR can be reached through configuration space") {
  PciGuest guest;
  const auto reach = [&](std::uint8_t bar, std::uint32_t offset, std::uint32_t bytes) {
    guest.set_config<std::uint8_t>(guest.access + 4, bar);
    guest.set_config<std::uint32_t>(guest.access + 8, offset);
    guest.set_config<std::uint32_t>(guest.access + 12, bytes);
  };
  const std::uint64_t data = guest.access + 16;
  reach(0, guest.offset[1] + 0x14, 1);
  guest.set_config<std::uint8_t>(data, 1);
  CHECK(guest.status() == 1);
  CHECK(guest.config<std::uint8_t>(data) == 1);
  reach(0, guest.offset[1] + 0x12, 2);
  CHECK(guest.config<std::uint16_t>(data) == 2);
  reach(0, guest.offset[1], 4);
  guest.set_config<std::uint32_t>(data, 1);
  CHECK(guest.get<std::uint32_t>(0) == 1);
  // Not aligned, outside, another BAR, another length: nothing happens.
  for (const auto& [bar, offset, bytes] : {std::tuple{0, 0x2u, 4u},
                                           {0, 0x8000u, 1u},
                                           {0, 0xfffffffcu, 4u},
                                           {1, 0u, 4u},
                                           {0, 0u, 8u},
                                           {0, 0u, 0u}}) {
    reach(static_cast<std::uint8_t>(bar), offset, bytes);
    guest.set_config<std::uint32_t>(data, 0);
    CHECK(guest.get<std::uint32_t>(0) == 1);
    CHECK(guest.config<std::uint32_t>(data) == 0);
  }
  reach(0, guest.offset[1], 4);
  guest.set_config<std::uint16_t>(data, 0);  // narrower than the length
  CHECK(guest.get<std::uint32_t>(0) == 1);
}

}  // namespace
}  // namespace hum::virtio
