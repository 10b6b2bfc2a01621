// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace hum {

class DaemonClient;

// Throws ConfigError: the daemon is on another host, and consoles are not to be had from there.
void expect_console(const DaemonClient& client);

// Joins standard input and output with a VM's console, what it has said before first, until the VM ends,
// Ctrl-] is typed, or standard input that is no terminal comes to its end. Returns the exit code for the
// program. Throws DaemonError, HostError, and what expect_console does.
int attach_console(DaemonClient& client, const std::string& name);

}  // namespace hum
