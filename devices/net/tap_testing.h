// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "devices/net/frame_endpoint.h"
#include "devices/net/host_link.h"
#include "devices/net/mac_address.h"
#include "devices/net/net_wire.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"

// For tests with network interfaces only.
namespace hum::testing {

// Runs work in a network namespace of its own, which is gone afterwards with all that is in it. That is a
// thread's: the threads that work starts are in it, too. Reports where the host allows no such thing.
template <class Work>
void in_own_network(Work&& work) {
  if (::access("/dev/net/tun", R_OK | W_OK) != 0) {
    WARN("skipped: no usable /dev/net/tun");
    return;
  }
  bool allowed = true;
  std::exception_ptr failure;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      allowed = false;
      return;
    }
    try {
      work();
    } catch (...) {  // the framework's as well: passed on to the test's thread
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
  if (!allowed) WARN("skipped: no right to make a network namespace");
}

inline void must(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string("the test cannot ") + what);
}

inline HostLink link_named(const std::string& name) {
  const auto link = HostLink::find(name);
  must(link.has_value(), "find its interface");
  return *link;
}

inline void make_bridge(const std::string& name) {
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  must(::ioctl(socket.get(), SIOCBRADDBR, name.c_str()) == 0, "make a bridge");
  link_named(name).set_up();
}

// A queue of a tap, as another program opens it; there is one of that name as long as somebody has one.
inline Fd open_queue(const std::string& name, int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) {
  Fd queue = open_file("/dev/net/tun", O_RDWR | O_NONBLOCK);
  ifreq request = interface_request(name);
  request.ifr_flags = static_cast<short>(flags);
  must(::ioctl(queue.get(), TUNSETIFF, &request) == 0, "open a tap");
  return queue;
}

// One that stays until the namespace goes.
inline void make_tap(const std::string& name, int flags = IFF_TAP | IFF_NO_PI, unsigned long owner = 0) {
  const Fd queue = open_queue(name, flags);
  must(::ioctl(queue.get(), TUNSETOWNER, owner) == 0 && ::ioctl(queue.get(), TUNSETPERSIST, 1ul) == 0,
       "keep a tap");
}

inline constexpr MacAddress test_sender{{0x52, 0x54, 0, 0, 0, 1}};
inline constexpr MacAddress test_receiver{{0x52, 0x54, 0, 0, 0, 2}};
inline constexpr MacAddress everybody{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

// Header and Ethernet frame of a type that no host answers, with so many bytes behind.
inline std::vector<std::byte> test_frame(std::size_t payload, MacAddress to = everybody,
                                         MacAddress from = test_sender) {
  std::vector<std::byte> frame(sizeof(net_wire::Header) + net_wire::ethernet_header_bytes + payload);
  std::byte* at = frame.data() + sizeof(net_wire::Header);
  std::memcpy(at, to.bytes.data(), 6);
  std::memcpy(at + 6, from.bytes.data(), 6);
  at[12] = std::byte{0x88};
  at[13] = std::byte{0xb5};
  for (std::size_t each = 0; each < payload; ++each) at[14 + each] = static_cast<std::byte>(each);
  return frame;
}

inline FrameEndpoint::Transfer send_frame(FrameEndpoint& endpoint, std::vector<std::byte> frame) {
  const iovec part{frame.data(), frame.size()};
  return endpoint.send({&part, 1});
}

// The next frame that sender sent, with its header; others, of which a host has some, are left out. Empty if
// none comes in time.
inline std::vector<std::byte> receive_frame(FrameEndpoint& endpoint,
                                            std::chrono::milliseconds patience = std::chrono::seconds(10),
                                            MacAddress sender = test_sender) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (true) {
    std::vector<std::byte> frame(70000);
    const iovec part{frame.data(), frame.size()};
    const FrameEndpoint::Transfer got = endpoint.receive({&part, 1});
    if (got.state == FrameEndpoint::State::moved) {
      frame.resize(got.bytes);
      const std::size_t from = sizeof(net_wire::Header) + 6;
      if (frame.size() >= from + 6 && std::memcmp(frame.data() + from, sender.bytes.data(), 6) == 0)
        return frame;
      continue;
    }
    if (got.state != FrameEndpoint::State::wait || std::chrono::steady_clock::now() >= end) return {};
    pollfd entry{.fd = endpoint.fd(), .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, 10);
  }
}

inline net_wire::Header header_of(std::span<const std::byte> frame) {
  net_wire::Header header;
  std::memcpy(&header, frame.data(), sizeof header);
  return header;
}

// IPv4 and TCP in a frame, as a driver leaves it to its device: no checksum, and segments of so many bytes of
// data (0: all in one).
inline std::vector<std::byte> tcp_frame(std::size_t data, std::uint16_t segment, MacAddress to = everybody) {
  std::vector<std::byte> frame = test_frame(20 + 20 + data, to);
  std::byte* const ethernet = frame.data() + sizeof(net_wire::Header);
  const auto put = [&](std::size_t at, std::size_t value) {
    ethernet[at] = static_cast<std::byte>(value >> 8);
    ethernet[at + 1] = static_cast<std::byte>(value);
  };
  const auto sum = [&](std::size_t begin, std::size_t end, std::size_t value) {
    for (std::size_t at = begin; at < end; at += 2)
      value +=
          std::to_integer<std::size_t>(ethernet[at]) << 8 | std::to_integer<std::size_t>(ethernet[at + 1]);
    while (value > 0xffff) value = (value & 0xffff) + (value >> 16);
    return value;
  };
  put(12, 0x0800);
  std::fill_n(ethernet + 14, 40, std::byte{0});
  put(14, 0x4500);
  put(16, 40 + data);
  put(22, 64 << 8 | 6);  // time to live, TCP
  put(26, 10 << 8);
  put(28, 1);
  put(30, 10 << 8);
  put(32, 2);
  put(24, ~sum(14, 34, 0) & 0xffff);
  put(34, 1000);
  put(36, 2000);
  put(46, 0x5010);  // 5 words, ACK
  put(48, 0x1000);
  put(50, sum(26, 34, 6 + 20 + data));  // of the pseudo-header alone
  net_wire::Header header;
  header.flags = net_wire::header_needs_csum;
  header.csum_start = std::uint16_t{34};
  header.csum_offset = std::uint16_t{16};
  if (segment != 0) {
    header.gso_type = net_wire::gso_tcp4;
    header.gso_size = segment;
    header.hdr_len = std::uint16_t{54};
  }
  std::memcpy(frame.data(), &header, sizeof header);
  return frame;
}

// Whether the checksum of such a frame is right.
inline bool tcp_checksum_is_right(std::span<const std::byte> frame) {
  const std::span<const std::byte> ip = frame.subspan(sizeof(net_wire::Header) + 14);
  std::vector<std::byte> bytes(ip.begin() + 12, ip.end());
  if (bytes.size() % 2 != 0) bytes.push_back(std::byte{0});
  std::size_t value = 6 + (ip.size() - 20);
  for (std::size_t at = 0; at < bytes.size(); at += 2)
    value += std::to_integer<std::size_t>(bytes[at]) << 8 | std::to_integer<std::size_t>(bytes[at + 1]);
  while (value > 0xffff) value = (value & 0xffff) + (value >> 16);
  return value == 0xffff;
}

}  // namespace hum::testing
