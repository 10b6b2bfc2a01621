// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/errors.h"

#include <cerrno>

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("a configuration error reads: key 'value': problem, fix") {
  const ConfigError error("cpus", "0", "not accepted", "give a whole number from 1 to 254");
  CHECK(std::string(error.what()) == "cpus '0': not accepted; give a whole number from 1 to 254");
  CHECK(error.key() == "cpus");
  CHECK(error.value() == "0");
}

TEST_CASE("a configuration error without value and fix names the key and the problem") {
  CHECK(std::string(ConfigError("kernel", "", "missing").what()) == "kernel: missing");
}

TEST_CASE("a host error carries the error number, what was tried, the fix and the reason") {
  const HostError error(EACCES, "open '/dev/kvm'", "join the group kvm");
  const std::string text = error.what();
  CHECK(error.code() == std::errc::permission_denied);
  CHECK(text.starts_with("cannot open '/dev/kvm' (join the group kvm)"));
  CHECK(text.find("Permission denied") != std::string::npos);
}

TEST_CASE("a host error without fix has no empty brackets") {
  CHECK(std::string(HostError(ENOMEM, "map memory").what()).find('(') == std::string::npos);
}

}  // namespace hum
