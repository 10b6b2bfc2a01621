// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vmm_process.h"

#include "vmm/base/testing.h"

using namespace hum;

TEST_CASE("The host's boot has a name of 36 letters") {
  CHECK(current_boot_id().size() == 36);
}
