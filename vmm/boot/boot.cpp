// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot.h"

#include <algorithm>
#include <array>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/options.h"
#include "vmm/boot/boot_file.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf_image.h"
#include "vmm/boot/free_space.h"
#include "vmm/boot/kernel_cache.h"
#include "vmm/boot/kernel_kind.h"
#include "vmm/boot/low_memory.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/pvh.h"
#include "vmm/boot/text.h"
#include "vmm/boot/unpack.h"
#include "vmm/boot/zero_page.h"

namespace hum {
namespace {

using namespace boot;

constexpr std::uint64_t page_size = 4096;
constexpr std::uint64_t four_gib = std::uint64_t{4} << 30;
constexpr std::uint64_t first_mib = 1 << 20;
constexpr std::uint64_t entry_64_offset = 0x200;  // Linux boot.rst, "64-bit boot protocol"

constexpr std::array<std::pair<BootProtocol, std::string_view>, 5> protocol_names{{
    {BootProtocol::automatic, "auto"},
    {BootProtocol::bzimage, "bzimage"},
    {BootProtocol::pvh, "pvh"},
    {BootProtocol::linux64, "linux64"},
    {BootProtocol::multiboot, "multiboot"},
}};

std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// What a Linux image says about its surroundings; the defaults are for a bare ELF image.
struct LinuxLimits {
  std::uint64_t command_line = 2047;
  std::uint64_t initrd_end = four_gib;
  std::span<const std::byte> setup_header = {};
};

// Writes an image into guest memory as it is unpacked: the first piece has the ELF headers.
class ElfUnpacker final : public PieceSink {
 public:
  ElfUnpacker(const BootFile& file, const GuestMemory& memory, FreeSpace& space, std::uint64_t image_size)
      : file_(file), memory_(memory), space_(space), image_size_(image_size) {}

  void copy_to(KernelCache::Writer* cache) { cache_ = cache; }

  std::span<std::byte> place_for(std::uint64_t offset, std::uint64_t size) override {
    return image_.segments.place_for(offset, size);
  }

  void deliver(std::uint64_t offset, std::span<const std::byte> piece) override {
    if (offset == 0) parse(piece);
    if (cache_ != nullptr) cache_->write(offset, piece);
    image_.segments.deliver(offset, piece);
  }

  ElfImage take() { return std::move(image_); }

 private:
  void parse(std::span<const std::byte> piece) {
    if (!is_elf(piece)) file_.fail("its payload is not an ELF image", "use the protocol 'bzimage'");
    image_ = ElfImage::parse(file_, image_size_, [&](std::uint64_t at, std::span<std::byte> to) {
      if (at > piece.size() || to.size() > piece.size() - at)
        file_.fail("the headers of its payload are not at its beginning", "use the protocol 'bzimage'");
      std::copy_n(piece.begin() + static_cast<std::ptrdiff_t>(at), to.size(), to.begin());
    });
    image_.segments.place(file_, memory_, space_);
    for (ElfImage::Notes& notes : image_.notes) image_.segments.capture(notes.file_offset, notes.bytes);
  }

  const BootFile& file_;
  const GuestMemory& memory_;
  FreeSpace& space_;
  std::uint64_t image_size_;
  KernelCache::Writer* cache_ = nullptr;
  ElfImage image_;
};

// One call of load_kernel.
class Loader {
 public:
  Loader(const GuestMemory& memory, const BootRequest& request, MemoryMap map)
      : memory_(memory),
        request_(request),
        map_(map),
        space_(map, memory),
        file_("kernel", request.kernel_path) {
    head_.resize(std::min<std::uint64_t>(multiboot_search_size, file_.size()));
    file_.read_at(0, head_);
  }

  LoadedKernel load() {
    const std::optional<MultibootHeader> header = MultibootHeader::find(head_);
    if (BzImage::matches(head_))
      load_bzimage();
    else if (is_elf(head_))
      load_elf(header);
    else if (header && header->addresses)
      load_flat_multiboot(*header);
    else
      fail_unknown_kind(file_, head_);
    if (request_.want_digest && result_.digest.empty()) result_.digest = file_.digest();
    return std::move(result_);
  }

 private:
  bool accepts(BootProtocol protocol) const {
    return request_.protocol == BootProtocol::automatic || request_.protocol == protocol;
  }

  [[noreturn]] void fail_protocol(const std::string& kind) const {
    file_.fail(
        "it cannot be started by the protocol '" + std::string(to_string(request_.protocol)) + "': " + kind,
        "use the protocol 'auto'");
  }

