// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

// To the running processor, fixed delivery.
constexpr std::uint8_t self_vector = 60;
constexpr std::uint32_t self_interrupt = 0x4000 | self_vector;
constinit volatile std::uint32_t self_interrupts = 0;

}  // namespace

// The disk's BAR on top of the I/O APIC and the local APIC: both go on, and interrupts arrive.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  VirtioPci* const pci = find_virtio_pci(virtio_block);
  const PciFunction function = pci->function();
  const std::uint64_t home = function.bar(0);
  set_interrupt_handler(self_vector, [] { self_interrupts = self_interrupts + 1; });
  enable_interrupts();
  for (const std::uint64_t address :
       std::initializer_list<std::uint64_t>{io_apic_base, local_apic_base, 0xe0000000}) {
    write<std::uint32_t>(io_apic_base, 1);
    const auto version = read<std::uint32_t>(io_apic_base + 0x10);
    function.set_bar(0, address);
    write<std::uint32_t>(io_apic_base, 1);
    check(1, read<std::uint32_t>(io_apic_base + 0x10) == version, "the I/O APIC answers");
    self_interrupts = 0;
    send_command(local_apic_id(), self_interrupt);
    check(2, wait_until([] { return self_interrupts > 0; }, 3), "the local APIC answers");
    function.set_bar(0, home);
    expect_recovery();
    const std::uint32_t before = pci->interrupts();
    check(3, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "a request");
    check(4, wait_until([&] { return pci->interrupts() > before; }, 3), "its interrupt");
  }
  return 0;
}
