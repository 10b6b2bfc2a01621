// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/image_pull.h"

#include <atomic>
#include <cstdio>
#include <thread>

#include "tools/humd/crash_testing.h"
#include "tools/humd/file_server_testing.h"
#include "tools/humd/image_files.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/sha256.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Names = std::set<std::string>;

constexpr std::size_t size = 1'000'000;
constexpr std::size_t part = 400'000;
const std::string etag = "\"one\"";
const std::string modified = "Sat, 05 Nov 1994 08:49:37 GMT";

struct Bench {
  testing::TemporaryFolder folder;
  FileServer server;
  std::string own = folder / "7";

  PullRequest request(unsigned retries = 0) const {
    PullRequest request;
    request.url = server.url("/disk");
    request.retries = retries;
    request.stall = 5s;
    request.pause = 1ms;
    return request;
  }
  std::string pull(const PullRequest& what) const { return content_of(pull_file(own, what)); }
  std::string pull() const { return pull(request()); }
  // Nothing is left after it.
  std::string refusal(const PullRequest& what) const {
    try {
      pull_file(own, what);
    } catch (const ConfigError& error) {
      CHECK(files_below(folder.path()) == Names{"7"});
      return error.what();
    }
    return "was taken";
  }
  std::string refusal() const { return refusal(request(3)); }
  // The network's.
  std::string failure(const PullRequest& what) const {
    try {
      pull_file(own, what);
    } catch (const HostError& error) {
      return error.what();
    }
    return "was got";
  }
  // What there is of the file.
  std::uintmax_t left() const {
    for (const auto& each : fs::directory_iterator(own))
      if (!each.path().has_extension()) return each.file_size();
    return 0;
  }
  // Gets the first part only.
  void get_part(ServedFile file) const {
    file.breaks_after = part;
    const_cast<FileServer&>(server).serve("/disk", file);
    CHECK(failure(request()).find("the connection broke; tried 1 times") != std::string::npos);
    CHECK(left() == part);
  }
};

bool contains(const std::string& text, const std::string& part_of_it) {
  return text.find(part_of_it) != std::string::npos;
}

}  // namespace

TEST_CASE("a file is got whole however the server says how long it is, and once only") {
  Bench bench;
  for (const auto length :
       {ServedFile::Length::told, ServedFile::Length::chunked, ServedFile::Length::untold}) {
    const std::string target = "/" + std::to_string(static_cast<int>(length));
    const std::string content = some_bytes(size, static_cast<std::uint32_t>(length) + 1);
    bench.server.serve(target, {.content = content, .length = length});
    PullRequest request = bench.request();
    request.url = bench.server.url(target);
    request.digest = sha256_of(content);
    request.most = size;
    std::uint64_t last = 0;
    FileTask task;
    task.progress = [&](std::uint64_t done, std::uint64_t whole) {
      CHECK((whole == size || (whole == 0 && length != ServedFile::Length::told)));
      last = done;
    };
    const std::string path = pull_file(bench.own, request, task);
    CHECK(last == size);
    CHECK(fs::path(path).parent_path() == bench.own);
    CHECK(content_of(path) == content);
    const std::size_t requests = bench.server.requests().size();
    CHECK(pull_file(bench.own, request) == path);
    CHECK(bench.server.requests().size() == requests);
  }
  CHECK(bench.server.requests()[0].field("Accept-Encoding") == "identity");
  CHECK(contains(bench.server.url("/"), bench.server.requests()[0].field("Host")));
}

TEST_CASE("an empty file is got, too") {
  Bench bench;
  bench.server.serve("/disk", {});
  CHECK(bench.pull().empty());
}

