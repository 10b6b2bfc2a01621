// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/http_request.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

using Outcome = HttpReading::Outcome;

TEST_CASE("a request is read with its fields, whatever the case of their names") {
  const std::string text =
      "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-One: first\r\nx-one: second\r\n\r\n";
  const HttpReading reading = read_http_request(text + "GET");
  REQUIRE(reading.outcome == Outcome::whole);
  CHECK(reading.bytes == text.size());
  CHECK(reading.request.method == "PUT");
  CHECK(reading.request.target == "/latest/api/token");
  CHECK(reading.request.keep_alive);
  CHECK_FALSE(reading.request.is_http_1_0);
  REQUIRE(reading.request.field("x-ONE") != nullptr);
  CHECK(*reading.request.field("x-ONE") == "first");
  CHECK(reading.request.field("x-two") == nullptr);
}

TEST_CASE("a request is part until its last byte, wherever it is cut") {
  for (const std::string& text :
       {std::string("GET / HTTP/1.1\r\nA: b\r\n\r\n"),
        std::string("PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab\r\nc"),
        std::string("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")}) {
    for (std::size_t cut = 0; cut < text.size(); ++cut)
      CHECK(read_http_request(text.substr(0, cut)).outcome == Outcome::part);
    const HttpReading reading = read_http_request(text + "more");
    CHECK(reading.outcome == Outcome::whole);
    CHECK(reading.bytes == text.size());
  }
}

TEST_CASE("a connection is kept as the version and the field say") {
  const auto kept = [](const std::string& version, const std::string& field) {
    return read_http_request("GET / HTTP/" + version + "\r\n" + field + "\r\n").request.keep_alive;
  };
  CHECK(kept("1.1", ""));
  CHECK_FALSE(kept("1.1", "Connection: close\r\n"));
  CHECK_FALSE(kept("1.0", ""));
  CHECK(kept("1.0", "Connection: keep-alive\r\n"));
  CHECK(read_http_request("GET / HTTP/1.0\r\n\r\n").request.is_http_1_0);
}

TEST_CASE("what is no request is malformed") {
  for (const char* each :
       {"\x16\x03\x01 hello", "GET\r\n\r\n", "GET / FTP/1.1\r\n\r\n", "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"})
    CHECK(read_http_request(each).outcome == Outcome::malformed);
}

TEST_CASE("a request may have so many bytes and no more") {
  const auto request = [](std::size_t bytes) {
    const std::string start = "GET / HTTP/1.1\r\nA: ";
    return start + std::string(bytes - start.size() - 4, 'x') + "\r\n\r\n";
  };
  CHECK(read_http_request(request(most_request_bytes)).outcome == Outcome::whole);
  CHECK(read_http_request(request(most_request_bytes + 1)).outcome == Outcome::malformed);
  CHECK(read_http_request(request(2 * most_request_bytes).substr(0, most_request_bytes - 1)).outcome ==
        Outcome::part);
  CHECK(read_http_request(request(2 * most_request_bytes).substr(0, most_request_bytes)).outcome ==
        Outcome::malformed);
}

}  // namespace
}  // namespace hum
