// SPDX-License-Identifier: Apache-2.0
#include "devices/net/pcap_filter.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/endian.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

using Bytes = std::vector<std::byte>;
using Direction = FrameFilter::Direction;

struct Record {
  std::uint64_t seconds = 0;
  std::uint64_t nanoseconds = 0;
  std::uint64_t frame_bytes = 0;
  Bytes bytes;
};

Bytes content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Reads a capture; throws if it is not whole.
std::vector<Record> records_in(const Bytes& content) {
  const auto number = [&](std::size_t at) {
    if (at + 4 > content.size()) throw std::runtime_error("the capture is cut short");
    return load_le(std::span(content).subspan(at, 4));
  };
  if (number(0) != 0xa1b23c4d || number(4) != 0x00040002 || number(20) != 1)
    throw std::runtime_error("no capture of Ethernet");
  std::vector<Record> records;
  for (std::size_t at = 24; at < content.size();) {
    Record record{number(at), number(at + 4), number(at + 12), {}};
    const std::uint64_t bytes = number(at + 8);
    at += 16;
    if (bytes > content.size() - at || bytes > number(16)) throw std::runtime_error("a record is cut short");
    const auto begin = content.begin() + static_cast<std::ptrdiff_t>(at);
    record.bytes.assign(begin, begin + static_cast<std::ptrdiff_t>(bytes));
    records.push_back(std::move(record));
    at += bytes;
  }
  return records;
}

// Guest memory behind the copied start of a frame.
struct Sent {
  explicit Sent(std::size_t bytes, std::uint8_t fill = 1) : content(bytes) {
    for (std::size_t i = 0; i < bytes; ++i) content[i] = static_cast<std::byte>(fill + i / 7);
    const std::size_t start = std::min(bytes, Frame::most_start_bytes);
    const std::size_t middle = start + (bytes - start) / 2;
    rest = {{content.data() + start, middle - start}, {content.data() + middle, bytes - middle}};
    frame = {.start = std::span(content).first(start), .rest = rest, .bytes = bytes};
  }
  Bytes content;
  std::vector<iovec> rest;
  Frame frame;
};

void pass(PcapFilter& filter, Direction direction, const Sent& sent) {
  CHECK(filter.decide(direction, sent.frame).verdict == FrameFilter::Verdict::pass);
}

template <class Condition>
bool soon(Condition&& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

struct World {
  World() : file(0) { settings.path = file.path(); }
  std::size_t size() const { return std::filesystem::file_size(settings.path); }

  TemporaryFile file;
  VirtioMachine machine;
  PcapFilter::Settings settings;
};

}  // namespace

