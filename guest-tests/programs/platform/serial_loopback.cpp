// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

// In loopback mode what is sent comes back instead of going out, and the modem's outputs are its inputs.
std::uint32_t guest_main(const BootInfo&) {
  struct Wire {
    std::uint8_t output;
    std::uint8_t input;
  };
  constexpr Wire wires[] = {{0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}};
  out8(serial::fifo_control, serial::fifos_on_empty);
  out8(serial::modem_control, serial::loopback);
  const bool quiet = (in8(serial::line_status) & 1) == 0;
  out8(serial::data, 0xa5);
  const bool ready = (in8(serial::line_status) & 1) != 0;
  const std::uint8_t back = in8(serial::data);
  const bool taken = (in8(serial::line_status) & 1) == 0;
  bool wired = true;
  for (const Wire& wire : wires) {
    out8(serial::modem_control, serial::loopback | wire.output);
    wired &= (in8(serial::modem_status) & 0xf0) == wire.input;
  }
  out8(serial::modem_control, 0);
  check(1, quiet && ready && taken, "data ready from the byte's arrival until it is read");
  check(2, back == 0xa5, "the byte comes back");
  check(3, wired, "modem inputs follow the outputs");
  return 0;
}
