// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tls_carry.h"

#include <array>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <utility>

namespace hum {
namespace {

namespace asio = boost::asio;
using Local = asio::local::stream_protocol;
using Error = boost::system::error_code;

constexpr std::size_t piece = 16384;  // the largest record (RFC 8446, 5.1)
constexpr std::chrono::milliseconds goodbye_patience{1'000};

bool is_end(const Error& error) {
  return error == asio::error::eof || error == asio::ssl::error::stream_truncated ||
         error == asio::error::connection_reset || error == asio::error::broken_pipe ||
         error == asio::error::operation_aborted;
}

asio::awaitable<void> carry_in(TlsStream& stream, Local::socket& local, Error& trouble) {
  Error error;
  auto redirected = asio::redirect_error(asio::use_awaitable, error);
  std::array<char, piece> buffer;
  for (;;) {
    const std::size_t count = co_await stream.async_read_some(asio::buffer(buffer), redirected);
    if (error && !is_end(error)) trouble = error;
    if (error) co_return;
    co_await asio::async_write(local, asio::buffer(buffer, count), redirected);
    if (error) co_return;
  }
}

asio::awaitable<void> carry_out(TlsStream& stream, Local::socket& local, bool& ended) {
  Error error;
  auto redirected = asio::redirect_error(asio::use_awaitable, error);
  std::array<char, piece> buffer;
  for (;;) {
    const std::size_t count = co_await local.async_read_some(asio::buffer(buffer), redirected);
    ended = error == asio::error::eof;
    if (error) co_return;
    co_await asio::async_write(stream, asio::buffer(buffer, count), redirected);
    if (error) co_return;
  }
}

}  // namespace

TlsAlarm::TlsAlarm(const std::shared_ptr<TlsStream>& stream, std::chrono::milliseconds patience)
    : timer_(stream->get_executor(), patience) {
  timer_.async_wait([stream, gone_off = gone_off_](const Error& cancelled) {
    if (cancelled) return;
    *gone_off = true;
    Error ignored;
    stream->next_layer().close(ignored);
  });
}

asio::awaitable<Error> carry(std::shared_ptr<TlsStream> stream, Local::socket local) {
  using namespace asio::experimental::awaitable_operators;
  Error trouble;
  bool ended = false;
  co_await (carry_in(*stream, local, trouble) || carry_out(*stream, local, ended));
  Error ignored;
  local.close(ignored);
  if (ended) {  // the other side is told that nothing was cut off
    TlsAlarm alarm(stream, goodbye_patience);
    co_await stream->async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
    alarm.cancel();
  }
  stream->next_layer().close(ignored);
  co_return trouble;
}

}  // namespace hum
