// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tools/http/api_message.h"
#include "vmm/base/fd.h"

namespace hum {

// HTTP/1.1 over a Unix socket, on the thread that runs a context. A client that is slow to send or to read
// holds up nobody. What is no HTTP, or too long, is answered and its connection closed. An answer with a
// stream turns its connection into that.
class HttpServer {
 public:
  struct Settings {
    std::string path;                              // of the socket
    int listener = -1;                             // one that listens there already, whose path is not ours
    std::string option = "--socket";               // that gives the path, for errors
    std::string name = "humd";                     // the header Server
    mode_t mode = 0;                               // of the socket; 0: as the umask has it
    bool asks_peer = false;                        // ApiRequest::peer
    std::size_t most_body_bytes = 1024UL * 1024;   // of a request
    std::size_t most_connections = 64;             // more are told so and closed
    std::size_t most_streams = 48;                 // of the connections
    std::chrono::milliseconds keep_alive{15'000};  // from what a stream has sent last
    // The body of an answer that the server itself gives.
    std::function<std::string(unsigned status, std::string_view text)> error_body{};
    std::string too_long = "The request's body is too long.";
  };
  // Called once, on the context's thread; without an answer the connection is closed.
  using Respond = std::function<void(std::optional<ApiAnswer>)>;
  // Called on the context's thread. Requests of one connection come one after the other.
  using Handler = std::function<void(ApiRequest, Respond)>;

  // Clients may connect when it returns. A socket that nobody listens to any more is replaced. Throws
  // ConfigError (the path is in use, or too long) and HostError.
  HttpServer(boost::asio::io_context& context, Settings settings, Handler handler);
  // Takes no more requests, and removes the socket. While the context does not run.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Serves a connection that was made elsewhere, as one of its own. On the context's thread.
  void serve(Fd connection, uid_t peer);

  // Answers on their way, and streams. Any thread.
  std::size_t unsent() const;
  // Waits until there are none, but not longer than that. Any thread but the context's.
  void finish(std::chrono::milliseconds patience);

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;  // the connections' too, which end with the context
};

}  // namespace hum
