// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace guest {

// A piece of text somewhere in memory.
class Text {
 public:
  constexpr Text() = default;
  constexpr Text(const char* begin, std::size_t size) : begin_(begin), size_(size) {}
  // Up to the terminating zero.
  constexpr Text(const char* text)
      : begin_(text) {  // NOLINT(google-explicit-constructor): stands for the text
    while (text[size_] != '\0') ++size_;
  }

  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr char operator[](std::size_t i) const { return begin_[i]; }
  constexpr const char* begin() const { return begin_; }
  constexpr const char* end() const { return begin_ + size_; }

  constexpr bool operator==(const Text& other) const { return size_ == other.size_ && starts_with(other); }
  constexpr bool starts_with(const Text& start) const {
    if (size_ < start.size_) return false;
    for (std::size_t i = 0; i < start.size_; ++i) {
      if (begin_[i] != start.begin_[i]) return false;
    }
    return true;
  }
  // What is left after the first `count` characters.
  constexpr Text after(std::size_t count) const {
    return count < size_ ? Text(begin_ + count, size_ - count) : Text();
  }
  // The part before the first separator; all if there is none.
  constexpr Text before(char separator) const {
    std::size_t i = 0;
    while (i < size_ && begin_[i] != separator) ++i;
    return {begin_, i};
  }

 private:
  const char* begin_ = "";
  std::size_t size_ = 0;
};

// Reads a decimal or 0x number from the start of text; `otherwise` if there is no digit.
constexpr std::uint64_t parse_number(Text text, std::uint64_t otherwise = 0) {
  const unsigned base = text.starts_with("0x") ? 16 : 10;
  if (base == 16) text = text.after(2);
  std::uint64_t value = 0;
  bool any = false;
  for (const char c : text) {
    unsigned digit = 99;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (c >= 'A' && c <= 'F') digit = static_cast<unsigned>(c - 'A') + 10;
    if (digit >= base) break;
    value = value * base + digit;
    any = true;
  }
  return any ? value : otherwise;
}

}  // namespace guest
