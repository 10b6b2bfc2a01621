// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/processors.h"

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/layout.h"

extern "C" {
extern const char trampoline_begin[];
extern const char trampoline_end[];
extern const char trampoline_gdt[];
extern const char boot_gdt_pointer[];

// For trampoline.S.
constinit std::uint32_t processors_begun = 0;
alignas(4096) constinit char processor_stacks[(guest::max_processors + 1) * 4096]{};
void processor_main();
}

namespace guest {
namespace {

constinit ProcessorMain main_function = nullptr;

}  // namespace

void start_processors(const Processors& processors, ProcessorMain main) {
  main_function = main;
  const auto size = static_cast<std::size_t>(trampoline_end - trampoline_begin);
  for (std::size_t i = 0; i < size; ++i) write(trampoline_page + i, trampoline_begin[i]);
  // The GDT's base; the pointer's limit word comes first.
  const auto gdt = static_cast<std::uint32_t>(read<std::uint64_t>(address_of(boot_gdt_pointer) + 2));
  write(trampoline_page + static_cast<std::size_t>(trampoline_gdt - trampoline_begin), gdt);

  const std::uint32_t own = local_apic_id();
  for (unsigned i = 0; i < processors.count; ++i) {
    if (processors.apic_ids[i] != own) send_command(processors.apic_ids[i], command::init);
  }
  for (unsigned i = 0; i < processors.count; ++i) {
    if (processors.apic_ids[i] != own)
      send_command(processors.apic_ids[i], command::startup | trampoline_page >> 12);
  }
}

}  // namespace guest

void processor_main() {
  guest::load_interrupt_table();
  guest::enable_local_apic();
  guest::main_function();
  guest::stop();
}
