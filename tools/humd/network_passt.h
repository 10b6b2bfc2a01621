// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace hum {

// The program and its arguments for a VM's network where there is no root: a passt of its own. It stays in
// the foreground and ends when nobody has the other end of the stream socket any more, which is that
// descriptor there. ports: as parse_published_ports reads them. Throws ConfigError: there can be no such
// network on this host, or a port is taken.
std::vector<std::string> passt_command(int socket, const std::string& ports);

}  // namespace hum