  // bzImage: unpacked here, or left to itself.
  void load_bzimage() {
    if (request_.protocol == BootProtocol::multiboot) fail_protocol("it is a Linux bzImage");
    const BzImage image(file_, head_);
    if (request_.protocol != BootProtocol::bzimage) {
      if (const std::optional<PackedImage> payload = image.payload()) return load_payload(image, *payload);
      if (request_.protocol != BootProtocol::automatic)
        fail_protocol("its payload is packed in a format that is not known here");
    }
    load_whole_bzimage(image);
  }

  void load_whole_bzimage(const BzImage& image) {
    image.require_64_bit_entry();
    if (image.kernel_size() <= entry_64_offset) file_.fail_truncated("a 64-bit entry point");
    const GuestAddress address = place_bzimage(image);
    space_.take({address, image.memory_needed()});
    file_.read_into(memory_, image.kernel_offset(), {address, image.kernel_size()});
    result_.protocol = BootProtocol::bzimage;
    enter_linux(address + entry_64_offset, limits_of(image), address.value);
  }

  GuestAddress place_bzimage(const BzImage& image) const {
    const std::uint64_t size = image.memory_needed();
    GuestAddress least{image.preferred_address()};
    if (space_.is_free({least, size}) && least.value + size <= four_gib) return least;
    if (image.is_relocatable()) {
      const std::uint64_t alignment = std::max(image.alignment(), page_size);
      if (const auto found = space_.lowest(size, alignment, first_mib);
          found && found->value + size <= four_gib)
        return *found;
      least = {align_up(first_mib, alignment)};
    }
    if (least.value > low_ram_limit || size > low_ram_limit - least.value)
      file_.fail("it is damaged: it asks for " + std::to_string(size) + " bytes of memory at " +
                     hexadecimal(least.value),
                 "copy or download it again");
    throw ConfigError("memory", format_size(memory_.size()),
                      "'" + file_.path() + "' needs " + format_memory(size) + " to unpack itself",
                      "give the guest at least " + format_memory(least.value + size));
  }

  static LinuxLimits limits_of(const BzImage& image) {
    return {image.command_line_limit(), image.initrd_end(), image.header()};
  }

  // Unpacking lz4 takes no longer than hashing the file and reading its unpacked form, so it is never cached.
  void load_payload(const BzImage& image, const PackedImage& payload) {
    result_.compression = to_string(payload.compression);
    ElfUnpacker unpacker(file_, memory_, space_, payload.unpacked_size);
    if (request_.cache_folder.empty() || payload.compression == Compression::lz4) {
      unpack(file_, payload, unpacker);
      return enter_elf(unpacker.take(), limits_of(image));
    }
    result_.digest = file_.digest();
    const KernelCache cache(request_.cache_folder, result_.digest);
    if (const std::optional<BootFile> found = cache.find(payload.unpacked_size)) {
      result_.from_cache = true;
      ElfImage unpacked = parse_elf(*found);
      bring_in(unpacked.segments, *found);
      return enter_elf(unpacked, limits_of(image));
    }
    KernelCache::Writer writer(cache);
    unpacker.copy_to(&writer);
    unpack(file_, payload, unpacker);
    if (file_.is_unchanged()) writer.commit();
    enter_elf(unpacker.take(), limits_of(image));
  }

  static ElfImage parse_elf(const BootFile& file) {
    const auto read = [&](std::uint64_t at, std::span<std::byte> to) { file.read_at(at, to); };
    ElfImage image = ElfImage::parse(file, file.size(), read);
    for (ElfImage::Notes& notes : image.notes) file.read_at(notes.file_offset, notes.bytes);
    return image;
  }

  void load_elf(const std::optional<MultibootHeader>& header) {
    if (request_.protocol == BootProtocol::bzimage) fail_protocol("it is an ELF image, not a bzImage");
    ElfImage image = parse_elf(file_);
    const bool prefers_multiboot =
        request_.protocol == BootProtocol::multiboot ||
        (request_.protocol == BootProtocol::automatic && header && !image.pvh_entry(file_));
    if (!prefers_multiboot) {
      bring_in(image.segments, file_);
      return enter_elf(image, {});
    }
    if (!header) fail_protocol("it has no multiboot header in its first 8 KiB");
    if (header->addresses) return load_flat_multiboot(*header);
    header->check_requirements(file_);
    space_.give_low_memory_to_multiboot();
    bring_in(image.segments, file_);
    enter_multiboot(image.segments, image.entry);
  }

