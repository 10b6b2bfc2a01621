// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/hum-vmm/api_stream.h"

namespace hum {

struct ApiRequest {
  std::string method;  // "PUT"
  std::string path;    // without a query: "/drives/rootfs"
  std::string body;
  std::string query{};          // what stands behind the path's question mark
  std::string accept{};         // the header of that name
  std::string upgrade{};        // the protocol that the connection is to go on with
  std::string last_event_id{};  // the header Last-Event-ID
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

// HTTP/1.1 over a Unix socket, on a thread of its own. Requests are handed over one at a time, whoever sends
// them; a client that is slow to send or to read holds up nobody. What is no HTTP, or too long, is answered
// and its connection closed. An answer with a stream turns its connection into that.
class HttpServer {
 public:
  struct Settings {
    std::string path;                              // of the socket
    std::size_t most_body_bytes = 51200;           // of a request
    std::size_t most_connections = 64;             // more are told so and closed
    std::size_t most_streams = 48;                 // of the connections
    std::chrono::milliseconds keep_alive{15'000};  // from what a stream has sent last
  };
  // Called on the server's thread. Without an answer the connection is closed.
  using Handler = std::function<std::optional<ApiAnswer>(ApiRequest)>;

  // Clients may connect when it returns. A socket that nobody listens to any more is replaced. Throws
  // ConfigError (the path is in use, or too long) and HostError.
  HttpServer(Settings settings, Handler handler);
  // Closes all connections and removes the socket. No call of the handler is under way after that.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Waits until every answer that was given has been sent, and every stream to its end, but not longer than
  // that: for streams that have been ended.
  void finish(std::chrono::milliseconds patience);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hum
