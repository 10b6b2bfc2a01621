// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "tools/hum/vm/daemon_client.h"

namespace hum {

// The command line of a kernel where nothing says another.
inline constexpr std::string_view usual_cmdline =
    "console=ttyS0 panic=-1 reboot=panic_warm noreplace-smp quiet";

// Gives a VM that is to be made, as the daemon takes it, what it boots where nothing says that: the newest
// kernel of this host, which is fetched where there is none, with its initial RAM disk, and the usual command
// line. image: what its image is made of, as the daemon has or takes it, or null. Throws ConfigError: the
// daemon is on another host; and as get_kernel.
void add_guest_kernel(nlohmann::json& spec, const nlohmann::json& image, const DaemonClient& client);

// The networks of a VM where nothing is said: the host's own, if this host can give it that. Else it has
// none, which is said on standard error. is_needed: ports are to be published, so that a daemon is to say why
// not.
nlohmann::json usual_networks(const DaemonClient& client, bool is_needed = false);

}  // namespace hum
