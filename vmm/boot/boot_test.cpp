// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot.h"

#include <sys/stat.h>
#include <unistd.h>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/low_memory.h"
#include "vmm/boot/testing.h"

namespace hum {
namespace {

using namespace boot;
using namespace boot::test;

constexpr std::uint64_t mib = 1 << 20;

struct Bench {
  Bench() { request.kernel_path = folder.write("kernel", kernel(true)); }

  static Bytes kernel(bool with_pvh) {
    TestElf elf;
    if (with_pvh) elf.pvh_entry = mib;
    return elf.build();
  }
  LoadedKernel load() const { return guest.load(request); }
  ConfigError error() const {
    return config_error([&] { load(); });
  }
  ConfigError error_for(const Bytes& content) {
    request.kernel_path = folder.write("other", content);
    return error();
  }

  TemporaryFolder folder;
  Guest guest{16};
  BootRequest request;
};

TEST_CASE("a PVH kernel finds command line, memory map, initrd and RSDP by its start info") {
  Bench bench;
  bench.request.command_line = "console=ttyS0 quiet";
  bench.request.initrd_path = bench.folder.write("initrd", pattern(5000));
  bench.request.modules = {{bench.folder.write("module", pattern(3)), "text"}};
  bench.request.acpi_rsdp = 0xe0000;
  const LoadedKernel kernel = bench.load();
  const Guest& guest = bench.guest;
  const std::uint64_t info = kernel.entry.rbx;
  CHECK((info >= low_memory::start_info.value && info + 56 <= low_memory::start_info_end.value));
  CHECK(guest.get(info, 4) == 0x336ec578);
  CHECK(guest.get(info + 4, 4) == 1);
  CHECK(guest.get(info + 8, 4) == 0);
  REQUIRE(guest.get(info + 12, 4) == 2);
  const std::uint64_t modules = guest.get(info + 16, 8);
  CHECK(guest.get(modules, 8) == 16 * mib - 8192);
  CHECK(guest.get(modules + 8, 8) == 5000);
  CHECK(guest.get(modules + 16, 8) == 0);
  CHECK(guest.bytes(16 * mib - 8192, 5000) == pattern(5000));
  CHECK(guest.get(modules + 32, 8) == 16 * mib - 3 * 4096);
  CHECK(guest.get(modules + 40, 8) == 3);
  CHECK(guest.text(guest.get(modules + 48, 8)) == "text");
  CHECK(guest.text(guest.get(info + 24, 8)) == "console=ttyS0 quiet");
  CHECK(guest.get(info + 32, 8) == 0xe0000);
  CHECK(guest.get(info + 48, 4) == guest.map.size());
  const std::uint64_t map = guest.get(info + 40, 8);
  for (std::size_t i = 0; i < guest.map.size(); ++i) {
    CHECK(guest.get(map + i * 24, 8) == guest.map[i].range.begin.value);
    CHECK(guest.get(map + i * 24 + 8, 8) == guest.map[i].range.size);
    CHECK(guest.get(map + i * 24 + 16, 8) == static_cast<std::uint32_t>(guest.map[i].type));
  }
  CHECK(kernel.initrd == GuestRange{{16 * mib - 8192}, 5000});
}

TEST_CASE("a PVH kernel starts in flat protected mode without paging") {
  const Bench bench;
  const CpuEntry entry = bench.load().entry;
  CHECK(entry.mode == CpuEntry::Mode::protected32);
  CHECK(entry.rip == mib);
  CHECK(entry.rflags == 2);
  CHECK(entry.cr0 == 0x11);
  CHECK(entry.cr3 == 0);
  CHECK(entry.cr4 == 0);
  CHECK(entry.efer == 0);
  const std::uint64_t gdt = entry.gdt.value;
  CHECK(entry.gdt_limit >= CpuEntry::task_selector + 7);
  CHECK(bench.guest.get(gdt, 8) == 0);
  CHECK(bench.guest.get(gdt + CpuEntry::code_selector, 8) == 0x00cf9b000000ffff);
  CHECK(bench.guest.get(gdt + CpuEntry::data_selector, 8) == 0x00cf93000000ffff);
  CHECK(bench.guest.get(gdt + CpuEntry::task_selector, 8) == 0x00008b0000000067);
}

TEST_CASE("a 64-bit entry has page tables that map the first 4 GiB one to one") {
  Bench bench;
  bench.request.kernel_path = bench.folder.write("kernel", Bench::kernel(false));
  const CpuEntry entry = bench.load().entry;
  CHECK(entry.mode == CpuEntry::Mode::long64);
  CHECK(entry.cr0 == 0x80000011);
  CHECK(entry.cr4 == 0x20);
  CHECK(entry.efer == 0x500);
  CHECK(bench.guest.get(entry.gdt.value + CpuEntry::code_selector, 8) == 0x00af9b000000ffff);
  const auto translate = [&](std::uint64_t address) {
    constexpr std::uint64_t frame = 0x000ffffffffff000;
    const std::uint64_t pml4e = bench.guest.get((entry.cr3 & frame) + (address >> 39) * 8, 8);
    REQUIRE((pml4e & 3) == 3);
    const std::uint64_t pdpte = bench.guest.get((pml4e & frame) + (address >> 30 & 511) * 8, 8);
    REQUIRE((pdpte & 3) == 3);
    const std::uint64_t pde = bench.guest.get((pdpte & frame) + (address >> 21 & 511) * 8, 8);
    REQUIRE((pde & 0x83) == 0x83);
    return (pde & frame) + (address & 0x1fffff);
  };
  for (const std::uint64_t address : {0ul, 0x1ffffful, 0x200000ul, 0x3ffffffful, 0x40000000ul, 0xfffffffful})
    CHECK(translate(address) == address);
}

TEST_CASE("a 64-bit kernel finds all it needs in the zero page") {
  Bench bench;
  bench.request.kernel_path = bench.folder.write("kernel", Bench::kernel(false));
  bench.request.command_line = "quiet";
  bench.request.initrd_path = bench.folder.write("initrd", pattern(4096));
  bench.request.acpi_rsdp = 0xe0000;
  const LoadedKernel kernel = bench.load();
  const Guest& guest = bench.guest;
  const std::uint64_t page = kernel.entry.rsi;
  CHECK(guest.get(page + 0x70, 8) == 0xe0000);
  CHECK(guest.get(page + 0x1fe, 2) == 0xaa55);
  CHECK(guest.get(page + 0x202, 4) == 0x53726448);
  CHECK(guest.get(page + 0x206, 2) >= 0x020c);
  CHECK(guest.get(page + 0x210, 1) == 0xff);
  CHECK(guest.get(page + 0x218, 4) == 16 * mib - 4096);
  CHECK(guest.get(page + 0x21c, 4) == 4096);
  CHECK(guest.get(page + 0xc0, 8) == 0);
  CHECK(guest.text(guest.get(page + 0x228, 4)) == "quiet");
  REQUIRE(guest.get(page + 0x1e8, 1) == guest.map.size());
  for (std::size_t i = 0; i < guest.map.size(); ++i) {
    CHECK(guest.get(page + 0x2d0 + i * 20, 8) == guest.map[i].range.begin.value);
    CHECK(guest.get(page + 0x2d0 + i * 20 + 8, 8) == guest.map[i].range.size);
    CHECK(guest.get(page + 0x2d0 + i * 20 + 16, 4) == static_cast<std::uint32_t>(guest.map[i].type));
  }
  bench.request.modules = {{bench.folder.write("module", pattern(3)), ""}};
  CHECK(bench.error().key() == "modules");
}

TEST_CASE("the first page of memory is left alone by every protocol") {
  Bench bench;
  bench.guest.memory.write_bytes({0}, pattern(4096));
  bench.load();
  bench.request.kernel_path = bench.folder.write("kernel64", Bench::kernel(false));
  bench.load();
  CHECK(bench.guest.bytes(0, 4096) == pattern(4096));
}

TEST_CASE("an initrd takes the last pages that it fits into, and the error says how much memory would do") {
  Bench bench;
  // The kernel is one page at 1 MiB.
  bench.request.initrd_path = bench.folder.write("initrd", Bytes(15 * mib - 4096));
  CHECK(bench.load().initrd->begin.value == mib + 4096);
  bench.request.initrd_path = bench.folder.write("initrd", Bytes(15 * mib - 4095));
  const ConfigError error = bench.error();
  CHECK(error.key() == "initrd");
  CHECK(error.value() == bench.request.initrd_path);
  CHECK(says(error, "at least 17M"));
  CHECK_NOTHROW(Guest(17).load(bench.request));
}

TEST_CASE("an initrd that no memory could hold says so") {
  Bench bench;
  bench.request.initrd_path = bench.folder.write("initrd", Bytes(1));
  REQUIRE(::truncate(bench.request.initrd_path.c_str(), off_t{3} << 30) == 0);
  CHECK(says(bench.error(), "more memory does not help"));
}

TEST_CASE("further archives follow the initrd on a 4-byte boundary") {
  Bench bench;
  bench.request.extra_initrd = pattern(10, 3);
  CHECK(bench.load().initrd == GuestRange{{16 * mib - 4096}, 10});
  CHECK(bench.guest.bytes(16 * mib - 4096, 10) == pattern(10, 3));
  bench.guest.memory.write_bytes({15 * mib}, Bytes(mib, std::byte{0xee}));
  for (const std::size_t size : {std::size_t{4093}, std::size_t{4096}}) {
    bench.request.initrd_path = bench.folder.write("initrd", pattern(size));
    const GuestRange initrd = bench.load().initrd.value();
    CHECK(initrd == GuestRange{{16 * mib - 8192}, 4106});
    CHECK(bench.guest.bytes(initrd.begin.value, size) == pattern(size));
    CHECK(bench.guest.bytes(initrd.begin.value + size, 4096 - size) == Bytes(4096 - size));
    CHECK(bench.guest.bytes(initrd.begin.value + 4096, 10) == pattern(10, 3));
  }
}

TEST_CASE("a command line may have 2047 characters and no zero") {
  Bench bench;
  bench.request.command_line.assign(2047, 'x');
  CHECK_NOTHROW(bench.load());
  bench.request.command_line += 'x';
  const ConfigError error = bench.error();
  CHECK(error.key() == "cmdline");
  CHECK(says(error, "2048 characters"));
  CHECK(error.value().size() < 100);
  bench.request.command_line = std::string("a\0b", 3);
  CHECK(bench.error().key() == "cmdline");
}

TEST_CASE("files that cannot be used are named with the reason") {
  Bench bench;
  const auto check = [&](const std::string& path, const std::string& reason) {
    bench.request.kernel_path = path;
    ConfigError error = bench.error();
    CHECK(error.key() == "kernel");
    CHECK(error.value() == path);
    CHECK(says(error, reason));
    bench.request.kernel_path = bench.folder.write("kernel", Bench::kernel(true));
    if (path.empty()) return;
    bench.request.initrd_path = path;
    error = bench.error();
    CHECK(error.key() == "initrd");
    CHECK(says(error, reason));
    bench.request.initrd_path.clear();
  };
  check("", "no file is given");
  check(bench.folder.path("missing"), "no such file");
  check(bench.folder.path("kernel/below"), "no such file");
  check(bench.folder.path(""), "directory");
  check(bench.folder.write("empty", {}), "empty");
  check("/dev/null", "not a regular file");
  REQUIRE(::mkfifo(bench.folder.path("fifo").c_str(), 0600) == 0);
  check(bench.folder.path("fifo"), "not a regular file");
  const std::string hidden = bench.folder.write("hidden", Bench::kernel(true));
  REQUIRE(::chmod(hidden.c_str(), 0) == 0);
  if (::access(hidden.c_str(), R_OK) != 0) check(hidden, "may not be read");
}

TEST_CASE("what is no kernel is named as what it seems to be") {
  Bench bench;
  const auto with = [](std::size_t offset, const std::string& magic) {
    Bytes bytes = pattern(4096);
    put_bytes(bytes, offset, text_bytes(magic));
    return bytes;
  };
  CHECK(says(bench.error_for(pattern(4096)), "not a Linux bzImage, an ELF image or a multiboot image"));
  CHECK(says(bench.error_for(with(0x38, "ARM\x64")), "64-bit ARM"));
  CHECK(says(bench.error_for(with(0x38, "RSC\x05")), "RISC-V"));
  CHECK(says(bench.error_for(with(0, "\x1f\x8b")), "packed with gzip"));
  CHECK(says(bench.error_for(with(0, "070701")), "cpio"));
  CHECK(says(bench.error_for(with(0, "QFI\xfb")), "qcow2"));
  CHECK(says(bench.error_for(with(0, "MZ")), "EFI"));
  CHECK(says(bench.error_for(with(0x1fe, "\x55\xaa")), "boot sector"));
}

TEST_CASE("memory too small for the boot structures, or in too many pieces, is refused") {
  const Bench bench;
  const GuestMemory tiny(std::vector<GuestRange>{{{0}, low_memory::end.value - 4096}});
  CHECK(config_error([&] { load_kernel(tiny, bench.request, bench.guest.map); }).key() == "memory");
  std::vector<MemoryMapEntry> map = bench.guest.map;
  while (map.size() < memory_map_capacity) map.push_back({{{map.size() << 32}, 4096}, MemoryType::reserved});
  CHECK_NOTHROW(load_kernel(bench.guest.memory, bench.request, map));
  map.push_back({{{map.size() << 32}, 4096}, MemoryType::reserved});
  CHECK(config_error([&] { load_kernel(bench.guest.memory, bench.request, map); }).key() == "memory");
}

TEST_CASE("the digest is computed only when wanted") {
  Bench bench;
  CHECK(bench.load().digest.empty());
  bench.request.want_digest = true;
  const std::string digest = bench.load().digest;
  CHECK(digest.size() == 64);
  CHECK(BootFile("kernel", bench.folder.write("abc", text_bytes("abc"))).digest() ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("protocols have names, both ways") {
  for (const char* name : {"auto", "bzimage", "pvh", "linux64", "multiboot"})
    CHECK(to_string(boot_protocol_from(name).value()) == name);
  CHECK_FALSE(boot_protocol_from("grub"));
  CHECK_FALSE(boot_protocol_from(""));
}

}  // namespace
}  // namespace hum
