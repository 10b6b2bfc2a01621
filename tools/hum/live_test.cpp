// SPDX-License-Identifier: Apache-2.0
// What of a machine changes while it runs, with a guest that looks.
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "devices/registry.h"
#include "devices/temporary_file.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/machine/vm.h"

namespace hum {
namespace {

using testing::TemporaryFile;

constexpr int patience = 30'000;  // milliseconds

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

bool readable(int fd) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, patience) == 1;
}

// A guest with a disk, which it fills and waits to be made larger.
struct Guest {
  template <class... State>
  Guest(Transport transport, const std::string& disk, State&&... state)
      : vm(config(transport, disk), all_devices(), std::forward<State>(state)...) {
    subscription = vm.console().subscribe([this](std::span<const std::byte> piece) {
      output.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      if (output.find("ready") != std::string::npos) ready.signal();
    });
    vm.start();
  }

  static VmConfig config(Transport transport, const std::string& disk) {
    VmConfig config;
    config.memory = 32 << 20;
    config.transport = transport;
    config.boot.kernel_path = std::string(HUM_IMAGE_FOLDER) + "/block_changes.elf";
    config.boot.command_line = transport == Transport::pci ? "transport=pci" : "transport=mmio";
    config.devices = standard_devices();
    config.devices.push_back({"disk", disk});
    return config;
  }

  EventFd ready;
  std::string output;
  Vm vm;
  ConsoleHub::Subscription subscription;
};

// No file of this process gets larger than this meanwhile.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    old_ = std::signal(SIGXFSZ, SIG_IGN);
    set(bytes);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, old_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  void set(rlim_t bytes) {
    const rlimit now{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }

 private:
  rlimit before_{};
  void (*old_)(int) = SIG_DFL;
};

}  // namespace

TEST_CASE("a guest sees its disk grow") {
  if (no_kvm()) return;
  for (const Transport transport : {Transport::pci, Transport::mmio}) {
    const TemporaryFile disk(1 << 20);
    Guest guest(transport, disk.path());
    REQUIRE(readable(guest.ready.fd()));
    CHECK_THROWS_AS(guest.vm.change("disk1", "size=2M"), ConfigError);
    CHECK_THROWS_AS(guest.vm.change("disk0", "queues=2"), ConfigError);
    CHECK_THROWS_AS(guest.vm.request("disk1", "start-hinting"), ConfigError);
    CHECK_THROWS_AS(guest.vm.request("disk0", "start-hinting"), ConfigError);
    CHECK_FALSE(guest.vm.press_ctrl_alt_del());  // there is no keyboard
    guest.vm.change("disk0", "size=2M");
    REQUIRE(readable(guest.vm.end_fd()));
    CHECK(guest.vm.wait().guest_exit_code == 0);
    CHECK(std::filesystem::file_size(disk.path()) == 2 << 20);
  }
}

TEST_CASE("a machine's configuration has its devices as they are, in the order in which they came") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  const TemporaryFile other(1 << 20);
  VmConfig config = Guest::config(Transport::mmio, disk.path());
  std::rotate(config.devices.begin(), config.devices.end() - 1,
              config.devices.end());  // the disk comes first
  std::optional<Vm> vm(std::in_place, config, all_devices());
  vm->change("disk0", "path=" + other.path() + ",bandwidth=1M");
  const VmConfig now = vm->config();
  REQUIRE(now.devices.size() == config.devices.size());
  for (std::size_t i = 0; i < now.devices.size(); ++i) CHECK(now.devices[i].kind == config.devices[i].kind);
  CHECK(now.devices.front().options.find("path=" + other.path()) != std::string::npos);
  CHECK(now.devices.front().options.find("bandwidth=1048576/1000") != std::string::npos);
  vm.reset();
  CHECK(Vm(now, all_devices()).config().devices.front().options == now.devices.front().options);
}

TEST_CASE("a guest whose host cannot write waits in a pause until it can") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  FileSizeLimit limit(1 << 16);
  Guest guest(Transport::pci, disk.path() + ",on-error=pause");
  for (int i = 0; i < 3; ++i) {
    REQUIRE(readable(guest.vm.pause_wanted_fd()));
    CHECK(guest.vm.take_pause_reason().find(disk.path()) != std::string::npos);
    REQUIRE(guest.vm.pause());
    if (i == 2) limit.set(RLIM_INFINITY);
    guest.vm.resume();
  }
  REQUIRE(readable(guest.ready.fd()));
  CHECK(guest.vm.take_pause_reason().empty());
  guest.vm.change("disk0", "size=2M");
  REQUIRE(readable(guest.vm.end_fd()));
  CHECK(guest.vm.wait().guest_exit_code == 0);
}

