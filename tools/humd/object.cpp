// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/object.h"

#include <algorithm>
#include <array>
#include <string>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::array<std::string_view, 4> type_words = {"vm", "image", "volume", "network"};
constexpr std::array<std::string_view, 3> state_words = {"creating", "ready", "deleting"};
constexpr std::size_t longest_name = 63;

template <typename Value, std::size_t count>
Value value_of(const std::array<std::string_view, count>& words, std::string_view word) {
  const auto found = std::find(words.begin(), words.end(), word);
  return static_cast<Value>(found == words.end() ? 0 : found - words.begin());
}

}  // namespace

std::string_view to_string(ObjectType type) {
  return type_words[static_cast<std::size_t>(type)];
}

ObjectType object_type(std::string_view word) {
  return value_of<ObjectType>(type_words, word);
}

std::string_view to_string(ObjectState state) {
  return state_words[static_cast<std::size_t>(state)];
}

ObjectState object_state(std::string_view word) {
  return value_of<ObjectState>(state_words, word);
}

void check_name(std::string_view key, std::string_view name) {
  const auto is_small = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const bool good = !name.empty() && name.size() <= longest_name && is_small(name.front()) &&
                    std::all_of(name.begin(), name.end(),
                                [&](char c) { return is_small(c) || c == '-' || c == '_' || c == '.'; });
  // A number is an object's, whatever it is called.
  const bool number = std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (good && !number) return;
  throw ConfigError(
      std::string(key), std::string(name.substr(0, longest_name + 1)), "no name",
      "give up to 63 of a-z, 0-9, '-', '_' and '.', a letter or digit first, and not digits only");
}

}  // namespace hum
