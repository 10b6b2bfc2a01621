// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/metadata_service.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace std::chrono_literals;
using Version = MetadataService::Version;

struct Bench {
  explicit Bench(Version version, bool imds_compat = false)
      : service(store, {.version = version, .imds_compat = imds_compat, .now = [this] { return now; }}) {
    store.put(R"({"latest":{"meta-data":{"ami-id":"ami-1","age":43}}})");
  }

  std::string ask(const std::string& line, const std::string& fields = {}) const {
    const std::string text = line + " HTTP/1.1\r\n" + fields + "\r\n";
    const auto reply = service.reply(text);
    REQUIRE(reply);
    CHECK(reply->bytes == text.size());
    return reply->text;
  }
  std::string status(const std::string& line, const std::string& fields = {}) const {
    return ask(line, fields).substr(9, 3);
  }
  std::string token(const std::string& seconds = "60") const {
    const std::string text =
        ask("PUT /latest/api/token", "X-metadata-token-ttl-seconds: " + seconds + "\r\n");
    REQUIRE(text.substr(9, 3) == "200");
    return text.substr(text.find("\r\n\r\n") + 4);
  }

  SessionTokens::Clock::time_point now{};
  MetadataStore store;
  MetadataService service;
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a response says what follows it") {
  const Bench bench(Version::v1);
  CHECK(bench.ask("GET /latest/meta-data/ami-id") ==
        "HTTP/1.1 200 OK\r\nServer: MMDS\r\nConnection: keep-alive\r\nContent-Type: text/plain\r\n"
        "Content-Length: 5\r\n\r\nami-1");
  const auto old = bench.service.reply("GET /latest/ HTTP/1.0\r\n\r\n");
  REQUIRE(old);
  CHECK(old->close);
  CHECK(old->text ==
        "HTTP/1.0 200 OK\r\nServer: MMDS\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        "Content-Length: 10\r\n\r\nmeta-data/");
}

TEST_CASE("JSON is for those who accept it, unless all are to get plain text") {
  const std::string accept = "Accept: text/html, Application/JSON;q=0.9\r\n";
  const std::string json = Bench(Version::v1).ask("GET /latest/meta-data", accept);
  CHECK(has(json, "Content-Type: application/json\r\n"));
  CHECK(has(json, "\r\n\r\n{\"age\":43,\"ami-id\":\"ami-1\"}"));
  const std::string text = Bench(Version::v1, true).ask("GET /latest/meta-data", accept);
  CHECK(has(text, "Content-Type: text/plain\r\n"));
  CHECK(has(text, "\r\n\r\nage\nami-id"));
  for (const char* each : {"Accept: */*\r\n", "Accept: text/plain\r\n", "Accept: plain/text\r\n"})
    CHECK(has(Bench(Version::v1).ask("GET /latest/meta-data", each), "\r\n\r\nage\nami-id"));
}

TEST_CASE("what cannot be answered has its status in either version") {
  for (const Version version : {Version::v1, Version::v2}) {
    const Bench bench(version);
    const std::string token = "X-metadata-token: " + bench.token() + "\r\n";
    CHECK(bench.status("GET /latest/meta-data/ami-id", token) == "200");
    CHECK(bench.status("GET http://169.254.169.254/latest/meta-data/ami-id", token) == "200");
    CHECK(bench.status("GET http://169.254.169.254", token) == "400");
    CHECK(bench.status("GET latest", token) == "400");
    CHECK(bench.status("GET /nothing", token) == "404");
    CHECK(bench.status("GET /latest/meta-data/age", token) == "501");
    CHECK(bench.status("GET /latest/meta-data/age", token + "Accept: application/json\r\n") == "200");
    for (const char* method : {"POST", "PATCH", "DELETE", "OPTIONS", "BREW"}) {
      const std::string text = bench.ask(method + std::string(" /latest"), token);
      CHECK(text.substr(9, 3) == "405");
      CHECK(has(text, "\r\nAllow: GET, PUT\r\n"));
    }
    const std::string head = bench.ask("HEAD /latest", token);
    CHECK(head.substr(9, 3) == "405");
    CHECK(head.ends_with("\r\n\r\n"));
  }
}

TEST_CASE("a request is awaited until it is whole, and a malformed one is the connection's last") {
  const Bench bench(Version::v1);
  CHECK_FALSE(bench.service.reply("GET /latest HTTP/1.1\r\n"));
  const auto reply = bench.service.reply("no request\r\n\r\n");
  REQUIRE(reply);
  CHECK(reply->close);
  CHECK(reply->bytes == 14);
  CHECK(reply->text.substr(9, 3) == "400");
  CHECK(has(reply->text, "\r\nConnection: close\r\n"));
}

TEST_CASE("version 2 answers with a valid token only, under either name, until it expires") {
  Bench bench(Version::v2);
  const std::string line = "GET /latest/meta-data/ami-id";
  CHECK(bench.status(line) == "401");
  CHECK(bench.status(line, "X-metadata-token: abc\r\n") == "401");
  CHECK(bench.status(line, "X-metadata-token-ttl-seconds: 60\r\n") == "401");
  const std::string token = bench.token("60");
  CHECK(bench.status(line, "X-metadata-token: " + token + "\r\n") == "200");
  CHECK(bench.status(line, "x-AWS-ec2-metadata-token: " + token + "\r\n") == "200");
  CHECK(bench.status("GET /nothing", "X-metadata-token: x\r\n") == "401");
  bench.now += 59s;
  CHECK(bench.status(line, "X-metadata-token: " + token + "\r\n") == "200");
  bench.now += 1s;
  CHECK(bench.status(line, "X-metadata-token: " + token + "\r\n") == "401");
}

TEST_CASE("version 1 makes tokens and looks at none") {
  const Bench bench(Version::v1);
  CHECK(bench.token().size() == 80);
  CHECK(bench.status("GET /latest", "X-metadata-token: abc\r\n") == "200");
}

TEST_CASE("a token's lifetime is 1 to 21600 seconds, and told with the token") {
  const Bench bench(Version::v2);
  const auto ask = [&](const std::string& seconds) {
    return bench.ask("PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: " + seconds + "\r\n");
  };
  CHECK(has(ask("1"), "\r\nX-aws-ec2-metadata-token-ttl-seconds: 1\r\n"));
  CHECK(has(ask("21600"), "HTTP/1.1 200 OK\r\n"));
  for (const char* each : {"0", "21601", "-1", "+1", "1.5", "x", "", "4294967297"})
    CHECK(has(ask(each), "HTTP/1.1 400 "));
  CHECK(bench.status("PUT /latest/api/token") == "400");
}

TEST_CASE("only /latest/api/token takes a PUT, and not one that was forwarded") {
  for (const Version version : {Version::v1, Version::v2}) {
    const Bench bench(version);
    const std::string lifetime = "X-metadata-token-ttl-seconds: 60\r\n";
    CHECK(bench.status("PUT //latest///api/token", lifetime) == "200");
    CHECK(bench.status("PUT /latest/api/token/", lifetime) == "404");
    CHECK(bench.status("PUT /latest", lifetime) == "404");
    CHECK(bench.status("PUT /latest/api/token", lifetime + "x-forwarded-for: 10.0.0.1\r\n") == "400");
  }
}

}  // namespace
}  // namespace hum
