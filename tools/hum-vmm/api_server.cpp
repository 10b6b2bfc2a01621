// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/api_server.h"

#include "tools/hum-vmm/fault.h"

namespace hum {

HttpServer::Settings api_server_settings(const std::string& path, std::size_t most_body_bytes) {
  HttpServer::Settings settings{.path = path};
  settings.option = "--api-sock";
  settings.name = "Firecracker API";
  settings.most_body_bytes = most_body_bytes;
  settings.error_body = [](unsigned /*status*/, std::string_view text) { return fault_body(text); };
  settings.too_long = "The request's body is longer than --http-api-max-payload-size allows.";
  return settings;
}

}  // namespace hum
