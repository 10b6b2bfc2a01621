// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/console_log.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "tools/hum-vmm/console_service.h"
#include "tools/hum-vmm/process_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

constexpr std::uint64_t smallest = 4096;

struct World {
  explicit World(std::uint64_t size = smallest) { begin(size); }

  void begin(std::uint64_t size = smallest) {
    log.reset();
    log.emplace(ConsoleLogSettings{.path = path, .size = size}, loop, logger);
    log->read(hub);
  }
  void print(std::string_view text) { hub.write(std::as_bytes(std::span(text))); }
  // Until what was printed is in the file.
  void settle() {
    log->finish();
    log->read(quiet);
  }
  std::string text() const { return content_of(path); }
  std::string text_before() const { return content_of(path + ".1"); }

  TemporaryFolder folder;
  std::string path = folder / "console.log";
  EventLoop loop;
  Logger logger{"test"};
  ConsoleHub hub;
  ConsoleHub quiet;
  std::optional<ConsoleLog> log;
};

std::string error_of(const std::string& text) {
  try {
    ConsoleLogSettings::parse(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

// While it lives, no file of this process grows beyond so many bytes.
class FileLimit {
 public:
  explicit FileLimit(rlim_t most) : before_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit low{.rlim_cur = most, .rlim_max = limit_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &low);
  }
  ~FileLimit() {
    ::setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, before_);
  }

 private:
  sighandler_t before_;
  rlimit limit_{};
};

}  // namespace

TEST_CASE("a console's log has its size from its option, or a megabyte") {
  CHECK(ConsoleLogSettings::parse("/a/b").path == "/a/b");
  CHECK(ConsoleLogSettings::parse("/a/b").size == 1 << 20);
  CHECK(ConsoleLogSettings::parse("/a,,b,size=64K").path == "/a,b");
  CHECK(ConsoleLogSettings::parse("/a,,b,size=64K").size == 64 << 10);
  CHECK(ConsoleLogSettings::parse("x,size=4096").size == 4096);
  for (const char* const text : {"x,size=4095", "x,size=257M", "x,size=many", "x,length=1", ""})
    CHECK(error_of(text).find("--console-log") == 0);
}

TEST_CASE("a console's output is in its log from the first byte on, behind what was there") {
  World world;
  world.print("one\n");
  world.settle();
  CHECK(world.text() == "one\n");
  world.begin();  // the hub still has it
  world.print("two\n");
  world.settle();
  CHECK(world.text() == "one\none\ntwo\n");
  CHECK_FALSE(std::filesystem::exists(world.path + ".1"));
}

TEST_CASE("the loop's thread writes what a guest puts out, soon and without being asked") {
  World world;
  std::thread loop([&] { world.loop.run(); });
  for (const char each : std::string("byte by byte")) world.print({&each, 1});
  const auto late = std::chrono::steady_clock::now() + api_patience;
  while (world.text() != "byte by byte" && std::chrono::steady_clock::now() < late)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(world.text() == "byte by byte");
  world.loop.stop();
  loop.join();
}

TEST_CASE("a log that is full is kept beside a new one, on both sides of its size") {
  const auto size = GENERATE(smallest - 1, smallest, smallest + 1);
  World world;
  world.print(std::string(size, 'a'));
  world.settle();
  CHECK(world.text() == std::string(size > smallest ? 1 : size, 'a'));
  CHECK(world.text_before() == std::string(size > smallest ? smallest : 0, 'a'));
}

TEST_CASE("of much output both files together have the last, without a gap") {
  World world;
  std::string all;
  for (int line = 0; line < 3000; ++line) all += "line " + std::to_string(line) + "\n";
  const bool in_pieces = GENERATE(false, true);
  // As the loop would write it now and then.
  const std::size_t piece = in_pieces ? 1111 : all.size();
  for (std::size_t at = 0; at < all.size(); at += piece) {
    ConsoleHub hub;
    world.log->read(hub);
    hub.write(std::as_bytes(std::span(all).subspan(at, std::min(piece, all.size() - at))));
    world.log->finish();
  }
  const std::string kept = world.text_before() + world.text();
  CHECK(world.text_before().size() == smallest);
  CHECK(kept.size() > smallest);
  CHECK(all.ends_with(kept));
}

