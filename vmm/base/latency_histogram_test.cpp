// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/latency_histogram.h"

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("a latency is counted with those up to the next power of two of microseconds") {
  using namespace std::chrono_literals;
  struct Case {
    std::chrono::nanoseconds took;
    std::size_t bucket;
  };
  const auto [took, bucket] =
      GENERATE(Case{-1ns, 0}, Case{0ns, 0}, Case{1000ns, 0}, Case{1001ns, 1}, Case{2000ns, 1},
               Case{2001ns, 2}, Case{4us, 2}, Case{4001ns, 3}, Case{1024us, 10}, Case{1025us, 11},
               Case{16'777'216us, 24}, Case{16'777'217us, 25}, Case{std::chrono::nanoseconds::max(), 25});
  LatencyHistogram histogram;
  histogram.add(took);
  const auto counts = histogram.buckets();
  for (std::size_t i = 0; i < counts.size(); ++i) CHECK(counts[i] == (i == bucket ? 1 : 0));
  CHECK(histogram.nanoseconds() == static_cast<std::uint64_t>(std::max(took, 0ns).count()));
}

}  // namespace hum
