// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_image.h"

#include "vmm/boot/low_memory.h"
#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;

constexpr std::uint64_t mib = 1 << 20;

// One guest and one kernel file.
struct Bench {
  LoadedKernel load(const Bytes& image, BootProtocol protocol = BootProtocol::automatic) {
    request.kernel_path = folder.write("kernel", image);
    request.protocol = protocol;
    return guest.load(request);
  }
  ConfigError error(const Bytes& image, BootProtocol protocol = BootProtocol::automatic) {
    return config_error([&] { load(image, protocol); });
  }

  TemporaryFolder folder;
  Guest guest{16};
  BootRequest request;
};

TEST_CASE("segments are loaded at their physical addresses and the rest of each is cleared") {
  Bench bench;
  const Bytes dirt(0x10000, std::byte{0xee});
  bench.guest.memory.write_bytes({mib}, dirt);
  bench.guest.memory.write_bytes({2 * mib}, dirt);
  TestElf elf;
  elf.segments = {{mib, pattern(0x1001), 0x2003, 0xffffffff81000000}, {2 * mib, pattern(0x10, 5), 0, 0}};

  bench.load(elf.build());

  CHECK(bench.guest.bytes(mib, 0x1001) == pattern(0x1001));
  CHECK(bench.guest.bytes(mib + 0x1001, 0x1002) == Bytes(0x1002));
  CHECK(bench.guest.get(mib + 0x2003, 1) == 0xee);
  CHECK(bench.guest.bytes(2 * mib, 0x10) == pattern(0x10, 5));
  CHECK(bench.guest.get(2 * mib + 0x10, 1) == 0xee);
}

TEST_CASE("in fresh memory a BSS is not touched") {
  Bench bench;
  bench.request.fresh_memory = true;
  bench.guest.memory.write_bytes({mib + 0x1000}, Bytes(1, std::byte{0xee}));
  TestElf elf;
  elf.segments = {{mib, pattern(0x1000), 0x2000, 0}};
  bench.load(elf.build());
  CHECK(bench.guest.get(mib + 0x1000, 1) == 0xee);
}

TEST_CASE("a PVH note names the entry, with 4 or 8 bytes, in ELF64 and ELF32") {
  Bench bench;
  for (const bool is_64 : {true, false})
    for (const std::size_t size : {std::size_t{4}, std::size_t{8}}) {
      TestElf elf;
      elf.is_64 = is_64;
      elf.pvh_entry = mib + 0x40;
      elf.pvh_entry_size = size;
      const LoadedKernel kernel = bench.load(elf.build());
      CHECK(kernel.protocol == BootProtocol::pvh);
      CHECK(kernel.entry.mode == CpuEntry::Mode::protected32);
      CHECK(kernel.entry.rip == mib + 0x40);
    }
}

TEST_CASE(
    "Linux, known by its notes, is entered in long mode, by its PVH note when asked to or with modules") {
  Bench bench;
  TestElf elf;
  elf.pvh_entry = mib + 0x40;
  elf.linux_note = true;
  CHECK(bench.load(elf.build()).protocol == BootProtocol::linux64);
  CHECK(bench.load(elf.build(), BootProtocol::pvh).protocol == BootProtocol::pvh);
  bench.request.modules = {{bench.folder.write("module", pattern(16)), ""}};
  CHECK(bench.load(elf.build()).protocol == BootProtocol::pvh);
  bench.request.modules.clear();
  elf.is_64 = false;
  CHECK(bench.load(elf.build()).protocol == BootProtocol::pvh);
  elf.pvh_entry.reset();
  elf.is_64 = true;
  CHECK(bench.load(elf.build()).protocol == BootProtocol::linux64);
}

TEST_CASE("the PVH entry has to lie inside a segment") {
  Bench bench;
  TestElf elf;
  elf.pvh_entry = mib + 0xfff;
  CHECK(bench.load(elf.build()).entry.rip == mib + 0xfff);
  for (const std::uint64_t entry : {mib + 0x1000, mib - 1, std::uint64_t{1} << 32, UINT64_MAX}) {
    elf.pvh_entry = entry;
    CHECK(says(bench.error(elf.build()), "PVH entry point"));
  }
}

