// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/log.h"

#include <string>
#include <vector>

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("a log passes messages up to its level and drops those above") {
  std::vector<std::string> seen;
  const Log log(
      [&](LogLevel level, std::string_view text) {
        seen.push_back(std::string(to_string(level)) + ": " + std::string(text));
      },
      LogLevel::info);
  log.error("a");
  log.warning("b");
  log.info("c");
  log.debug("d");
  CHECK(seen == std::vector<std::string>{"error: a", "warning: b", "info: c"});
  CHECK(log.enabled(LogLevel::info));
  CHECK_FALSE(log.enabled(LogLevel::debug));
}

TEST_CASE("a log without a sink drops everything") {
  const Log log;
  CHECK_FALSE(log.enabled(LogLevel::error));
  log.error("nobody hears this");
}

}  // namespace hum
