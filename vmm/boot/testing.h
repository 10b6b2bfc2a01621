// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bzlib.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/unpack.h"

// Kernels made of nothing, for the boot layer's tests.
namespace hum::boot::test {

using Bytes = std::vector<std::byte>;

inline void put(Bytes& bytes, std::size_t offset, std::size_t size, std::uint64_t value) {
  if (bytes.size() < offset + size) bytes.resize(offset + size);
  store_le(std::span(bytes).subspan(offset, size), value);
}

inline void put_bytes(Bytes& bytes, std::size_t offset, std::span<const std::byte> from) {
  if (bytes.size() < offset + from.size()) bytes.resize(offset + from.size());
  std::copy(from.begin(), from.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

// Bytes that do not repeat soon and compress a little.
inline Bytes pattern(std::size_t size, std::uint32_t seed = 1) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    if (i % 8 == 0) seed = seed * 1664525 + 1013904223;
    bytes[i] = static_cast<std::byte>(seed >> 24);
  }
  return bytes;
}

inline Bytes text_bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// A folder with files, removed with all that is in it.
class TemporaryFolder : public hum::testing::TemporaryFolder {
 public:
  std::string path(const std::string& name) const { return *this / name; }
  std::string write(const std::string& name, const Bytes& bytes) const {
    std::ofstream out(path(name), std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    REQUIRE(out.good());
    return path(name);
  }
};

// A machine's memory as the boot layer sees it.
struct Guest {
  explicit Guest(std::uint64_t mebibytes)
      : memory(std::vector<GuestRange>{{{0}, mebibytes << 20}}),
        map{{{{0}, 0x9fc00}, MemoryType::usable},
            {{{0x9fc00}, 0x400}, MemoryType::reserved},
            {{{0xe0000}, 0x20000}, MemoryType::reserved},
            {{{0x100000}, (mebibytes << 20) - 0x100000}, MemoryType::usable},
            {{{0xe0000000}, 0x10000000}, MemoryType::reserved}} {}

  LoadedKernel load(const BootRequest& request) const { return load_kernel(memory, request, map); }

  std::uint64_t get(std::uint64_t address, std::size_t size) const {
    Bytes bytes(size);
    memory.read_bytes({address}, bytes);
    return load_le(bytes);
  }
  Bytes bytes(std::uint64_t address, std::size_t size) const {
    Bytes result(size);
    memory.read_bytes({address}, result);
    return result;
  }
  std::string text(std::uint64_t address) const {
    std::string result;
    while (const char character = static_cast<char>(get(address++, 1))) result += character;
    return result;
  }

  GuestMemory memory;
  std::vector<MemoryMapEntry> map;
};

// The ConfigError that work ends with.
template <class Work>
ConfigError config_error(Work work) {
  try {
    work();
  } catch (const ConfigError& error) {
    return error;
  }
  FAIL("no ConfigError");
  throw std::logic_error("unreachable");
}

inline bool says(const ConfigError& error, const std::string& text) {
  INFO(error.what());
  return std::string(error.what()).find(text) != std::string::npos;
}

struct TestSegment {
  std::uint64_t address = 0x100000;
  Bytes content;
  std::uint64_t memory_size = 0;      // 0: as the content
  std::uint64_t virtual_address = 0;  // 0: as the address
};

// An ELF image: headers, notes, segments one after the other.
struct TestElf {
  bool is_64 = true;
  std::uint64_t entry = 0x100000;
  std::vector<TestSegment> segments{{0x100000, pattern(0x1000), 0, 0}};
  std::optional<std::uint64_t> pvh_entry;
  std::size_t pvh_entry_size = 8;
  bool linux_note = false;
  std::size_t behind_headers = 0;  // bytes left free there

  Bytes build() const {
    return is_64 ? build_as<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_X86_64)
                 : build_as<Elf32_Ehdr, Elf32_Phdr>(ELFCLASS32, EM_386);
  }

