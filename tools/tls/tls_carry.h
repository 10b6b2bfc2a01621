// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>

namespace hum {

using TlsStream = boost::asio::ssl::stream<boost::asio::ip::tcp::socket>;

// Closes a connection when its time is over. Whoever waits for something of it finds it closed.
class TlsAlarm {
 public:
  TlsAlarm(const std::shared_ptr<TlsStream>& stream, std::chrono::milliseconds patience);
  bool has_gone_off() const { return *gone_off_; }
  void cancel() { timer_.cancel(); }

 private:
  boost::asio::steady_timer timer_;
  std::shared_ptr<bool> gone_off_ = std::make_shared<bool>(false);
};

// Carries bytes both ways between a connection by TLS, whose handshake is done, and a local one, until either
// side ends, and closes both. What the local side has sent before its end reaches the other. Answers what
// went wrong with TLS, if anything did: an end without a word is none.
boost::asio::awaitable<boost::system::error_code> carry(std::shared_ptr<TlsStream> stream,
                                                        boost::asio::local::stream_protocol::socket local);

}  // namespace hum
