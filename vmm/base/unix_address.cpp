// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/unix_address.h"

#include "vmm/base/errors.h"

namespace hum {

std::optional<UnixAddress> UnixAddress::at(const std::string& path) {
  if (path.empty() || path.size() > longest_path) return {};
  UnixAddress result;
  result.address_.sun_family = AF_UNIX;
  path.copy(result.address_.sun_path, longest_path);
  return result;
}

UnixAddress UnixAddress::of(const std::string& key, const std::string& path) {
  if (const auto address = at(path)) return *address;
  throw ConfigError(key, path, rule(), path.empty() ? "give one" : "give a shorter one");
}

std::string UnixAddress::rule() {
  return "the path of a socket has 1 to " + std::to_string(longest_path) + " bytes";
}

}  // namespace hum
