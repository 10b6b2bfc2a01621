// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t most_bytes_read = 256ull << 20;
constexpr std::size_t chunk_size = 64 * 1024;
constexpr std::size_t longest_name = 255;
constexpr std::uint64_t farthest_in_map = 1ull << 20;  // a System.map has no sizes

// Fewer bytes than asked for only at the file's end or where it cannot be read.
std::size_t read_at(int file, std::uint64_t offset, std::span<std::byte> to) {
  std::size_t done = 0;
  while (done < to.size() && offset + done <= INT64_MAX) {
    const ssize_t count =
        ::pread(file, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

template <class T>
bool read_object(int file, std::uint64_t offset, T& object) {
  return read_at(file, offset, writable_bytes_of(object)) == sizeof object;
}

// The best symbol so far for one address.
struct Match {
  std::uint64_t address;
  std::uint64_t start = 0;
  bool is_function = false;
  std::optional<std::uint64_t> name_offset = {};  // in the file (ELF)
  std::string name = {};                          // or the name itself (System.map)

  bool is_better(std::uint64_t value, bool function) const {
    if (value > address) return false;
    if (!name_offset && name.empty()) return true;
    return value > start || (value == start && function && !is_function);
  }
};

// Names come from a file that may hold anything and go to a terminal.
std::string printable(std::string_view name) {
  std::string text(name.substr(0, longest_name));
  std::replace_if(text.begin(), text.end(), [](char letter) { return letter <= ' ' || letter > '~'; }, '?');
  return text;
}

std::string name_at(int file, std::uint64_t offset) {
  std::array<char, longest_name> text;
  const std::size_t size = read_at(file, offset, std::as_writable_bytes(std::span(text)));
  return std::string(text.data(), std::find(text.data(), text.data() + size, '\0'));
}

template <class Section>
void match_symbols(int file, std::span<const Section> sections, const Section& table, const auto& consider) {
  using Symbol = std::conditional_t<std::is_same_v<Section, Elf64_Shdr>, Elf64_Sym, Elf32_Sym>;
  if (table.sh_entsize != sizeof(Symbol) || table.sh_link >= sections.size()) return;
  const std::uint64_t names = sections[table.sh_link].sh_offset;
  const std::uint64_t names_size = sections[table.sh_link].sh_size;
  std::vector<Symbol> symbols(chunk_size / sizeof(Symbol));
  std::uint64_t left = std::min<std::uint64_t>(table.sh_size, most_bytes_read) / sizeof(Symbol);
  for (std::uint64_t at = table.sh_offset; left != 0; at += symbols.size() * sizeof(Symbol)) {
    symbols.resize(std::min<std::uint64_t>(symbols.size(), left));
    const std::size_t got = read_at(file, at, std::as_writable_bytes(std::span(symbols))) / sizeof(Symbol);
    for (const Symbol& symbol : std::span(symbols).first(got)) {
      const unsigned type = symbol.st_info & 0xfu;
      if ((type != STT_FUNC && type != STT_NOTYPE) || symbol.st_name == 0 || symbol.st_name >= names_size)
        continue;
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= sections.size()) continue;
      const Section& home = sections[symbol.st_shndx];
      if ((home.sh_flags & SHF_EXECINSTR) == 0) continue;
      consider(std::uint64_t{symbol.st_value}, std::uint64_t{home.sh_addr} + home.sh_size, type == STT_FUNC,
               names + symbol.st_name);
    }
    if (got < symbols.size()) return;
    left -= got;
  }
}

template <class Header, class Section>
void match_elf(int file, std::span<Match> matches) {
  Header header;
  if (!read_object(file, 0, header) || header.e_shentsize != sizeof(Section)) return;
  std::vector<Section> sections(header.e_shnum);
  const std::size_t got =
      read_at(file, header.e_shoff, std::as_writable_bytes(std::span(sections))) / sizeof(Section);
  sections.resize(got);
  const auto consider = [&](std::uint64_t value, std::uint64_t end, bool function, std::uint64_t name) {
    for (Match& match : matches)
      if (match.address < end && match.is_better(value, function)) {
        match.start = value;
        match.is_function = function;
        match.name_offset = name;
      }
  };
  for (const Section& section : sections)
    if (section.sh_type == SHT_SYMTAB) {
      match_symbols<Section>(file, sections, section, consider);
      break;
    }
  for (Match& match : matches)
    if (match.name_offset) match.name = name_at(file, *match.name_offset);
}

// "ffffffff81000000 T _text"
void match_line(std::string_view line, std::span<Match> matches) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value, 16);
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  constexpr std::string_view code_types = "tTwW";
  if (error != std::errc() || line.size() < 4 || line[0] != ' ' || line[2] != ' ' ||
      code_types.find(line[1]) == std::string_view::npos)
    return;
  for (Match& match : matches)
    if (match.address - value < farthest_in_map && match.is_better(value, false)) {
      match.start = value;
      match.name = line.substr(3, longest_name);
    }
}

