// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device/device.h"

namespace hum {

// The test device that the x86 images of kvm-unit-tests know from QEMU's PC. All numbers are little-endian.
//
// - port 0xe0, 4 bytes: a latch; reads give what was written
// - port 0xe4, 4 bytes: a write of an address takes its page from KVM's page tables, content and all kept
// - port 0xe8, 8 bytes: a latch of bytes
// - port 0x2000 + n: a write of 0 lowers interrupt pin n, any other raises it
// - port 0x608, 4 bytes: the ACPI PM timer
// - port 0x8900: the text "Shutdown", a byte at a time, switches the machine off
// - memory at 0xff000000: 64 KiB of latches, every access an exit
extern const DeviceKind test_device_kind;

}  // namespace hum
