// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "devices/net/frame_path.h"
#include "devices/net/net_backend.h"
#include "devices/net/net_device.h"
#include "devices/net/net_wire.h"
#include "devices/virtio_testing.h"
#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/virtio/fake_driver.h"

// A network interface whose host's end is a test, for tests only.
namespace hum::testing {

using virtio::testing::Buffer;
using virtio::testing::FakeDriver;
using virtio::testing::patience;

using Bytes = std::vector<std::byte>;

inline constexpr MacAddress own_mac{{0x52, 0x54, 0, 0x12, 0x34, 0x56}};
inline constexpr MacAddress other_mac{{0x52, 0x54, 0, 0, 0, 1}};
inline constexpr MacAddress broadcast_mac{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
inline constexpr MacAddress group_mac{{1, 0, 0x5e, 0, 0, 1}};

inline constexpr std::uint64_t all_offloads = net_wire::guest_offloads | net_wire::host_offloads;

// A frame to that address; what is behind it tells the place and the seed.
inline Bytes frame_of(std::size_t size, const MacAddress& to = own_mac, unsigned seed = 0) {
  Bytes frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i * 7 + i / 256 + seed);
  std::memcpy(frame.data(), to.bytes.data(), std::min<std::size_t>(size, 6));
  return frame;
}

inline Bytes with_header(const net_wire::Header& header, std::span<const std::byte> frame) {
  const auto start = bytes_of(header);
  Bytes all(start.begin(), start.end());
  all.insert(all.end(), frame.begin(), frame.end());
  return all;
}

inline bool is_frame(const std::optional<Bytes>& packet, const Bytes& frame) {
  return packet && packet->size() == sizeof(net_wire::Header) + frame.size() &&
         std::equal(frame.begin(), frame.end(), packet->begin() + sizeof(net_wire::Header));
}

// One pair's end, over a pair of sockets of which the test has the other one.
class FakeEndpoint final : public FrameEndpoint {
 public:
  FakeEndpoint() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
      throw HostError(errno, "make a pair of sockets");
    device_ = Fd(ends[0]);
    host_ = Fd(ends[1]);
  }

  int fd() const override { return device_.get(); }
  Transfer receive(std::span<const iovec> buffers) override {
    ++receives;
    if (hoards) return from_hoard(buffers);
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(buffers.data());
    message.msg_iovlen = buffers.size();
    const Transfer transfer = outcome(::recvmsg(device_.get(), &message, MSG_TRUNC));
    if (transfer.state == State::moved && on_frame) on_frame();
    return transfer;
  }
  Transfer send(std::span<const iovec> frame) override {
    if (const int error = send_error) return {State::lost, 0, error};
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(frame.data());
    message.msg_iovlen = frame.size();
    return outcome(::sendmsg(device_.get(), &message, MSG_NOSIGNAL));
  }
  bool flush() override {
    ++flushes;
    return true;
  }

  // The test's end: header and frame.
  void give(std::span<const std::byte> packet) const {
    if (::send(host_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0)
      throw HostError(errno, "give a frame");
  }
  std::optional<Bytes> take(std::chrono::milliseconds timeout = patience) const {
    return take_from(host_, timeout);
  }
  void close() { host_.reset(); }
  // The same descriptor has another test's end.
  void reopen() {
    FakeEndpoint fresh;
    if (::dup3(fresh.device_.get(), device_.get(), O_CLOEXEC) < 0) throw HostError(errno, "replace a socket");
    host_ = std::move(fresh.host_);
  }
  void shrink(int bytes) const { ::setsockopt(device_.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes); }

  std::function<void()> on_frame;  // was received
  bool hoards = false;             // takes all that there is, and then hands it out
  std::atomic<int> send_error = 0;
  std::atomic<unsigned> receives = 0;
  std::atomic<unsigned> flushes = 0;

 private:
  Transfer from_hoard(std::span<const iovec> buffers) {
    while (auto packet = take_from(device_, std::chrono::milliseconds(0))) hoard_.push_back(*packet);
    if (hoard_.empty()) return {State::wait};
    const Bytes packet = std::move(hoard_.front());
    hoard_.pop_front();
    copy_to(buffers, 0, packet);
    return {State::moved, packet.size()};
  }
  static std::optional<Bytes> take_from(const Fd& end, std::chrono::milliseconds timeout) {
    pollfd entry{.fd = end.get(), .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, static_cast<int>(timeout.count())) != 1) return {};
    Bytes packet(100000);
    const ssize_t count = ::recv(end.get(), packet.data(), packet.size(), 0);
    if (count < 0) return {};
    packet.resize(static_cast<std::size_t>(count));
    return packet;
  }
  static Transfer outcome(ssize_t count) {
    if (count > 0) return {State::moved, static_cast<std::size_t>(count)};
    if (count == 0) return {State::closed};
    if (errno == EAGAIN) return {State::wait};
    if (errno == EPIPE || errno == ECONNRESET) return {State::closed, 0, errno};
    return {State::lost, 0, errno};
  }

