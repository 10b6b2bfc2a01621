// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"

namespace hum {

// What a server has sent is no answer that makes sense.
class HttpError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr std::size_t largest_reply = 64UL * 1024 * 1024;

struct HttpCall {
  std::string method = "GET";
  std::string target = "/";  // with its query
  std::string body{};        // JSON
  std::string if_match{};
  std::string idempotency_key{};
  std::size_t largest_reply = hum::largest_reply;  // a longer body is an error
};

struct HttpReply {
  unsigned status = 0;
  std::string body{};
  std::string content_type{};
  std::string etag{};
};

// One request over a connection of its own to a Unix socket, on the thread of the calling coroutine. Takes no
// longer than patience, whatever the other side does. Throws HostError (ENOENT, ECONNREFUSED: nobody listens;
// ETIMEDOUT; ECONNRESET: it has closed), ConfigError (the path is too long) and HttpError.
boost::asio::awaitable<HttpReply> http_call(std::string socket, HttpCall call,
                                            std::chrono::milliseconds patience);

// The same for a thread that has nothing else to do meanwhile.
HttpReply blocking_http_call(const std::string& socket, const HttpCall& call,
                             std::chrono::milliseconds patience);

// A GET whose answer does not end: gives what comes to take, until take answers false or the server closes.
// Of an answer other than 200 it is the body, which is returned. Throws as above.
HttpReply blocking_http_stream(const std::string& socket, const HttpCall& call,
                               const std::function<bool(std::string_view piece)>& take);

// The same over a connection that there is already. name: what stands in errors for the socket's path.
HttpReply blocking_http_call(Fd connection, const std::string& name, const HttpCall& call,
                             std::chrono::milliseconds patience);
HttpReply blocking_http_stream(Fd connection, const std::string& name, const HttpCall& call,
                               const std::function<bool(std::string_view piece)>& take);

}  // namespace hum
