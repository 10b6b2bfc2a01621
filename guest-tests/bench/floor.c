// SPDX-License-Identifier: Apache-2.0
// The floor: the fewest calls on /dev/kvm that boot a PVH image with one processor, and the least work for an
// exit. No devices but a serial port that swallows its output and knows the transmitter's interrupt, the I/O
// APIC which that takes, a clock that does not run and the exit port 0xf4, whose value is the exit code. Ends
// with 125 where the host fails and 126 where the guest ends in another way.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { exit_host = 125, exit_guest = 126 };
enum { start_info_at = 0x6000, memory_map_at = 0x6100, modules_at = 0x6200, command_line_at = 0x7000 };
enum { exit_port = 0xf4, serial_port = 0x3f8, clock_port = 0x71 };
enum {
  io_apic_at = 0xfec00000,
  io_apic_data = 0x10,
  io_apic_pins = 24,
  pin_masked = 1 << 16,
  serial_pin = 4
};

struct options {
  const char* image;
  const char* command_line;
  const char* initrd;
  const char* irqchip;
  bool console;
  uint64_t memory;
  uint64_t ioeventfd;  // where a word written tells a descriptor that nobody reads; 0: nowhere
};

struct machine {
  const struct options* options;
  int vm, vcpu;
  struct kvm_run* run;
  bool kernel_irqchip;
  // The I/O APIC where it is not in the kernel (82093AA, 3.1): edges only.
  uint32_t io_apic_index, io_apic[0x10 + 2 * io_apic_pins];
};

// Xen's arch-x86/hvm/start_info.h, version 1.
struct start_info {
  uint32_t magic, version, flags, module_count;
  uint64_t modules, command_line, rsdp, memory_map;
  uint32_t memory_map_entries, reserved;
};
struct module_entry {
  uint64_t address, size, command_line, reserved;
};
struct memory_entry {
  uint64_t base, size;
  uint32_t type, reserved;
};

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("bench_floor: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(code);
}

static int call(int fd, unsigned long request, void* argument, const char* name) {
  int result = ioctl(fd, request, argument);
  if (result < 0) fail(exit_host, "%s: %s", name, strerror(errno));
  return result;
}

static void read_at(int fd, void* to, uint64_t size, uint64_t offset, const char* path) {
  uint8_t* next = to;
  while (size > 0) {
    ssize_t done = pread(fd, next, size, (off_t)offset);
    if (done <= 0) fail(exit_host, "%s: %s", path, done == 0 ? "too short" : strerror(errno));
    next += done;
    offset += (uint64_t)done;
    size -= (uint64_t)done;
  }
}

// The address of size bytes of guest memory, all of them inside it.
static void* guest_at(uint8_t* memory, uint64_t memory_size, uint64_t address, uint64_t size) {
  if (address > memory_size || size > memory_size - address)
    fail(exit_host, "0x%llx does not fit into memory", (unsigned long long)address);
  return memory + address;
}

// The 32-bit entry point in the ELF notes of one segment, 0 if it has none.
static uint32_t find_pvh_entry(int fd, const Elf64_Phdr* segment, const char* path) {
  uint8_t notes[4096];
  uint64_t size = segment->p_filesz < sizeof(notes) ? segment->p_filesz : sizeof(notes);
  read_at(fd, notes, size, segment->p_offset, path);
  for (uint64_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
    Elf64_Nhdr note;
    memcpy(&note, notes + at, sizeof(note));
    uint64_t name = at + sizeof(note);
    uint64_t content = name + ((note.n_namesz + 3) & ~3ull);
    if (note.n_type == 18 && content + 4 <= size && memcmp(notes + name, "Xen", 4) == 0) {
      uint32_t entry;
      memcpy(&entry, notes + content, sizeof(entry));
      return entry;
    }
    at = content + ((note.n_descsz + 3) & ~3ull);
  }
  return 0;
}

static uint32_t load_image(const struct options* options, uint8_t* memory) {
  int fd = open(options->image, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(exit_host, "%s: %s", options->image, strerror(errno));
  Elf64_Ehdr header;
  read_at(fd, &header, sizeof(header), 0, options->image);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
    fail(exit_host, "%s is no 64-bit ELF file", options->image);
  uint32_t entry = 0;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    read_at(fd, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment), options->image);
    if (segment.p_type == PT_LOAD && segment.p_filesz > 0) {
      void* to = guest_at(memory, options->memory, segment.p_paddr, segment.p_memsz);
      read_at(fd, to, segment.p_filesz, segment.p_offset, options->image);
    } else if (segment.p_type == PT_NOTE && entry == 0) {
      entry = find_pvh_entry(fd, &segment, options->image);
    }
  }
  close(fd);
  if (entry == 0) fail(exit_host, "%s has no PVH entry note", options->image);
  return entry;
}

