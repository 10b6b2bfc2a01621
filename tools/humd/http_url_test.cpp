// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/http_url.h"

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

std::string refusal_of(const std::string& text) {
  try {
    HttpUrl::parse("disk", text);
  } catch (const ConfigError& error) {
    CHECK(error.key() == "disk");
    return error.what();
  }
  return "was taken";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a URL of HTTP is taken apart, and is the same when it is put together") {
  const auto check = [](const std::string& text, const std::string& host, std::uint16_t port,
                        const std::string& target) {
    INFO(text);
    const HttpUrl url = HttpUrl::parse("disk", text);
    CHECK(url.host == host);
    CHECK(url.port == port);
    CHECK(url.target == target);
    CHECK(url.text() == text);
  };
  check("http://example.com/a/b.img", "example.com", 80, "/a/b.img");
  check("http://127.0.0.1:1/?x=1", "127.0.0.1", 1, "/?x=1");
  check("http://a_b-c:65535/a%20b?to=http://x:1/@", "a_b-c", 65535, "/a%20b?to=http://x:1/@");
  check("http://[::1]/a", "::1", 80, "/a");
  check("http://[fd00::1.2.3.4]:8080/a", "fd00::1.2.3.4", 8080, "/a");
  CHECK(HttpUrl::parse("disk", "http://host").target == "/");
  CHECK(HttpUrl::parse("disk", "http://host?a").target == "/?a");
  CHECK(HttpUrl::parse("disk", "http://host/a#part").target == "/a");
  CHECK(HttpUrl::parse("disk", "http://host:80/a").text() == "http://host/a");
}

TEST_CASE("what is no URL of HTTP, or would not stay in a request's line, is refused by name") {
  CHECK(contains(refusal_of("https://host/a"), "curl -fLo"));
  for (const char* const text : {"", "host/a", "/a", "ftp://host/a", "http:/host", "file:///a"})
    CHECK(contains(refusal_of(text), "is no URL of an HTTP server"));
  for (const char* const text :
       {"http:///a", "http://", "http://[]/", "http://[::1", "http://::1/", "http://-a/", "http://a,b/",
        "http://[::1]x/", "http://[g]/", "http://:80/"}) {
    INFO(text);
    CHECK(contains(refusal_of(text), "names no host"));
  }
  for (const char* const port : {"", "0", "65536", "-1", "+1", "1x", "99999999999999999999"}) {
    INFO(port);
    CHECK(contains(refusal_of("http://host:" + std::string(port) + "/a"), "has no port"));
  }
  for (const char* const text : {"http://h/a b", "http://h/a\r\nX: y", "http://h/\xc3\xa4", "http://h/\x7f"})
    CHECK(contains(refusal_of(text), "has characters that stand in no URL"));
  CHECK(contains(refusal_of("http://user:word@host/a"), "has a user's name"));
  const std::string begin = "http://host/";
  CHECK(refusal_of(begin + std::string(4096 - begin.size(), 'a')) == "was taken");
  CHECK(contains(refusal_of(begin + std::string(4097 - begin.size(), 'a')), "is too long"));
  CHECK(refusal_of("http://" + std::string(253, 'a') + "/") == "was taken");
  CHECK(contains(refusal_of("http://" + std::string(254, 'a') + "/"), "names no host"));
}

TEST_CASE("a server's redirect is followed from where it was given") {
  const HttpUrl here = HttpUrl::parse("disk", "http://host:8080/a/b/c.img?x=1/2");
  const auto to = [&](const std::string& location) { return here.follow("disk", location).text(); };
  CHECK(to("http://other/d") == "http://other/d");
  CHECK(to("//other:1/d") == "http://other:1/d");
  CHECK(to("/d?y:z") == "http://host:8080/d?y:z");
  CHECK(to("?y=2") == "http://host:8080/a/b/c.img?y=2");
  CHECK(to("d/e:f") == "http://host:8080/a/b/d/e:f");
  CHECK(to("./d") == "http://host:8080/a/b/d");
  CHECK(to("../d") == "http://host:8080/a/d");
  CHECK(to(".././../d") == "http://host:8080/d");
  CHECK(to("../../../d") == "http://host:8080/d");
  CHECK_THROWS_AS(here.follow("disk", "https://other/d"), ConfigError);
  CHECK_THROWS_AS(here.follow("disk", "file:///etc/passwd"), ConfigError);
  CHECK_THROWS_AS(here.follow("disk", "/d\r\nX: y"), ConfigError);
}

}  // namespace hum