 private:
  template <class Header, class ProgramHeader>
  Bytes build_as(unsigned char elf_class, std::uint16_t machine) const {
    Bytes notes;
    if (pvh_entry) {
      // A note of somebody else comes first.
      put(notes, 0, 4, 4);
      put(notes, 4, 4, 2);
      put(notes, 8, 4, 1);
      put_bytes(notes, 12, text_bytes("GNU"));
      put(notes, 16, 4, 7);
      put(notes, 20, 4, 4);
      put(notes, 24, 4, pvh_entry_size);
      put(notes, 28, 4, 18);
      put_bytes(notes, 32, text_bytes("Xen"));
      put(notes, 36, pvh_entry_size, *pvh_entry);
    }
    if (linux_note) {
      const std::size_t at = notes.size();
      put(notes, at, 4, 6);
      put(notes, at + 4, 4, 1);
      put(notes, at + 8, 4, 0x100);
      put_bytes(notes, at + 12, text_bytes("Linux"));
      put(notes, at + 17, 7, 0);
    }
    const std::size_t count = segments.size() + (notes.empty() ? 0 : 1);
    Header header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = elf_class;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = machine;
    header.e_version = EV_CURRENT;
    header.e_entry = static_cast<decltype(header.e_entry)>(entry);
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(ProgramHeader);
    header.e_phnum = static_cast<std::uint16_t>(count);
    Bytes image;
    put_bytes(image, 0, bytes_of(header));
    image.resize(sizeof header + count * sizeof(ProgramHeader) + behind_headers);
    std::size_t index = 0;
    const auto add = [&](std::uint32_t type, const TestSegment& segment) {
      ProgramHeader program{};
      program.p_type = type;
      program.p_align = 4;
      program.p_offset = static_cast<decltype(program.p_offset)>(image.size());
      program.p_filesz = static_cast<decltype(program.p_filesz)>(segment.content.size());
      program.p_memsz = static_cast<decltype(program.p_memsz)>(
          segment.memory_size != 0 ? segment.memory_size : segment.content.size());
      program.p_paddr = static_cast<decltype(program.p_paddr)>(segment.address);
      program.p_vaddr = static_cast<decltype(program.p_vaddr)>(
          segment.virtual_address != 0 ? segment.virtual_address : segment.address);
      put_bytes(image, sizeof header + index++ * sizeof program, bytes_of(program));
      put_bytes(image, image.size(), segment.content);
    };
    if (!notes.empty()) add(PT_NOTE, {0, notes, 0, 0});
    for (const TestSegment& segment : segments) add(PT_LOAD, segment);
    return image;
  }
};

// A bzImage whose protected-mode part is 1 KiB and then the payload.
struct TestBzImage {
  static constexpr std::size_t setup_size = 2 * 512;
  static constexpr std::size_t payload_offset = 1024;

  std::uint32_t version = 0x020f;
  std::uint32_t extra_load_flags = 1;
  std::uint32_t alignment = 0x200000;
  bool relocatable = true;
  std::uint64_t preferred_address = 0x1000000;
  std::uint32_t init_size = 0x400000;
  std::uint32_t command_line_size = 2047;
  std::uint32_t initrd_address_max = 0x7fffffff;
  Bytes payload = pattern(100);
  std::optional<std::uint32_t> unpacked_size;  // appended to the payload if set

  Bytes build() const {
    Bytes packed = payload;
    if (unpacked_size) put(packed, packed.size(), 4, *unpacked_size);
    Bytes image(setup_size);
    Bytes kernel = pattern(payload_offset, 7);
    put_bytes(kernel, payload_offset, packed);
    kernel.resize((kernel.size() + 15) / 16 * 16);
    put(image, 0x1f1, 1, 1);
    put(image, 0x1f4, 4, kernel.size() / 16);
    put(image, 0x1fe, 2, 0xaa55);
    put(image, 0x200, 2, 0x6aeb);
    put(image, 0x202, 4, 0x53726448);
    put(image, 0x206, 2, version);
    put(image, 0x211, 1, 1);
    put(image, 0x214, 4, 0x100000);
    put(image, 0x22c, 4, initrd_address_max);
    put(image, 0x230, 4, alignment);
    put(image, 0x234, 1, relocatable ? 1 : 0);
    put(image, 0x236, 2, extra_load_flags);
    put(image, 0x238, 4, command_line_size);
    put(image, 0x248, 4, payload_offset);
    put(image, 0x24c, 4, packed.size());
    put(image, 0x258, 8, preferred_address);
    put(image, 0x260, 4, init_size);
    put_bytes(image, setup_size, kernel);
    return image;
  }