// At the end of memory. Returns the number of modules.
static uint32_t load_initrd(const struct options* options, uint8_t* memory) {
  if (options->initrd == NULL) return 0;
  int fd = open(options->initrd, O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) < 0) fail(exit_host, "%s: %s", options->initrd, strerror(errno));
  uint64_t size = (uint64_t)status.st_size;
  uint64_t address = (options->memory - size) & ~0xfffull;
  read_at(fd, guest_at(memory, options->memory, address, size), size, 0, options->initrd);
  close(fd);
  *(struct module_entry*)(memory + modules_at) = (struct module_entry){.address = address, .size = size};
  return 1;
}

static void write_start_info(const struct options* options, uint8_t* memory) {
  struct memory_entry* map = (struct memory_entry*)(memory + memory_map_at);
  map[0] = (struct memory_entry){.base = 0, .size = 0x9fc00, .type = 1};
  map[1] = (struct memory_entry){.base = 0x100000, .size = options->memory - 0x100000, .type = 1};
  snprintf((char*)memory + command_line_at, 4096, "%s", options->command_line);
  *(struct start_info*)(memory + start_info_at) = (struct start_info){
      .magic = 0x336ec578,
      .version = 1,
      .module_count = load_initrd(options, memory),
      .modules = modules_at,
      .command_line = command_line_at,
      .memory_map = memory_map_at,
      .memory_map_entries = 2,
  };
}

