// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tools/http/api_stream.h"

namespace hum {

struct ApiRequest {
  std::string method;  // "PUT"
  std::string path;    // without a query: "/drives/rootfs"
  std::string body;
  std::string query{};          // what stands behind the path's question mark
  std::string accept{};         // the header of that name
  std::string upgrade{};        // the protocol that the connection is to go on with
  std::string last_event_id{};  // the header Last-Event-ID
  std::string if_match{};
  std::string idempotency_key{};
  uid_t peer = static_cast<uid_t>(-1);  // the user at the other end, where the server asks for it
};

struct ApiAnswer {
  unsigned status = 204;
  std::string body{};
  bool deprecated = false;  // something of the request is
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers{};
  // What the connection goes on with instead of a body. Shared, for an answer is a value; the server keeps
  // it.
  std::shared_ptr<ApiStream> stream{};
};

}  // namespace hum
