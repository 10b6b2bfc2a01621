// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio.h"
#include "guest-tests/runtime/virtio_random.h"

using namespace guest;

namespace {

constexpr std::uint16_t control_receive = 2;
constexpr std::uint16_t control_transmit = 3;
constinit VirtioQueue receive{};
constinit VirtioQueue transmit{};

// virtio 1.2, 5.3.6.2.
struct Control {
  std::uint32_t id;
  std::uint16_t event;
  std::uint16_t value;
};

}  // namespace

// Control messages to a console that make no sense: ports that do not exist, unknown events, too few bytes,
// no buffers for the answers. It still introduces its port afterwards.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_console);
  constexpr std::uint64_t multiport = 2;
  check(1, device != nullptr && device->begin(multiport), "console");
  device->set_queue(control_transmit, transmit);
  device->finish();
  Random random(1);
  const auto send = [&](Control message, std::uint32_t size) {
    const VirtioBuffer buffer{&message, size, false};
    std::uint32_t written = 0;
    check(2, device->request(control_transmit, transmit, &buffer, 1, written), "the message is taken");
  };
  for (unsigned i = 0; i < 200; ++i) {
    const std::uint64_t word = random.next();
    send({i % 2 == 0 ? static_cast<std::uint32_t>(word) : i % 8, static_cast<std::uint16_t>(word >> 32 & 7),
          static_cast<std::uint16_t>(i % 3)},
         i % 9);
  }
  check(3, (device->status() & virtio_needs_reset) == 0, "no broken ring");
  check(4, device->begin(multiport), "reset");
  device->set_queue(control_receive, receive);
  device->set_queue(control_transmit, transmit);
  device->finish();
  Control answer{};
  const VirtioBuffer buffer{&answer, sizeof(answer), true};
  receive.add(&buffer, 1);
  send({0, 0, 1}, sizeof(Control));
  check(5, wait_until([&] { return receive.has_used(); }) && answer.event == 1, "the port is introduced");
  return 0;
}