static void set_cpuid(int kvm, int vcpu, bool local_apic) {
  enum { most = 256 };
  struct kvm_cpuid2* cpuid = calloc(1, sizeof(*cpuid) + most * sizeof(cpuid->entries[0]));
  if (cpuid == NULL) fail(exit_host, "no memory");
  cpuid->nent = most;
  call(kvm, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
  for (unsigned i = 0; i < cpuid->nent; ++i) {
    struct kvm_cpuid_entry2* entry = &cpuid->entries[i];
    if (entry->function == 1) {
      entry->ebx = (entry->ebx & 0x0000ffff) | 1 << 16;
      entry->ecx |= 1u << 31;
      if (local_apic) entry->ecx |= 1u << 24;
    } else if (entry->function == 0xb) {
      entry->edx = 0;
    }
  }
  call(vcpu, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
  free(cpuid);
}

// Flat 32-bit protected mode, paging off (the PVH entry state).
static void set_registers(int vcpu, uint32_t entry) {
  struct kvm_sregs system;
  call(vcpu, KVM_GET_SREGS, &system, "KVM_GET_SREGS");
  struct kvm_segment data = {
      .limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
  system.ds = system.es = system.fs = system.gs = system.ss = data;
  system.cs = data;
  system.cs.selector = 0x08;
  system.cs.type = 11;
  system.tr = (struct kvm_segment){.limit = 0x67, .selector = 0x18, .type = 11, .present = 1};
  system.cr0 = 0x11;
  system.cr4 = 0;
  system.efer = 0;
  call(vcpu, KVM_SET_SREGS, &system, "KVM_SET_SREGS");
  struct kvm_regs registers = {.rip = entry, .rbx = start_info_at, .rflags = 2};
  call(vcpu, KVM_SET_REGS, &registers, "KVM_SET_REGS");
}

// One edge.
static void raise_serial_pin(struct machine* machine) {
  if (machine->kernel_irqchip) {
    for (uint32_t level = 2; level-- > 0;) {
      struct kvm_irq_level line = {.irq = serial_pin, .level = level};
      call(machine->vm, KVM_IRQ_LINE, &line, "KVM_IRQ_LINE");
    }
    return;
  }
  const uint32_t* entry = &machine->io_apic[0x10 + 2 * serial_pin];
  if ((entry[0] & pin_masked) != 0) return;
  struct kvm_msi message = {.address_lo = 0xfee00000 | (entry[1] >> 24) << 12, .data = entry[0] & 0xff};
  call(machine->vm, KVM_SIGNAL_MSI, &message, "KVM_SIGNAL_MSI");
}

static void serve_port(struct machine* machine) {
  struct kvm_run* run = machine->run;
  uint8_t* data = (uint8_t*)run + run->io.data_offset;
  uint16_t port = run->io.port;
  if (run->io.direction == KVM_EXIT_IO_OUT) {
    if (port == exit_port) _exit(data[0]);
    if (port == serial_port && machine->options->console && write(STDOUT_FILENO, data, run->io.count) < 0)
      _exit(exit_host);
    if (port == serial_port + 1 && (data[0] & 2) != 0) raise_serial_pin(machine);
    return;
  }
  // Elsewhere nothing answers.
  uint8_t answer = 0xff;
  if (port == serial_port + 5) answer = 0x60;  // transmitter empty
  if (port == serial_port + 2) answer = 0x01;  // no interrupt pending
  if (port == clock_port) answer = 0x00;       // no update in progress, which Linux would wait for
  memset(data, answer, (size_t)run->io.size * run->io.count);
}

static void serve_memory(struct machine* machine) {
  uint8_t* data = machine->run->mmio.data;
  uint32_t* word = NULL;
  if (machine->run->mmio.phys_addr == io_apic_at) word = &machine->io_apic_index;
  if (machine->run->mmio.phys_addr == io_apic_at + io_apic_data &&
      machine->io_apic_index < sizeof(machine->io_apic) / sizeof(machine->io_apic[0]))
    word = &machine->io_apic[machine->io_apic_index];
  if (!machine->run->mmio.is_write) memset(data, 0xff, sizeof(machine->run->mmio.data));
  if (word == NULL || machine->run->mmio.len != sizeof(*word)) return;
  if (machine->run->mmio.is_write)
    memcpy(word, data, sizeof(*word));
  else
    memcpy(data, word, sizeof(*word));
}

static void run_guest(struct machine* machine) {
  while (true) {
    if (ioctl(machine->vcpu, KVM_RUN, 0) < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      fail(exit_host, "KVM_RUN: %s", strerror(errno));
    }
    switch (machine->run->exit_reason) {
      case KVM_EXIT_IO:
        serve_port(machine);
        break;
      case KVM_EXIT_MMIO:
        serve_memory(machine);
        break;
      case KVM_EXIT_IOAPIC_EOI:
        break;
      default:
        fail(exit_guest, "the guest ended with KVM exit reason %u", machine->run->exit_reason);
    }
  }
}

static struct options parse(int count, char** words) {
  struct options options = {.command_line = "", .irqchip = "split", .memory = 128 << 20};
  for (int i = 1; i < count; ++i) {
    const char* value = i + 1 < count ? words[i + 1] : NULL;
    if (strcmp(words[i], "--console") == 0) {
      options.console = true;
      continue;
    }
    if (words[i][0] != '-') {
      options.image = words[i];
      continue;
    }
    ++i;
    if (value == NULL) {
      fail(exit_host, "%s needs a value", words[i - 1]);
    } else if (strcmp(words[i - 1], "--irqchip") == 0) {
      options.irqchip = value;
    } else if (strcmp(words[i - 1], "--memory") == 0) {
      options.memory = strtoull(value, NULL, 10) << 20;
    } else if (strcmp(words[i - 1], "--cmdline") == 0) {
      options.command_line = value;
    } else if (strcmp(words[i - 1], "--initrd") == 0) {
      options.initrd = value;
    } else if (strcmp(words[i - 1], "--ioeventfd") == 0) {
      options.ioeventfd = strtoull(value, NULL, 0);
    } else {
      fail(exit_host, "unknown option %s", words[i - 1]);
    }
  }
  if (options.image == NULL)
    fail(exit_host,
         "usage: bench_floor [--irqchip split|kernel|none] [--memory MiB] [--console] image.elf "
         "[--cmdline TEXT] [--initrd FILE] [--ioeventfd ADDRESS]");
  if (options.memory < 2 << 20 || options.memory > 3ull << 30) fail(exit_host, "memory: 2 to 3072 MiB");
  return options;
}

int main(int count, char** words) {
  struct options options = parse(count, words);
  bool split = strcmp(options.irqchip, "split") == 0;
  bool kernel = strcmp(options.irqchip, "kernel") == 0;
  if (!split && !kernel && strcmp(options.irqchip, "none") != 0)
    fail(exit_host, "irqchip %s: split, kernel or none", options.irqchip);

  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) fail(exit_host, "/dev/kvm: %s", strerror(errno));
  int vm = call(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");

  uint8_t* memory =
      mmap(NULL, options.memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(exit_host, "guest memory: %s", strerror(errno));
  struct kvm_userspace_memory_region region = {.memory_size = options.memory,
                                               .userspace_addr = (uintptr_t)memory};
  call(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");

  if (split) {
    struct kvm_enable_cap capability = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    call(vm, KVM_ENABLE_CAP, &capability, "KVM_CAP_SPLIT_IRQCHIP");
  } else if (kernel) {
    call(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
  }

  struct machine machine = {.options = &options, .vm = vm, .kernel_irqchip = kernel};
  for (unsigned pin = 0; pin < io_apic_pins; ++pin) machine.io_apic[0x10 + 2 * pin] = pin_masked;
  machine.vcpu = call(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
  int run_size = call(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
  machine.run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
  if (machine.run == MAP_FAILED) fail(exit_host, "vCPU mapping: %s", strerror(errno));
  set_cpuid(kvm, machine.vcpu, split || kernel);
  uint32_t entry = load_image(&options, memory);
  write_start_info(&options, memory);
  set_registers(machine.vcpu, entry);
  if (options.ioeventfd != 0) {
    struct kvm_ioeventfd event = {.addr = options.ioeventfd, .len = 4, .fd = eventfd(0, EFD_NONBLOCK)};
    call(vm, KVM_IOEVENTFD, &event, "KVM_IOEVENTFD");
  }
  run_guest(&machine);
}