TEST_CASE("frames of both directions are in the capture, whole, in order, with the time") {
  World world;
  const std::time_t before = std::time(nullptr);
  const Sent tiny(14), small(60, 3), at_start(128, 5), behind_start(129, 7), large(65549, 9);
  {
    PcapFilter filter(world.settings, world.machine.log);
    pass(filter, Direction::from_guest, tiny);
    pass(filter, Direction::to_guest, small);
    pass(filter, Direction::from_guest, at_start);
    pass(filter, Direction::to_guest, behind_start);
    pass(filter, Direction::to_guest, large);
  }
  const std::vector<Record> records = records_in(content_of(world.settings.path));
  REQUIRE(records.size() == 5);
  CHECK(records[0].bytes == tiny.content);
  CHECK(records[1].bytes == small.content);
  CHECK(records[2].bytes == at_start.content);
  CHECK(records[3].bytes == behind_start.content);
  CHECK(records[4].bytes == large.content);
  for (std::size_t i = 0; i < records.size(); ++i) {
    CHECK(records[i].frame_bytes == records[i].bytes.size());
    CHECK(records[i].seconds >= static_cast<std::uint64_t>(before));
    CHECK(records[i].seconds <= static_cast<std::uint64_t>(std::time(nullptr)));
    CHECK(records[i].nanoseconds < 1'000'000'000);
    if (i != 0)
      CHECK(std::pair(records[i - 1].seconds, records[i - 1].nanoseconds) <=
            std::pair(records[i].seconds, records[i].nanoseconds));
  }
  CHECK(world.machine.logged().empty());
}

TEST_CASE("a capture is a new file of the user's alone, or empties the one that is there") {
  World world;
  world.settings.path = world.file.path() + ".pcap";
  const ::mode_t mask = ::umask(0);
  PcapFilter(world.settings, world.machine.log);
  ::umask(mask);
  struct stat status{};
  REQUIRE(::stat(world.settings.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  std::filesystem::resize_file(world.settings.path, 100'000);
  PcapFilter(world.settings, world.machine.log);
  CHECK(world.size() == 24);
  std::filesystem::remove(world.settings.path);
}

TEST_CASE("a frame is in the file soon, before the capture ends") {
  World world;
  world.settings.latest = std::chrono::milliseconds(20);
  PcapFilter filter(world.settings, world.machine.log);
  CHECK(soon([&] { return world.size() == 24; }));
  pass(filter, Direction::from_guest, Sent(60));
  CHECK(soon([&] { return world.size() == 24 + 16 + 60; }));
}

TEST_CASE("a buffer that fills is written before its time") {
  World world;
  world.settings.latest = std::chrono::hours(1);
  world.settings.buffer_bytes = 4096;
  PcapFilter filter(world.settings, world.machine.log);
  REQUIRE(soon([&] { return world.size() == 24; }));
  pass(filter, Direction::from_guest, Sent(2047 - 16));
  CHECK_FALSE(world.size() > 24);
  pass(filter, Direction::from_guest, Sent(60));
  CHECK(soon([&] { return world.size() == 24 + 2047 + 76; }));
  CHECK(world.machine.logged().empty());
}

TEST_CASE("several threads capture at once") {
  World world;
  {
    PcapFilter filter(world.settings, world.machine.log);
    std::vector<std::thread> threads;
    for (const std::uint8_t fill : {std::uint8_t{1}, std::uint8_t{101}})
      threads.emplace_back([&filter, fill] {
        const Sent sent(200, fill);
        for (int i = 0; i < 500; ++i) filter.decide(Direction::to_guest, sent.frame);
      });
    for (std::thread& each : threads) each.join();
  }
  const std::vector<Record> records = records_in(content_of(world.settings.path));
  CHECK(records.size() == 1000);
  std::size_t first = 0;
  for (const Record& record : records) {
    if (record.bytes == Sent(200, 1).content)
      ++first;
    else
      CHECK(record.bytes == Sent(200, 101).content);
  }
  CHECK(first == 500);
}

TEST_CASE("a full disk ends the capture with one warning, and frames go on") {
  World world;
  world.settings.path = "/dev/full";
  world.settings.latest = std::chrono::milliseconds(5);
  {
    PcapFilter filter(world.settings, world.machine.log);
    for (int i = 0; i < 3; ++i) {
      pass(filter, Direction::from_guest, Sent(60));
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    CHECK(soon([&] { return filter.idle(); }));
  }
  const std::string logged = world.machine.logged();
  CHECK(contains(logged, "net.pcap '/dev/full': the capture ends: No space left on device"));
  CHECK(logged.find("capture ends") == logged.rfind("capture ends"));
}

TEST_CASE("a capture that hits a limit in the middle of a frame keeps the frames before it") {
  World world;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit limit{24 + 2 * 76 + 30, before.rlim_max};
  world.settings.latest = std::chrono::hours(1);  // nothing is written between the frames and the limit
  {
    PcapFilter filter(world.settings, world.machine.log);
    REQUIRE(soon([&] { return content_of(world.settings.path).size() == 24; }));
    for (int i = 0; i < 5; ++i) pass(filter, Direction::from_guest, Sent(60));
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  CHECK(contains(world.machine.logged(), "File too large"));
  CHECK(records_in(content_of(world.settings.path)).size() == 2);
}

TEST_CASE("a capture goes to a pipe whose reader was there first") {
  World world;
  world.settings.path = world.file.path() + ".pipe";
  REQUIRE(::mkfifo(world.settings.path.c_str(), 0600) == 0);
  CHECK(contains(config_error_of([&] { PcapFilter(world.settings, world.machine.log); }), "nobody reads"));
  const Fd reader = open_file(world.settings.path, O_RDONLY | O_NONBLOCK);
  const Sent sent(1000);
  Bytes content;
  constexpr std::size_t frames = 100;  // more than a pipe has room for
  {
    PcapFilter filter(world.settings, world.machine.log);
    for (std::size_t i = 0; i < frames; ++i) pass(filter, Direction::from_guest, sent);
    CHECK(soon([&] {
      Bytes part(4096);
      const ssize_t count = ::read(reader.get(), part.data(), part.size());
      if (count > 0) content.insert(content.end(), part.begin(), part.begin() + count);
      return content.size() == 24 + frames * 1016;
    }));
  }
  CHECK(records_in(content).size() == frames);
  CHECK(world.machine.logged().empty());
  std::filesystem::remove(world.settings.path);
}

TEST_CASE("a pipe that is not read loses frames of the capture, and holds up nothing") {
  World world;
  world.settings.path = world.file.path() + ".pipe";
  world.settings.buffer_bytes = 128 << 10;
  REQUIRE(::mkfifo(world.settings.path.c_str(), 0600) == 0);
  const Fd reader = open_file(world.settings.path, O_RDONLY | O_NONBLOCK);
  {
    PcapFilter filter(world.settings, world.machine.log);
    const Sent sent(1000);
    for (int i = 0; i < 1000; ++i) pass(filter, Direction::from_guest, sent);
  }
  CHECK(contains(world.machine.logged(), "the capture ends: Connection timed out"));
  CHECK(contains(world.machine.logged(), "frames are missing"));
  std::filesystem::remove(world.settings.path);
}

TEST_CASE("a pipe's reader that goes away ends the capture, not the program") {
  World world;
  world.settings.path = world.file.path() + ".pipe";
  world.settings.latest = std::chrono::milliseconds(5);
  REQUIRE(::mkfifo(world.settings.path.c_str(), 0600) == 0);
  Fd reader = open_file(world.settings.path, O_RDONLY | O_NONBLOCK);
  PcapFilter filter(world.settings, world.machine.log);
  reader.reset();
  CHECK(soon([&] {
    pass(filter, Direction::from_guest, Sent(60));
    return contains(world.machine.logged(), "Broken pipe");
  }));
  std::filesystem::remove(world.settings.path);
}

TEST_CASE("a capture where nothing can be written is refused with its path") {
  World world;
  for (const char* path : {"", "/", "/proc/no/such/folder"}) {
    world.settings.path = path;
    const std::string error = config_error_of([&] { PcapFilter(world.settings, world.machine.log); });
    CHECK(contains(error, "net.pcap"));
    CHECK(contains(error, path));
    CHECK(contains(error, "name a file"));
  }
}

TEST_CASE("tcpdump reads a capture") {
  if (std::system("tcpdump --version >/dev/null 2>&1") != 0) {
    WARN("skipped: there is no tcpdump (package tcpdump)");
    return;
  }
  World world;
  Sent small(60), large(65549);  // ARP: who has 192.0.2.1? tell 192.0.2.7
  constexpr std::array<std::uint8_t, 42> arp = {
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6, 0, 1, 8, 0,   6, 4, 0,
      1,    0x52, 0x54, 0,    0x12, 0x34, 0x56, 192,  0, 2,    7,    0,    0, 0, 0, 0, 0, 192, 0, 2, 1};
  for (std::size_t i = 0; i < arp.size(); ++i) small.content[i] = large.content[i] = std::byte{arp[i]};
  {
    PcapFilter filter(world.settings, world.machine.log);
    pass(filter, Direction::from_guest, small);
    pass(filter, Direction::to_guest, large);
  }
  FILE* const output = ::popen(("tcpdump -n -e -r '" + world.settings.path + "' 2>&1").c_str(), "r");
  REQUIRE(output != nullptr);
  std::string text(8192, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), output));
  CHECK(::pclose(output) == 0);
  CAPTURE(text);
  CHECK(contains(text, "EN10MB"));
  CHECK(contains(text, "length 60: Request who-has 192.0.2.1 tell 192.0.2.7"));
  CHECK(contains(text, "length 65549: Request who-has 192.0.2.1 tell 192.0.2.7"));
}

}  // namespace hum::testing
