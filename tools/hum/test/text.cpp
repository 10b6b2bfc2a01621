// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/text.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

constexpr std::size_t largest_text_file = 16u << 20;
constexpr std::string_view replacement = "\xef\xbf\xbd";  // U+FFFD

// The length of the valid UTF-8 sequence that the text begins with; 0 if it begins with none. The
// non-characters U+FFFE and U+FFFF, which XML forbids, are none.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool too_high = first == 0xf4 && byte(1) >= 0x90;
  const bool no_character = first == 0xef && byte(1) == 0xbf && byte(2) >= 0xbe;
  const bool control = first == 0xc2 && byte(1) < 0xa0;
  return overlong || surrogate || too_high || no_character || control ? 0 : length;
}

}  // namespace

void BoundedText::append(std::string_view text) {
  size_ += text.size();
  const std::size_t begins = std::min(text.size(), half_ - head_.size());
  head_ += text.substr(0, begins);
  text.remove_prefix(begins);
  if (text.size() > half_) text.remove_prefix(text.size() - half_);
  tail_ += text;
  if (tail_.size() > 2 * half_) tail_.erase(0, tail_.size() - half_);
}

std::string BoundedText::text() const {
  const std::size_t ends = std::min(tail_.size(), half_);
  const std::uint64_t missing = size_ - head_.size() - ends;
  std::string all = head_;
  if (missing != 0) all += "\n[" + std::to_string(missing) + " bytes left out]\n";
  return all + tail_.substr(tail_.size() - ends);
}

std::string clean_text(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const char first = text.front();
    if (length == 1 && first == '\r') {
    } else if (length > 1 ||
               (length == 1 && ((first >= ' ' && first != '\x7f') || first == '\n' || first == '\t'))) {
      clean += text.substr(0, length);
    } else {
      clean += replacement;
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return clean;
}

std::vector<std::string> last_lines(std::string_view text, std::size_t count, std::size_t width) {
  std::vector<std::string> lines;
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  while (!text.empty() && lines.size() < count) {
    const std::size_t before = text.rfind('\n');
    const std::string_view line = before == std::string_view::npos ? text : text.substr(before + 1);
    std::size_t cut = std::min(line.size(), width);
    while (cut > 0 && cut < line.size() && (static_cast<unsigned char>(line[cut]) & 0xc0) == 0x80) --cut;
    lines.emplace_back(line.substr(0, cut));
    if (cut < line.size()) lines.back() += "...";
    text = before == std::string_view::npos ? std::string_view() : text.substr(0, before);
  }
  std::reverse(lines.begin(), lines.end());
  return lines;
}

std::string read_text_file(const std::string& path) {
  const Fd file = open_file(path, O_RDONLY);
  std::string text;
  std::array<char, 16384> buffer;
  while (true) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw HostError(errno, "read '" + path + "'");
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > largest_text_file)
      throw ConfigError("file", path, "is too large to be a text of this kind");
  }
}

void write_text_file(const std::string& path, std::string_view text) {
  const Fd file =
      open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644, "name a file in a folder that you can write");
  while (!text.empty()) {
    const ssize_t count = ::write(file.get(), text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw HostError(errno, "write '" + path + "'");
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace hum
