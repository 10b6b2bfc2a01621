// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/kernel_facts.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/boot/boot_file.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/decoders.h"
#include "vmm/boot/elf_image.h"
#include "vmm/boot/kernel_kind.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/unpack.h"

namespace hum {
namespace {

using namespace boot;

using Bytes = std::span<const std::byte>;

constexpr std::uint64_t image_limit = std::uint64_t{1} << 30;
constexpr std::size_t configuration_limit = 4 << 20;
constexpr std::size_t version_limit = 64;
constexpr std::string_view configuration_begin = "IKCFG_ST";  // Linux, kernel/configs.c
constexpr std::string_view configuration_end = "IKCFG_ED";
constexpr std::string_view banner = "Linux version ";  // Linux, init/version.c

std::size_t find(Bytes bytes, std::string_view text, std::size_t from = 0) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all.find(text, from);
}

// A release as Linux has it: "6.1.0-56-cloud-amd64". Nothing else of the file is ever printed.
std::string release_at(Bytes bytes, std::size_t at) {
  std::string release;
  while (at < bytes.size() && release.size() < version_limit) {
    const char each = static_cast<char>(bytes[at++]);
    const bool letter = (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z');
    if (!letter && !(each >= '0' && each <= '9') && std::strchr(".-+_~:", each) == nullptr) break;
    if (each == '\0') break;
    release += each;
  }
  const bool plausible = !release.empty() && release[0] >= '0' && release[0] <= '9';
  return plausible ? release : std::string();
}

// An image says "Linux version %s" in other places too.
std::string release_in(Bytes image) {
  for (std::size_t at = find(image, banner); at != std::string_view::npos; at = find(image, banner, at + 1))
    if (std::string release = release_at(image, at + banner.size()); !release.empty()) return release;
  return {};
}

std::string unpack_configuration(Bytes packed) {
  const std::unique_ptr<Decoder> decoder = make_decoder(Compression::gzip);
  std::string text;
  std::array<std::byte, 64 * 1024> room;
  while (text.size() < configuration_limit) {
    std::span<std::byte> out(room);
    const std::size_t before = packed.size();
    const Decoder::Result result = decoder->decode(packed, out);
    const std::size_t got = room.size() - out.size();
    text.append(reinterpret_cast<const char*>(room.data()), got);
    if (result == Decoder::Result::finished) return text;
    if (result == Decoder::Result::damaged || (got == 0 && packed.size() == before)) break;
  }
  return {};
}

std::string configuration_in(Bytes image) {
  const std::size_t begin = find(image, configuration_begin);
  if (begin == std::string_view::npos) return {};
  const Bytes rest = image.subspan(begin + configuration_begin.size());
  const std::size_t size = std::min(find(rest, configuration_end), configuration_limit);
  return size < rest.size() ? unpack_configuration(rest.first(size)) : std::string();
}

// Keeps what comes out of a decompressor.
class Collector final : public PieceSink {
 public:
  std::span<std::byte> place_for(std::uint64_t, std::uint64_t) override { return {}; }
  void deliver(std::uint64_t, Bytes piece) override {
    image_.insert(image_.end(), piece.begin(), piece.end());
  }
  Bytes image() const { return image_; }

 private:
  std::vector<std::byte> image_;
};

class Examiner {
 public:
  Examiner(const std::string& path, std::span<const std::string_view> texts)
      : file_("kernel", path),
        texts_(texts),
        head_(std::min<std::uint64_t>(multiboot_search_size, file_.size())) {
    file_.read_at(0, head_);
    facts_.texts.resize(texts.size());
  }

  KernelFacts examine() {
    const std::optional<MultibootHeader> header = MultibootHeader::find(head_);
    facts_.multiboot = header.has_value();
    if (BzImage::matches(head_)) {
      examine_bzimage();
    } else if (is_elf(head_)) {
      const std::vector<std::byte> image = read_all();
      examine_elf(image);
      facts_.kind = is_64_ ? "ELF image of 64 bits" : "ELF image of 32 bits";
      if (!facts_.pvh && !facts_.linux_64 && !facts_.multiboot)
        facts_.problem = "it is a 32-bit kernel with neither a PVH note nor a multiboot header";
    } else if (header && header->addresses) {
      facts_.kind = "multiboot image";
      facts_.unpacked = true;
    } else {
      fail_unknown_kind(file_, head_);
    }
    return std::move(facts_);
  }

 private:
  std::vector<std::byte> read_all() const {
    if (file_.size() > image_limit)
      file_.fail("it has " + std::to_string(file_.size()) + " bytes; at most 1 GiB is accepted",
                 "give the kernel without its debugging information (strip -g)");
    std::vector<std::byte> image(file_.size());
    file_.read_at(0, image);
    return image;
  }

  void examine_bzimage() {
    const BzImage image(file_, head_);
    facts_.is_linux = true;
    facts_.kind =
        "bzImage " + std::to_string(image.version() >> 8) + "." + std::to_string(image.version() & 0xff);
    facts_.version = release_named_by_header();
    facts_.command_line_limit = image.command_line_limit();
    facts_.linux_64 = image.has_64_bit_entry();
    if (!facts_.linux_64) return note_problem([&] { image.require_64_bit_entry(); });
    note_problem([&] {
      const std::optional<PackedImage> payload = image.payload();
      if (!payload) return;
      facts_.compression = to_string(payload->compression);
      Collector collector;
      unpack(file_, *payload, collector);
      if (!is_elf(collector.image())) return;
      examine_elf(collector.image());
    });
  }

  // The offset, less 0x200, of a text in the real-mode part (boot.rst, kernel_version).
  std::string release_named_by_header() const {
    const std::uint64_t at = load_le(std::span(head_).subspan(0x20e, 2));
    return at == 0 ? std::string() : release_at(head_at(at + 0x200), 0);
  }

  std::vector<std::byte> head_at(std::uint64_t offset) const {
    if (offset >= file_.size()) return {};
    std::vector<std::byte> bytes(std::min<std::uint64_t>(version_limit, file_.size() - offset));
    file_.read_at(offset, bytes);
    return bytes;
  }

  void examine_elf(Bytes bytes) {
    const auto read = [&](std::uint64_t at, std::span<std::byte> to) {
      if (at > bytes.size() || to.size() > bytes.size() - at) file_.fail_truncated("all of its ELF headers");
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), to.size(), to.begin());
    };
    ElfImage image = ElfImage::parse(file_, bytes.size(), read);
    for (ElfImage::Notes& notes : image.notes) read(notes.file_offset, notes.bytes);
    facts_.pvh = image.pvh_entry(file_).has_value();
    const std::string release = release_in(bytes);
    if (facts_.version.empty()) facts_.version = release;
    facts_.is_linux = facts_.is_linux || image.is_linux_64() || !release.empty();
    is_64_ = image.is_64;
    facts_.linux_64 = facts_.linux_64 || image.is_64;
    facts_.configuration = configuration_in(bytes);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      facts_.texts[i] = find(bytes, texts_[i]) != std::string_view::npos;
    facts_.unpacked = true;
  }

  template <class Work>
  void note_problem(Work work) {
    try {
      work();
    } catch (const ConfigError& error) {
      facts_.problem = error.what();
    }
  }

  BootFile file_;
  std::span<const std::string_view> texts_;
  std::vector<std::byte> head_;
  bool is_64_ = false;
  KernelFacts facts_;
};

}  // namespace

KernelFacts examine_kernel(const std::string& path, std::span<const std::string_view> texts) {
  return Examiner(path, texts).examine();
}

}  // namespace hum
