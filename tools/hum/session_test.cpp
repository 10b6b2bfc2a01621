// SPDX-License-Identifier: Apache-2.0
// What a session does for a guest on KVM, seen from its descriptors.
#include "tools/hum/session.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "devices/queue_service.h"
#include "devices/registry.h"
#include "tools/hum/exit_codes.h"
#include "tools/hum/run_command.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

VmConfig config_for(const std::string& image, const std::string& command_line = {}) {
  VmConfig config;
  config.memory = 32 << 20;
  config.boot.kernel_path = std::string(HUM_IMAGE_FOLDER) + "/" + image + ".elf";
  config.boot.command_line = command_line;
  config.devices = standard_devices();
  return config;
}

SessionOptions quiet() {
  SessionOptions options;
  options.console = SessionOptions::Console::none;
  return options;
}

// Signals as a session wants them, and afterwards as they were.
class SessionSignals {
 public:
  SessionSignals() {
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask_);
    ::sigaction(SIGPIPE, nullptr, &pipe_);
    struct sigaction served{};
    served.sa_handler = SIG_DFL;
    ::sigaction(SIGINT, &served, &interrupt_);  // ignored where the tests run in the background
    block_session_signals();
  }
  ~SessionSignals() {
    ::sigaction(SIGINT, &interrupt_, nullptr);
    ::sigaction(SIGPIPE, &pipe_, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  SessionSignals(const SessionSignals&) = delete;
  SessionSignals& operator=(const SessionSignals&) = delete;

 private:
  sigset_t mask_;
  struct sigaction pipe_;
  struct sigaction interrupt_;
};

struct Pair {
  Fd ours;
  Fd theirs;
};

Pair make_pipe_pair() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

Pair make_socket() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

std::string next_message(const Fd& fd, int milliseconds = 10'000) {
  pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
  if (::poll(&entry, 1, milliseconds) != 1) return {};
  std::array<char, 256> text;
  const ssize_t count = ::read(fd.get(), text.data(), text.size());
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
}

// A device whose reader is behind for ever. It answers every request of an entropy driver with no bytes, so
// the guest ends at once while the device is in use.
std::atomic<bool> flushing = false;
class BehindDevice final : public virtio::VirtioDevice {
 public:
  ~BehindDevice() override { deactivate(); }
  std::uint32_t type() const override { return 4; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }
  void read_config(std::uint32_t, std::span<std::byte>) const override {}
  void activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override {
    service_ = std::make_unique<QueueService>("behind", std::move(queues), events);
    service_->start([this](std::uint16_t index) {
      service_->drain(index, [&](virtio::DescriptorChain& chain) {
        service_->queue(index)->push(chain.head, 0);
        return true;
      });
    });
  }
  std::vector<virtio::ActiveQueue> suspend() override { return QueueService::end(service_); }
  void flush(int give_up_fd) override {
    flushing = true;
    pollfd given_up{.fd = give_up_fd, .events = POLLIN, .revents = 0};
    ::poll(&given_up, 1, 60'000);
    flushing = false;
  }

 private:
  std::array<std::uint16_t, 1> sizes_{16};
  std::unique_ptr<QueueService> service_;
};

const DeviceKind behind_kind{
    .name = "behind",
    .help = "",
    .options = {},
    .create = DeviceKind::VirtioFactory{[](const OptionValues&, DeviceContext&) {
      return std::unique_ptr<virtio::VirtioDevice>(std::make_unique<BehindDevice>());
    }},
};

std::vector<const DeviceKind*> kinds_with_behind() {
  std::vector<const DeviceKind*> kinds(all_devices().begin(), all_devices().end());
  kinds.push_back(&behind_kind);
  return kinds;
}

VmConfig config_behind() {
  VmConfig config = config_for("virtio_rng");
  config.devices.push_back({"behind", ""});
  return config;
}

void await_flush() {
  for (int i = 0; i < 10'000 && !flushing; ++i) ::usleep(1000);
}

}  // namespace

TEST_CASE("the command is told when the reader of its output is gone, once and by the port's name") {
  if (no_kvm()) return;
  const SessionSignals signals;
  for (const auto make : {make_pipe_pair, make_socket}) {
    Vm vm(config_for("hang"), all_devices());
    const Pair control = make_socket();
    Pair output = make();
    const Pair errors = make();
    const Fd file = open_file(std::filesystem::temp_directory_path().string(), O_RDWR | O_TMPFILE, 0600);
    SessionOptions options = quiet();
    options.control_fd = control.ours.get();
    options.outputs = {{output.theirs.get(), "out"}, {errors.theirs.get(), "err"}, {file.get(), "file"}};
    int code = -1;
    std::thread session([&] { code = Session(vm, std::move(options)).run(); });
    CHECK(next_message(control.theirs, 50).empty());
    output.ours.reset();
    CHECK(next_message(control.theirs) == "closed out\n");
    CHECK(next_message(control.theirs, 50).empty());
    vm.end(EndCause::power_off);
    session.join();
    CHECK(code == 0);
  }
}

TEST_CASE("a signal and the time-out give up what readers have not taken from a VM that has ended") {
  if (no_kvm()) return;
  const SessionSignals signals;
  const auto kinds = kinds_with_behind();
  for (const int signal : {SIGINT, SIGTERM, 0}) {
    Vm vm(config_behind(), kinds);
    SessionOptions options = quiet();
    if (signal == 0) options.timeout = 2;
    std::thread user([&] {
      await_flush();
      if (signal != 0) ::kill(::getpid(), signal);
    });
    const auto begin = std::chrono::steady_clock::now();
    const int code = Session(vm, std::move(options)).run();
    user.join();
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
    CHECK(code == (signal == 0 ? exit_timeout : exit_signal + signal));
    CHECK(vm.wait().cause == EndCause::debug_exit);
  }
}

TEST_CASE("a signal goes to the command while it runs, and after its end its output is no more waited for") {
  if (no_kvm()) return;
  const SessionSignals signals;
  const auto kinds = kinds_with_behind();
  for (const bool ended : {false, true}) {
    Vm vm(config_for("hang"), kinds);
    const Pair control = make_socket();
    SessionOptions options = quiet();
    options.control_fd = control.ours.get();
    options.stop_timeout = 1;
    int code = -1;
    std::thread session([&] { code = Session(vm, std::move(options)).run(); });
    // In pieces, as a guest may send them.
    for (const std::string piece : {"rea", "dy\n", ended ? "ended\n" : ""}) {
      REQUIRE(::send(control.theirs.get(), piece.data(), piece.size(), 0) >= 0);
      ::usleep(20'000);
    }
    ::kill(::getpid(), SIGINT);
    CHECK(next_message(control.theirs) == "signal 2\n");
    // Only what delivers the output of a command that has ended is under a time limit.
    pollfd over{.fd = vm.end_fd(), .events = POLLIN, .revents = 0};
    CHECK(::poll(&over, 1, ended ? 10'000 : 1'500) == (ended ? 1 : 0));
    if (!ended) vm.end(EndCause::power_off);
    session.join();
    CHECK(code == (ended ? exit_signal + SIGINT : 0));
  }
}

TEST_CASE("the record tells of the end while output is still being delivered") {
  if (no_kvm()) return;
  const SessionSignals signals;
  const hum::testing::TemporaryFolder folder;
  VmConfig config = config_behind();
  config.record = folder / "record.json";
  config.kernel_name = "a kernel's name";
  const auto kinds = kinds_with_behind();
  Vm vm(std::move(config), kinds);
  std::stringstream record;
  std::thread user([&] {
    await_flush();
    record << std::ifstream(folder / "record.json").rdbuf();
    ::kill(::getpid(), SIGTERM);
  });
  Session(vm, quiet()).run();
  user.join();
  CHECK(record.str().find("\"debug-exit\"") != std::string::npos);
  CHECK(record.str().find("\"a kernel's name\"") != std::string::npos);
}

TEST_CASE("without somebody to give up, a VM waits five seconds for the readers of its output") {
  if (no_kvm()) return;
  const auto kinds = kinds_with_behind();
  const auto begin = std::chrono::steady_clock::now();
  {
    Vm vm(config_behind(), kinds);
    vm.start();
    vm.wait();
  }
  const auto taken = std::chrono::steady_clock::now() - begin;
  CHECK(taken >= std::chrono::seconds(5));
  CHECK(taken < std::chrono::seconds(20));
}

TEST_CASE("the record of the built-in monitor calls it so") {
  if (no_kvm()) return;
  const SessionSignals signals;
  const hum::testing::TemporaryFolder folder;
  const char* const cache = std::getenv("HUM_CACHE");
  const std::string before = cache != nullptr ? cache : "";
  ::setenv("HUM_CACHE", folder.path().c_str(), 1);
  RunOptions options;
  options.console = "none";
  options.timeout = 1;
  options.record = folder / "record.json";
  CHECK(run(options) == exit_timeout);
  if (cache != nullptr) {
    ::setenv("HUM_CACHE", before.c_str(), 1);
  } else {
    ::unsetenv("HUM_CACHE");
  }
  std::stringstream record;
  record << std::ifstream(options.record).rdbuf();
  CHECK(record.str().find("\"built-in monitor\"") != std::string::npos);
}

}  // namespace hum
