// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/console/virtio_console.h"
#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

// Channels of the host and a guest's side of a console device, for tests only.
namespace hum::testing {

using virtio::testing::FakeDriver;

enum : std::uint16_t {
  device_ready = 0,
  port_add = 1,
  port_ready = 3,
  console_port = 4,
  port_open = 6,
  port_name = 7
};

inline constexpr std::size_t mib = 1 << 20;

inline std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint32_t state = 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

inline std::vector<std::byte> text(std::string_view characters) {
  const auto bytes = std::as_bytes(std::span(characters));
  return {bytes.begin(), bytes.end()};
}

// Two connected descriptors: what is written to `in` is read from `out`.
struct Channel {
  Fd out;
  Fd in;
};

inline Channel make_pipe_channel() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

inline Channel make_socket() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

// A terminal that passes bytes as they are; first its master, then its slave.
inline std::pair<Fd, Fd> make_terminal() {
  int master = -1;
  int slave = -1;
  termios raw = {};
  ::cfmakeraw(&raw);
  REQUIRE(::openpty(&master, &slave, nullptr, &raw, nullptr) == 0);
  return {Fd(master), Fd(slave)};
}

inline Channel to_terminal() {
  auto [master, slave] = make_terminal();
  return {std::move(slave), std::move(master)};
}

inline Channel from_terminal() {
  auto [master, slave] = make_terminal();
  return {std::move(master), std::move(slave)};
}

inline bool is_terminal(const Fd& fd) {
  return ::isatty(fd.get()) == 1;
}

inline std::size_t unread(const Fd& fd) {
  int count = 0;
  REQUIRE(::ioctl(fd.get(), FIONREAD, &count) == 0);
  return static_cast<std::size_t>(count);
}

inline bool readable(const Fd& fd, std::chrono::milliseconds timeout = virtio::testing::patience) {
  pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(timeout.count())) == 1;
}

// Reads until there are `size` bytes or the other end is closed.
inline std::vector<std::byte> read_all(const Fd& fd, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::size_t done = 0;
  while (done < size && readable(fd)) {
    const ssize_t count = ::read(fd.get(), bytes.data() + done, std::min<std::size_t>(size - done, 10000));
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

inline void write_all(const Fd& fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd.get(), bytes.data(), bytes.size());
    if (count <= 0) return;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

struct Message {
  std::uint32_t id;
  std::uint16_t event;
  std::uint16_t value;
  std::string name = {};

  bool operator==(const Message&) const = default;
};

// A console device and the guest's side of it.
class Guest {
 public:
  using Ends = VirtioConsole::Ends;

  explicit Guest(std::vector<VirtioConsole::NamedPort> ports, std::optional<Ends> console = std::nullopt)
      : device(console, ports, machine.log), driver(machine.memory, device) {
    control_buffers_ = driver.allocate(16 * 4096);
  }
  Guest(Ends ends) : Guest({{"port", ends}}) {}

  static std::size_t receive_queue(std::uint32_t port) { return port == 0 ? 0 : 2 * port + 2; }
  static std::size_t transmit_queue(std::uint32_t port) { return receive_queue(port) + 1; }

  // The whole handshake for all ports, and the ports opened.
  void start(std::uint32_t ports = 1) {
    driver.activate();
    give_control_buffers(16);
    control({0, device_ready, 1});
    for (std::uint32_t id = 1; id <= ports; ++id) REQUIRE(next_control() == Message{id, port_add, 1});
    for (std::uint32_t id = 1; id <= ports; ++id) {
      control({id, port_ready, 1});
      REQUIRE(next_control()->event == port_name);
      REQUIRE(next_control()->event == port_open);
      control({id, port_open, 1});
    }
  }

  void give_control_buffers(int count) {
    for (int i = 0; i < count; ++i) {
      driver.queue(2).add({{control_buffers_ + 4096 * static_cast<std::uint64_t>(i), 4096, true}});
      control_heads_.push_back(i);
    }
    driver.kick(2);
  }

  void control(const Message& message) {
    struct {
      le32 id;
      le16 event;
      le16 value;
    } const wire{message.id, message.event, message.value};
    REQUIRE(driver.request(3, bytes_of(wire), 0));
  }

  // The next message of the device; its buffer is given again.
  std::optional<Message> next_control(std::chrono::milliseconds timeout = virtio::testing::patience) {
    const auto used = driver.wait_used(2, timeout);
    if (!used) return {};
    const GuestAddress at = control_buffers_ + 4096 * static_cast<std::uint64_t>(control_heads_.front());
    Message message{machine.memory.read<le32>(at), machine.memory.read<le16>(at + 4),
                    machine.memory.read<le16>(at + 6)};
    message.name.resize(used->written - 8);
    machine.memory.read_bytes(at + 8, std::as_writable_bytes(std::span(message.name)));
    driver.queue(2).add({{at, 4096, true}});
    driver.kick(2);
    control_heads_.push_back(control_heads_.front());
    control_heads_.pop_front();
    return message;
  }

  // Puts output into a port's queue, 32 KiB to a request of two buffers; needs room in the queue.
  void transmit(std::span<const std::byte> bytes, std::uint32_t port = 1) {
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min<std::size_t>(bytes.size(), 32 * 1024));
      const GuestAddress at = driver.place(piece);
      const auto half = static_cast<std::uint32_t>(piece.size() / 2);
      const auto rest = static_cast<std::uint32_t>(piece.size() - half);
      driver.queue(transmit_queue(port)).add({{at, half}, {at + half, rest}});
      bytes = bytes.subspan(piece.size());
    }
    driver.kick(transmit_queue(port));
  }
  bool transmitted(std::size_t requests, std::uint32_t port = 1,
                   std::chrono::milliseconds timeout = virtio::testing::patience) {
    for (std::size_t i = 0; i < requests; ++i)
      if (!driver.wait_used(transmit_queue(port), timeout)) return false;
    return true;
  }

  // Gives one buffer of the size and waits for it to come back.
  std::vector<std::byte> receive(std::uint32_t size, std::uint32_t port = 1,
                                 std::chrono::milliseconds timeout = virtio::testing::patience) {
    give(size, port);
    return received(port, timeout);
  }
  void give(std::uint32_t size, std::uint32_t port = 1) {
    if (!room_) room_ = driver.allocate(64 * 1024);
    driver.queue(receive_queue(port)).add({{*room_, 1, true}, {*room_ + 1, size - 1, true}});
    driver.kick(receive_queue(port));
  }
  std::vector<std::byte> received(std::uint32_t port = 1,
                                  std::chrono::milliseconds timeout = virtio::testing::patience) {
    const auto used = driver.wait_used(receive_queue(port), timeout);
    std::vector<std::byte> bytes(used ? used->written : 0);
    if (!bytes.empty()) machine.memory.read_bytes(*room_, bytes);
    return bytes;
  }

  VirtioMachine machine;
  VirtioConsole device;
  FakeDriver driver;

  void forget_control_buffers() { control_heads_.clear(); }

 private:
  GuestAddress control_buffers_;
  std::deque<int> control_heads_;
  std::optional<GuestAddress> room_;
};

}  // namespace hum::testing
