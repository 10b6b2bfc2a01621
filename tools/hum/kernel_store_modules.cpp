// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_store_modules.h"

#include <elf.h>
#include <lzma.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "tools/hum/kernel_store_files.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t memory_limit = 256 << 20;

std::string normal_name(std::string_view name) {
  std::string normal(name);
  std::replace(normal.begin(), normal.end(), '-', '_');
  return normal;
}

// "virtio-rng.ko.xz" -> "virtio_rng"; nothing if the file is no module.
std::optional<std::string> module_name(const std::string& file) {
  for (const std::string_view ending : {".ko", ".ko.xz", ".ko.zst"}) {
    if (file.ends_with(ending)) return normal_name(file.substr(0, file.size() - ending.size()));
  }
  return std::nullopt;
}

ConfigError broken(std::string_view name, const std::string& problem) {
  return ConfigError("kernel module", std::string(name), problem, "get the kernel package again");
}

Bytes unpack_xz(std::string_view name, const Bytes& packed) {
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_decoder(&stream, memory_limit, 0) != LZMA_OK) throw broken(name, "cannot be unpacked");
  const std::unique_ptr<lzma_stream, decltype(&lzma_end)> ended(&stream, &lzma_end);
  stream.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  Bytes content(4 * packed.size());
  lzma_ret state = LZMA_OK;
  while (state == LZMA_OK) {
    if (stream.total_out == content.size()) content.resize(2 * content.size());
    stream.next_out = reinterpret_cast<std::uint8_t*>(content.data()) + stream.total_out;
    stream.avail_out = content.size() - stream.total_out;
    state = lzma_code(&stream, LZMA_FINISH);
  }
  if (state != LZMA_STREAM_END) throw broken(name, "is no valid xz file");
  content.resize(stream.total_out);
  return content;
}

Bytes unpack_zstd(std::string_view name, const Bytes& packed) {
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream(ZSTD_createDStream(),
                                                                          &ZSTD_freeDStream);
  ZSTD_inBuffer from{packed.data(), packed.size(), 0};
  Bytes content(4 * packed.size());
  ZSTD_outBuffer to{content.data(), content.size(), 0};
  while (true) {
    const std::size_t left = ZSTD_decompressStream(stream.get(), &to, &from);
    if (ZSTD_isError(left) != 0) throw broken(name, "is no valid zstd file");
    if (left == 0) break;
    if (to.pos < to.size && from.pos == from.size) throw broken(name, "is cut off");
    content.resize(2 * content.size());
    to.dst = content.data();
    to.size = content.size();
  }
  content.resize(to.pos);
  return content;
}

Bytes read_module(const fs::path& path) {
  Bytes content = read_whole_file(path);
  if (path.extension() == ".xz") return unpack_xz(path.string(), content);
  if (path.extension() == ".zst") return unpack_zstd(path.string(), content);
  return content;
}

// A copy of the T at offset; nothing if it is not wholly inside.
template <class T>
std::optional<T> load(std::span<const std::byte> bytes, std::uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::optional<std::string_view> section_text(std::span<const std::byte> file, const Elf64_Shdr& section) {
  if (section.sh_offset > file.size() || file.size() - section.sh_offset < section.sh_size)
    return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(file.data()) + section.sh_offset, section.sh_size);
}

std::optional<std::string_view> find_section(std::span<const std::byte> file, std::string_view wanted) {
  const auto header = load<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64) {
    return std::nullopt;
  }
  const auto section = [&](std::uint64_t index) {
    return load<Elf64_Shdr>(file, header->e_shoff + index * sizeof(Elf64_Shdr));
  };
  const auto name_section = section(header->e_shstrndx);
  const auto names = name_section ? section_text(file, *name_section) : std::nullopt;
  if (!names) return std::nullopt;
  for (std::uint64_t index = 0; index < header->e_shnum; ++index) {
    const auto candidate = section(index);
    if (!candidate || candidate->sh_name >= names->size()) continue;
    const std::string_view name = names->substr(candidate->sh_name);
    if (name.substr(0, name.find('\0')) == wanted) return section_text(file, *candidate);
  }
  return std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end != 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// "pre: a b post: c"
void read_soft_dependencies(std::string_view text, ModuleInfo& info) {
  std::vector<std::string>* list = &info.before;
  for (const std::string_view word : split(text, ' ')) {
    if (word == "pre:") {
      list = &info.before;
    } else if (word == "post:") {
      list = &info.after;
    } else {
      list->push_back(normal_name(word));
    }
  }
}

// The walk through one kernel's modules: depth first, each module once.
class Closure {
 public:
  explicit Closure(const fs::path& folder) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      const auto name = module_name(entry.path().filename());
      if (name && entry.is_regular_file()) files_[*name] = entry.path();
    }
    if (!fs::exists(folder / "modules.builtin")) return;
    const Bytes text = read_whole_file(folder / "modules.builtin");
    for (const std::string_view line :
         split({reinterpret_cast<const char*>(text.data()), text.size()}, '\n')) {
      if (const auto name = module_name(fs::path(line).filename())) built_in_.insert(*name);
    }
  }

  void add_if_present(const std::string& name, unsigned virtio_device) {
    const auto file = files_.find(name);
    if (file == files_.end() || seen_.contains({name, 0}) || !seen_.insert({name, virtio_device}).second)
      return;
    KernelModule module{name, read_module(file->second), virtio_device};
    const ModuleInfo info = read_module_info(name, module.content);
    for (const std::string& soft : info.before) add_if_present(soft, virtio_device);
    for (const std::string& needed : info.needs) {
      if (!files_.contains(needed) && !built_in_.contains(needed)) {
        throw broken(name, "needs the module '" + needed + "', which the kernel does not have");
      }
      add_if_present(needed, virtio_device);
    }
    modules_.push_back(std::move(module));
    for (const std::string& soft : info.after) add_if_present(soft, virtio_device);
  }

  std::vector<KernelModule> take() { return std::move(modules_); }

 private:
  std::map<std::string, fs::path> files_;
  std::set<std::string> built_in_;
  std::set<std::pair<std::string, unsigned>> seen_;  // with the device that it is for
  std::vector<KernelModule> modules_;
};

}  // namespace

ModuleInfo read_module_info(std::string_view name, std::span<const std::byte> module) {
  const auto text = find_section(module, ".modinfo");
  if (!text) throw broken(name, "is no 64-bit ELF file with a .modinfo section");
  ModuleInfo info;
  constexpr std::string_view depends = "depends=";
  constexpr std::string_view softdep = "softdep=";
  for (const std::string_view line : split(*text, '\0')) {
    if (line.starts_with(depends)) {
      for (const std::string_view needed : split(line.substr(depends.size()), ',')) {
        info.needs.push_back(normal_name(needed));
      }
    } else if (line.starts_with(softdep)) {
      read_soft_dependencies(line.substr(softdep.size()), info);
    }
  }
  return info;
}

std::vector<KernelModule> module_closure(const fs::path& folder, std::span<const WantedModule> wanted) {
  Closure closure(folder);
  for (const WantedModule& each : wanted)
    if (each.virtio_device == 0) closure.add_if_present(normal_name(each.name), 0);
  for (const WantedModule& each : wanted)
    if (each.virtio_device != 0) closure.add_if_present(normal_name(each.name), each.virtio_device);
  return closure.take();
}

}  // namespace hum
