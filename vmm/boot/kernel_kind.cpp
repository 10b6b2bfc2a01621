// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/kernel_kind.h"

#include <cstring>
#include <string>
#include <string_view>

#include "vmm/boot/unpack.h"

namespace hum::boot {
namespace {

bool has_text(std::span<const std::byte> head, std::size_t offset, std::string_view text) {
  return head.size() >= offset + text.size() &&
         std::memcmp(head.data() + offset, text.data(), text.size()) == 0;
}

}  // namespace

void fail_unknown_kind(const BootFile& file, std::span<const std::byte> head) {
  const std::string fix = "give a Linux kernel for x86-64 (/boot/vmlinuz-* or vmlinux)";
  if (has_text(head, 0x38, "ARM\x64")) file.fail("it is a Linux image for 64-bit ARM", fix);
  if (has_text(head, 0x38, std::string_view("RSC\x05", 4))) file.fail("it is a Linux image for RISC-V", fix);
  std::string problem = "it is not a Linux bzImage, an ELF image or a multiboot image";
  if (const Compression compression = detect_compression(head); compression != Compression::unknown)
    file.fail(problem + ", but a file packed with " + std::string(to_string(compression)),
              "unpack it first, or " + fix);
  if (has_text(head, 0, "070701")) file.fail(problem + ", but a cpio archive, as an initrd is", fix);
  if (has_text(head, 0, "QFI\xfb"))
    file.fail(problem + ", but a qcow2 disk", "attach it as a disk, and " + fix);
  if (has_text(head, 0, "MZ")) file.fail(problem + ", but an EFI program or a truncated kernel", fix);
  if (has_text(head, 0x1fe, "\x55\xaa"))
    file.fail(problem + ", but a boot sector or a disk image", "attach it as a disk, and " + fix);
  file.fail(problem, fix);
}

}  // namespace hum::boot
