// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "vmm/base/endian.h"
#include "vmm/boot/text.h"

namespace hum::boot {
namespace {

// Offsets in the file's first sectors.
constexpr std::size_t setup_sectors = 0x1f1;
constexpr std::size_t paragraphs = 0x1f4;  // of the protected-mode part, 16 bytes each
constexpr std::size_t boot_flag = 0x1fe;
constexpr std::size_t jump_distance = 0x201;  // the header ends this far behind 0x202
constexpr std::size_t magic = 0x202;
constexpr std::size_t protocol_version = 0x206;
constexpr std::size_t initrd_address_max = 0x22c;  // 2.03
constexpr std::size_t kernel_alignment = 0x230;    // 2.05
constexpr std::size_t relocatable = 0x234;         // 2.05
constexpr std::size_t extra_load_flags = 0x236;    // 2.12
constexpr std::size_t command_line_size = 0x238;   // 2.06
constexpr std::size_t payload_offset = 0x248;      // 2.08
constexpr std::size_t payload_length = 0x24c;      // 2.08
constexpr std::size_t preferred = 0x258;           // 2.10
constexpr std::size_t init_size = 0x260;           // 2.10

constexpr std::uint32_t kernel_64 = 1u << 0;  // XLF_KERNEL_64
constexpr std::uint64_t sector_size = 512;
constexpr std::uint64_t unpacked_limit = std::uint64_t{1} << 30;
constexpr std::uint64_t smallest_payload = 16;

// The end of the header of a version, as far as fields of it are used here.
std::size_t least_header_end(std::uint32_t version) {
  if (version >= 0x020a) return 0x264;
  if (version >= 0x0208) return 0x250;
  if (version >= 0x0206) return 0x23c;
  if (version >= 0x0205) return 0x236;
  return 0x230;
}

std::string describe_version(std::uint32_t version) {
  return std::to_string(version >> 8) + "." + (version % 256 < 10 ? "0" : "") + std::to_string(version % 256);
}

}  // namespace

bool BzImage::matches(std::span<const std::byte> head) {
  return head.size() >= protocol_version && load_le(head.subspan(boot_flag, 2)) == 0xaa55 &&
         load_le(head.subspan(magic, 4)) == 0x53726448;  // "HdrS"
}

BzImage::BzImage(const BootFile& file, std::span<const std::byte> head) : file_(file) {
  if (head.size() < protocol_version + 2) file.fail_truncated("a setup header");
  version_ = static_cast<std::uint32_t>(load_le(head.subspan(protocol_version, 2)));
  const std::size_t end = std::min(magic + static_cast<std::size_t>(head[jump_distance]), header_limit);
  if (end < least_header_end(version_))
    file.fail("it is damaged: its setup header ends at " + hexadecimal(end) + ", too early for version " +
                  describe_version(version_),
              "copy or download it again");
  if (head.size() < end) file.fail_truncated("a setup header of " + std::to_string(end) + " bytes");
  header_ = head.subspan(header_begin, end - header_begin);

  const std::uint64_t sectors = field(setup_sectors, 1);
  kernel_offset_ = ((sectors == 0 ? 4 : sectors) + 1) * sector_size;
  const std::uint64_t size = field(paragraphs, 4) * 16;
  // The last paragraph may be incomplete; behind the kernel there may be a signature.
  if (size == 0 || file.size() < kernel_offset_ + size - 15)
    file.fail_truncated("at least " + std::to_string(kernel_offset_ + std::max<std::uint64_t>(size, 16)) +
                        " by its setup header");
  kernel_size_ = std::min(size, file.size() - kernel_offset_);
}

std::uint64_t BzImage::field(std::size_t offset, std::size_t size) const {
  return load_le(header_.subspan(offset - header_begin, size));
}

bool BzImage::has_64_bit_entry() const {
  return version_ >= 0x020c && (field(extra_load_flags, 2) & kernel_64) != 0;
}

void BzImage::require_64_bit_entry() const {
  if (version_ < 0x020c)
    file_.fail("its boot protocol " + describe_version(version_) +
                   " is too old: entering it needs 2.12 (Linux 3.8) or later",
               "give a newer kernel");
  if (!has_64_bit_entry())
    file_.fail("it is a 32-bit kernel (no 64-bit entry point)", "give an x86-64 kernel");
  if (!std::has_single_bit(alignment()))
    file_.fail("it is damaged: its alignment " + hexadecimal(alignment()) + " is no power of two",
               "copy or download it again");
}

std::uint64_t BzImage::preferred_address() const {
  return field(preferred, 8);
}
std::uint64_t BzImage::memory_needed() const {
  return std::max(field(init_size, 4), kernel_size_);
}
bool BzImage::is_relocatable() const {
  return field(relocatable, 1) != 0;
}
std::uint64_t BzImage::alignment() const {
  return field(kernel_alignment, 4);
}

std::uint64_t BzImage::command_line_limit() const {
  const std::uint64_t size = version_ >= 0x0206 ? field(command_line_size, 4) : 0;
  return size == 0 ? 255 : size;
}

std::uint64_t BzImage::initrd_end() const {
  return version_ >= 0x0203 ? field(initrd_address_max, 4) + 1 : 0x3800'0000;
}

std::optional<PackedImage> BzImage::payload() const {
  if (version_ < 0x0208) return std::nullopt;
  const std::uint64_t offset = field(payload_offset, 4);
  const std::uint64_t size = field(payload_length, 4);
  if (size == 0) return std::nullopt;
  if (size < smallest_payload || offset > kernel_size_ || size > kernel_size_ - offset)
    file_.fail("it is damaged: its payload of " + std::to_string(size) + " bytes at " + hexadecimal(offset) +
                   " lies outside of its " + std::to_string(kernel_size_) + " bytes",
               "copy or download it again");
  PackedImage image{kernel_offset_ + offset, size, Compression::unknown, 0};
  std::array<std::byte, 6> first{};
  file_.read_at(image.offset, first);
  image.compression = detect_compression(first);
  if (image.compression == Compression::unknown) return std::nullopt;

  // The last four bytes are the unpacked size; gzip has them as part of its own format.
  le32 unpacked_size;
  file_.read_at(image.offset + size - sizeof unpacked_size, writable_bytes_of(unpacked_size));
  image.unpacked_size = unpacked_size;
  if (image.compression != Compression::gzip) image.size -= sizeof unpacked_size;
  if (image.unpacked_size > unpacked_limit)
    file_.fail("its payload claims to unpack to " + std::to_string(image.unpacked_size) +
                   " bytes; at most 1 GiB is accepted",
               "copy or download it again");
  return image;
}

}  // namespace hum::boot
