// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tcp_address.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <sstream>

#include "tools/hum/process.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;

bool is_in_host_name(char each) {
  return (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z') || (each >= '0' && each <= '9') ||
         each == '-' || each == '.' || each == '_';
}

bool is_host(const std::string& host, bool bracketed) {
  boost::system::error_code error;
  if (bracketed) return asio::ip::make_address_v6(host, error), !error;
  return !host.empty() && host.front() != '-' && std::all_of(host.begin(), host.end(), is_in_host_name);
}

}  // namespace

TcpAddress TcpAddress::parse(const std::string& key, std::string_view text) {
  TcpAddress result;
  const std::size_t colon = text.rfind(':');
  std::string_view host = text.substr(0, colon);
  const std::string_view port = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  result.host = host;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size() ||
      !is_host(result.host, bracketed))
    throw ConfigError(key, std::string(text), "no host and port",
                      "give them like 192.0.2.1:8443, [2001:db8::1]:8443 or vm.example.org:8443");
  return result;
}

std::string TcpAddress::text() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::vector<Tcp::endpoint> endpoints_of(const std::string& host, std::uint16_t port) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (!error) return {{address, port}};
  std::vector<Tcp::endpoint> all;
  std::istringstream lines(run_process({"getent", "ahosts", host}).output);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" STREAM") == std::string::npos) continue;
    const auto each = asio::ip::make_address(line.substr(0, line.find(' ')), error);
    if (!error) all.emplace_back(each, port);
  }
  return all;
}

}  // namespace hum