TEST_CASE("a note whose sizes are wrong is passed over") {
  Bench bench;
  TestElf elf;
  elf.pvh_entry = mib;
  const Bytes image = elf.build();
  const std::size_t notes = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
  for (const std::size_t field : {notes, notes + 4, notes + 20, notes + 24}) {
    Bytes wrong = image;
    put(wrong, field, 4, 0xffffffff);
    CHECK(bench.load(wrong).protocol == BootProtocol::linux64);
  }
}

TEST_CASE("without a PVH note an ELF64 image is entered in long mode, by a physical or a virtual entry") {
  Bench bench;
  TestElf elf;
  elf.segments = {{mib, pattern(0x1000), 0, 0xffffffff81000000}};
  for (const std::uint64_t entry : {mib + 0x10, std::uint64_t{0xffffffff81000010}}) {
    elf.entry = entry;
    const LoadedKernel kernel = bench.load(elf.build());
    CHECK(kernel.protocol == BootProtocol::linux64);
    CHECK(kernel.entry.mode == CpuEntry::Mode::long64);
    CHECK(kernel.entry.rip == mib + 0x10);
    CHECK(kernel.entry.rsi == low_memory::zero_page.value);
  }
  elf.entry = mib + 0x1000;
  CHECK(says(bench.error(elf.build()), "entry point"));
}

TEST_CASE("the protocol can be chosen, and must be one the image has") {
  Bench bench;
  TestElf elf;
  elf.pvh_entry = mib;
  CHECK(bench.load(elf.build(), BootProtocol::linux64).protocol == BootProtocol::linux64);
  CHECK(bench.load(elf.build(), BootProtocol::pvh).protocol == BootProtocol::pvh);
  CHECK(says(bench.error(elf.build(), BootProtocol::multiboot), "multiboot header"));
  CHECK(says(bench.error(elf.build(), BootProtocol::bzimage), "not a bzImage"));
  elf.pvh_entry.reset();
  CHECK(says(bench.error(elf.build(), BootProtocol::pvh), "PVH note"));
  elf.is_64 = false;
  CHECK(says(bench.error(elf.build()), "32-bit kernel"));
  CHECK(says(bench.error(elf.build(), BootProtocol::linux64), "32-bit kernel"));
}

TEST_CASE("a segment may end with the RAM but not behind it, and the error says how much would do") {
  Bench bench;
  TestElf elf;
  elf.segments.push_back({15 * mib, pattern(0x100), mib, 0});
  CHECK_NOTHROW(bench.load(elf.build()));
  elf.segments.back().memory_size = mib + 1;
  const ConfigError error = bench.error(elf.build());
  CHECK(error.key() == "memory");
  CHECK(error.value() == "16M");
  CHECK(says(error, "at least 17M"));
  Guest larger(17);
  CHECK_NOTHROW(larger.load(bench.request));
}

TEST_CASE("a segment lies neither on the boot structures nor on reserved memory nor on another") {
  Bench bench;
  TestElf elf;
  const auto with = [&](std::uint64_t address, std::size_t size) {
    elf.segments = {{mib, pattern(0x1000), 0, 0}, {address, pattern(size), 0, 0}};
    return elf.build();
  };
  CHECK_NOTHROW(bench.load(with(low_memory::end.value, 16)));
  CHECK(says(bench.error(with(low_memory::end.value - 1, 16)), "not all free RAM"));
  CHECK_NOTHROW(bench.load(with(0x9fc00 - 16, 16)));
  CHECK(bench.error(with(0x9fc00 - 16, 17)).key() == "kernel");
  CHECK(bench.error(with(0xe0000, 16)).key() == "kernel");
  CHECK(bench.error(with(0xf0000000, 16)).key() == "kernel");
  CHECK_NOTHROW(bench.load(with(mib + 0x1000, 16)));
  CHECK(says(bench.error(with(mib + 0xfff, 16)), "overlap"));
}

