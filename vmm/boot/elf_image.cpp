// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_image.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "vmm/base/endian.h"
#include "vmm/boot/text.h"

namespace hum::boot {
namespace {

constexpr std::size_t program_headers_limit = 256;
constexpr std::uint64_t notes_limit = 64 * 1024;
constexpr std::uint32_t phys32_entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY, of Xen's public elfnote.h
constexpr std::string_view damaged_fix = "copy or download it again";

std::string architecture(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_X86_64:
      return "x86-64";
    case EM_AARCH64:
      return "64-bit ARM";
    case EM_ARM:
      return "32-bit ARM";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "64-bit PowerPC";
    case EM_S390:
      return "S/390";
    case 258:
      return "LoongArch";
    default:
      return "another architecture (ELF machine " + std::to_string(machine) + ")";
  }
}

template <class Header>
void check_header(const BootFile& file, const Header& header, unsigned machine, std::size_t entry_size) {
  if (header.e_machine != machine)
    file.fail("it is an ELF image for " + architecture(header.e_machine), "give a kernel for x86-64");
  if (header.e_type == ET_REL)
    file.fail("it is an object file or a kernel module, not a kernel", "give vmlinux or bzImage");
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    file.fail("it is an ELF file of type " + std::to_string(header.e_type) + ", not an executable image",
              "give vmlinux or bzImage");
  if (header.e_phnum == 0) file.fail("it has no program headers", "give a linked kernel image");
  if (header.e_phentsize != entry_size || header.e_phnum > program_headers_limit)
    file.fail("it is damaged: " + std::to_string(header.e_phnum) + " program headers of " +
                  std::to_string(header.e_phentsize) + " bytes",
              std::string(damaged_fix));
}

template <class Header, class ProgramHeader>
ElfImage parse_as(const BootFile& file, std::uint64_t image_size, const ElfImage::Read& read,
                  unsigned machine) {
  Header header;
  read(0, writable_bytes_of(header));
  check_header(file, header, machine, sizeof(ProgramHeader));
  std::vector<ProgramHeader> table(header.e_phnum);
  read(header.e_phoff, std::as_writable_bytes(std::span(table)));

  ElfImage image;
  image.is_64 = machine == EM_X86_64;
  image.entry = header.e_entry;
  for (const ProgramHeader& each : table) {
    if (each.p_type == PT_INTERP)
      file.fail("it is a program for this host, not a kernel", "give vmlinux or bzImage");
    if (each.p_type == PT_LOAD)
      image.segments.add(file, image_size,
                         {each.p_offset, each.p_filesz, {each.p_paddr}, each.p_memsz, each.p_vaddr});
    const bool in_image = each.p_offset <= image_size && each.p_filesz <= image_size - each.p_offset;
    if (each.p_type == PT_NOTE && in_image && each.p_filesz <= notes_limit)
      image.notes.push_back({each.p_offset, each.p_align == 8 ? 8u : 4u,
                             std::vector<std::byte>(static_cast<std::size_t>(each.p_filesz))});
  }
  if (image.segments.empty()) file.fail("it has nothing to load", "give a linked kernel image");
  return image;
}

// Walks the notes of one segment; calls found(type, name, description) for each.
template <class Found>
void for_each_note(const ElfImage::Notes& notes, Found found) {
  std::span<const std::byte> left(notes.bytes);
  const auto padded = [&](std::uint64_t size) {
    return (size + notes.alignment - 1) & ~(notes.alignment - 1);
  };
  while (left.size() >= sizeof(Elf32_Nhdr)) {
    Elf32_Nhdr header;
    std::memcpy(&header, left.data(), sizeof header);
    const std::uint64_t description_at = padded(sizeof header + std::uint64_t{header.n_namesz});
    if (description_at > left.size() || header.n_descsz > left.size() - description_at) return;
    found(header.n_type, left.subspan(sizeof header, header.n_namesz),
          left.subspan(description_at, header.n_descsz));
    left = left.subspan(std::min<std::uint64_t>(padded(description_at + header.n_descsz), left.size()));
  }
}

bool is_named(std::span<const std::byte> name, std::string_view wanted) {  // with its final zero
  return name.size() == wanted.size() && std::memcmp(name.data(), wanted.data(), wanted.size()) == 0;
}

}  // namespace

bool is_elf(std::span<const std::byte> head) {
  return head.size() >= SELFMAG && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0;
}

ElfImage ElfImage::parse(const BootFile& file, std::uint64_t image_size, const Read& read) {
  std::array<std::byte, EI_NIDENT> identity{};
  read(0, identity);
  if (identity[EI_DATA] != std::byte{ELFDATA2LSB})
    file.fail("it is a big-endian ELF image", "give a kernel for x86-64");
  if (identity[EI_CLASS] == std::byte{ELFCLASS64})
    return parse_as<Elf64_Ehdr, Elf64_Phdr>(file, image_size, read, EM_X86_64);
  if (identity[EI_CLASS] == std::byte{ELFCLASS32})
    return parse_as<Elf32_Ehdr, Elf32_Phdr>(file, image_size, read, EM_386);
  file.fail("it is damaged: an ELF image that is neither 32-bit nor 64-bit", std::string(damaged_fix));
}

std::optional<std::uint32_t> ElfImage::pvh_entry(const BootFile& file) const {
  std::optional<std::uint64_t> named;
  for (const Notes& each : notes)
    for_each_note(each, [&](std::uint32_t type, std::span<const std::byte> name,
                            std::span<const std::byte> description) {
      if (is_named(name, {"Xen", 4}) && type == phys32_entry &&
          (description.size() == 4 || description.size() == 8))
        named = load_le(description);
    });
  if (!named) return std::nullopt;
  if (*named > UINT32_MAX || !segments.contains({*named}))
    file.fail("it is damaged: the PVH entry point " + hexadecimal(*named) + " lies outside of its segments",
              std::string(damaged_fix));
  return static_cast<std::uint32_t>(*named);
}

bool ElfImage::is_linux_64() const {
  bool found = false;
  for (const Notes& each : notes)
    for_each_note(each, [&](std::uint32_t, std::span<const std::byte> name, std::span<const std::byte>) {
      found = found || is_named(name, {"Linux", 6});
    });
  return found && is_64;
}

}  // namespace hum::boot
