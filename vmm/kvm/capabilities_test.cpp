// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/capabilities.h"

#include <set>
#include <string_view>

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("every capability that is used is named once, and says what its lack costs") {
  std::set<std::string_view> names;
  std::set<int> numbers;
  for (const KvmCapability& each : used_capabilities()) {
    CHECK(names.insert(each.name).second);
    CHECK(numbers.insert(each.number).second);
    CHECK(each.least > 0);
    CHECK_FALSE(each.costs.empty());
  }
}

TEST_CASE("a KVM that runs VMs has all that is required, and a measured speed") {
  const KvmReport report = examine_kvm();
  if (report.open_error != 0) {
    WARN("skipped: no usable /dev/kvm");
    return;
  }
  CHECK(report.api_version == stable_kvm_api);
  CHECK(report.problem.empty());
  CHECK(report.supervisor_nanoseconds > 0);
  REQUIRE(report.capabilities.size() == used_capabilities().size());
  for (std::size_t i = 0; i < report.capabilities.size(); ++i) {
    const KvmCapability& capability = used_capabilities()[i];
    INFO(capability.name);
    if (capability.need == KvmCapability::Need::required) CHECK(report.capabilities[i] >= capability.least);
  }
}

}  // namespace hum
