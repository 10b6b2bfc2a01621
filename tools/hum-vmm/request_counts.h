// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace hum {

// How often each request of the dialect was made and refused, by method ("put") and by the name that the
// metrics have for its path ("boot_source"). One thread.
class RequestCounts {
 public:
  struct Count {
    std::uint64_t all = 0;
    std::uint64_t failed = 0;
  };
  using ByName = std::map<std::string_view, Count>;

  // Every request that is counted, so that those that nobody makes are seen to be none.
  RequestCounts();

  // method in any case; path without its first slash. One that is not known is not counted.
  void add(std::string_view method, std::string_view path, bool failed);
  void add_deprecated() { ++deprecated_; }

  const std::map<std::string_view, ByName>& all() const { return counts_; }
  std::uint64_t deprecated() const { return deprecated_; }

 private:
  std::map<std::string_view, ByName> counts_;
  std::uint64_t deprecated_ = 0;
};

}  // namespace hum
