// SPDX-License-Identifier: Apache-2.0
//
// Requests that race on one object, and clients that send to the real socket what is no request.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "tools/http/http_client.h"
#include "tools/humd/crash_lives_testing.h"
#include "tools/humd/served_testing.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

constexpr int racers = 16;
constexpr std::chrono::seconds patience{20};

// What all of them answer: how often which status, with the error's code behind it.
std::map<std::string, int> race(Served& daemon, const std::vector<ApiRequest>& requests) {
  std::vector<Served::Answer> answers;
  for (const ApiRequest& request : requests) answers.push_back(daemon.send(request));
  std::map<std::string, int> found;
  for (const Served::Answer& each : answers) {
    const ApiAnswer answer = daemon.wait(each);
    const std::string code = answer.status < 400 ? "" : " " + error_code(answer);
    ++found[std::to_string(answer.status) + code];
  }
  return found;
}

std::map<std::string, int> race(Served& daemon, const ApiRequest& request) {
  return race(daemon, std::vector<ApiRequest>(racers, request));
}

void settle(Served& daemon) {
  REQUIRE(daemon.until([&] { return !is_busy(daemon.manager()); }));
}

using Counts = std::map<std::string, int>;

}  // namespace

TEST_CASE("of many that create one name at once one wins, and the others are told that it is taken") {
  const DaemonPlace place;
  Served daemon(place.settings());
  CHECK(race(daemon, api_request("POST", "/v1/vms?wait_s=20", R"({"name": "web", "kernel": "/k"})")) ==
        Counts{{"200", 1}, {"409 name-taken", racers - 1}});
  CHECK(race(daemon, api_request("POST", "/v1/volumes?wait_s=20", R"({"name": "d", "size_mib": 1})")) ==
        Counts{{"200", 1}, {"409 name-taken", racers - 1}});
  settle(daemon);
  CHECK(trouble(daemon.manager(), place) == "");
  CHECK(daemon.manager().vms().count() == 1);
  CHECK(daemon.manager().volumes().all().size() == 1);
  CHECK(daemon.manager().journal().list(0, 100).size() == 2);
}

TEST_CASE("of many that send one request with one key each gets the same operation") {
  const DaemonPlace place;
  Served daemon(place.settings());
  ApiRequest request = api_request("POST", "/v1/vms?wait_s=20", R"({"name": "web", "kernel": "/k"})");
  request.idempotency_key = "once";
  CHECK(race(daemon, request) == Counts{{"200", racers}});
  CHECK(daemon.manager().journal().list(0, 100).size() == 1);
  request.body = R"({"name": "other", "kernel": "/k"})";
  CHECK(race(daemon, request) == Counts{{"422 key-reused", racers}});
  CHECK(daemon.manager().vms().count() == 1);
}

TEST_CASE("of many that change a VM from one state of it one wins") {
  const DaemonPlace place;
  Served daemon(place.settings());
  REQUIRE(daemon.outcome("POST", "/v1/vms", fake_vm("web").text()) == "done");
  std::vector<ApiRequest> requests;
  for (int i = 0; i < racers; ++i) {
    requests.push_back(
        api_request("PATCH", "/v1/vms/web", R"({"labels": {"of": ")" + std::to_string(i) + "\"}}"));
    requests.back().if_match = "\"1\"";
  }
  CHECK(race(daemon, requests) == Counts{{"200", 1}, {"412 vm-changed", racers - 1}});
  const json vm = json::parse(daemon.ask("GET", "/v1/vms/web").body);
  CHECK(vm["generation"] == 2);
  CHECK(vm["spec"]["labels"]["of"] == "0");
}

TEST_CASE("of many that do one thing with a VM at once one does it") {
  const DaemonPlace place;
  Served daemon(place.settings());
  REQUIRE(daemon.outcome("POST", "/v1/vms", fake_vm("web").text()) == "done");
  for (const char* const kind : {"start", "pause", "resume", "restart", "stop"}) {
    INFO(kind);
    CHECK(race(daemon, api_request("POST", std::string("/v1/vms/web/") + kind + "?wait_s=20")) ==
          Counts{{"200", 1}, {"409 vm-busy", racers - 1}});
  }
  CHECK(race(daemon, api_request("DELETE", "/v1/vms/web?wait_s=20")) ==
        Counts{{"200", 1}, {"409 vm-busy", racers - 1}});
  settle(daemon);
  CHECK(place.untidy({}, {}) == "");
}

