// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/served_testing.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace hum::testing {

using nlohmann::json;
using std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds patience{20};
constexpr std::chrono::milliseconds one_look{20};

std::string text_in(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

json error_in(const std::string& body) {
  const json parsed = json::parse(body, nullptr, false);
  return parsed.is_object() && parsed.contains("error") ? parsed["error"] : json();
}

}  // namespace

ApiRequest api_request(const std::string& method, const std::string& target, const std::string& body) {
  const std::size_t mark = std::min(target.find('?'), target.size());
  ApiRequest request{.method = method, .path = target.substr(0, mark), .body = body};
  request.query = target.substr(std::min(mark + 1, target.size()));
  request.peer = ::geteuid();
  return request;
}

std::string error_code(const ApiAnswer& answer) {
  const json error = error_in(answer.body);
  return text_in(error, "message").empty() ? "" : text_in(error, "code");
}

Served::Served(ManagerSettings settings) : manager_(context_, std::move(settings)), api_(context_, manager_) {
  run_coroutine(context_, manager_.recover());
  context_.restart();
}

Served::Answer Served::send(ApiRequest request) {
  const auto answer = std::make_shared<std::optional<ApiAnswer>>();
  api_.handle(std::move(request), [answer](std::optional<ApiAnswer> given) { *answer = std::move(given); });
  return answer;
}

bool Served::until(const std::function<bool()>& condition) {
  const auto late = steady_clock::now() + patience;
  while (!condition()) {
    if (steady_clock::now() > late) return false;
    context_.run_one_for(one_look);
  }
  return true;
}

ApiAnswer Served::wait(const Answer& answer) {
  if (!until([&] { return answer->has_value(); })) throw std::runtime_error("no answer comes");
  return **answer;
}

ApiAnswer Served::ask(const std::string& method, const std::string& target, const std::string& body) {
  return ask(api_request(method, target, body));
}

std::string Served::outcome(const std::string& method, const std::string& target, const std::string& body) {
  const std::string wait = target.find('?') == std::string::npos ? "?wait_s=20" : "&wait_s=20";
  const ApiAnswer answer = ask(method, target + wait, body);
  const std::string code = error_code(answer);
  if (answer.status != 200) return std::to_string(answer.status) + " " + code;
  const std::string state = text_in(json::parse(answer.body, nullptr, false), "state");
  return code.empty() ? state : state + " " + code;
}

std::string Served::state_of(const std::string& vm) {
  return text_in(json::parse(ask("GET", "/v1/vms/" + vm).body, nullptr, false), "state");
}

}  // namespace hum::testing
