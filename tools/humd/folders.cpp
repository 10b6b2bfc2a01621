// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/folders.h"

#include <unistd.h>

#include <cstdlib>

#include "vmm/base/errors.h"

namespace hum {
namespace {

std::filesystem::path absolute_variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && value[0] == '/' ? std::filesystem::path(value) : std::filesystem::path();
}

}  // namespace

Folders Folders::usual() {
  if (::geteuid() == 0) return {.state = "/var/lib/hum", .run = "/run/hum"};
  std::filesystem::path state = absolute_variable("XDG_STATE_HOME");
  if (state.empty()) {
    const std::filesystem::path home = absolute_variable("HOME");
    if (home.empty()) throw ConfigError("HOME", "", "not set", "give --state FOLDER");
    state = home / ".local" / "state";
  }
  std::filesystem::path run = absolute_variable("XDG_RUNTIME_DIR");
  // As without a session of its own: a folder of that user's, which is checked when it is used.
  if (run.empty()) run = "/tmp/hum-" + std::to_string(::geteuid());
  return {.state = state / "hum", .run = run / "hum"};
}

}  // namespace hum