TEST_CASE("a guest that waits in a pause goes on in another machine, with the request that failed") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  const std::string options = disk.path() + ",on-error=pause";
  FileSizeLimit limit(1 << 16);
  std::optional<Guest> first(std::in_place, Transport::mmio, options);
  REQUIRE(readable(first->vm.pause_wanted_fd()));
  std::optional<MachineState> state = first->vm.hand_over();
  REQUIRE(state);
  first.reset();
  limit.set(RLIM_INFINITY);
  Guest second(Transport::mmio, options, std::move(*state));
  REQUIRE(readable(second.ready.fd()));
  second.vm.change("disk0", "size=2M");
  REQUIRE(readable(second.vm.end_fd()));
  CHECK(second.vm.wait().guest_exit_code == 0);
}

namespace {

// A guest that says what it waits for.
struct Plugging {
  template <class... State>
  explicit Plugging(VmConfig config, State&&... state)
      : vm(std::move(config), all_devices(), std::forward<State>(state)...) {
    subscription = vm.console().subscribe([this](std::span<const std::byte> piece) {
      output.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      for (const auto& [word, event] : {std::pair("ready", &ready), {"used", &used}, {"gone", &gone}})
        if (output.find(word) != std::string::npos) event->signal();
    });
    vm.start();
  }

  static VmConfig config(const std::string& image = "hot_plug") {
    VmConfig config;
    config.memory = 32 << 20;
    config.hotplug = true;
    config.boot.kernel_path = std::string(HUM_IMAGE_FOLDER) + "/" + image + ".elf";
    config.boot.command_line = "transport=pci";
    config.devices = standard_devices();
    config.devices.push_back({"rng", ""});
    return config;
  }

  EventFd ready;
  EventFd used;
  EventFd gone;
  std::string output;
  Vm vm;
  ConsoleHub::Subscription subscription;
};

void write_first(const std::string& path, char byte) {
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << byte;
}

std::string first_two(const std::string& path) {
  std::string bytes(2, '\0');
  std::ifstream(path, std::ios::binary).read(bytes.data(), 2);
  return bytes;
}

std::vector<std::string> names_of(const VmConfig& config) {
  std::vector<std::string> names;
  for (const DeviceConfig& each : config.devices)
    if (each.slot) names.push_back(each.name + "@" + std::to_string(*each.slot));
  return names;
}

}  // namespace

TEST_CASE("files come as memory and go while a guest runs, and memory that is plugged, too") {
  if (no_kvm()) return;
  const TemporaryFile first(2 << 20);
  const TemporaryFile second(2 << 20);
  write_first(first.path(), 'a');
  write_first(second.path(), 'b');
  Plugging guest(Plugging::config("hot_plug_pmem"));
  REQUIRE(readable(guest.ready.fd()));
  const TemporaryFile empty(0);
  CHECK_THROWS_AS(guest.vm.attach({"pmem", empty.path()}), ConfigError);
  CHECK_THROWS_AS(guest.vm.attach({"pmem", first.path() + ".none"}), ConfigError);
  if (GENERATE(false, true)) {  // the places stay those of the guest's
    CHECK(guest.vm.attach({"mem", "total=128M,requested=8M", "more", 20}) == "more");
    CHECK(guest.vm.detach("more"));
  }
  CHECK(guest.vm.attach({"pmem", first.path(), "file", 9}) == "file");
  REQUIRE(readable(guest.used.fd()));
  CHECK(first_two(first.path()) == "ax");
  CHECK_FALSE(guest.vm.detach("file"));
  REQUIRE(readable(guest.vm.detached_fd()));
  CHECK(guest.vm.take_detached() == std::vector<std::string>{"file"});
  REQUIRE(readable(guest.gone.fd()));
  CHECK(guest.vm.attach({"pmem", second.path(), "file", 9}) == "file");
  REQUIRE(readable(guest.vm.end_fd()));
  CAPTURE(guest.output);
  CHECK(guest.vm.wait().guest_exit_code == 0);
  CHECK(first_two(second.path()) == "bz");
}

