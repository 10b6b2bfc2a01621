// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>

namespace hum {

// What the daemon keeps, each with a name for its user and a number that is never used again.
enum class ObjectType : std::uint8_t { vm, image, volume, network };
std::string_view to_string(ObjectType type);
// From the store: the first of them for a word that is none.
ObjectType object_type(std::string_view word);

struct ObjectRef {
  ObjectType type = ObjectType::vm;
  std::int64_t id = 0;

  auto operator<=>(const ObjectRef&) const = default;
};

// Throws ConfigError with that key: no name that objects may have.
void check_name(std::string_view key, std::string_view name);

// Of what is no VM.
enum class ObjectState : std::uint8_t { creating, ready, deleting };
std::string_view to_string(ObjectState state);
ObjectState object_state(std::string_view word);

}  // namespace hum
