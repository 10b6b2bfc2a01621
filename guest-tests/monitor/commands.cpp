// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/monitor/commands.h"

#include <initializer_list>

#include "guest-tests/monitor/clock.h"
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/pci.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {
namespace {

constinit bool has_clock = false;
constinit DateTime started{};

struct Command {
  Text name;
  Text help;
  void (*run)(Text argument);
};

void help(Text);

void print_register_text(std::uint32_t word) {
  for (unsigned i = 0; i < 4; ++i) {
    const char c = static_cast<char>(word >> 8 * i);
    if (c != '\0') put(c);
  }
}

void cpu(Text) {
  const CpuidResult vendor = cpuid(0);
  print("vendor    ");
  for (const std::uint32_t word : {vendor.ebx, vendor.edx, vendor.ecx}) print_register_text(word);
  if (cpuid(0x80000000).eax >= 0x80000004 && cpuid(0x80000002).eax != 0) {
    print("\nmodel     ");
    for (std::uint32_t leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
      const CpuidResult part = cpuid(leaf);
      for (const std::uint32_t word : {part.eax, part.ebx, part.ecx, part.edx}) print_register_text(word);
    }
  }
  const Processors processors = find_processors();
  print("\ncount     ", processors.count == 0 ? std::uint64_t{1} : processors.count, "\nfeatures ");
  struct Feature {
    std::uint32_t leaf;
    std::uint32_t CpuidResult::* word;
    unsigned bit;
    Text name;
  };
  constexpr Feature features[] = {
      {1, &CpuidResult::edx, 25, "sse"},
      {1, &CpuidResult::edx, 26, "sse2"},
      {1, &CpuidResult::ecx, 20, "sse4.2"},
      {1, &CpuidResult::ecx, 28, "avx"},
      {7, &CpuidResult::ebx, 5, "avx2"},
      {7, &CpuidResult::ebx, 16, "avx512f"},
      {1, &CpuidResult::ecx, 25, "aes"},
      {1, &CpuidResult::ecx, 30, "rdrand"},
      {1, &CpuidResult::ecx, 21, "x2apic"},
      {1, &CpuidResult::ecx, 24, "tsc-deadline"},
      {1, &CpuidResult::ecx, 31, "hypervisor"},
      {0x80000001, &CpuidResult::edx, 26, "1g-pages"},
      {0x80000007, &CpuidResult::edx, 8, "invariant-tsc"},
  };
  for (const Feature& feature : features) {
    if ((cpuid(feature.leaf).*feature.word >> feature.bit & 1) != 0) print(" ", feature.name);
  }
  print("\n");
}

void mem(Text) {
  constexpr Text names[] = {"unknown", "RAM", "reserved", "ACPI data", "ACPI NVS", "bad"};
  const BootInfo& boot = boot_info();
  std::uint64_t ram = 0;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    const MemoryRange& range = boot.memory[i];
    print(hex(range.base, 12), " to ", hex(range.base + range.size - 1, 12), "  ",
          names[range.type < 6 ? range.type : 0], "\n");
    if (range.type == MemoryRange::ram) ram += range.size;
  }
  print("RAM: ", ram >> 20, " MiB\n");
}

void pci(Text) {
  bool any = false;
  for_each_pci_function([&](const PciFunction& function) {
    const std::uint32_t id = function.read32(0);
    print("00:", bare_hex(function.device(), 2), ".", std::uint64_t{function.function()}, "  ",
          bare_hex(id & 0xffff, 4), ":", bare_hex(id >> 16, 4), "  class ",
          bare_hex(function.read32(8) >> 8, 6), "\n");
    return any = true;
  });
  if (!any) print("no PCI functions\n");
}

void print_bytes(const std::uint8_t* bytes, unsigned count) {
  for (unsigned i = 0; i < count; ++i) print(bare_hex(bytes[i], 2), i % 16 == 15 ? "\n" : " ");
}

void disk(Text) {
  constexpr std::uint32_t sector_size = 512;
  static constinit VirtioQueue queue{};
  static constinit std::uint8_t data[sector_size]{};
  VirtioDevice* device = find_virtio_device(boot_info(), virtio_block);
  if (device == nullptr || !device->begin()) {
    print("no disk\n");
    return;
  }
  device->set_queue(0, queue);
  device->finish();
  print("capacity  ", device->config<std::uint64_t>(0) / 2, " KiB\n");
  const struct {
    std::uint32_t type, reserved;
    std::uint64_t sector;
  } header{};
  volatile std::uint8_t status = 0xff;
  const VirtioBuffer buffers[] = {
      {&header, sizeof(header), false}, {data, sector_size, true}, {&status, 1, true}};
  std::uint32_t written = 0;
  if (device->request(0, queue, buffers, 3, written) && status == 0) {
    print_bytes(data, 64);
  } else {
    print("the first sector cannot be read\n");
  }
  device->reset();
}

void print_two(unsigned number) {
  print(number < 10 ? "0" : "", std::uint64_t{number});
}

void date(Text) {
  DateTime now{};
  if (!read_clock(now)) {
    print("this machine has no clock\n");
    return;
  }
  print(std::uint64_t{now.year}, "-");
  print_two(now.month);
  print("-");
  print_two(now.day);
  print(" ");
  print_two(now.hour);
  print(":");
  print_two(now.minute);
  print(":");
  print_two(now.second);
  print("\n");
}

void uptime(Text) {
  DateTime now{};
  if (has_clock && read_clock(now)) {
    print(seconds_of(now) - seconds_of(started), " s\n");
  } else {
    print("this machine has no clock\n");
  }
}

void echo(Text argument) {
  print(argument, "\n");
}

void leave(Text argument) {
  exit_machine(static_cast<std::uint32_t>(parse_number(argument)));
}

void switch_off(Text) {
  power_off();
  print("this machine has no power switch; leave with: exit\n");
}

void restart(Text) {
  reset_by_acpi();
  out8(0x64, 0xfe);
  print("this machine has no reset; leave with: exit\n");
}

constexpr Command commands[] = {
    {"help", "this list", help},
    {"cpu", "the processor and how many there are", cpu},
    {"mem", "the memory map", mem},
    {"pci", "the functions on the PCI bus", pci},
    {"disk", "the first virtio disk and how it begins", disk},
    {"date", "the time of the CMOS clock", date},
    {"uptime", "seconds since the start", uptime},
    {"echo", "TEXT: says it again", echo},
    {"poweroff", "switches the machine off", switch_off},
    {"reset", "restarts the machine", restart},
    {"exit", "N: ends the machine, hum returns N", leave},
};

void help(Text) {
  for (const Command& command : commands) {
    print(command.name);
    for (std::size_t i = command.name.size(); i < 10; ++i) put(' ');
    print(command.help, "\n");
  }
}

}  // namespace

void begin_uptime() {
  has_clock = read_clock(started);
}

void run_command(Text line) {
  while (line.starts_with(" ")) line = line.after(1);
  const Text name = line.before(' ');
  if (name.empty()) return;
  for (const Command& command : commands) {
    if (command.name == name) {
      command.run(line.after(name.size() + 1));
      return;
    }
  }
  print(name, ": no such command; help lists them\n");
}

}  // namespace guest