TEST_CASE("a log that was larger before is put aside at the first output") {
  World world;
  world.log.reset();
  std::filesystem::resize_file(world.path, smallest + 100);
  world.begin();
  world.print("new\n");
  world.settle();
  CHECK(world.text() == "new\n");
  CHECK(world.text_before().size() == smallest + 100);
}

TEST_CASE("output that finds no room on the disk is counted in the log, and said once") {
  World world;
  world.logger.configure(world.folder / "log", {});
  world.print("before\n");
  world.log->finish();
  {
    // Enough for the log's own line.
    const FileLimit limit(200);
    world.log->read(world.hub);  // begins with the 7 bytes that the hub has
    world.print(std::string(300, 'x'));
    world.log->finish();
    CHECK(world.text().size() == 200);
    world.log->read(world.quiet);
    world.quiet.write(std::as_bytes(std::span(std::string_view("more\n"))));
    world.log->finish();
  }
  world.log->read(world.quiet);  // again its 5 bytes
  world.log->finish();
  const std::size_t lost = 7 + 7 + 300 - 200 + 5;
  CHECK(world.text() == "before\nbefore\n" + std::string(200 - 14, 'x') + console_gap(lost) + "more\n");
  const std::string said = content_of(world.folder / "log");
  CHECK(said.find(world.path + ": File too large") != std::string::npos);
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
}

TEST_CASE("a log that cannot be renamed loses what has no room, and goes on when it can") {
  World world;
  world.logger.configure({}, {.most = std::nullopt});
  std::filesystem::create_directory(world.path + ".1");
  world.print(std::string(smallest, 'a') + "lost");
  world.settle();
  CHECK(world.text() == std::string(smallest, 'a'));
  std::filesystem::remove(world.path + ".1");
  world.quiet.write(std::as_bytes(std::span(std::string_view("more\n"))));
  world.settle();
  CHECK(world.text() == console_gap(4) + "more\n");
  CHECK(world.text_before() == std::string(smallest, 'a'));
}

TEST_CASE("a console's log that is no file, or has no folder, is refused by name") {
  const TemporaryFolder folder;
  EventLoop loop;
  Logger logger{"test"};
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  const Fd reader(::open((folder / "fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  CHECK_THROWS_AS(ConsoleLog({.path = folder / "fifo", .size = smallest}, loop, logger), ConfigError);
  CHECK_THROWS_AS(ConsoleLog({.path = folder / "none/log", .size = smallest}, loop, logger), HostError);
  VmmProcess process(HUM_VMM_PROGRAM, {"--console-log", folder / "none/log"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 1});
  CHECK(process.messages().find("none/log") != std::string::npos);
}

TEST_CASE("what a guest has put out can be read after its end, whatever reads its standard output") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  const std::string log = folder / "console.log";
  for (int times = 0; times < 2; ++times) {
    VmmProcess process(HUM_VMM_PROGRAM, {"--console-log", log, "--record", folder / "record"});
    ApiClient client = process.client();
    start(client, "exit_code", "exit=7");
    CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  }
  CHECK(content_of(log) == "exit 7\r\nexit 7\r\n");
}

TEST_CASE("a guest that never stops talking fills two files and no more, within the VM's system calls") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  const std::string log = folder / "console.log";
  VmmProcess process(HUM_VMM_PROGRAM, {"--console-log", log + ",size=4K"});
  ApiClient client = process.client();
  REQUIRE(status_of(client, "PUT", "/serial", {{"serial_out_path", "/dev/null"}}) == 204);
  start(client, "endless_print", "");
  const auto printed = [&] {
    return json::parse(client.call("GET", "/hum/v1/statistics")->body)["console"]["output_bytes"]
        .get<std::uint64_t>();
  };
  while (printed() < 100'000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  process.signal(SIGHUP);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 156});
  CHECK(content_of(log).size() <= 4096);
  CHECK(content_of(log + ".1").size() == 4096);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 2);
}

}  // namespace hum
