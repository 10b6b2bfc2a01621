// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace hum {

struct ApiRequest {
  std::string method;  // "PUT"
  std::string path;    // without a query: "/drives/rootfs"
  std::string body;
};

struct ApiAnswer {
  unsigned status = 204;
  std::string body{};       // JSON
  bool deprecated = false;  // something of the request is
};

// HTTP/1.1 over a Unix socket, on a thread of its own. Requests are handed over one at a time, whoever sends
// them; a client that is slow to send or to read holds up nobody. What is no HTTP, or too long, is answered
// and its connection closed.
class HttpServer {
 public:
  struct Settings {
    std::string path;                     // of the socket
    std::size_t most_body_bytes = 51200;  // of a request
    std::size_t most_connections = 64;    // more are told so and closed
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

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hum
