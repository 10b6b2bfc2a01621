// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/http_url.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "vmm/base/errors.h"
#include "vmm/base/printable.h"

namespace hum {
namespace {

constexpr std::string_view scheme = "http://";
constexpr std::size_t longest_url = 4096;
constexpr std::size_t longest_host = 253;

bool is_alphanumeric(char each) {
  return (each >= '0' && each <= '9') || (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z');
}

bool is_host_name(std::string_view host) {
  return !host.empty() && host.size() <= longest_host && is_alphanumeric(host.front()) &&
         std::all_of(host.begin(), host.end(), [](char each) {
           return is_alphanumeric(each) || each == '-' || each == '.' || each == '_';
         });
}

bool is_bracketed_address(std::string_view host) {
  return host.size() > 2 && host.front() == '[' && host.back() == ']' &&
         host.find_first_not_of("0123456789abcdefABCDEF:.", 1) == host.size() - 1;
}

}  // namespace

HttpUrl HttpUrl::parse(const std::string& key, const std::string& text) {
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw ConfigError(key, printable(text.substr(0, longest_url)), problem, fix);
  };
  if (text.size() > longest_url) refuse("is too long", "give at most 4096 characters");
  // A blank or a control character would end the request's line.
  if (std::any_of(text.begin(), text.end(), [](char each) { return each <= ' ' || each > '~'; }))
    refuse("has characters that stand in no URL", "write them as %XX");
  if (text.starts_with("https://"))
    refuse("https is not known here", "get it with another program (curl -fLo FILE URL) and import FILE");
  if (!text.starts_with(scheme))
    refuse("is no URL of an HTTP server", "give http://HOST/PATH, or a file's path");
  const std::string rest = text.substr(scheme.size(), text.find('#') - scheme.size());
  const std::size_t end = std::min(rest.find_first_of("/?"), rest.size());
  std::string host = rest.substr(0, end);
  HttpUrl url;
  url.target = rest.substr(end);
  if (!url.target.starts_with('/')) url.target.insert(0, "/");
  if (host.find('@') != std::string::npos)
    refuse("has a user's name, which is not sent", "leave out what is before the @");
  const std::size_t colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    const std::string_view port = std::string_view(host).substr(colon + 1);
    const auto [last, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || last != port.data() + port.size() || url.port == 0)
      refuse("has no port from 1 to 65535 behind the colon", "leave it out for port 80");
    host.resize(colon);
  }
  if (is_bracketed_address(host)) {
    url.host = host.substr(1, host.size() - 2);
  } else if (is_host_name(host)) {
    url.host = host;
  } else {
    refuse("names no host", "give http://HOST/PATH");
  }
  return url;
}

HttpUrl HttpUrl::follow(const std::string& key, const std::string& location) const {
  // Schemes end before the first of these.
  const std::size_t colon = location.find(':');
  if (colon != std::string::npos && location.find_first_of("/?#") > colon) return parse(key, location);
  if (location.starts_with("//")) return parse(key, "http:" + location);
  const std::string root = std::string(scheme) + authority();
  if (location.starts_with('/')) return parse(key, root + location);
  const std::string path = target.substr(0, target.find('?'));
  if (location.starts_with('?')) return parse(key, root + path + location);
  std::string folder = path.substr(0, path.rfind('/') + 1);
  std::string_view rest = location;
  while (rest.starts_with("./") || rest.starts_with("../")) {
    if (rest.starts_with("../") && folder.size() > 1) folder.resize(folder.rfind('/', folder.size() - 2) + 1);
    rest.remove_prefix(rest.find('/') + 1);
  }
  return parse(key, root + folder + std::string(rest));
}

std::string HttpUrl::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == 80 ? name : name + ":" + std::to_string(port);
}

}  // namespace hum