TEST_CASE("what ends a VM whatever it is at may be asked for by many at once") {
  const DaemonPlace place;
  Served daemon(place.settings());
  for (const bool deletes : {false, true}) {
    REQUIRE(daemon.outcome("POST", "/v1/vms", fake_vm("web", "fake=slow-start-ms:300").text()) == "done");
    REQUIRE(daemon.ask("POST", "/v1/vms/web/start").status == 202);
    const ApiRequest request = deletes ? api_request("DELETE", "/v1/vms/web?force=true&wait_s=20")
                                       : api_request("POST", "/v1/vms/web/kill?wait_s=20");
    for (const auto& [answer, count] : race(daemon, request)) {
      INFO(answer << ", " << count << " times");
      CHECK(
          std::set<std::string>{"200", "409 vm-busy", "409 vm-stopped", "404 vm-not-found"}.contains(answer));
    }
    settle(daemon);
    CHECK(trouble(daemon.manager(), place) == "");
    CHECK(daemon.state_of("web") == (deletes ? "" : "stopped"));
    if (!deletes) CHECK(daemon.outcome("DELETE", "/v1/vms/web") == "done");
  }
  CHECK(place.untidy({}, {}) == "");
}

TEST_CASE("whatever is asked of two VMs in whatever order, their state is a whole one in the end") {
  const DaemonPlace place;
  Served daemon(place.settings());
  std::mt19937 random(7);
  const std::vector<std::string> kinds = {"start", "stop", "kill", "pause", "resume", "restart"};
  constexpr int rounds = 12;
  std::set<std::string> seen;
  for (int round = 0; round < rounds; ++round) {
    std::vector<ApiRequest> requests;
    for (int i = 0; i < 3 * racers; ++i) {
      const std::string name = random() % 2 == 0 ? "one" : "two";
      const std::string vm = "/v1/vms/" + name;
      const auto choice = random() % 12;
      if (choice == 0)
        requests.push_back(api_request("DELETE", vm + "?force=true"));
      else if (choice == 1)
        requests.push_back(api_request("PATCH", vm, R"({"labels": {"a": "b"}})"));
      else if (choice < 4)
        requests.push_back(api_request("POST", "/v1/vms?start=true", fake_vm(name).text()));
      else
        requests.push_back(api_request("POST", vm + "/" + kinds[random() % kinds.size()] + "?wait_s=1"));
    }
    for (const auto& [answer, count] : race(daemon, requests)) {
      seen.insert(answer);
      CHECK(answer < "5");
    }
    settle(daemon);
    CHECK(trouble(daemon.manager(), place) == "");
  }
  CHECK(seen.contains("409 vm-busy"));
  CHECK(seen.contains("409 name-taken"));
  CHECK(seen.contains("202"));
}

namespace {

// The API behind a real socket, which the caller's thread serves by Served::until.
struct Socket {
  Socket(Served& daemon, const DaemonPlace& place)
      : path(place.folders().socket()),
        server(daemon.context(), settings(path), [&daemon](ApiRequest request, HttpServer::Respond respond) {
          daemon.api().handle(std::move(request), std::move(respond));
        }) {}
  static HttpServer::Settings settings(const std::string& path) {
    HttpServer::Settings settings{.path = path};
    settings.asks_peer = true;
    settings.error_body = [](unsigned, std::string_view text) { return api_error_body("bad-request", text); };
    return settings;
  }
  std::string path;
  HttpServer server;
};

// What comes back for these bytes until the other side closes or is silent for a second.
std::string sent(const std::string& path, std::string_view bytes) {
  const UnixAddress address = UnixAddress::of("path", path);
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(client.get(), address.get(), address.size()) != 0) return "no connection";
  while (!bytes.empty()) {
    const ssize_t count = ::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) break;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  ::shutdown(client.get(), SHUT_WR);
  std::string text;
  std::array<char, 4096> piece{};
  for (pollfd entry{.fd = client.get(), .events = POLLIN, .revents = 0}; ::poll(&entry, 1, 1000) == 1;) {
    const ssize_t count = ::recv(client.get(), piece.data(), piece.size(), 0);
    if (count <= 0) break;
    text.append(piece.data(), static_cast<std::size_t>(count));
  }
  return text;
}

