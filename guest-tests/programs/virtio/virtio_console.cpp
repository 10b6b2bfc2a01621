// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constexpr std::uint16_t control_receive = 2;
constexpr std::uint16_t control_transmit = 3;
constexpr std::uint16_t port_1_transmit = 5;
constexpr std::uint16_t device_ready = 0;
constexpr std::uint16_t port_add = 1;
constexpr std::uint16_t port_ready = 3;
constexpr std::uint16_t port_open = 6;
constexpr std::uint16_t port_name = 7;

struct Message {
  std::uint32_t port;
  std::uint16_t event;
  std::uint16_t value;
  char name[16];
};

constinit VirtioQueue receive{};
constinit VirtioQueue transmit{};
constinit VirtioQueue output{};
constinit Message message{};
constinit std::uint32_t size = 0;

}  // namespace

// A console introduces its ports (virtio 1.2, 5.3.6.2): DEVICE_READY brings PORT_ADD, PORT_READY brings what
// the port is and that it is open; then output passes.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_console);
  constexpr std::uint64_t multiport = 2;
  check(1, device != nullptr && device->begin(multiport) && device->features() & multiport, "console");
  device->set_queue(control_receive, receive);
  device->set_queue(control_transmit, transmit);
  device->set_queue(port_1_transmit, output);
  device->finish();
  const auto next = [&] {
    const VirtioBuffer buffer{&message, sizeof(message), true};
    __builtin_memset(&message, 0, sizeof(message));
    receive.add(&buffer, 1);
    device->notify(control_receive);
    check(2, wait_until([] { return receive.has_used(); }), "a message");
    size = receive.take().size;
  };
  const auto tell = [&](std::uint32_t port, std::uint16_t event) {
    const Message answer{port, event, 1, {}};
    const VirtioBuffer buffer{&answer, 8, false};
    std::uint32_t written = 0;
    check(3, device->request(control_transmit, transmit, &buffer, 1, written) && written == 0,
          "a message is taken");
  };
  tell(0xffffffff, device_ready);
  next();
  check(4, message.event == port_add && message.port == 1, "PORT_ADD");
  tell(1, port_ready);
  next();
  check(5, message.event == port_name && message.port == 1, "PORT_NAME");
  check(6, size == 12 && Text(message.name) == "test", "the name");
  next();
  check(7, message.event == port_open && message.value == 1, "PORT_OPEN");
  tell(1, port_open);
  const VirtioBuffer text{"out of the port\n", 16, false};
  std::uint32_t written = 0;
  check(8, device->request(port_1_transmit, output, &text, 1, written), "output");
  return 0;
}
