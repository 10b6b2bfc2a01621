// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/console/testing.h"
#include "devices/virtio_testing.h"
#include "devices/vsock/vsock_device.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

// A guest's side of a socket device and programs of the host, for tests only.
namespace hum::testing {

inline sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Waits until it is connected; no descriptor if it is refused.
inline Fd connect_to(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return socket;
}

// A program of the host that listens at a path.
class HostService {
 public:
  explicit HostService(const std::string& path, int most_waiting = SOMAXCONN)
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = unix_address(path);
    REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket_.get(), most_waiting) == 0);
  }
  Fd accept() {
    REQUIRE(readable(socket_));
    return Fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  bool has_client() { return readable(socket_, std::chrono::milliseconds(0)); }

 private:
  Fd socket_;
};

// True if the other end is closed, and nothing is left to read.
inline bool ended(const Fd& fd) {
  std::byte byte{};
  return readable(fd) && ::recv(fd.get(), &byte, 1, 0) <= 0;
}

// The limit of open files at what it may be, for a while.
class ManyFiles {
 public:
  ManyFiles() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlimit more = before_;
    more.rlim_cur = more.rlim_max;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &more) == 0);
    enough_ = more.rlim_cur >= 2200;
    if (!enough_) WARN("skipped: no more than " << more.rlim_cur << " files may be open");
  }
  ~ManyFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  bool enough() const { return enough_; }
  ManyFiles(const ManyFiles&) = delete;
  ManyFiles& operator=(const ManyFiles&) = delete;

 private:
  rlimit before_ = {};
  bool enough_ = false;
};

struct VsockPacket {
  vsock_wire::Header header;
  std::vector<std::byte> data;

  VsockPorts ports() const { return {header.src_port, header.dst_port}; }
};

inline constexpr std::uint32_t guest_window = 64 * 1024;

// A socket device and the guest's side of it.
class VsockGuest {
 public:
  static constexpr std::uint32_t buffer_bytes = 4096;

  explicit VsockGuest(VsockSwitch::Settings connections = {})
      : device({.path = folder / "v", .connections = connections}), driver(machine.memory, device) {}

  // Activates the device and gives it so many buffers, which are given again as they are read.
  void start(std::size_t buffers = 64) {
    driver.activate();
    if (!transmitted_) transmitted_ = driver.allocate(most_sent + sizeof(vsock_wire::Header));
    slots_.clear();
    for (std::size_t i = 0; i < buffers; ++i) give(driver.allocate(buffer_bytes), buffer_bytes);
    driver.kick(0);
  }

  // One more buffer, in two parts so that a header does not end at the end of a descriptor.
  void give(GuestAddress at, std::uint32_t size) {
    const std::uint16_t head = size < 8 ? driver.queue(0).add({{at, size, true}})
                                        : driver.queue(0).add({{at, 7, true}, {at + 7, size - 7, true}});
    slots_[head] = {at, size};
  }

  static vsock_wire::Header header(std::uint16_t op, VsockPorts ports) {
    vsock_wire::Header header{};
    header.src_cid = 3;
    header.dst_cid = vsock_wire::host_cid;
    header.src_port = ports.guest;
    header.dst_port = ports.host;
    header.type = vsock_wire::type_stream;
    header.op = op;
    header.buf_alloc = guest_window;
    return header;
  }

  // Returns when the device has taken the packet; false if it does not.
  bool send(const vsock_wire::Header& header, std::span<const std::byte> data = {},
            std::chrono::milliseconds timeout = virtio::testing::patience) {
    queue_up(header, data);
    driver.kick(1);
    return driver.wait_used(1, timeout).has_value();
  }
  bool send(std::uint16_t op, VsockPorts ports) { return send(header(op, ports)); }
  bool send_data(VsockPorts ports, std::span<const std::byte> data, std::uint32_t forwarded = 0) {
    vsock_wire::Header rw = header(vsock_wire::op_rw, ports);
    rw.len = static_cast<std::uint32_t>(data.size());
    rw.fwd_cnt = forwarded;
    return send(rw, data);
  }
  bool send_shutdown(VsockPorts ports, std::uint32_t flags) {
    vsock_wire::Header shutdown = header(vsock_wire::op_shutdown, ports);
    shutdown.flags = flags;
    return send(shutdown);
  }
  // Without a kick.
  void queue_up(const vsock_wire::Header& header, std::span<const std::byte> data = {}) {
    const auto size = static_cast<std::uint32_t>(data.size());
    REQUIRE(size <= most_sent);
    machine.memory.write_bytes(*transmitted_, bytes_of(header));
    machine.memory.write_bytes(*transmitted_ + sizeof header, data);
    const GuestAddress rest = *transmitted_ + 40;
    driver.queue(1).add({{*transmitted_, 40}, {rest, 4 + size}});
  }

