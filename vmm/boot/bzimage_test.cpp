// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.h"

#include "vmm/boot/low_memory.h"
#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;

constexpr std::uint64_t mib = 1 << 20;

struct Bench {
  LoadedKernel load(const TestBzImage& image, BootProtocol protocol = BootProtocol::automatic) {
    return load(image.build(), protocol);
  }
  LoadedKernel load(const Bytes& image, BootProtocol protocol = BootProtocol::automatic) {
    request.kernel_path = folder.write("kernel", image);
    request.protocol = protocol;
    return guest.load(request);
  }
  template <class Image>
  ConfigError error(const Image& image, BootProtocol protocol = BootProtocol::automatic) {
    return config_error([&] { load(image, protocol); });
  }

  TemporaryFolder folder;
  Guest guest{64};
  BootRequest request;
};

TestElf pvh_kernel() {
  TestElf elf;
  elf.pvh_entry = mib + 8;
  return elf;
}

TEST_CASE("the bzimage protocol leaves the kernel to its own decompressor") {
  Bench bench;
  const TestBzImage image;
  const LoadedKernel kernel = bench.load(image, BootProtocol::bzimage);
  const Bytes file = image.build();
  CHECK(kernel.protocol == BootProtocol::bzimage);
  CHECK(kernel.entry.mode == CpuEntry::Mode::long64);
  CHECK(kernel.entry.rip == image.preferred_address + 0x200);
  CHECK(kernel.entry.rsi == low_memory::zero_page.value);
  CHECK(bench.guest.bytes(image.preferred_address, file.size() - TestBzImage::setup_size) ==
        Bytes(file.begin() + TestBzImage::setup_size, file.end()));
}

TEST_CASE("the setup header reaches the zero page, up to its own end, with what the loader fills in") {
  Bench bench;
  Bytes image = TestBzImage{}.build();
  put(image, 0x1f2, 2, 0x1234);
  put(image, 0x268, 4, 0xabcd);
  put(image, 0x26c, 4, 0xffffffff);  // behind the header
  bench.load(image, BootProtocol::bzimage);
  const std::uint64_t page = low_memory::zero_page.value;
  CHECK(bench.guest.get(page + 0x1f1, 1) == 1);
  CHECK(bench.guest.get(page + 0x1f2, 2) == 0x1234);
  CHECK(bench.guest.get(page + 0x206, 2) == 0x020f);
  CHECK(bench.guest.get(page + 0x268, 4) == 0xabcd);
  CHECK(bench.guest.get(page + 0x26c, 4) == 0);
  CHECK(bench.guest.get(page + 0x1ef, 1) == 0);
  CHECK(bench.guest.get(page + 0x210, 1) == 0xff);
  CHECK(bench.guest.get(page + 0x211, 1) == 1);
  CHECK(bench.guest.get(page + 0x214, 4) == 0x1000000);
  CHECK(bench.guest.get(page + 0x228, 4) == low_memory::command_line.value);
}

TEST_CASE("a relocatable kernel moves where its preferred memory is not free") {
  Bench bench;
  TestBzImage image;
  image.init_size = 48 * mib;
  CHECK(bench.load(image, BootProtocol::bzimage).entry.rip == 16 * mib + 0x200);
  image.init_size = 48 * mib + 1;
  CHECK(bench.load(image, BootProtocol::bzimage).entry.rip == 2 * mib + 0x200);
  image.init_size = 62 * mib;
  CHECK(bench.load(image, BootProtocol::bzimage).entry.rip == 2 * mib + 0x200);
  image.init_size = 62 * mib + 1;
  const ConfigError error = bench.error(image, BootProtocol::bzimage);
  CHECK(error.key() == "memory");
  CHECK(says(error, "at least 65M"));
  CHECK_NOTHROW(Guest(65).load(bench.request));
}

TEST_CASE("a kernel that is not relocatable stays where it wants to be") {
  Bench bench;
  TestBzImage image;
  image.relocatable = false;
  image.init_size = 48 * mib;
  CHECK(bench.load(image, BootProtocol::bzimage).entry.rip == 16 * mib + 0x200);
  image.init_size = 48 * mib + 1;
  CHECK(says(bench.error(image, BootProtocol::bzimage), "at least 65M"));
  image.preferred_address = UINT64_MAX - 4;
  CHECK(says(bench.error(image, BootProtocol::bzimage), "damaged"));
  image.preferred_address = std::uint64_t{4} << 30;
  CHECK(says(bench.error(image, BootProtocol::bzimage), "damaged"));
}