TEST_CASE("after the connection broke only the rest is got, by ETag and by Last-Modified") {
  for (const ServedFile& file : {ServedFile{.content = some_bytes(size), .etag = etag},
                                 ServedFile{.content = some_bytes(size), .modified = modified},
                                 ServedFile{.content = some_bytes(size),
                                            .etag = etag,
                                            .modified = modified,
                                            .length = ServedFile::Length::chunked}}) {
    Bench bench;
    bench.get_part(file);
    bench.server.serve("/disk", file);
    CHECK(bench.pull() == file.content);
    const auto requests = bench.server.requests();
    REQUIRE(requests.size() == 2);
    CHECK(requests[1].field("Range") == "bytes=400000-");
    CHECK(requests[1].field("If-Range") == (file.etag.empty() ? file.modified : file.etag));
    CHECK(requests[1].sent == size - part);
  }
}

TEST_CASE("a connection that breaks again and again is taken up by the retries of one call") {
  Bench bench;
  const ServedFile file{.content = some_bytes(size), .etag = etag, .breaks_after = 300'000};
  bench.server.serve("/disk", file);
  CHECK(bench.pull(bench.request(3)) == file.content);
  std::size_t sent = 0;
  for (const auto& each : bench.server.requests()) sent += each.sent;
  CHECK(sent == size);
  CHECK(bench.server.requests().size() == 4);
}

TEST_CASE("a file that has changed on the server, or may have, is got anew") {
  const ServedFile plain{.content = some_bytes(size)};
  const auto check = [](const ServedFile& before, const ServedFile& after, std::size_t most_requests) {
    Bench bench;
    bench.get_part(before);
    bench.server.serve("/disk", after);
    CHECK(bench.pull(bench.request(1)) == after.content);
    CHECK(bench.server.requests().size() <= most_requests);
    CHECK(bench.server.requests().back().sent == after.content.size());
  };
  ServedFile before = plain;
  before.etag = etag;
  ServedFile after{.content = some_bytes(size, 2), .etag = "\"two\""};
  SECTION("it has another ETag") {
    check(before, after, 2);
  }
  SECTION("the server does not look at If-Range") {
    after.looks_at_if_range = false;
    check(before, after, 3);
  }
  SECTION("the server has no ranges") {
    after.ranges = false;
    check(before, after, 2);
  }
  SECTION("its ETag is weak") {
    before.etag = after.etag = "W/\"one\"";
    check(before, after, 2);
  }
  SECTION("it was changed in the second that it was served in") {
    before.etag = after.etag = "";
    before.modified = after.modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    check(before, after, 2);
  }
  SECTION("it is shorter than what is there") {
    after.content.resize(part / 2);
    check(before, after, 2);
    after.looks_at_if_range = false;
    check(before, after, 3);
  }
  SECTION("the server sends another part than was asked for") {
    for (const char* const range :
         {"bytes 0-999999/1000000", "bytes 400001-999999/1000000", "bytes 400000-999998/1000000",
          "bytes 400000-999999/*", "bytes 999999-400000/1000000", "bytes x", "400000-999999/1000000",
          "bytes 400000-18446744073709551616/18446744073709551617", "bytes 400000-999999/0"}) {
      INFO(range);
      after = before;
      after.range = range;
      check(before, after, 3);
    }
  }
}

TEST_CASE("what has come wholly, unknown to its end, is not sent again") {
  Bench bench;
  ServedFile file{.content = some_bytes(size), .etag = etag, .breaks_after = size};
  // All of it comes, and the mark of its end does not.
  file.length = ServedFile::Length::chunked;
  file.instead =
      "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n" + file.content;
  bench.server.serve("/disk", file);
  CHECK(contains(bench.failure(bench.request()), "the connection broke"));
  CHECK(bench.left() == size);
  bench.server.serve("/disk", {.content = file.content, .etag = etag});
  CHECK(bench.pull() == file.content);
  CHECK(bench.server.requests().back().sent == 0);
}

TEST_CASE("another digest, a file that is too large and a server's refusal leave nothing") {
  Bench bench;
  const ServedFile file{.content = some_bytes(size), .etag = etag};
  bench.server.serve("/disk", file);
  PullRequest request = bench.request(3);
  request.digest = sha256_of("another");
  CHECK(contains(bench.refusal(request), sha256_of(file.content)));
  request.digest = "sha256:x";
  CHECK_THROWS_AS(pull_file(bench.own, request), ConfigError);
  request.digest = {};
  request.most = size - 1;
  CHECK(contains(bench.refusal(request), "more than the limit"));
  CHECK(bench.server.requests().size() == 2);

  for (const unsigned status : {400U, 401U, 403U, 404U, 410U, 204U, 304U}) {
    bench.get_part(file);
    bench.server.serve("/disk", {.status = status});
    CHECK(contains(bench.refusal(), "the server answers " + std::to_string(status)));
  }
  bench.server.serve("/disk", {.content = "x", .fields = "Content-Encoding: gzip\r\n"});
  CHECK(contains(bench.refusal(), "sends it as 'gzip' only"));
  request.url = "https://127.0.0.1/disk";
  CHECK(contains(bench.refusal(request), "curl -fLo"));
}

TEST_CASE("a body without an end is cut off at the limit, and nothing is left") {
  for (const auto length : {ServedFile::Length::chunked, ServedFile::Length::untold}) {
    Bench bench;
    bench.server.serve("/disk", {.content = some_bytes(100'000), .length = length, .endless = true});
    PullRequest request = bench.request();
    request.most = 8UL << 20;
    CHECK(contains(bench.refusal(request), "more than the limit of 8M"));
  }
}

TEST_CASE("a file that the folder has no room for is refused before it comes, and nothing is left") {
  Bench bench;
  bench.server.serve("/disk", {.instead = "HTTP/1.1 200 OK\r\nContent-Length: 4611686018427387904\r\n\r\nx"});
  CHECK(contains(bench.failure(bench.request(3)), "has room for"));
  CHECK(files_below(bench.folder.path()) == Names{"7"});
  CHECK(bench.server.requests().size() == 1);
}

TEST_CASE("a server that is down for a while is asked again, and what has come stays") {
  Bench bench;
  const ServedFile file{.content = some_bytes(size), .etag = etag};
  bench.get_part(file);
  for (const unsigned status : {500U, 503U, 429U, 408U}) {
    bench.server.serve("/disk", {.status = status});
    CHECK(contains(bench.failure(bench.request(2)),
                   "the server answers " + std::to_string(status) + "; tried 3 times"));
    CHECK(bench.left() == part);
  }
  CHECK(bench.server.requests().size() == 13);
  for (const char* const garbage : {"\x16\x03\x01\x02", "garbage\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n",
                                    "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    INFO(garbage);
    bench.server.serve("/disk", {.instead = garbage});
    CHECK(contains(bench.failure(bench.request(1)), "; tried 2 times"));
  }
  bench.server.serve("/disk", {.instead = "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x')});
  CHECK(contains(bench.failure(bench.request()), "is no HTTP"));
  bench.server.serve("/disk", file);
  CHECK(bench.pull() == file.content);

  PullRequest nobody = bench.request(1);
  nobody.url = "http://127.0.0.1:1/";
  CHECK(contains(bench.failure(nobody), "tried 2 times"));
}

TEST_CASE("redirects are followed, and not for ever") {
  Bench bench;
  const ServedFile file{.content = some_bytes(size)};
  const auto redirect = [](unsigned status, const std::string& to) {
    return ServedFile{.content = "moved", .status = status, .fields = "Location: " + to + "\r\n"};
  };
  bench.server.serve("/disk", redirect(301, "/b/2"));
  bench.server.serve("/b/2", redirect(302, "3?x"));
  bench.server.serve("/b/3?x", redirect(303, "../4"));
  bench.server.serve("/4", redirect(307, bench.server.url("/5")));
  bench.server.serve("/5", redirect(308, "/6"));
  bench.server.serve("/6", file);
  CHECK(bench.pull() == file.content);
  CHECK(bench.server.requests().size() == 6);
  fs::remove_all(bench.own);
  bench.server.serve("/6", redirect(301, "/7"));
  CHECK(contains(bench.refusal(), "leads on more than 5 times"));
  bench.server.serve("/disk", redirect(301, "/disk"));
  CHECK(contains(bench.refusal(), "leads on more than 5 times"));
  bench.server.serve("/disk", redirect(301, "https://127.0.0.1/disk"));
  CHECK(contains(bench.refusal(), "https is not known here"));
  bench.server.serve("/disk", redirect(301, "file:///etc/passwd"));
  CHECK(contains(bench.refusal(), "is no URL of an HTTP server"));
  bench.server.serve("/disk", {.status = 302});
  CHECK(contains(bench.refusal(), "the server answers 302"));
}

TEST_CASE("a server that says nothing more is left after a while, and one that is slow is not") {
  Bench bench;
  const ServedFile file{.content = some_bytes(size), .etag = etag, .breaks_after = part, .hangs = true};
  bench.server.serve("/disk", file);
  PullRequest request = bench.request();
  request.stall = 200ms;
  CHECK(contains(bench.failure(request), "nothing came for 200 ms"));
  CHECK(bench.left() == part);
  bench.server.serve("/slow", {.content = "0123456789", .per_byte = 50ms});
  request.url = bench.server.url("/slow");
  CHECK(bench.pull(request) == "0123456789");
}

TEST_CASE("who cancels waits for no server, and what has come is there for the next one") {
#ifdef HUM_SANITIZED
  constexpr auto most = 1s;
#else
  constexpr auto most = 200ms;
#endif
  const auto cancel = [&](const ServedFile& file, PullRequest request, Bench& bench) {
    bench.server.serve("/disk", file);
    std::atomic<bool> cancelled = false;
    Clock::time_point since;
    std::thread other([&] {
      while (bench.server.requests().empty()) std::this_thread::sleep_for(1ms);
      std::this_thread::sleep_for(150ms);
      since = Clock::now();
      cancelled = true;
    });
    FileTask task;
    task.cancelled = &cancelled;
    CHECK_THROWS_AS(pull_file(bench.own, request, task), Cancelled);
    const auto end = Clock::now();
    other.join();
    CHECK(end - since < most);
  };
  Bench bench;
  PullRequest request = bench.request();
  SECTION("it hangs") {
    const ServedFile file{.content = some_bytes(size), .etag = etag, .breaks_after = part, .hangs = true};
    cancel(file, request, bench);
    bench.server.serve("/disk", {.content = file.content, .etag = etag});
    CHECK(bench.pull() == file.content);
    CHECK(bench.server.requests().back().sent == size - part);
  }
  SECTION("it sends a byte a second") {
    cancel({.content = some_bytes(size), .per_byte = 1000ms}, request, bench);
  }
  SECTION("it never ends") {
    cancel({.content = some_bytes(1000), .length = ServedFile::Length::untold, .endless = true}, request,
           bench);
  }
  SECTION("the next try is a minute away") {
    request.retries = 1;
    request.pause = 60s;
    cancel({.status = 503}, request, bench);
  }
}

TEST_CASE("a file of this host is got by its path, too") {
  Bench bench;
  const std::string content = some_bytes(size);
  write_whole_file(bench.folder / "file", content);
  PullRequest request;
  for (const std::string& url : {bench.folder / "file", "file://" + (bench.folder / "file")}) {
    request.url = url;
    CHECK(bench.pull(request) == content);
  }
  fs::remove_all(bench.own);
  fs::remove(bench.folder / "file");
  CHECK(contains(bench.refusal(request), "cannot be read"));
  request.url = bench.folder.path();
  CHECK(contains(bench.refusal(request), "is no regular file"));
  request.url = "file://host/a";
  CHECK(contains(bench.refusal(request), "names no file of this host"));
}

namespace {

// A file that is whole is the server's, whatever ended what.
unsigned kill_pulls(const ServedFile& first, const ServedFile& next, const std::string& digest) {
  FileServer server;
  PullRequest request;
  request.url = server.url("/disk");
  request.retries = 9;
  request.pause = 1ms;
  request.digest = digest;
  return kill_everywhere({.prepare = [&](const std::string&) { server.serve("/disk", first); },
                          .work = [&](const std::string& folder,
                                      const FileTask& task) { pull_file(folder + "/7", request, task); },
                          .then =
                              [&](const std::string& folder) {
                                server.serve("/disk", next);
                                const std::string path = pull_file(folder + "/7", request);
                                // What was whole before the server's file changed is that.
                                const std::string content = content_of(path);
                                CHECK((content == next.content || content == first.content));
                                CHECK(files_below(folder).size() == 2);
                              }});
}

}  // namespace

TEST_CASE("a pull that is killed at any change goes on in the next one") {
  const ServedFile file{.content = some_bytes(size), .etag = etag, .breaks_after = part};
  unsigned killed = kill_pulls(file, file, sha256_of(file.content));
  CHECK(killed > 12);
  ServedFile other{.content = some_bytes(size, 2), .etag = "\"two\""};
  killed += kill_pulls(file, other, {});
  other.ranges = false;
  killed += kill_pulls(file, other, {});
  std::printf("count: %u kills of a pull, each gone on with\n", killed);
}

TEST_CASE("a refused pull that is killed at any change leaves nothing after the next one") {
  FileServer server;
  server.serve("/disk", {.content = some_bytes(size), .etag = etag});
  PullRequest request;
  request.url = server.url("/disk");
  request.digest = sha256_of("another");
  const unsigned killed =
      kill_everywhere({.work =
                           [&](const std::string& folder, const FileTask& task) {
                             try {
                               pull_file(folder + "/7", request, task);
                             } catch (const ConfigError&) {  // as it should
                             }
                           },
                       .then =
                           [&](const std::string& folder) {
                             CHECK_THROWS_AS(pull_file(folder + "/7", request), ConfigError);
                             CHECK(files_below(folder) == Names{"7"});
                           }});
  CHECK(killed > 10);
  std::printf("count: %u kills of a pull that is refused\n", killed);
}

TEST_CASE("a pull that finds no room at any of its changes leaves nothing") {
  FileServer server;
  server.serve("/disk", {.content = some_bytes(size), .etag = etag});
  PullRequest request;
  request.url = server.url("/disk");
  fail_everywhere({.work = [&](const std::string& folder,
                               const FileTask& task) { pull_file(folder + "/7", request, task); },
                   .then =
                       [&](const std::string& folder) {
                         for (const std::string& each : files_below(folder)) CHECK(each == "7");
                       }},
                  [] { throw HostError(ENOSPC, "write"); });
}

TEST_CASE("a pulled file becomes an image's part without a copy") {
  Bench bench;
  const std::string content = some_bytes(size);
  bench.server.serve("/disk", {.content = content});
  const ImageFiles images(bench.folder / "images");
  const fs::path path = pull_file(images.operation_folder(7), bench.request());
  ImageSource source;
  source.disk = path;
  const auto check_linked = [&](const Image& image) {
    CHECK(image.parts[0].digest == sha256_of(content));
    CHECK(fs::equivalent(path, images.operation_folder(7) / "image/disk.raw"));
    CHECK(fs::hard_link_count(path) == 2);
  };
  check_linked(images.stage(7, source));
  // As after a daemon that was killed: it pulls, finds it, and stages again.
  CHECK(pull_file(images.operation_folder(7), bench.request()) == path);
  const Image image = images.stage(7, source);
  check_linked(image);
  images.publish(7, image.digest);
  const fs::path place = images.path(image.digest, image.parts[0]);
  CHECK(content_of(place) == content);
  CHECK(fs::hard_link_count(place) == 1);
  CHECK(images.verify(image.digest).empty());
  CHECK_FALSE(fs::exists(images.operation_folder(7)));
}

}  // namespace hum
