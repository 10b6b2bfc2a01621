// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constexpr std::uint16_t control_receive = 2;
constexpr std::uint16_t control_transmit = 3;
constinit VirtioQueue receive{};
constinit VirtioQueue transmit{};

}  // namespace

// Each queue has a place of its own for notifications (virtio 1.2, 4.1.4.4): queue_notify_off times the
// multiplier. Only that one wakes the queue.
std::uint32_t guest_main(const BootInfo&) {
  VirtioPci* const device = find_virtio_pci(virtio_console);
  check(1, device != nullptr && device->begin(2), "console");
  const auto count = device->common<std::uint16_t>(virtio_common::num_queues);
  device->set_queue(control_receive, receive);
  device->set_queue(control_transmit, transmit);
  device->finish();
  for (std::uint16_t i = 1; i < count; ++i)
    check(2, device->notify_address(i) != device->notify_address(static_cast<std::uint16_t>(i - 1)),
          "places");
  const std::uint32_t message[2] = {0xffffffff, 1u << 16};
  const VirtioBuffer buffer{message, sizeof(message), false};
  // A device looks at its queues when it is made live, and again for a notification that was then on its way.
  std::uint32_t written = 0;
  check(5, device->request(control_transmit, transmit, &buffer, 1, written), "a first request");
  check(6, never([] { return transmit.has_used(); }), "one answer");
  transmit.add(&buffer, 1);
  for (std::uint16_t i = 0; i < count; ++i) {
    if (i != control_transmit) write<std::uint16_t>(device->notify_address(i), i);
  }
  check(3, never([] { return transmit.has_used(); }), "the places of other queues");
  write<std::uint16_t>(device->notify_address(control_transmit), control_transmit);
  check(4, wait_until([] { return transmit.has_used(); }, 3), "its own place");
  return 0;
}
