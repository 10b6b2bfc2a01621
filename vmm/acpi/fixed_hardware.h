// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// The fixed hardware that the FADT names: a block of four 8-bit ports, which the power device answers, and
// the PM timer. The table builder tells the guest about them.
namespace hum::acpi {

inline constexpr std::uint16_t power_block_port = 0x600;
inline constexpr std::uint8_t power_block_size = 4;

inline constexpr std::uint16_t sleep_control_port = power_block_port;     // ACPI 6.5, 4.8.3.7
inline constexpr std::uint16_t sleep_status_port = power_block_port + 1;  // the same section
inline constexpr std::uint16_t reset_port = power_block_port + 2;         // 4.8.3.6
inline constexpr std::uint16_t event_port = power_block_port + 3;         // read by the GED's _EVT only

inline constexpr std::uint8_t sleep_enable = 0x20;
inline constexpr unsigned sleep_type_shift = 2;
inline constexpr std::uint8_t sleep_type_mask = 0x1c;
inline constexpr std::uint8_t sleep_type_s5 = 5;  // in \_S5
inline constexpr std::uint8_t reset_value = 0x01;

inline constexpr std::uint16_t pm_timer_port = 0x608;  // 4.8.3.3: a 32-bit counter that can only be read
inline constexpr std::uint8_t pm_timer_size = 4;
inline constexpr std::uint64_t pm_timer_hertz = 3'579'545;

// Which of the hardware that the FADT tells of is there. Linux fails to calibrate with a PM timer that is
// named and not there.
struct FixedHardware {
  bool power_block = false;
  bool pm_timer = false;
  bool cmos_clock = false;
  bool i8042 = false;  // a real keyboard controller, not one that only resets
};

}  // namespace hum::acpi
