// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/metadata_service.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <initializer_list>
#include <utility>

#include "vmm/base/http_target.h"

namespace hum {
namespace {

enum class Status : std::uint16_t {
  ok = 200,
  bad_request = 400,
  unauthorized = 401,
  not_found = 404,
  method_not_allowed = 405,
  not_implemented = 501,
};

std::string_view reason_of(Status status) {
  switch (status) {
    case Status::ok:
      return "OK";
    case Status::bad_request:
      return "Bad Request";
    case Status::unauthorized:
      return "Unauthorized";
    case Status::not_found:
      return "Not Found";
    case Status::method_not_allowed:
      return "Method Not Allowed";
    case Status::not_implemented:
      break;
  }
  return "Not Implemented";
}

constexpr std::string_view plain_text = "text/plain";
constexpr std::string_view json_text = "application/json";

bool is_token_path(std::string_view path) {
  std::string once;
  for (const char each : path)
    if (each != '/' || once.empty() || once.back() != '/') once += each;
  return once == "/latest/api/token";
}

bool accepts_json(const HttpRequest& request) {
  const std::string* const accept = request.field("Accept");
  if (accept == nullptr) return false;
  std::string lower(*accept);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char each) { return std::tolower(each); });
  return lower.find(json_text) != std::string::npos;
}

// The first of the names that the request has.
std::string_view name_in(const HttpRequest& request, std::initializer_list<std::string_view> names) {
  for (const std::string_view each : names)
    if (request.field(each) != nullptr) return each;
  return {};
}

}  // namespace

struct MetadataService::Response {
  Status status = Status::ok;
  std::string body{};
  std::string_view type = plain_text;
  std::string fields{};  // more of them, with their line ends

  std::string text(bool http_1_0, bool close, bool with_body) const {
    std::string text = http_1_0 ? "HTTP/1.0 " : "HTTP/1.1 ";
    text += std::to_string(static_cast<unsigned>(status));
    text.append(" ").append(reason_of(status));
    text.append("\r\nServer: MMDS\r\nConnection: ").append(close ? "close" : "keep-alive");
    text.append("\r\nContent-Type: ").append(type);
    text.append("\r\nContent-Length: ").append(std::to_string(body.size())).append("\r\n");
    text.append(fields).append("\r\n");
    if (with_body) text += body;
    return text;
  }
};

MetadataService::MetadataService(const MetadataStore& store, Settings settings)
    : store_(store), settings_(std::move(settings)), tokens_(settings_.now) {}

std::optional<MetadataService::Reply> MetadataService::reply(std::string_view text) const {
  const HttpReading reading = read_http_request(text);
  const HttpRequest& request = reading.request;
  switch (reading.outcome) {
    case HttpReading::Outcome::part:
      return {};
    case HttpReading::Outcome::malformed: {
      const Response response{Status::bad_request, "This is no request that is understood here."};
      return Reply{text.size(), response.text(false, true, true), true};
    }
    case HttpReading::Outcome::whole:
      break;
  }
  const bool close = !request.keep_alive;
  return Reply{reading.bytes, respond(request).text(request.is_http_1_0, close, request.method != "HEAD"),
               close};
}

MetadataService::Response MetadataService::respond(const HttpRequest& request) const {
  if (request.method != "GET" && request.method != "PUT")
    return {Status::method_not_allowed, "GET and PUT are the methods here.", plain_text,
            "Allow: GET, PUT\r\n"};
  const std::string_view path = path_in_target(request.target);
  if (path.empty()) return {Status::bad_request, "The request's target has no path."};
  return request.method == "GET" ? get(request, path) : put(request, path);
}

MetadataService::Response MetadataService::get(const HttpRequest& request, std::string_view path) const {
  if (settings_.version == Version::v2) {
    const std::string_view name = name_in(request, {"X-metadata-token", "X-aws-ec2-metadata-token"});
    if (name.empty())
      return {Status::unauthorized,
              "There is no token: send the one of PUT /latest/api/token as X-metadata-token."};
    if (!tokens_.valid(*request.field(name)))
      return {Status::unauthorized, "The token is not valid, or not any more."};
  }
  const bool json = !settings_.imds_compat && accepts_json(request);
  MetadataStore::Answer answer =
      store_.look_up(path, json ? MetadataStore::Format::json : MetadataStore::Format::imds);
  switch (answer.outcome) {
    case MetadataStore::Answer::Outcome::found:
      return {Status::ok, std::move(answer.text), json ? json_text : plain_text};
    case MetadataStore::Answer::Outcome::absent:
      return {Status::not_found, "There is nothing of that name."};
    case MetadataStore::Answer::Outcome::no_text:
      break;
  }
  return {Status::not_implemented, "This value is neither an object nor a string: accept application/json."};
}

MetadataService::Response MetadataService::put(const HttpRequest& request, std::string_view path) const {
  // Whoever forwards requests would hand out tokens to others.
  if (request.field("X-Forwarded-For") != nullptr)
    return {Status::bad_request, "Requests for tokens are not to be forwarded (X-Forwarded-For)."};
  if (!is_token_path(path)) return {Status::not_found, "PUT is for /latest/api/token."};
  const std::string_view name =
      name_in(request, {"X-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token-ttl-seconds"});
  if (name.empty())
    return {Status::bad_request, "The token's lifetime is missing: X-metadata-token-ttl-seconds."};
  const std::string& value = *request.field(name);
  std::uint32_t seconds = 0;
  const char* const end = value.data() + value.size();
  const auto [stopped, error] = std::from_chars(value.data(), end, seconds);
  if (error != std::errc() || stopped != end || seconds == 0 || seconds > longest_token_seconds)
    return {Status::bad_request, "A token's lifetime is 1 to 21600 seconds."};
  std::string fields(name);
  fields.append(": ").append(std::to_string(seconds)).append("\r\n");
  return {Status::ok, tokens_.make(std::chrono::seconds(seconds)), plain_text, std::move(fields)};
}

}  // namespace hum