  // The next packet of the device.
  std::optional<VsockPacket> next(std::chrono::milliseconds timeout = virtio::testing::patience) {
    const auto used = driver.wait_used(0, timeout);
    if (!used) return {};
    const Slot slot = slots_.at(static_cast<std::uint16_t>(used->head));
    VsockPacket packet{};
    if (used->written >= sizeof packet.header) {
      machine.memory.read_bytes(slot.at, writable_bytes_of(packet.header));
      packet.data.resize(used->written - sizeof packet.header);
      machine.memory.read_bytes(slot.at + sizeof packet.header, packet.data);
    }
    give(slot.at, slot.size);
    driver.kick(0);
    return packet;
  }
  VsockPacket expect(std::uint16_t op) {
    const auto packet = next();
    REQUIRE(packet);
    REQUIRE(packet->header.op == op);
    CHECK(packet->header.src_cid == vsock_wire::host_cid);
    CHECK(packet->header.dst_cid == 3);
    CHECK(packet->header.src_cid_high == 0);
    CHECK(packet->header.dst_cid_high == 0);
    CHECK(packet->header.len == packet->data.size());
    return *packet;
  }
  void expect_reset(VsockPorts ports) { CHECK(expect(vsock_wire::op_rst).ports() == ports); }
  bool silent() { return !next(std::chrono::milliseconds(30)); }

  // A connection to a service of the host.
  void open(VsockPorts ports) {
    REQUIRE(send(vsock_wire::op_request, ports));
    CHECK(expect(vsock_wire::op_response).ports() == ports);
  }
  // A client of the host that asks for a port of the guest, which the guest accepts.
  struct Accepted {
    Fd client;
    VsockPorts ports;
  };
  Accepted accept(std::uint32_t port) {
    Accepted accepted{connect_to(socket()), {}};
    write_all(accepted.client, text("CONNECT " + std::to_string(port) + "\n"));
    accepted.ports = expect(vsock_wire::op_request).ports();
    CHECK(accepted.ports.guest == port);
    REQUIRE(send(vsock_wire::op_response, accepted.ports));
    const auto answer = text("OK " + std::to_string(accepted.ports.host) + "\n");
    CHECK(read_all(accepted.client, answer.size()) == answer);
    return accepted;
  }

  std::string socket() const { return folder / "v"; }
  std::string service(std::uint32_t port) const { return socket() + "_" + std::to_string(port); }
  std::uint64_t counted(std::string_view name) const {
    for (const auto& own : device.report())
      if (own.name == name) return own.value;
    return UINT64_MAX;
  }

  TemporaryFolder folder;
  VirtioMachine machine;
  VsockDevice device;
  virtio::testing::FakeDriver driver;

 private:
  static constexpr std::size_t most_sent = 256 * 1024;
  struct Slot {
    GuestAddress at;
    std::uint32_t size;
  };

  std::optional<GuestAddress> transmitted_;
  std::map<std::uint16_t, Slot> slots_;  // by head
};

// A guest with one connection to a service of the host.
struct Connected : VsockGuest {
  static constexpr VsockPorts own_ports{80, 5000};

  explicit Connected(VsockSwitch::Settings settings = {})
      : VsockGuest(settings), listener(service(own_ports.host)) {
    start();
    open(own_ports);
    host = listener.accept();
  }

  HostService listener;
  Fd host;
};

}  // namespace hum::testing
