// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/unpack.h"

namespace hum::boot {

// The setup header of a Linux bzImage (Linux, Documentation/arch/x86/boot.rst), checked against the file.
class BzImage {
 public:
  // Where boot_params and the file hold the setup header.
  static constexpr std::size_t header_begin = 0x1f1;
  static constexpr std::size_t header_limit = 0x290;

  // True if the first bytes of a file are those of a Linux boot image.
  static bool matches(std::span<const std::byte> head);

  // head: the first 1024 bytes of the file or more (or all of it), which must stay. Throws ConfigError.
  BzImage(const BootFile& file, std::span<const std::byte> head);

  // The header as it is to be copied into boot_params.
  std::span<const std::byte> header() const { return header_; }
  std::uint32_t version() const { return version_; }  // 0x020f for 2.15

  // Throws ConfigError unless the image can be entered by the 64-bit boot protocol (2.12 and XLF_KERNEL_64).
  void require_64_bit_entry() const;
  bool has_64_bit_entry() const;

  // The protected-mode part of the file.
  std::uint64_t kernel_offset() const { return kernel_offset_; }
  std::uint64_t kernel_size() const { return kernel_size_; }

  // Where it goes, once require_64_bit_entry has passed.
  std::uint64_t preferred_address() const;
  std::uint64_t memory_needed() const;  // from the load address on; never below kernel_size
  bool is_relocatable() const;
  std::uint64_t alignment() const;  // a power of two

  std::uint64_t command_line_limit() const;  // characters, without the final zero
  std::uint64_t initrd_end() const;          // an initrd lies below this address

  // The compressed ELF image inside; nothing where the header tells of none or the format is not known.
  std::optional<PackedImage> payload() const;

 private:
  std::uint64_t field(std::size_t offset, std::size_t size) const;

  const BootFile& file_;
  std::span<const std::byte> header_;
  std::uint32_t version_ = 0;
  std::uint64_t kernel_offset_ = 0;
  std::uint64_t kernel_size_ = 0;
};

}  // namespace hum::boot
