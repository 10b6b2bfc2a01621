// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tools/http/http_server.h"

namespace hum {

// An HttpServer with a thread of its own, "hum-api", for a program that has its own loop. Requests are handed
// over one at a time, whoever sends them.
class HttpThread {
 public:
  // Called on the server's thread. Without an answer the connection is closed.
  using Handler = std::function<std::optional<ApiAnswer>(ApiRequest)>;

  // As HttpServer.
  HttpThread(HttpServer::Settings settings, Handler handler);
  // Closes all connections and removes the socket. No call of the handler is under way after that.
  ~HttpThread();
  HttpThread(const HttpThread&) = delete;
  HttpThread& operator=(const HttpThread&) = delete;

  // Waits until every answer that was given has been sent, and every stream to its end, but not longer than
  // that: for streams that have been ended.
  void finish(std::chrono::milliseconds patience);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hum
