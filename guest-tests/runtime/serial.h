// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

// The registers of the serial port for images that test it or need its interrupt (PC16550D, section 8).
namespace guest::serial {

inline constexpr std::uint16_t data = serial_port;
inline constexpr std::uint16_t interrupt_enable = serial_port + 1;
inline constexpr std::uint16_t interrupt_id = serial_port + 2;
inline constexpr std::uint16_t fifo_control = serial_port + 2;  // written
inline constexpr std::uint16_t line_control = serial_port + 3;
inline constexpr std::uint16_t modem_control = serial_port + 4;
inline constexpr std::uint16_t line_status = serial_port + 5;
inline constexpr std::uint16_t modem_status = serial_port + 6;
inline constexpr std::uint16_t scratch = serial_port + 7;

inline constexpr std::uint8_t loopback = 0x10;        // modem control
inline constexpr std::uint8_t out2 = 0x08;            // modem control: lets the interrupt through
inline constexpr std::uint8_t fifos_on_empty = 0x07;  // FIFO control

// One edge on the serial port's pin: its transmitter, always empty, gets its interrupt switched on, and then
// all is as before.
inline void raise_interrupt() {
  constexpr std::uint8_t transmitter = 0x02;
  out8(modem_control, out2);
  out8(interrupt_enable, transmitter);
  in8(interrupt_id);  // takes the condition away
  out8(interrupt_enable, 0);
}

}  // namespace guest::serial
