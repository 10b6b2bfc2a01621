// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/size_option.h"

#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {

std::uint64_t mib_of(const std::string& key, const std::string& text) {
  constexpr std::uint64_t mib = 1024UL * 1024;
  const std::uint64_t size = parse_size(key, text);
  if (size == 0 || size % mib != 0)
    throw ConfigError(key, text, "no whole number of MiB", "give a size like 512M or 10G");
  return size / mib;
}

}  // namespace hum