void match_map(int file, std::span<Match> matches) {
  std::vector<char> buffer(chunk_size);
  std::size_t kept = 0;   // of a line that goes on in the next chunk
  bool skipping = false;  // a line longer than the buffer
  for (std::uint64_t at = 0; at < most_bytes_read;) {
    const std::size_t got = read_at(file, at, std::as_writable_bytes(std::span(buffer).subspan(kept)));
    at += got;
    std::string_view text(buffer.data(), kept + got);
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
      if (!std::exchange(skipping, false)) match_line(text.substr(0, end), matches);
      text.remove_prefix(end + 1);
    }
    if (got == 0) {
      if (!skipping) match_line(text, matches);
      return;
    }
    if (text.size() == buffer.size()) {
      skipping = true;
      text.remove_prefix(text.size());
    }
    kept = text.size();
    std::memmove(buffer.data(), text.data(), kept);
  }
}

Fd open_symbols(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info{};
  if (!file || ::fstat(file.get(), &info) != 0)
    throw ConfigError("symbols", path, std::string("cannot be read: ") + std::strerror(errno),
                      "name a vmlinux or a System.map");
  if (!S_ISREG(info.st_mode))
    throw ConfigError("symbols", path, "is not a regular file", "name a vmlinux or a System.map");
  return file;
}

}  // namespace

SymbolFile::SymbolFile(const std::string& path) : file_(open_symbols(path)) {}

std::vector<std::string> SymbolFile::describe(std::span<const std::uint64_t> addresses) const {
  std::vector<Match> matches;
  for (const std::uint64_t address : addresses) matches.push_back({.address = address});
  std::array<unsigned char, EI_NIDENT> identity{};
  read_at(file_.get(), 0, std::as_writable_bytes(std::span(identity)));
  if (std::memcmp(identity.data(), ELFMAG, SELFMAG) != 0) {
    match_map(file_.get(), matches);
  } else if (identity[EI_DATA] == ELFDATA2LSB && identity[EI_CLASS] == ELFCLASS64) {
    match_elf<Elf64_Ehdr, Elf64_Shdr>(file_.get(), matches);
  } else if (identity[EI_DATA] == ELFDATA2LSB && identity[EI_CLASS] == ELFCLASS32) {
    match_elf<Elf32_Ehdr, Elf32_Shdr>(file_.get(), matches);
  }
  std::vector<std::string> texts;
  for (const Match& match : matches) {
    if (match.name.empty()) {
      texts.emplace_back();
      continue;
    }
    std::array<char, 20> offset;
    const auto end =
        std::to_chars(offset.data(), offset.data() + offset.size(), match.address - match.start, 16);
    texts.push_back(printable(match.name) + "+0x" + std::string(offset.data(), end.ptr));
  }
  return texts;
}

}  // namespace hum