// Does that on another thread while the daemon runs.
void meanwhile(Served& daemon, const std::function<void()>& work) {
  std::atomic<bool> done = false;
  std::thread thread([&] {
    work();
    done = true;
  });
  const bool in_time = daemon.until([&] { return done.load(); });
  thread.join();
  CHECK(in_time);
}

}  // namespace

TEST_CASE("bytes that are no request get an error with a code, and the next client is served") {
  const DaemonPlace place;
  Served daemon(place.settings());
  const Socket socket(daemon, place);
  const std::string post = "POST /v1/vms HTTP/1.1\r\nHost: x\r\n";
  const std::vector<std::string> requests = {
      "\x01\x02\x03\r\n\r\n",
      "GET\r\n\r\n",
      "GET /v1/vms\r\n\r\n",
      "GET /v1/vms HTTP/9.9\r\n\r\n",
      "GET /v1/vms x HTTP/1.1\r\n\r\n",
      "GET /v1/vms HTTP/1.1\r\nno colon\r\n\r\n",
      "GET /v1/vms HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n",
      "GET /" + std::string(100'000, 'x') + " HTTP/1.1\r\n\r\n",
      post + "Content-Length: -1\r\n\r\n",
      post + "Content-Length: x\r\n\r\n",
      post + "Content-Length: 99999999999999999999\r\n\r\n",
      post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
      post + "Content-Length: 10000000\r\n\r\n" + std::string(10'000'000, 'x'),
      post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
      post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
      post + "Content-Length: 2\r\nIdempotency-Key: " + std::string(300, 'k') + "\r\n\r\n{}",
      "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "GET /v1/vms%2f..%2fx HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "GET http://x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"};
  for (const std::string& request : requests) {
    INFO(request.substr(0, 100));
    std::string answer;
    std::string next;
    meanwhile(daemon, [&] {
      answer = sent(socket.path, request);
      next = sent(socket.path, "GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    });
    CHECK(answer.starts_with("HTTP/1.1 4"));
    const std::size_t body = std::min(answer.find("\r\n\r\n"), answer.size());
    const json told = json::parse(answer.substr(body), nullptr, false);
    CHECK(told.is_object());
    if (told.is_object()) CHECK(told["error"]["message"].get<std::string>() != "");
    CHECK(next.starts_with("HTTP/1.1 200"));
  }
  std::string head;
  meanwhile(daemon, [&] {
    head = sent(socket.path, "HEAD /v1/vms HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  });
  CHECK(head.starts_with("HTTP/1.1 405"));
  CHECK(head.ends_with("\r\n\r\n"));
  CHECK(daemon.manager().journal().list(0, 10).empty());
}

TEST_CASE("clients that race over the socket see one winner") {
  const DaemonPlace place;
  Served daemon(place.settings());
  const Socket socket(daemon, place);
  std::array<unsigned, racers> statuses{};
  meanwhile(daemon, [&] {
    std::vector<std::thread> clients;
    for (unsigned& status : statuses)
      clients.emplace_back([&socket, &status] {
        HttpCall call;
        call.method = "POST";
        call.target = "/v1/vms?wait_s=20";
        call.body = R"({"name": "web", "kernel": "/k"})";
        status = blocking_http_call(socket.path, call, patience).status;
      });
    for (std::thread& each : clients) each.join();
  });
  CHECK(std::count(statuses.begin(), statuses.end(), 200U) == 1);
  CHECK(std::count(statuses.begin(), statuses.end(), 409U) == racers - 1);
  CHECK(daemon.manager().vms().count() == 1);
}

}  // namespace hum