TEST_CASE("an alignment must be a power of two, and more than any memory is refused") {
  Bench bench;
  TestBzImage image;
  for (const std::uint32_t alignment : {0u, 3u, 0xffffffffu}) {
    image.alignment = alignment;
    CHECK(says(bench.error(image, BootProtocol::bzimage), "power of two"));
  }
  image.alignment = 1;
  image.init_size = 0xffffffff;
  CHECK(says(bench.error(image, BootProtocol::bzimage), "damaged"));
  image.init_size = 0;  // then the kernel's own size counts
  CHECK_NOTHROW(bench.load(image, BootProtocol::bzimage));
}

TEST_CASE("kernels without a 64-bit entry are refused with the reason") {
  Bench bench;
  TestBzImage image;
  image.extra_load_flags = 0;
  CHECK(says(bench.error(image), "32-bit kernel"));
  image.extra_load_flags = 1;
  image.version = 0x020b;
  CHECK(says(bench.error(image), "2.11 is too old"));
  image.version = 0x020c;
  CHECK_NOTHROW(bench.load(image));
  CHECK(says(bench.error(image, BootProtocol::multiboot), "bzImage"));
}

TEST_CASE("every payload is unpacked and entered by its PVH note") {
  Bench bench;
  TestElf elf = pvh_kernel();
  elf.segments = {{mib, pattern(0x1000), 0x3000, 0}, {4 * mib, pattern(9 << 20, 3), 0, 0}};
  for (const Compression format : {Compression::gzip, Compression::xz, Compression::lzma, Compression::zstd,
                                   Compression::lz4, Compression::bzip2}) {
    INFO(to_string(format));
    bench.guest.memory.fill_zero({{mib}, 63 * mib});
    bench.guest.memory.write_bytes({mib + 0x1000}, Bytes(0x2000, std::byte{0xee}));
    const LoadedKernel kernel = bench.load(TestBzImage::packing(elf.build(), format));
    CHECK(kernel.protocol == BootProtocol::pvh);
    CHECK(kernel.compression == to_string(format));
    CHECK_FALSE(kernel.from_cache);
    CHECK(kernel.digest.empty());
    CHECK(kernel.entry.rip == mib + 8);
    CHECK(bench.guest.bytes(mib, 0x1000) == pattern(0x1000));
    CHECK(bench.guest.bytes(mib + 0x1000, 0x2000) == Bytes(0x2000));
    CHECK(bench.guest.bytes(4 * mib, 9 << 20) == pattern(9 << 20, 3));
  }
}

TEST_CASE("an unpacked kernel without a PVH note is entered in long mode with its setup header") {
  Bench bench;
  const LoadedKernel kernel = bench.load(TestBzImage::packing(TestElf{}.build(), Compression::zstd));
  CHECK(kernel.protocol == BootProtocol::linux64);
  CHECK(kernel.entry.rip == mib);
  CHECK(bench.guest.get(low_memory::zero_page.value + 0x230, 4) == 0x200000);
}

TEST_CASE("a payload in an unknown format, or none, is left to the kernel itself") {
  Bench bench;
  TestBzImage image;
  CHECK(bench.load(image).protocol == BootProtocol::bzimage);
  CHECK(says(bench.error(image, BootProtocol::pvh), "not known here"));
  image.payload.clear();
  CHECK(bench.load(image).protocol == BootProtocol::bzimage);
}

TEST_CASE("a payload that is no ELF image, or not as long as it says, is an error") {
  Bench bench;
  CHECK(says(bench.error(TestBzImage::packing(pattern(5000), Compression::gzip)), "not an ELF image"));
  TestBzImage image = TestBzImage::packing(pvh_kernel().build(), Compression::lz4);
  const std::uint32_t size = *image.unpacked_size;
  image.unpacked_size = size + 1;
  CHECK(says(bench.error(image), "damaged"));
  image.unpacked_size = size - 1;
  CHECK(says(bench.error(image), "damaged"));
  image.unpacked_size = 1u << 30;
  CHECK(says(bench.error(image), "damaged"));
  image.unpacked_size = (1u << 30) + 1;
  CHECK(says(bench.error(image), "1 GiB"));
}

