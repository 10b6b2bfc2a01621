// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "tools/http/http_thread.h"

namespace hum {

// The settings of a server that speaks Firecracker's dialect, for that socket.
HttpServer::Settings api_server_settings(const std::string& path, std::size_t most_body_bytes = 51200);

}  // namespace hum
