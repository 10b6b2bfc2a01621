// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>

namespace hum {

static_assert(std::endian::native == std::endian::little, "Hummingbird runs on x86-64 hosts");

// An integer of a wire structure, little-endian and naturally aligned. Trivially copyable.
template <std::unsigned_integral T>
class Le {
 public:
  Le() = default;
  constexpr Le(T value) : value_(value) {}  // NOLINT(google-explicit-constructor): stands for the integer
  constexpr operator T() const { return value_; }  // NOLINT(google-explicit-constructor)

 private:
  T value_ = 0;
};

using le16 = Le<std::uint16_t>;
using le32 = Le<std::uint32_t>;
using le64 = Le<std::uint64_t>;

static_assert(sizeof(le16) == 2 && sizeof(le32) == 4 && sizeof(le64) == 8);

// Register accesses arrive as 1 to 8 bytes. load_le zero-extends them; store_le writes the low bytes.
inline std::uint64_t load_le(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), bytes.size() < 8 ? bytes.size() : 8);
  return value;
}

inline void store_le(std::span<std::byte> bytes, std::uint64_t value) {
  std::memset(bytes.data(), 0, bytes.size());
  std::memcpy(bytes.data(), &value, bytes.size() < 8 ? bytes.size() : 8);
}

// The bytes of a trivially copyable object, for register files and wire structures.
template <class T>
std::span<const std::byte> bytes_of(const T& object) {
  return std::as_bytes(std::span<const T, 1>(&object, 1));
}

template <class T>
std::span<std::byte> writable_bytes_of(T& object) {
  return std::as_writable_bytes(std::span<T, 1>(&object, 1));
}

}  // namespace hum