TEST_CASE("a payload lies inside of the kernel") {
  Bench bench;
  const Bytes image = TestBzImage::packing(pvh_kernel().build(), Compression::gzip).build();
  const std::uint64_t kernel_size = image.size() - TestBzImage::setup_size;
  const auto with = [&](std::uint64_t offset, std::uint64_t size) {
    Bytes changed = image;
    put(changed, 0x248, 4, offset);
    put(changed, 0x24c, 4, size);
    return changed;
  };
  CHECK(says(bench.error(with(1024, kernel_size - 1024 + 1)), "lies outside"));
  CHECK(says(bench.error(with(kernel_size + 1, 16)), "lies outside"));
  CHECK(says(bench.error(with(0xffffffff, 0xffffffff)), "lies outside"));
  CHECK(says(bench.error(with(1024, 15)), "lies outside"));
}

TEST_CASE("an unpacked kernel needs its memory, and the error says how much") {
  Bench bench;
  TestElf elf = pvh_kernel();
  elf.segments.push_back({64 * mib, pattern(16), mib, 0});
  const ConfigError error = bench.error(TestBzImage::packing(elf.build(), Compression::lz4));
  CHECK(error.key() == "memory");
  CHECK(says(error, "at least 65M"));
  CHECK_NOTHROW(Guest(65).load(bench.request));
}

TEST_CASE("the length of the command line is the one that the header names") {
  Bench bench;
  TestBzImage image;
  image.command_line_size = 300;
  bench.request.command_line.assign(300, 'a');
  CHECK_NOTHROW(bench.load(image, BootProtocol::bzimage));
  bench.request.command_line += 'a';
  const ConfigError error = bench.error(image, BootProtocol::bzimage);
  CHECK(error.key() == "cmdline");
  CHECK(says(error, "at most 300"));
  image.command_line_size = 0;
  CHECK(says(bench.error(image, BootProtocol::bzimage), "at most 255"));
  image.command_line_size = 0xffffffff;
  CHECK_NOTHROW(bench.load(image, BootProtocol::bzimage));
  bench.request.command_line.assign(0x10000, 'a');
  CHECK(says(bench.error(image, BootProtocol::bzimage), "at most 65535"));
}

TEST_CASE("an initrd stays below the address that the header names") {
  Bench bench;
  bench.request.initrd_path = bench.folder.write("initrd", pattern(4096));
  TestBzImage image;
  image.initrd_address_max = 48 * mib - 1;
  for (const Bytes& file :
       {image.build(), TestBzImage::packing(pvh_kernel().build(), Compression::gzip).build()})
    for (const std::uint64_t last : {48 * mib - 1, 48 * mib - 2}) {
      Bytes changed = file;
      put(changed, 0x22c, 4, last);
      CHECK(bench.load(changed).initrd->begin.value ==
            (last == 48 * mib - 1 ? 48 * mib - 4096 : 48 * mib - 8192));
    }
}

TEST_CASE("a bzImage cut anywhere is an error of the configuration") {
  Bench bench;
  const Bytes image = TestBzImage::packing(pvh_kernel().build(), Compression::gzip).build();
  for (const BootProtocol protocol : {BootProtocol::automatic, BootProtocol::bzimage}) {
    CHECK_NOTHROW(bench.load(image, protocol));
    for (std::size_t size = 0; size < image.size() - 15; size += size < 1100 ? 1 : 97)
      CHECK(bench.error(Bytes(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(size)), protocol)
                .key() == "kernel");
  }
}

TEST_CASE("no byte of the setup header can do worse than a configuration error") {
  Bench bench;
  const Bytes image = TestBzImage::packing(pvh_kernel().build(), Compression::gzip).build();
  std::size_t refused = 0;
  for (std::size_t at = 0x1f1; at < 0x270; ++at)
    for (const unsigned value : {0x00u, 0x01u, 0x7fu, 0x80u, 0xffu})
      for (const BootProtocol protocol : {BootProtocol::automatic, BootProtocol::bzimage}) {
        Bytes changed = image;
        changed[at] = static_cast<std::byte>(value);
        try {
          bench.load(changed, protocol);
        } catch (const ConfigError&) {
          ++refused;
        }
      }
  CHECK(refused > 0);
}

}  // namespace
}  // namespace hum::boot
