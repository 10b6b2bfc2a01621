// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// The exit code by which a test says that it cannot be carried out here.
inline constexpr std::uint32_t skip_exit_code = 77;

// Text without end, kept bounded: its beginning and its end, one half of the limit each. Value type.
class BoundedText {
 public:
  explicit BoundedText(std::size_t limit) : half_(limit / 2) {}

  void append(std::string_view text);
  // With a line between beginning and end that tells how much is missing.
  std::string text() const;
  std::uint64_t size() const { return size_; }  // of all that was appended

 private:
  std::size_t half_;
  std::uint64_t size_ = 0;
  std::string head_;
  std::string tail_;  // up to twice its half, so that it is cut seldom
};

// What an image printed, fit for terminals, XML and JSON: valid UTF-8 without control characters but line
// feed and tab; what is neither becomes U+FFFD, carriage returns vanish.
std::string clean_text(std::string_view text);

// The last `count` lines of a text, each cut at `width` bytes.
std::vector<std::string> last_lines(std::string_view text, std::size_t count, std::size_t width = 400);

// Throws HostError, ConfigError (a manifest of unlikely size).
std::string read_text_file(const std::string& path);
// Replaces the file. Throws HostError.
void write_text_file(const std::string& path, std::string_view text);

}  // namespace hum
