// SPDX-License-Identifier: Apache-2.0
//
// hum-tls: connects by TLS to a daemon on another host and carries what its standard input, a socket, has to
// say. `hum` starts it, so that it has no TLS itself: a VM at a prompt needs none.
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "tools/hum/exit_codes.h"
#include "tools/tls/tcp_address.h"
#include "tools/tls/tls_carry.h"
#include "tools/tls/tls_context.h"
#include "vmm/base/errors.h"

namespace {

using namespace hum;
namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using Error = boost::system::error_code;

constexpr std::chrono::milliseconds connect_patience{10'000};  // with the handshake

// The certificate has to be of the host that was asked for (RFC 9525).
void expect_host(SSL* session, const std::string& host) {
  X509_VERIFY_PARAM* const wanted = ::SSL_get0_param(session);
  if (::X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) == 1) return;
  ::ERR_clear_error();
  ::X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  // Only names may stand in the handshake (RFC 6066, 3).
  if (::X509_VERIFY_PARAM_set1_host(wanted, host.c_str(), host.size()) != 1 ||
      ::SSL_set_tlsext_host_name(session, host.c_str()) != 1)
    throw std::runtime_error("'" + host + "' is no host's name");
}

// What was wrong with a certificate is in the verification's result.
std::string reason_of(const Error& error, TlsStream& stream, const std::string& host) {
  const long verified = ::SSL_get_verify_result(stream.native_handle());
  if (verified == X509_V_OK) return error.message();
  return "the certificate of '" + host + "' is not accepted: " + ::X509_verify_cert_error_string(verified);
}

asio::awaitable<void> relay(ssl::context& context, TcpAddress address,
                            asio::local::stream_protocol::socket local) {
  const auto executor = co_await asio::this_coro::executor;
  const auto stream = std::make_shared<TlsStream>(asio::ip::tcp::socket(executor), context);
  const auto endpoints = endpoints_of(address.host, address.port);
  if (endpoints.empty()) throw std::runtime_error("there is no host '" + address.host + "'");
  Error error;
  auto redirected = asio::redirect_error(asio::use_awaitable, error);
  TlsAlarm alarm(stream, connect_patience);
  co_await asio::async_connect(stream->next_layer(), endpoints, redirected);
  if (!error) {
    expect_host(stream->native_handle(), address.host);
    co_await stream->async_handshake(ssl::stream_base::client, redirected);
  }
  alarm.cancel();
  if (alarm.has_gone_off()) throw std::runtime_error("it does not answer");
  if (error) throw std::runtime_error(reason_of(error, *stream, address.host));
  // A server that speaks TLS 1.3 refuses a client only now.
  const Error trouble = co_await carry(stream, std::move(local));
  if (trouble) throw std::runtime_error("the server refuses this client: " + trouble.message());
}

void run(const std::string& url, const TlsFiles& files) {
  constexpr std::string_view scheme = "https://";
  if (!url.starts_with(scheme)) throw ConfigError("--host", url, "no https://HOST:PORT");
  std::string_view place = std::string_view(url).substr(scheme.size());
  if (place.ends_with('/')) place.remove_suffix(1);
  TcpAddress address = TcpAddress::parse("--host", place);
  ssl::context context = make_tls_context(TlsSide::client, files);
  asio::io_context work{1};
  asio::local::stream_protocol::socket local(work, asio::local::stream_protocol(), STDIN_FILENO);
  std::exception_ptr failure;
  asio::co_spawn(work, relay(context, std::move(address), std::move(local)),
                 [&](const std::exception_ptr& error) { failure = error; });
  work.run();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  if (argc != 5) {
    std::fputs("hum-tls: hum starts it: hum-tls https://HOST:PORT CERTIFICATE KEY AUTHORITIES\n", stderr);
    return hum::exit_bad_request;
  }
  try {
    run(argv[1], {.certificate = argv[2], .key = argv[3], .authorities = argv[4]});
    return hum::exit_ok;
  } catch (const std::exception& error) {
    std::fputs(error.what(), stderr);
    return hum::exit_bad_request;
  }
}
