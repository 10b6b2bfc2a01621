// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/line_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tools/hum-vmm/logger.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("lines are added to a file that is there, and a new one is made") {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "log";
  for (const char* const line : {"one", "two"}) LineFile(path).write(line);
  CHECK(content_of(path) == "one\ntwo\n");
  CHECK_THROWS_AS(LineFile(folder / "none" + "/log"), HostError);
}

TEST_CASE(
    "a fifo that nobody reads takes what it has room for, the rest is lost in whole lines and counted") {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  LineFile lines(path);
  const std::string line(5999, 'x');  // the last one finds only a part of its room
  unsigned written = 0;
  while (lines.lost() == 0) {
    lines.write(line);
    ++written;
    REQUIRE(written < 1000);
  }
  for (int i = 0; i < 5; ++i) lines.write(line);
  CHECK(lines.lost() == 6);

  const Fd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::string text(1 << 20, '\0');
  const auto read_all = [&] {
    const ssize_t count = ::read(reader.get(), text.data(), text.size());
    return std::string(text.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  };
  std::string got = read_all();
  lines.write("last");
  got += read_all();
  std::string expected;
  for (unsigned i = 0; i + 1 < written; ++i) expected += line + "\n";
  CHECK((got == expected + "last\n"));
  CHECK(lines.lost() == 6);
}

TEST_CASE("the log's lines have time, id, thread and level, and those above the level are left out") {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "log";
  Logger logger("my-vm");
  logger.configure(path, {.most = LogLevel::warning, .show_level = true});
  logger.write(LogLevel::warning, "first");
  logger.write(LogLevel::info, "second");
  logger.configure("", {.most = LogLevel::debug, .show_level = false});
  logger.write(LogLevel::debug, "third");
  logger.configure("", {.most = {}, .show_level = false});
  logger.write(LogLevel::error, "fourth");
  const std::string text = content_of(path);
  REQUIRE(text.size() > 30);
  CHECK(text[10] == 'T');
  CHECK(text[19] == '.');
  CHECK(text.find(" [my-vm:") == 29);
  CHECK(text.find(":WARNING] first\n") != std::string::npos);
  CHECK(text.find("second") == std::string::npos);
  CHECK(text.find("] third\n") != std::string::npos);
  CHECK(text.find("fourth") == std::string::npos);
}

TEST_CASE("levels have the dialect's names") {
  CHECK_FALSE(log_level_from("Off"));
  CHECK(log_level_from("Error") == LogLevel::error);
  CHECK(log_level_from("Warning") == LogLevel::warning);
  CHECK(log_level_from("Info") == LogLevel::info);
  CHECK(log_level_from("Debug") == LogLevel::debug);
  CHECK(log_level_from("Trace") == LogLevel::debug);
}

}  // namespace hum
