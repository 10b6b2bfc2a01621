// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/multiboot.h"

#include "vmm/boot/low_memory.h"
#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;

constexpr std::uint64_t mib = 1 << 20;

Bytes header_bytes(std::uint32_t flags, const std::vector<std::uint32_t>& addresses = {}) {
  Bytes header;
  put(header, 0, 4, 0x1badb002);
  put(header, 4, 4, flags);
  put(header, 8, 4, 0u - (0x1badb002 + flags));
  for (const std::uint32_t each : addresses) put(header, header.size(), 4, each);
  return header;
}

struct Bench {
  LoadedKernel load(const Bytes& image, BootProtocol protocol = BootProtocol::automatic) {
    request.kernel_path = folder.write("guest.img", image);
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

TestElf multiboot_elf(std::uint32_t flags = 3) {
  TestElf elf;
  elf.is_64 = false;
  Bytes content = pattern(0x1000);
  put_bytes(content, 0x10, header_bytes(flags));
  elf.segments = {{mib, content, 0x2000, 0}};
  elf.entry = mib + 0x40;
  return elf;
}

TEST_CASE("a header is found on any 4-byte boundary of the first 8 KiB") {
  for (const std::size_t at : {std::size_t{0}, std::size_t{4}, std::size_t{8192 - 12}}) {
    Bytes image(16384);
    put_bytes(image, at, header_bytes(3));
    const auto header = MultibootHeader::find(image);
    REQUIRE(header);
    CHECK(header->offset == at);
    CHECK(header->flags == 3);
    CHECK_FALSE(header->addresses);
  }
  for (const std::size_t at : {std::size_t{2}, std::size_t{8192 - 8}, std::size_t{8192}}) {
    Bytes image(16384);
    put_bytes(image, at, header_bytes(3));
    CHECK_FALSE(MultibootHeader::find(image));
  }
}

TEST_CASE("a header with a wrong checksum or without its address fields is none") {
  Bytes image(64);
  put_bytes(image, 0, header_bytes(3));
  put(image, 8, 4, load_le(std::span(image).subspan(8, 4)) + 1);
  CHECK_FALSE(MultibootHeader::find(image));
  image = header_bytes(0x10003, {1, 2, 3, 4, 5});
  CHECK(MultibootHeader::find(image)->addresses->entry == 5);
  image.pop_back();
  CHECK_FALSE(MultibootHeader::find(image));
}

TEST_CASE("a multiboot ELF image starts in protected mode with the magic number in eax") {
  Bench bench;
  bench.guest.memory.write_bytes({mib + 0x1000}, Bytes(0x1000, std::byte{0xee}));
  const LoadedKernel kernel = bench.load(multiboot_elf().build());
  CHECK(kernel.protocol == BootProtocol::multiboot);
  CHECK(kernel.entry.mode == CpuEntry::Mode::protected32);
  CHECK(kernel.entry.rip == mib + 0x40);
  CHECK(kernel.entry.rax == 0x2badb002);
  CHECK(bench.guest.bytes(mib + 0x1000, 0x1000) == Bytes(0x1000));
}

TEST_CASE("a multiboot image may lie below the multiboot information, but not in it or in the first 8 KiB") {
  const auto at = [](std::uint64_t begin, std::uint64_t size) {
    TestElf elf = multiboot_elf();
    elf.segments = {{begin, elf.segments[0].content, size, 0}};
    elf.entry = begin + 0x40;
    return elf.build();
  };
  Bench bench;
  CHECK(bench.load(at(0x8000, 0x8000)).entry.rip == 0x8040);
  const Bytes whole = pattern(0x1000);
  CHECK(bench.guest.bytes(0x8020, 0x1000 - 0x20) == Bytes(whole.begin() + 0x20, whole.end()));
  CHECK(bench.load(at(0x2000, 0x1000)).entry.rip == 0x2040);
  CHECK(says(bench.error(at(0x8000, 0x8001)), "not all free RAM"));
  CHECK(says(bench.error(at(0x1fff, 0x1000)), "not all free RAM"));
  CHECK(says(bench.error(at(0x10000, 0x1000)), "not all free RAM"));
}

TEST_CASE("a PVH note wins over a multiboot header unless multiboot is asked for") {
  Bench bench;
  TestElf elf = multiboot_elf();
  elf.pvh_entry = mib;
  CHECK(bench.load(elf.build()).protocol == BootProtocol::pvh);
  CHECK(bench.load(elf.build(), BootProtocol::multiboot).protocol == BootProtocol::multiboot);
}

TEST_CASE("the information has memory sizes, command line, loader name and memory map") {
  Bench bench;
  bench.request.command_line = "serial console";
  bench.guest.map.push_back({{{std::uint64_t{4} << 30}, std::uint64_t{5} << 30}, MemoryType::usable});
  const LoadedKernel kernel = bench.load(multiboot_elf().build());
  const std::uint64_t info = kernel.entry.rbx;
  CHECK((info >= low_memory::multiboot_info.value && info < low_memory::multiboot_info_end.value));
  CHECK(bench.guest.get(info, 4) == 0x24d);
  CHECK(bench.guest.get(info + 4, 4) == 639);
  CHECK(bench.guest.get(info + 8, 4) == 15 * 1024);
  CHECK(bench.guest.text(bench.guest.get(info + 16, 4)) == "guest.img serial console");
  CHECK(bench.guest.get(info + 20, 4) == 0);
  CHECK(bench.guest.text(bench.guest.get(info + 64, 4)) == "hummingbird");
  CHECK(bench.guest.get(info + 44, 4) == bench.guest.map.size() * 24);
  const std::uint64_t last = bench.guest.get(info + 48, 4) + (bench.guest.map.size() - 1) * 24;
  CHECK(bench.guest.get(last, 4) == 20);
  CHECK(bench.guest.get(last + 4, 8) == std::uint64_t{4} << 30);
  CHECK(bench.guest.get(last + 12, 8) == std::uint64_t{5} << 30);
  CHECK(bench.guest.get(last + 20, 4) == 1);
  CHECK(bench.guest.get(last - 24 + 20, 4) == 2);
}

TEST_CASE("modules lie behind the kernel on page boundaries, each with its string, the initrd is the first") {
  Bench bench;
  bench.request.initrd_path = bench.folder.write("initrd.img", pattern(5, 3));
  bench.request.extra_initrd = pattern(6, 5);
  bench.request.modules = {{bench.folder.write("a", pattern(4097, 7)), "first module"},
                           {bench.folder.write("b", pattern(10, 9)), ""}};
  const LoadedKernel kernel = bench.load(multiboot_elf().build());
  const std::uint64_t info = kernel.entry.rbx;
  const Guest& guest = bench.guest;
  REQUIRE(guest.get(info + 20, 4) == 3);
  const std::uint64_t modules = guest.get(info + 24, 4);
  CHECK(guest.get(modules, 4) == mib + 0x2000);
  CHECK(guest.get(modules + 4, 4) == mib + 0x2000 + 14);
  CHECK(guest.text(guest.get(modules + 8, 4)) == "initrd.img");
  CHECK(guest.bytes(mib + 0x2000, 5) == pattern(5, 3));
  CHECK(guest.get(mib + 0x2005, 3) == 0);
  CHECK(guest.bytes(mib + 0x2008, 6) == pattern(6, 5));
  CHECK(guest.get(modules + 16, 4) == mib + 0x3000);
  CHECK(guest.get(modules + 20, 4) == mib + 0x3000 + 4097);
  CHECK(guest.text(guest.get(modules + 24, 4)) == "first module");
  CHECK(guest.bytes(mib + 0x3000, 4097) == pattern(4097, 7));
  CHECK(guest.get(modules + 32, 4) == mib + 0x5000);
  CHECK(guest.text(guest.get(modules + 40, 4)).empty());
}

TEST_CASE("modules that do not fit say what would do") {
  Bench bench;
  bench.request.modules = {{bench.folder.write("a", Bytes(15 * mib - 0x2000)), ""}};
  CHECK_NOTHROW(bench.load(multiboot_elf().build()));
  bench.request.modules = {{bench.folder.write("a", Bytes(15 * mib - 0x1fff)), ""}};
  const ConfigError error = bench.error(multiboot_elf().build());
  CHECK(error.key() == "modules");
  CHECK(says(error, "at least 17M"));
  bench.request.modules = {{bench.folder.write("a", Bytes(1)), std::string(70000, 'a')}};
  CHECK(says(bench.error(multiboot_elf().build()), "too long"));
}

TEST_CASE("required features that are not offered are refused, wishes are not") {
  Bench bench;
  CHECK_NOTHROW(bench.load(multiboot_elf(7).build()));
  CHECK_NOTHROW(bench.load(multiboot_elf(0x80000003).build()));
  CHECK(says(bench.error(multiboot_elf(8).build()), "not offered"));
  CHECK(says(bench.error(multiboot_elf(0x8000).build()), "not offered"));
}

// A flat image: the header at byte 0x20, loaded to 2 MiB.
Bytes flat(std::uint32_t header, std::uint32_t load, std::uint32_t load_end, std::uint32_t bss_end,
           std::uint32_t entry) {
  Bytes image = pattern(0x400);
  put_bytes(image, 0x20, header_bytes(0x10003, {header, load, load_end, bss_end, entry}));
  return image;
}

TEST_CASE("the address fields say what to load of a flat image") {
  Bench bench;
  constexpr std::uint32_t at = 0x200000;
  const Bytes image = flat(at + 0x10, at, at + 0x100, at + 0x200, at + 4);
  bench.guest.memory.write_bytes({at}, Bytes(0x300, std::byte{0xee}));
  const LoadedKernel kernel = bench.load(image);
  CHECK(kernel.protocol == BootProtocol::multiboot);
  CHECK(kernel.entry.rip == at + 4);
  CHECK(bench.guest.bytes(at, 0x100) == Bytes(image.begin() + 0x10, image.begin() + 0x110));
  CHECK(bench.guest.bytes(at + 0x100, 0x100) == Bytes(0x100));
  CHECK(bench.guest.get(at + 0x200, 1) == 0xee);

  const Bytes whole = flat(at + 0x20, at, 0, 0, at);
  bench.load(whole);
  CHECK(bench.guest.bytes(at, 0x400) == whole);
  CHECK(says(bench.error(whole, BootProtocol::pvh), "multiboot image"));
}

TEST_CASE("the address fields win over the headers of an ELF image") {
  Bench bench;
  TestElf elf = multiboot_elf();
  elf.behind_headers = 32;
  Bytes image = elf.build();
  const std::uint32_t at = sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr);
  put_bytes(image, at, header_bytes(0x10003, {0x200000 + at, 0x200000, 0, 0, 0x200000}));
  CHECK(bench.load(image).entry.rip == 0x200000);
  CHECK(bench.guest.get(0x200000, 4) == 0x464c457f);
}

TEST_CASE("address fields that contradict each other or the file are errors") {
  Bench bench;
  constexpr std::uint32_t at = 0x200000;
  CHECK_NOTHROW(bench.load(flat(at + 0x20, at, at + 0x400, at + 0x400, at + 0x3ff)));
  CHECK(says(bench.error(flat(at + 0x21, at, 0, 0, at)), "header_addr"));
  CHECK(says(bench.error(flat(at - 1, at, 0, 0, at)), "header_addr"));
  CHECK(says(bench.error(flat(0, 0xffffffff, 0, 0, at)), "header_addr"));
  CHECK(says(bench.error(flat(at + 0x20, at, at, 0, at)), "ascend"));
  CHECK(says(bench.error(flat(at + 0x20, at, at + 0x100, at + 0xff, at)), "ascend"));
  CHECK(says(bench.error(flat(at + 0x20, at, at + 0x401, 0, at)), "truncated"));
  CHECK(says(bench.error(flat(at + 0x20, at, at + 0x400, 0, at + 0x400)), "entry point"));
  CHECK(bench.error(flat(at + 0x20, at, at + 0x400, 0xffffffff, at)).key() == "kernel");
  CHECK(bench.error(flat(0xffffffff, 0xffffffff - 0x20, 0, 0, at)).key() == "kernel");
}

TEST_CASE("no byte of a multiboot header can do worse than a configuration error, nor a cut") {
  Bench bench;
  constexpr std::uint32_t at = 0x200000;
  const Bytes image = flat(at + 0x20, at, at + 0x400, at + 0x500, at);
  std::size_t refused = 0;
  for (std::size_t byte = 0x20; byte < 0x40; ++byte)
    for (const unsigned value : {0x00u, 0x7fu, 0xffu}) {
      Bytes changed = image;
      changed[byte] = static_cast<std::byte>(value);
      try {
        bench.load(changed);
      } catch (const ConfigError&) {
        ++refused;
      }
    }
  CHECK(refused > 0);
  for (std::size_t size = 0; size < image.size(); ++size)
    CHECK(bench.error({image.begin(), image.begin() + static_cast<std::ptrdiff_t>(size)}).key() == "kernel");
}

}  // namespace
}  // namespace hum::boot
