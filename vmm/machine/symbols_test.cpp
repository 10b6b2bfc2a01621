// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/symbols.h"

#include <elf.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

struct File {
  explicit File(std::string_view content) { write(content); }
  ~File() { std::filesystem::remove(path); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  void write(std::string_view content) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(content.data(), static_cast<std::streamsize>(content.size()));
  }
  std::string name(std::uint64_t address) const { return SymbolFile(path).describe(std::array{address})[0]; }

  std::string path = std::filesystem::temp_directory_path() / ("hum-symbols." + std::to_string(::getpid()));
};

constexpr std::uint64_t text_begin = 0xffffffff81000000;
constexpr std::uint64_t text_size = 0x1000;

struct Names {
  std::string bytes = std::string(1, '\0');
  std::uint32_t add(std::string_view name) {
    const auto at = static_cast<std::uint32_t>(bytes.size());
    bytes += std::string(name) + '\0';
    return at;
  }
};

// An ELF image of sections only: code, data, symbols, names.
template <class Header, class Section, class Symbol>
std::string elf(unsigned char elf_class, std::uint64_t base) {
  Names names;
  const auto symbol = [&](std::string_view name, std::uint64_t value, unsigned char type,
                          std::uint16_t home) {
    Symbol made{};
    made.st_name = names.add(name);
    made.st_value = static_cast<decltype(made.st_value)>(value);
    made.st_info = type;
    made.st_shndx = home;
    return made;
  };
  const std::array symbols = {
      Symbol{},
      symbol("data_first", base, STT_OBJECT, 2),
      symbol("start", base, STT_NOTYPE, 1),
      symbol("main", base + 0x100, STT_NOTYPE, 1),
      symbol("main_function", base + 0x100, STT_FUNC, 1),
      symbol("label", base + 0x100, STT_NOTYPE, 1),
      symbol("in_data", base + 0x180, STT_NOTYPE, 2),
      symbol("undefined", base + 0x190, STT_FUNC, SHN_UNDEF),
      symbol("absolute", base + 0x190, STT_NOTYPE, SHN_ABS),
      symbol("beyond_sections", base + 0x190, STT_FUNC, 77),
      symbol("bad\x1b[31m", base + 0x200, STT_FUNC, 1),
  };
  std::array<Section, 5> sections{};
  sections[1].sh_type = sections[2].sh_type = SHT_PROGBITS;
  sections[1].sh_flags = SHF_EXECINSTR;
  sections[1].sh_addr = sections[2].sh_addr = static_cast<decltype(sections[1].sh_addr)>(base);
  sections[1].sh_size = sections[2].sh_size = text_size;
  sections[3].sh_type = SHT_SYMTAB;
  sections[3].sh_offset = sizeof(Header) + sizeof sections;
  sections[3].sh_size = sizeof symbols;
  sections[3].sh_entsize = sizeof(Symbol);
  sections[3].sh_link = 4;
  sections[4].sh_type = SHT_STRTAB;
  sections[4].sh_offset = sections[3].sh_offset + sections[3].sh_size;
  sections[4].sh_size = static_cast<decltype(sections[4].sh_size)>(names.bytes.size());
  Header header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = elf_class;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_shoff = sizeof header;
  header.e_shentsize = sizeof(Section);
  header.e_shnum = sections.size();
  const auto bytes = [](const auto& object) {
    return std::string(reinterpret_cast<const char*>(&object), sizeof object);
  };
  return bytes(header) + bytes(sections) + bytes(symbols) + names.bytes;
}

std::string elf64() {
  return elf<Elf64_Ehdr, Elf64_Shdr, Elf64_Sym>(ELFCLASS64, text_begin);
}

}  // namespace

TEST_CASE("an address gets the function before it and the distance, from an ELF image's symbol table") {
  const File file(elf64());
  CHECK(file.name(text_begin) == "start+0x0");
  CHECK(file.name(text_begin + 0xff) == "start+0xff");
  CHECK(file.name(text_begin + 0x100) == "main_function+0x0");
  CHECK(file.name(text_begin + 0x1ff) == "main_function+0xff");
  CHECK(file.name(text_begin + text_size - 1).ends_with("+0xdff"));
  CHECK(file.name(text_begin - 1).empty());
  CHECK(file.name(text_begin + text_size).empty());
  CHECK(file.name(0).empty());
  CHECK(file.name(UINT64_MAX).empty());
}