TEST_CASE("sizes and offsets of a segment are checked, also where they wrap") {
  Bench bench;
  const Bytes image = TestElf{}.build();
  const std::size_t program = sizeof(Elf64_Ehdr);
  const auto with = [&](std::size_t field, std::uint64_t value) {
    Bytes changed = image;
    put(changed, program + field, 8, value);
    return changed;
  };
  const std::uint64_t offset = image.size() - 0x1000;
  CHECK_NOTHROW(bench.load(with(offsetof(Elf64_Phdr, p_offset), offset - 1)));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_offset), offset + 1)), "truncated"));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_offset), UINT64_MAX)), "truncated"));
  CHECK_NOTHROW(bench.load(with(offsetof(Elf64_Phdr, p_filesz), 0xfff)));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_filesz), 0x1001)), "more bytes in the file"));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_memsz), 0xfff)), "more bytes in the file"));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_memsz), UINT64_MAX)), "wraps"));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_paddr), UINT64_MAX)), "wraps"));
  CHECK(says(bench.error(with(offsetof(Elf64_Phdr, p_paddr), UINT64_MAX - 0x1000)), "not all free RAM"));
}

TEST_CASE("what is no x86 kernel is named") {
  Bench bench;
  const Bytes image = TestElf{}.build();
  const auto with = [&](std::size_t field, std::size_t size, std::uint64_t value) {
    Bytes changed = image;
    put(changed, field, size, value);
    return changed;
  };
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_machine), 2, EM_AARCH64)), "64-bit ARM"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_machine), 2, 9999)), "9999"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_type), 2, ET_REL)), "kernel module"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_type), 2, ET_CORE)), "not an executable"));
  CHECK(says(bench.error(with(EI_DATA, 1, ELFDATA2MSB)), "big-endian"));
  CHECK(says(bench.error(with(EI_CLASS, 1, 3)), "neither 32-bit nor 64-bit"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_phnum), 2, 0)), "no program headers"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_phnum), 2, 257)), "program headers"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_phentsize), 2, 55)), "program headers"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_phoff), 8, image.size() - 55)), "truncated"));
  CHECK(says(bench.error(with(offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX)), "truncated"));
  CHECK(says(bench.error(with(sizeof(Elf64_Ehdr), 4, PT_INTERP)), "program for this host"));
  CHECK(says(bench.error(with(sizeof(Elf64_Ehdr), 4, PT_NULL)), "nothing to load"));
}

TEST_CASE("an ELF image cut anywhere is an error of the configuration") {
  Bench bench;
  for (const bool is_64 : {true, false}) {
    TestElf elf;
    elf.is_64 = is_64;
    elf.pvh_entry = mib;
    elf.segments = {{mib, pattern(16), 0, 0}};
    const Bytes image = elf.build();
    CHECK_NOTHROW(bench.load(image));
    for (std::size_t size = 0; size < image.size(); ++size)
      CHECK(bench.error({image.begin(), image.begin() + static_cast<std::ptrdiff_t>(size)}).key() ==
            "kernel");
  }
}

TEST_CASE("no byte of the headers can do worse than a configuration error") {
  Bench bench;
  TestElf elf;
  elf.pvh_entry = mib;
  elf.segments = {{mib, pattern(16), 64, 0}};
  const Bytes image = elf.build();
  std::size_t refused = 0;
  for (std::size_t at = 0; at < image.size() - 16; ++at)
    for (const unsigned value : {0x00u, 0x01u, 0x7fu, 0x80u, 0xffu}) {
      Bytes changed = image;
      changed[at] = static_cast<std::byte>(value);
      try {
        bench.load(changed);
      } catch (const ConfigError&) {
        ++refused;
      }
    }
  CHECK(refused > 0);
}

}  // namespace
}  // namespace hum::boot
