// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/open_file_limit.h"

#include <sys/resource.h>

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("the limit of open files is raised as far as it goes, and stays there") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit low{.rlim_cur = 64, .rlim_max = before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  CHECK(open_file_limit() == 64);
  for (int i = 0; i < 2; ++i) {
    raise_open_file_limit();
    CHECK(open_file_limit() == before.rlim_max);
  }
  CHECK(::setrlimit(RLIMIT_NOFILE, &before) == 0);
}

}  // namespace hum
