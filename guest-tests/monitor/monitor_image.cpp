// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/monitor/monitor_image.h"

// The assembler finds the file through the include folder that the build gives it.
asm(R"(
    .section .rodata.monitor, "a"
    .balign 4096
hum_monitor_image_begin:
    .incbin "monitor.elf"
hum_monitor_image_end:
    .previous
)");

extern "C" {
extern const std::byte hum_monitor_image_begin[];
extern const std::byte hum_monitor_image_end[];
}

namespace hum {

std::span<const std::byte> monitor_image() {
  return {hum_monitor_image_begin, hum_monitor_image_end};
}

}  // namespace hum