  void load_flat_multiboot(const MultibootHeader& header) {
    if (!accepts(BootProtocol::multiboot)) fail_protocol("it is a multiboot image");
    header.check_requirements(file_);
    space_.give_low_memory_to_multiboot();
    SegmentSet segments = header.segments(file_);
    bring_in(segments, file_);
    enter_multiboot(segments, header.addresses->entry);
  }

  void bring_in(SegmentSet& segments, const BootFile& from) {
    segments.place(from, memory_, space_);
    segments.read_from(from);
  }

  void clear_rest(const SegmentSet& segments) const {
    if (!request_.fresh_memory) segments.zero_rest(memory_);
  }

  std::uint64_t locate_entry(const SegmentSet& segments, std::uint64_t entry) const {
    const std::optional<GuestAddress> physical = segments.locate(entry);
    if (!physical || physical->value >= four_gib)
      file_.fail("it is damaged: its entry point " + hexadecimal(entry) +
                     " lies outside of its segments or above 4 GiB",
                 "link it with an entry point inside its code");
    return physical->value;
  }

  // An ELF image that is in place. Linux by its 64-bit entry, which spares the way through 32-bit mode, but
  // takes no modules; others by their PVH note if they have one.
  void enter_elf(const ElfImage& image, const LinuxLimits& limits) {
    clear_rest(image.segments);
    const std::optional<std::uint32_t> pvh = image.pvh_entry(file_);
    const bool prefers_64 =
        request_.protocol == BootProtocol::automatic && image.is_linux_64() && request_.modules.empty();
    if (pvh && accepts(BootProtocol::pvh) && !prefers_64) return enter_pvh(*pvh, limits);
    if (request_.protocol == BootProtocol::pvh) fail_protocol("it has no PVH note (Linux: CONFIG_PVH)");
    if (!image.is_64)
      file_.fail("it is a 32-bit kernel with neither a PVH note nor a multiboot header",
                 "give an x86-64 kernel");
    result_.protocol = BootProtocol::linux64;
    enter_linux({locate_entry(image.segments, image.entry)}, limits, 0);
  }

  void enter_pvh(std::uint32_t entry, const LinuxLimits& limits) {
    result_.protocol = BootProtocol::pvh;
    write_command_line(request_.command_line, limits.command_line);
    const std::vector<LoadedModule> modules = load_modules(
        [&](std::uint64_t size) {
          return space_.highest(size, page_size, std::min(limits.initrd_end, four_gib));
        },
        limits.initrd_end, "");
    result_.entry = enter_protected(memory_, entry);
    result_.entry.rbx =
        write_start_info(memory_, {low_memory::command_line, modules, request_.acpi_rsdp, map_}).value;
  }

  void enter_multiboot(const SegmentSet& segments, std::uint64_t entry) {
    clear_rest(segments);
    result_.protocol = BootProtocol::multiboot;
    const std::string name = base_name(file_.path());
    write_command_line(request_.command_line.empty() ? name : name + " " + request_.command_line, UINT64_MAX);
    // Behind the kernel, where a 32-bit kernel with little mapped is most likely to reach them.
    const std::vector<LoadedModule> modules =
        load_modules([&](std::uint64_t size) { return space_.lowest(size, page_size, first_mib); }, four_gib,
                     base_name(request_.initrd_path));
    result_.entry = enter_protected(memory_, locate_entry(segments, entry));
    result_.entry.rax = multiboot_entry_magic;
    result_.entry.rbx = write_multiboot_info(memory_, {low_memory::command_line, modules, map_}).value;
  }

  void enter_linux(GuestAddress entry, const LinuxLimits& limits, std::uint64_t kernel_address) {
    if (!request_.modules.empty())
      throw ConfigError("modules", request_.modules.front().path,
                        "a kernel started by the protocol '" + std::string(to_string(result_.protocol)) +
                            "' takes no modules",
                        "put the files into the initrd");
    write_command_line(request_.command_line, limits.command_line);
    const std::vector<LoadedModule> initrd = load_modules(
        [&](std::uint64_t size) {
          return space_.highest(size, page_size, std::min(limits.initrd_end, four_gib));
        },
        limits.initrd_end, "");
    write_zero_page(memory_,
                    {limits.setup_header, kernel_address, low_memory::command_line,
                     initrd.empty() ? GuestRange{} : initrd.front().range, request_.acpi_rsdp, map_});
    result_.entry = enter_long(memory_, entry.value);
    result_.entry.rsi = low_memory::zero_page.value;
  }

