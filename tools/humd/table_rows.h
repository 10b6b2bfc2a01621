// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/humd/api_error.h"
#include "tools/humd/database.h"

// What the tables of objects have in common.
namespace hum {

template <typename Make>
auto first(Query query, Make make) -> std::optional<decltype(make(query))> {
  if (!query.next()) return {};
  return make(query);
}

template <typename Make>
auto every(Query query, Make make) {
  std::vector<decltype(make(query))> found;
  while (query.next()) found.push_back(make(query));
  return found;
}

// A name of digits only is an object's number.
inline std::optional<std::int64_t> number_in(std::string_view name) {
  constexpr std::size_t most_digits = 18;
  if (name.empty() || name.size() > most_digits ||
      name.find_first_not_of("0123456789") != std::string_view::npos)
    return {};
  return std::stoll(std::string(name));
}

inline ApiError name_taken(std::string_view what, std::string_view name) {
  return {409, "name-taken",
          std::string(what) + " of the name '" + std::string(name) + "' is there already; give another name"};
}

template <typename Filter>
Bound owner_of(const Filter& filter) {
  if (!filter.owner) return nullptr;
  return static_cast<std::int64_t>(*filter.owner);
}

}  // namespace hum
