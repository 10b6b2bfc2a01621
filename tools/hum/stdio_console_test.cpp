// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/stdio_console.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

#include "vmm/base/console_hub.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"

using namespace hum;

namespace {

// In the place of the standard input.
class InPlace {
 public:
  explicit InPlace(int fd) : kept_(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)) { ::dup2(fd, STDIN_FILENO); }
  ~InPlace() { ::dup2(kept_.get(), STDIN_FILENO); }
  InPlace(const InPlace&) = delete;
  InPlace& operator=(const InPlace&) = delete;

 private:
  Fd kept_;
};

bool has_input_thread() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    if (std::getline(std::ifstream(task.path() / "comm"), name) && name == "hum-input") return true;
  }
  return false;
}

struct Console {
  EventLoop loop;
  ConsoleHub hub;

  Console() {
    hub.on_input([this] { loop.stop(); });
  }
  ~Console() { hub.on_input(nullptr); }

  std::string taken() {
    std::array<std::byte, 64> bytes;
    const std::size_t count = hub.take_input(bytes);
    return {reinterpret_cast<const char*>(bytes.data()), count};
  }
};

void write_text(int fd, std::string_view text) {
  REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

}  // namespace

TEST_CASE("the standard input has a thread from the first byte on, and not before") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const Fd from(ends[0]);
  const Fd to(ends[1]);
  const InPlace input(from.get());
  Console console;
  {
    const StandardInput standard(console.loop, console.hub, false, [] {});
    CHECK_FALSE(has_input_thread());
    write_text(to.get(), "typed");
    console.loop.run();
    CHECK(console.taken() == "typed");
    CHECK(has_input_thread());
  }
  // The kernel lists a thread for a moment after it was joined.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (has_input_thread() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  CHECK_FALSE(has_input_thread());
}

TEST_CASE("a standard input that has nothing to say costs no thread") {
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const InPlace input(null.get());
  Console console;
  const StandardInput standard(console.loop, console.hub, false, [] {});
  CHECK_FALSE(has_input_thread());
}

TEST_CASE("a file as the standard input is passed on") {
  const Fd file(::memfd_create("typed", MFD_CLOEXEC));
  write_text(file.get(), "from a file");
  REQUIRE(::lseek(file.get(), 0, SEEK_SET) == 0);
  const InPlace input(file.get());
  Console console;
  const StandardInput standard(console.loop, console.hub, false, [] {});
  console.loop.run();
  CHECK(console.taken() == "from a file");
}
