// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/humd/capacity.h"
#include "tools/humd/folders.h"
#include "tools/tls/tls_context.h"

namespace hum {

// The command line of humd.
struct DaemonArguments {
  Folders folders;
  std::string socket;       // empty: humd.sock in the run folder
  std::string vmm_program;  // absolute
  std::string listen;       // the address of the API by TLS; empty: there is none
  TlsFiles tls;
  HostShare share{};
};

// None where the command line was answered by itself (--version, --help). Throws ConfigError.
std::optional<DaemonArguments> parse_daemon_arguments(const std::vector<std::string>& arguments);

}  // namespace hum