  Fd device_;
  Fd host_;
  std::deque<Bytes> hoard_;
};

class FakeBackend final : public NetBackend {
 public:
  explicit FakeBackend(std::uint16_t pairs = 1, std::uint64_t offloads = all_offloads) : offloads_(offloads) {
    for (std::uint16_t pair = 0; pair < pairs; ++pair) ends.push_back(std::make_unique<FakeEndpoint>());
  }

  std::string_view kind() const override { return "fake"; }
  std::uint64_t offloads() const override { return offloads_; }
  std::uint16_t pairs() const override { return static_cast<std::uint16_t>(ends.size()); }
  std::optional<std::uint16_t> mtu() const override { return own_mtu; }
  FrameEndpoint& endpoint(std::uint16_t index) override { return *ends.at(index); }
  void set_offloads(std::uint64_t accepted) override {
    if (refuses) throw HostError(EINVAL, "set offloads");
    offloads_set = accepted;
  }
  void use_pairs(std::uint16_t count) override {
    if (refuses) throw HostError(EINVAL, "use pairs");
    pairs_used = count;
  }
  bool link() const override { return up; }
  void on_link_change(std::function<void()> changed) override {
    const std::lock_guard lock(mutex_);
    changed_ = std::move(changed);
  }

  void set_link(bool now) {
    up = now;
    const std::lock_guard lock(mutex_);
    if (changed_) changed_();
  }

  std::vector<std::unique_ptr<FakeEndpoint>> ends;
  std::optional<std::uint16_t> own_mtu;
  std::atomic<bool> up = true;
  std::atomic<bool> refuses = false;
  std::atomic<std::uint64_t> offloads_set = 0;
  std::atomic<std::uint16_t> pairs_used = 0;

 private:
  std::uint64_t offloads_;
  std::mutex mutex_;  // guards the one below
  std::function<void()> changed_;
};

// Decides as the test says.
class FakeFilter final : public FrameFilter {
 public:
  using Decide = std::function<Answer(Direction, const Frame&)>;
  explicit FakeFilter(Decide decide) : decide_(std::move(decide)) {}
  Answer decide(Direction direction, const Frame& frame) override { return decide_(direction, frame); }

 private:
  Decide decide_;
};

// An interface with its driver, and the host's end.
struct NetBench {
  struct Options {
    std::uint16_t pairs = 1;
    std::uint64_t features = ~0ull;
    std::uint64_t offloads = all_offloads;
    std::uint16_t queue_size = 256;
    std::optional<std::uint16_t> mtu{};
    std::vector<FakeFilter::Decide> filters{};
    // Puts something around the host's end.
    std::function<std::unique_ptr<NetBackend>(std::unique_ptr<NetBackend>)> wrap{};
    bool activate = true;
  };

  NetBench() : NetBench(Options{}) {}
  explicit NetBench(const Options& options)
      : backend(new FakeBackend(options.pairs, options.offloads)),
        device(path_of(options), {.mac = own_mac, .mtu = options.mtu, .queue_size = options.queue_size}),
        driver(machine.memory, device) {
    if (options.activate) driver.activate(options.features);
  }

  FakeEndpoint& host(std::size_t pair = 0) { return *backend->ends.at(pair); }

  // Buffers for frames to the guest, each of one descriptor.
  void give_buffers(int count, std::uint32_t size, std::size_t queue = 0) {
    for (int i = 0; i < count; ++i) {
      const GuestAddress at = driver.allocate(size, 16);
      buffers[{queue, driver.queue(queue).add({{at, size, true}})}] = at;
    }
    driver.kick(queue);
  }
  // The next frame to the guest with its header, out of as many buffers as it has.
  std::optional<Bytes> received(std::size_t queue = 0, std::chrono::milliseconds timeout = patience) {
    Bytes packet;
    std::uint16_t left = 1;
    for (bool first = true; left != 0; first = false, --left) {
      const auto used = driver.wait_used(queue, timeout);
      if (!used) return {};
      const GuestAddress at = buffers.at({queue, static_cast<std::uint16_t>(used->head)});
      Bytes piece(used->written);
      machine.memory.read_bytes(at, piece);
      packet.insert(packet.end(), piece.begin(), piece.end());
      if (!first) continue;
      header_received = machine.memory.read<net_wire::Header>(at);
      left = header_received.num_buffers;
    }
    return packet;
  }