  void write_command_line(const std::string& text, std::uint64_t limit) const {
    constexpr std::uint64_t area = low_memory::end.value - low_memory::command_line.value - 1;
    limit = std::min(limit, area);
    const std::string shown = text.size() > 64 ? text.substr(0, 64) + "..." : text;
    if (text.size() > limit)
      throw ConfigError("cmdline", shown,
                        "it has " + std::to_string(text.size()) + " characters, this kernel takes at most " +
                            std::to_string(limit),
                        "shorten it");
    if (text.find('\0') != std::string::npos)
      throw ConfigError("cmdline", shown, "it contains a zero character", "remove it");
    memory_.write_bytes(low_memory::command_line, std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  }

  // The initrd, if any, and then the modules. place(size) finds the address for each, below end.
  template <class Place>
  std::vector<LoadedModule> load_modules(Place place, std::uint64_t end, const std::string& initrd_text) {
    std::vector<LoadedModule> loaded;
    const auto add = [&](const char* key, const BootFile* file, std::span<const std::byte> more,
                         const std::string& text) {
      const std::uint64_t file_size = file == nullptr ? 0 : file->size();
      const std::uint64_t more_at = align_up(file_size, 4);  // where Linux looks for a further archive
      const std::uint64_t size = more.empty() ? file_size : more_at + more.size();
      const std::optional<GuestAddress> address = place(size);
      if (!address) fail_no_room(key, file == nullptr ? "" : file->path(), size, end);
      const GuestRange range{*address, size};
      space_.take(range);
      if (file != nullptr) file->read_into(memory_, 0, {range.begin, file_size});
      if (!more.empty()) {
        memory_.fill_zero({range.begin + file_size, more_at - file_size});
        memory_.write_bytes(range.begin + more_at, more);
      }
      loaded.push_back({range, text});
    };
    if (!request_.initrd_path.empty()) {
      const BootFile initrd("initrd", request_.initrd_path);
      add("initrd", &initrd, request_.extra_initrd, initrd_text);
    } else if (!request_.extra_initrd.empty()) {
      add("initrd", nullptr, request_.extra_initrd, initrd_text);
    }
    if (!loaded.empty()) result_.initrd = loaded.front().range;
    for (const BootModule& each : request_.modules) {
      const BootFile module("modules", each.path);
      add("modules", &module, {}, each.text);
    }
    return loaded;
  }

  [[noreturn]] void fail_no_room(const std::string& key, const std::string& path, std::uint64_t size,
                                 std::uint64_t end) const {
    const std::uint64_t limit = std::min(end, low_ram_limit);
    const std::uint64_t begin = align_up(space_.taken_end(), page_size);
    if (begin > limit || size > limit - begin)
      throw ConfigError(key, path,
                        "its " + format_memory(size) + " do not fit between the kernel, which ends at " +
                            hexadecimal(begin) + ", and " + hexadecimal(limit),
                        "use a smaller one: more memory does not help");
    throw ConfigError(key, path,
                      "its " + format_memory(size) + " do not fit beside the kernel into a memory of " +
                          format_size(memory_.size()),
                      "give the guest at least " + format_memory(begin + align_up(size, page_size)));
  }

  const GuestMemory& memory_;
  const BootRequest& request_;
  MemoryMap map_;
  FreeSpace space_;
  BootFile file_;
  std::vector<std::byte> head_;
  LoadedKernel result_;
};

}  // namespace

std::string_view to_string(BootProtocol protocol) {
  for (const auto& [each, name] : protocol_names)
    if (each == protocol) return name;
  return {};
}

std::optional<BootProtocol> boot_protocol_from(std::string_view text) {
  for (const auto& [protocol, name] : protocol_names)
    if (name == text) return protocol;
  return std::nullopt;
}

LoadedKernel load_kernel(const GuestMemory& memory, const BootRequest& request, MemoryMap map) {
  if (!memory.contains({{0}, low_memory::end.value}))
    throw ConfigError("memory", format_size(memory.size()), "it is too little to start any kernel",
                      "give the guest at least 1M");
  if (map.size() > memory_map_capacity)
    throw ConfigError("memory", format_size(memory.size()),
                      "its map has " + std::to_string(map.size()) + " ranges; at most " +
                          std::to_string(memory_map_capacity) + " can be told to a kernel",
                      "attach fewer memory devices");
  return Loader(memory, request, map).load();
}

}  // namespace hum