  // With an ELF image inside.
  static TestBzImage packing(const Bytes& elf, Compression compression);
};

// Packs as a kernel's build does, without the size behind it.
inline Bytes pack(Compression compression, const Bytes& plain) {
  Bytes packed(plain.size() * 2 + 65536);
  auto* out = reinterpret_cast<std::uint8_t*>(packed.data());
  const auto* in = reinterpret_cast<const std::uint8_t*>(plain.data());
  std::size_t size = 0;
  const auto run_lzma = [&](lzma_stream& stream) {
    stream.next_in = in;
    stream.avail_in = plain.size();
    stream.next_out = out;
    stream.avail_out = packed.size();
    REQUIRE(::lzma_code(&stream, LZMA_FINISH) == LZMA_STREAM_END);
    size = packed.size() - stream.avail_out;
    ::lzma_end(&stream);
  };
  lzma_options_lzma options{};
  REQUIRE(!::lzma_lzma_preset(&options, 1));
  switch (compression) {
    case Compression::gzip: {
      z_stream stream{};
      REQUIRE(::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
      stream.next_in = const_cast<Bytef*>(in);
      stream.avail_in = static_cast<uInt>(plain.size());
      stream.next_out = out;
      stream.avail_out = static_cast<uInt>(packed.size());
      REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
      size = packed.size() - stream.avail_out;
      ::deflateEnd(&stream);
      break;
    }
    case Compression::xz: {
      lzma_filter filters[] = {
          {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
      lzma_stream stream{};
      REQUIRE(::lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC32) == LZMA_OK);
      run_lzma(stream);
      break;
    }
    case Compression::lzma: {
      lzma_stream stream{};
      REQUIRE(::lzma_alone_encoder(&stream, &options) == LZMA_OK);
      run_lzma(stream);
      break;
    }
    case Compression::zstd:
      size = ::ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 3);
      REQUIRE(!::ZSTD_isError(size));
      break;
    case Compression::bzip2: {
      auto length = static_cast<unsigned>(packed.size());
      REQUIRE(::BZ2_bzBuffToBuffCompress(reinterpret_cast<char*>(out), &length,
                                         reinterpret_cast<char*>(const_cast<std::uint8_t*>(in)),
                                         static_cast<unsigned>(plain.size()), 9, 0, 0) == BZ_OK);
      size = length;
      break;
    }
    case Compression::lz4: {
      constexpr std::size_t block = 8 << 20;
      put(packed, 0, 4, 0x184c2102);
      size = 4;
      for (std::size_t at = 0; at < plain.size(); at += block) {
        const int length = ::LZ4_compress_default(reinterpret_cast<const char*>(plain.data() + at),
                                                  reinterpret_cast<char*>(packed.data() + size + 4),
                                                  static_cast<int>(std::min(block, plain.size() - at)),
                                                  static_cast<int>(packed.size() - size - 4));
        REQUIRE(length > 0);
        put(packed, size, 4, static_cast<std::uint64_t>(length));
        size += 4 + static_cast<std::size_t>(length);
      }
      break;
    }
    case Compression::unknown:
      FAIL("no such format");
  }
  packed.resize(size);
  return packed;
}

inline TestBzImage TestBzImage::packing(const Bytes& elf, Compression compression) {
  TestBzImage image;
  image.payload = pack(compression, elf);
  if (compression != Compression::gzip) image.unpacked_size = static_cast<std::uint32_t>(elf.size());
  return image;
}

}  // namespace hum::boot::test
