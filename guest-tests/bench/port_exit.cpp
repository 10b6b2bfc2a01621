// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

// What a byte written to a port costs: the serial port's scratch register, or port=N.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint32_t writes = 1000;
  const auto port = static_cast<std::uint16_t>(parse_number(boot.option("port"), serial::scratch));
  measure("port_exit", writes, [port] {
    for (std::uint32_t i = 0; i < writes; ++i) out8(port, 0);
  });
  return 0;
}
