// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/request_counts.h"

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("a request is counted by its method and the metrics' name of its path") {
  RequestCounts counts;
  counts.add("PUT", "drives/rootfs", false);
  counts.add("PUT", "drives/other", true);
  counts.add("PATCH", "drives/rootfs", false);
  counts.add("PUT", "mmds", false);
  counts.add("PUT", "mmds/config", false);
  counts.add("GET", "", false);
  counts.add("GET", "hotplug/memory", true);
  const auto count = [&](std::string_view method, std::string_view name) {
    const RequestCounts::Count each = counts.all().at(method).at(name);
    return std::pair(each.all, each.failed);
  };
  using Pair = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(count("put", "drive") == Pair{2, 1});
  CHECK(count("patch", "drive") == Pair{1, 0});
  CHECK(count("put", "mmds") == Pair{2, 0});
  CHECK(count("get", "instance_info") == Pair{1, 0});
  CHECK(count("get", "hotplug_memory") == Pair{1, 1});
  CHECK(count("put", "vsock") == Pair{0, 0});
}

TEST_CASE("a request that is none is not counted") {
  RequestCounts counts;
  for (const char* const path : {"no-such", "no/such", "drives/a/b", "/"})
    for (const char* const method : {"PUT", "DELETE", "", "PUTT"}) counts.add(method, path, true);
  for (const auto& [method, names] : counts.all())
    for (const auto& [name, count] : names) {
      INFO(method << " " << name);
      CHECK(count.all == 0);
    }
}

}  // namespace hum