TEST_CASE("what a guest has let go stays, by name, too, in a VM that has ended") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  Plugging guest(Plugging::config());
  REQUIRE(readable(guest.ready.fd()));
  CHECK(guest.vm.attach({"disk", disk.path(), "data", 9}) == "data");
  REQUIRE(readable(guest.used.fd()));
  CHECK_FALSE(guest.vm.detach("data"));
  REQUIRE(readable(guest.vm.detached_fd()));
  guest.vm.end(EndCause::killed);
  CHECK(guest.vm.take_detached().empty());
  CHECK(names_of(guest.vm.config()) == std::vector<std::string>{"rng0@1", "data@9"});
  CHECK(guest.vm.device_reports().size() == 2);
  CHECK(guest.vm.wait().devices.size() == 2);
}

TEST_CASE("disks come and go while a guest runs") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  Plugging guest(Plugging::config());
  REQUIRE(readable(guest.ready.fd()));
  CHECK_THROWS_AS(guest.vm.attach({"disk", disk.path() + ".none"}), ConfigError);
  CHECK_THROWS_AS(guest.vm.attach({"disk", disk.path(), "rng0"}), ConfigError);
  CHECK_THROWS_AS(guest.vm.attach({"disk", disk.path(), "", 1}), ConfigError);
  CHECK_THROWS_AS(guest.vm.attach({"serial", ""}), ConfigError);
  CHECK_THROWS_AS(guest.vm.attach({"vhost-user-disk", "socket=" + disk.path()}), ConfigError);
  CHECK_THROWS_AS(guest.vm.detach("disk0"), ConfigError);
  CHECK(names_of(guest.vm.config()) == std::vector<std::string>{"rng0@1"});
  CHECK(guest.vm.detach("rng0"));  // nobody has a driver for it

  CHECK(guest.vm.attach({"disk", disk.path(), "data", 9}) == "data");
  REQUIRE(readable(guest.used.fd()));
  CHECK(guest.vm.device_reports().size() == 1);
  CHECK_FALSE(guest.vm.detach("data"));
  REQUIRE(readable(guest.vm.detached_fd()));
  CHECK(names_of(guest.vm.config()) == std::vector<std::string>{"data@9"});
  CHECK(guest.vm.take_detached() == std::vector<std::string>{"data"});
  CHECK(guest.vm.take_detached().empty());
  CHECK(guest.vm.device_reports().empty());

  REQUIRE(readable(guest.gone.fd()));
  // The disk's file is free again.
  CHECK(guest.vm.attach({"disk", disk.path(), "", 9}) == "disk0");
  REQUIRE(readable(guest.vm.end_fd()));
  CAPTURE(guest.output);
  CHECK(guest.vm.wait().guest_exit_code == 0);
}

TEST_CASE("a guest whose devices have come and gone goes on in another machine") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  std::optional<Plugging> first(Plugging::config());
  REQUIRE(readable(first->ready.fd()));
  first->vm.attach({"disk", disk.path(), "data", 9});
  REQUIRE(readable(first->used.fd()));
  REQUIRE(first->vm.pause());
  CHECK(first->vm.detach("rng0"));
  CHECK_FALSE(first->vm.detach("data"));
  const VmConfig config = first->vm.config();
  CHECK(names_of(config) == std::vector<std::string>{"data@9"});
  std::optional<MachineState> state = first->vm.hand_over();
  REQUIRE(state);
  first.reset();
  Plugging second(config, std::move(*state));
  REQUIRE(readable(second.vm.detached_fd()));
  CHECK(second.vm.take_detached() == std::vector<std::string>{"data"});
  REQUIRE(readable(second.gone.fd()));
  second.vm.attach({"disk", disk.path(), "", 9});
  REQUIRE(readable(second.vm.end_fd()));
  CHECK(second.vm.wait().guest_exit_code == 0);
}

TEST_CASE("a machine without hotplug keeps the devices it was made with") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  Guest guest(Transport::pci, disk.path());
  CHECK_THROWS_AS(guest.vm.attach({"rng", ""}), ConfigError);
  CHECK_THROWS_AS(guest.vm.detach("disk0"), ConfigError);
  CHECK(guest.vm.detached_fd() == -1);
  CHECK(guest.vm.take_detached().empty());
  VmConfig impossible = Plugging::config();
  impossible.transport = Transport::mmio;
  CHECK_THROWS_AS(Vm(impossible, all_devices()), ConfigError);
}

}  // namespace hum