TEST_CASE("a 32-bit image has symbols too") {
  const File file(elf<Elf32_Ehdr, Elf32_Shdr, Elf32_Sym>(ELFCLASS32, 0x400000));
  CHECK(file.name(0x400103) == "main_function+0x3");
  CHECK(file.name(0x3fffff).empty());
}

TEST_CASE("what a terminal might obey does not come through in a name") {
  const File file(elf64());
  CHECK(file.name(text_begin + 0x200) == "bad?[31m+0x0");
}

TEST_CASE("an image cut off anywhere gives a right name or none") {
  const std::string whole = elf64();
  const File file("");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    file.write(std::string_view(whole).substr(0, size));
    const std::string name = file.name(text_begin + 0x100);
    CAPTURE(size, name);
    CHECK((name.empty() || std::string_view("main_function").starts_with(name.substr(0, name.find('+'))) ||
           name == "main+0x0" || name == "start+0x100"));
  }
}

TEST_CASE("an image with any byte of its headers wrong does no harm") {
  const std::string whole = elf64();
  const File file("");
  for (std::size_t at = 0; at < sizeof(Elf64_Ehdr) + 5 * sizeof(Elf64_Shdr); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0xff);
    file.write(damaged);
    CHECK(file.name(text_begin + 0x100).size() < 300);
  }
}

TEST_CASE("a System.map names code by its types and not what is far from any") {
  const File file(
      "0000000000000000 A nothing\n"
      "ffffffff81000000 T _text\n"
      "ffffffff81000040 t local\n"
      "ffffffff81000050 D some_data\n"
      "ffffffff81000060 W weak\n"
      "garbage\n\n"
      "ffffffff81000070\n"
      "zz T none\n"
      "ffffffff81000080 T last");
  CHECK(file.name(text_begin) == "_text+0x0");
  CHECK(file.name(text_begin + 0x5f) == "local+0x1f");
  CHECK(file.name(text_begin + 0x7f) == "weak+0x1f");
  CHECK(file.name(text_begin + 0x81) == "last+0x1");
  CHECK(file.name(text_begin + 0x80 + (1 << 20) - 1) == "last+0xfffff");
  CHECK(file.name(text_begin + 0x80 + (1 << 20)).empty());
  CHECK(file.name(text_begin - 1).empty());
}

TEST_CASE("a System.map is read across the pieces it is read in, and a line without end is passed over") {
  std::string text;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    std::array<char, 64> line;
    std::snprintf(line.data(), line.size(), "%llx T function_%llu\n",
                  static_cast<unsigned long long>(text_begin + 16 * i), static_cast<unsigned long long>(i));
    text += line.data();
    if (i == 10000) text += std::string(200000, 'x') + "\n";
  }
  const File file(text);
  for (const std::uint64_t i : {0u, 2047u, 2048u, 9999u, 10000u, 10001u, 19999u}) {
    CAPTURE(i);
    CHECK(file.name(text_begin + 16 * i + 5) == "function_" + std::to_string(i) + "+0x5");
  }
}

TEST_CASE("a file of many gigabytes ends the search in a moment") {
  const File file("ffffffff81000000 T _text\n");
  std::filesystem::resize_file(file.path, std::uintmax_t{64} << 30);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(file.name(text_begin) == "_text+0x0");
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
}

TEST_CASE("an empty file and one of zeros name nothing") {
  const File file("");
  CHECK(file.name(text_begin).empty());
  file.write(std::string(100000, '\0'));
  CHECK(file.name(0).empty());
}

TEST_CASE("what is no file is refused by name before the VM starts") {
  CHECK_THROWS_AS(SymbolFile("/nowhere/vmlinux"), ConfigError);
  CHECK_THROWS_AS(SymbolFile("/dev/null"), ConfigError);
  CHECK_THROWS_AS(SymbolFile(std::filesystem::temp_directory_path()), ConfigError);
}

}  // namespace hum