  // Puts a packet, header and frame, into a transmit queue, cut at the given places.
  void add_packet(std::span<const std::byte> packet, std::vector<std::size_t> cuts = {},
                  std::size_t queue = 1) {
    const GuestAddress at = driver.place(packet);
    std::vector<Buffer> parts;
    std::size_t from = 0;
    cuts.push_back(packet.size());
    for (const std::size_t to : cuts) {
      parts.push_back({at + from, static_cast<std::uint32_t>(to - from)});
      from = to;
    }
    driver.queue(queue).add(parts);
  }
  // Sends it and waits until it is given back; true if it is.
  bool transmit(std::span<const std::byte> packet, std::vector<std::size_t> cuts = {},
                std::size_t queue = 1) {
    add_packet(packet, std::move(cuts), queue);
    driver.kick(queue);
    return driver.wait_used(queue).has_value();
  }
  bool transmit(const net_wire::Header& header, std::span<const std::byte> frame) {
    return transmit(with_header(header, frame));
  }

  std::size_t control_queue = 2;
  // The answer to a command: its acknowledgement, -1 for none.
  int command(std::uint8_t command_class, std::uint8_t command, std::span<const std::byte> data = {},
              std::vector<std::size_t> cuts = {}) {
    Bytes readable = {std::byte{command_class}, std::byte{command}};
    readable.insert(readable.end(), data.begin(), data.end());
    return send_command(readable, std::move(cuts));
  }
  template <class T>
  int command_with(std::uint8_t command_class, std::uint8_t number, const T& data) {
    return command(command_class, number, bytes_of(data));
  }
  int send_command(std::span<const std::byte> readable, std::vector<std::size_t> cuts = {}) {
    const GuestAddress answer = driver.place(Bytes(1, std::byte{0x5a}));
    const GuestAddress at = driver.place(readable);
    std::vector<Buffer> parts;
    std::size_t from = 0;
    if (!readable.empty()) cuts.push_back(readable.size());
    for (const std::size_t to : cuts) {
      parts.push_back({at + from, static_cast<std::uint32_t>(to - from)});
      from = to;
    }
    parts.push_back({answer, 1, true});
    driver.queue(control_queue).add(parts);
    driver.kick(control_queue);
    const auto used = driver.wait_used(control_queue);
    if (!used || used->written != 1) return -1;
    return machine.memory.read<std::uint8_t>(answer);
  }

  std::uint64_t config(std::uint32_t offset, std::size_t width) const {
    Bytes data(width, std::byte{0xff});
    device.read_config(offset, data);
    return load_le(data);
  }
  std::uint64_t status() const { return config(offsetof(net_wire::ConfigSpace, status), 2); }
  std::uint64_t count(std::string_view name) const {
    for (const auto& each : device.report())
      if (each.name == name) return each.value;
    throw std::logic_error("no such counter");
  }
  // Waits until a counter of the device has that value.
  bool counts(std::string_view name, std::uint64_t value) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (count(name) != value) {
      if (std::chrono::steady_clock::now() > end) return false;
      ::poll(nullptr, 0, 1);
    }
    return true;
  }

  VirtioMachine machine;
  FakeBackend* backend;
  NetDevice device;
  FakeDriver driver;
  std::map<std::pair<std::size_t, std::uint16_t>, GuestAddress> buffers;  // by queue and head
  net_wire::Header header_received;

 private:
  std::unique_ptr<FramePath> path_of(const Options& options) {
    backend->own_mtu = options.mtu;
    std::vector<std::unique_ptr<FrameFilter>> filters;
    for (const auto& each : options.filters) filters.push_back(std::make_unique<FakeFilter>(each));
    std::unique_ptr<NetBackend> end(backend);
    if (options.wrap) end = options.wrap(std::move(end));
    return std::make_unique<FramePath>(std::move(end), std::move(filters),
                                       FramePath::Settings{.name = "fake"}, machine.log);
  }
};

}  // namespace hum::testing
