// SPDX-License-Identifier: Apache-2.0
#include "devices/net/anti_spoof_filter.h"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Bytes = std::vector<std::byte>;
using Direction = FrameFilter::Direction;
using Verdict = FrameFilter::Verdict;

constexpr MacAddress own{{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}};
constexpr MacAddress other{{0x52, 0x54, 0x00, 0x12, 0x34, 0x57}};

// 2001:db8::7, another one, the link-local one of `own`, and the unspecified one.
constexpr Ipv6Address ipv6_own = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
constexpr Ipv6Address ipv6_other = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8};
constexpr Ipv6Address ipv6_link_local = {0xfe, 0x80, 0, 0,    0,    0,    0,    0,
                                         0x50, 0x54, 0, 0xff, 0xfe, 0x12, 0x34, 0x56};
constexpr Ipv6Address ipv6_none{};

Bytes& operator+=(Bytes& bytes, std::initializer_list<unsigned> more) {
  for (const unsigned each : more) bytes.push_back(static_cast<std::byte>(each));
  return bytes;
}

template <std::size_t size>
Bytes& operator+=(Bytes& bytes, const std::array<std::uint8_t, size>& more) {
  for (const std::uint8_t each : more) bytes.push_back(std::byte{each});
  return bytes;
}

Bytes ethernet(unsigned type, const MacAddress& source = own) {
  Bytes frame(6, std::byte{0xff});
  frame += source.bytes;
  return frame += {type >> 8, type & 0xff};
}

Bytes arp(const Ipv4Address& sender, const MacAddress& sender_mac = own) {
  Bytes frame = ethernet(0x0806);
  frame += {0, 1, 8, 0, 6, 4, 0, 1};
  frame += sender_mac.bytes;
  frame += sender;
  frame.resize(frame.size() + 10);
  return frame;
}

Bytes udp(const Ipv4Address& source, unsigned from = 68, unsigned to = 67) {
  Bytes frame = ethernet(0x0800);
  frame += {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0};
  frame += source;
  frame += {255, 255, 255, 255, from >> 8, from & 0xff, to >> 8, to & 0xff, 0, 8, 0, 0};
  return frame;
}

// With what comes behind the header, whose first protocol is `next`.
Bytes ipv6(const Ipv6Address& source, unsigned next, const Bytes& rest = Bytes(8)) {
  Bytes frame = ethernet(0x86dd);
  frame += {0x60, 0, 0, 0, 0, static_cast<unsigned>(rest.size()), next, 255};
  frame += source;
  frame.resize(frame.size() + 16);
  frame.insert(frame.end(), rest.begin(), rest.end());
  return frame;
}

Bytes neighbour(unsigned type, const Ipv6Address& target) {
  Bytes message;
  message += {type, 0, 0, 0, 0, 0, 0, 0};
  return message += target;
}

// The same behind an extension header of 8 * (1 + more) bytes.
Bytes behind(unsigned next, unsigned more, const Bytes& message) {
  Bytes bytes;
  bytes += {next, more};
  bytes.resize(8 * (1 + std::size_t{more}));
  bytes.insert(bytes.end(), message.begin(), message.end());
  return bytes;
}

SenderAddresses given() {
  return *parse_anti_spoof("net.anti-spoof", "192.0.2.7+2001:db8::7+192.0.2.9");
}

bool leaves(const Bytes& frame, const SenderAddresses& addresses = given(), std::size_t checksum_at = 0) {
  AntiSpoofFilter filter(own, addresses);
  const std::size_t start = std::min(frame.size(), Frame::most_start_bytes);
  const Frame asked{
      .start = std::span(frame).first(start), .rest = {}, .bytes = frame.size(), .checksum_at = checksum_at};
  CHECK(filter.decide(Direction::to_guest, asked).verdict == Verdict::pass);
  return filter.decide(Direction::from_guest, asked).verdict == Verdict::pass;
}

Bytes cut(Bytes frame, std::size_t bytes) {
  frame.resize(bytes);
  return frame;
}

}  // namespace

TEST_CASE("the option of the anti-spoofing filter is off, on, or addresses") {
  CHECK_FALSE(parse_anti_spoof("net.anti-spoof", "off").has_value());
  CHECK(parse_anti_spoof("net.anti-spoof", "on")->any());
  const SenderAddresses addresses = given();
  CHECK(addresses.ipv4 == std::vector<Ipv4Address>{{192, 0, 2, 7}, {192, 0, 2, 9}});
  CHECK(addresses.ipv6 == std::vector<Ipv6Address>{ipv6_own});
  CHECK_FALSE(addresses.any());
}

TEST_CASE("what is no address to send from is refused with its text") {
  for (const char* text : {"", "yes", "192.0.2.7+", "+192.0.2.7", "192.0.2.7/24", "192.0.2", "192.0.2.7+on",
                           "2001:db8::g", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"}) {
    CAPTURE(text);
    const std::string error = testing::config_error_of([&] { parse_anti_spoof("net.anti-spoof", text); });
    CHECK(testing::contains(error, "net.anti-spoof"));
    CHECK(testing::contains(error, "give "));
  }
}

TEST_CASE("without addresses the interface's own MAC is what counts, in ARP too") {
  const SenderAddresses any;
  CHECK(leaves(ethernet(0x0800), any));
  CHECK(leaves(ethernet(0x88cc), any));
  CHECK(leaves(ethernet(0x0040), any));  // IEEE 802.3
  CHECK_FALSE(leaves(ethernet(0x0800, other), any));
  CHECK(leaves(arp({192, 0, 2, 99}), any));
  CHECK_FALSE(leaves(arp({192, 0, 2, 99}, other), any));
}

TEST_CASE("an interface that goes on from a state has the MAC of that state") {
  AntiSpoofFilter filter(own, given());
  filter.set_own(other);
  const auto passes = [&](const Bytes& frame) {
    return filter.decide(Direction::from_guest, {.start = frame, .rest = {}, .bytes = frame.size()})
               .verdict == Verdict::pass;
  };
  CHECK_FALSE(passes(arp({192, 0, 2, 7})));
  CHECK_FALSE(passes(ipv6(ipv6_link_local, 17)));
  Bytes frame = arp({192, 0, 2, 7}, other);
  std::copy(other.bytes.begin(), other.bytes.end(), reinterpret_cast<std::uint8_t*>(frame.data() + 6));
  CHECK(passes(frame));
}

TEST_CASE("frames too short to tell their sender do not leave") {
  const SenderAddresses any;
  CHECK_FALSE(leaves({}, any));
  CHECK_FALSE(leaves(cut(ethernet(0x0800), 13), any));
  CHECK(leaves(cut(ethernet(0x0800), 14), any));
  CHECK(leaves(cut(arp({192, 0, 2, 7}), 14 + 28)));
  CHECK_FALSE(leaves(cut(arp({192, 0, 2, 7}), 14 + 27)));
  CHECK(leaves(cut(udp({192, 0, 2, 7}), 14 + 20)));
  CHECK_FALSE(leaves(cut(udp({192, 0, 2, 7}), 14 + 19)));
  CHECK(leaves(cut(ipv6(ipv6_own, 6), 14 + 40)));
  CHECK_FALSE(leaves(cut(ipv6(ipv6_own, 6), 14 + 39)));
}

TEST_CASE("frames with a VLAN tag do not leave") {
  for (const unsigned type : {0x8100u, 0x88a8u, 0x9100u, 0x9200u}) {
    Bytes frame = ethernet(type);
    frame += {0, 1, 8, 0};
    CHECK_FALSE(leaves(frame, SenderAddresses()));
    CHECK_FALSE(leaves(frame));
  }
}

TEST_CASE("IPv4 leaves from the given addresses alone") {
  CHECK(leaves(udp({192, 0, 2, 7}, 5000, 53)));
  CHECK(leaves(udp({192, 0, 2, 9}, 5000, 53)));
  CHECK_FALSE(leaves(udp({192, 0, 2, 8}, 5000, 53)));
  Bytes wrong_version = udp({192, 0, 2, 7});
  wrong_version[14] = std::byte{0x55};
  CHECK_FALSE(leaves(wrong_version));
  CHECK_FALSE(leaves(ethernet(0x88cc)));  // another protocol
}

TEST_CASE("a guest without an address may ask for one by DHCP, and nothing else") {
  CHECK(leaves(udp({0, 0, 0, 0})));
  CHECK_FALSE(leaves(udp({0, 0, 0, 0}, 68, 53)));
  CHECK_FALSE(leaves(udp({0, 0, 0, 0}, 69, 67)));
  CHECK_FALSE(leaves(cut(udp({0, 0, 0, 0}), 14 + 20 + 3)));
  const auto changed = [](std::size_t at, unsigned value) {
    Bytes frame = udp({0, 0, 0, 0});
    frame[14 + at] = static_cast<std::byte>(value);
    return frame;
  };
  CHECK_FALSE(leaves(changed(9, 6)));     // TCP
  CHECK_FALSE(leaves(changed(6, 0x20)));  // the first fragment of several
  CHECK_FALSE(leaves(changed(7, 1)));     // a later one
  CHECK(leaves(changed(6, 0x40)));        // not to be fragmented
  CHECK_FALSE(leaves(changed(0, 0x44)));  // a header shorter than any
  CHECK_FALSE(leaves(changed(0, 0x46)));  // the ports are elsewhere
}

TEST_CASE("ARP leaves for the given addresses, and probes for any") {
  CHECK(leaves(arp({192, 0, 2, 7})));
  CHECK(leaves(arp({0, 0, 0, 0})));
  CHECK_FALSE(leaves(arp({192, 0, 2, 8})));
  CHECK_FALSE(leaves(arp({192, 0, 2, 7}, other)));
  for (const std::size_t at : {14u, 15u, 16u, 17u, 18u, 19u}) {  // another kind of hardware or protocol
    Bytes frame = arp({192, 0, 2, 7});
    frame[at] ^= std::byte{0x10};
    CHECK_FALSE(leaves(frame));
    CHECK_FALSE(leaves(frame, SenderAddresses()));
  }
}

TEST_CASE("IPv6 leaves from the given addresses and the link-local one of the MAC") {
  CHECK(leaves(ipv6(ipv6_own, 6)));
  CHECK(leaves(ipv6(ipv6_link_local, 17)));
  CHECK_FALSE(leaves(ipv6(ipv6_other, 6)));
  Ipv6Address link_local = ipv6_link_local;
  link_local[15] ^= 1;
  CHECK_FALSE(leaves(ipv6(link_local, 17)));
  CHECK(leaves(ipv6(ipv6_own, 44)));  // a fragment
  Bytes wrong_version = ipv6(ipv6_own, 6);
  wrong_version[14] = std::byte{0x40};
  CHECK_FALSE(leaves(wrong_version));
}

TEST_CASE("a neighbour is told of the interface's own addresses alone") {
  CHECK(leaves(ipv6(ipv6_own, 58, neighbour(136, ipv6_own))));
  CHECK(leaves(ipv6(ipv6_own, 58, neighbour(136, ipv6_link_local))));
  CHECK_FALSE(leaves(ipv6(ipv6_own, 58, neighbour(136, ipv6_other))));
  CHECK_FALSE(leaves(cut(ipv6(ipv6_own, 58, neighbour(136, ipv6_own)), 14 + 40 + 23)));
  CHECK(leaves(ipv6(ipv6_own, 58, neighbour(135, ipv6_other))));  // a question
  CHECK(leaves(ipv6(ipv6_own, 58, Bytes(8, std::byte{128}))));    // a ping
  CHECK_FALSE(leaves(ipv6(ipv6_own, 58, Bytes(7, std::byte{128}))));
}

TEST_CASE("extension headers hide no advertisement") {
  for (const unsigned extension : {0u, 43u, 60u}) {
    CHECK(leaves(ipv6(ipv6_own, extension, behind(58, 0, neighbour(136, ipv6_own)))));
    CHECK_FALSE(leaves(ipv6(ipv6_own, extension, behind(58, 0, neighbour(136, ipv6_other)))));
    CHECK_FALSE(leaves(ipv6(ipv6_own, extension, behind(60, 1, behind(58, 0, neighbour(136, ipv6_other))))));
    CHECK(leaves(ipv6(ipv6_own, extension, behind(6, 0, Bytes(20)))));
    // Longer than what can be looked at, of whatever is behind it.
    CHECK_FALSE(leaves(ipv6(ipv6_own, extension, behind(58, 9, neighbour(136, ipv6_own)))));
    CHECK_FALSE(leaves(ipv6(ipv6_own, extension, Bytes(1))));
  }
}

TEST_CASE("no checksum of the host's falls on what says who a frame is from") {
  const auto places = [](const Bytes& frame, const SenderAddresses& addresses = given()) {
    std::vector<std::size_t> allowed;
    for (std::size_t at = 14; at + 2 <= frame.size(); ++at)
      if (leaves(frame, addresses, at)) allowed.push_back(at);
    return allowed;
  };
  const auto from_to = [](std::size_t first, std::size_t last) {
    std::vector<std::size_t> numbers;
    for (; first <= last; ++first) numbers.push_back(first);
    return numbers;
  };
  // Behind the ports, which are 34 to 37 here.
  CHECK(places(udp({192, 0, 2, 7})) == from_to(38, 40));
  CHECK(places(udp({0, 0, 0, 0})) == from_to(38, 40));
  CHECK(places(arp({192, 0, 2, 7})).empty());
  CHECK(places(arp({192, 0, 2, 7}), SenderAddresses{}).empty());
  CHECK(places(ipv6(ipv6_own, 17)) == from_to(58, 60));
  CHECK(places(ipv6(ipv6_own, 58, neighbour(136, ipv6_own))) == from_to(56, 56));
  Bytes long_header = udp({192, 0, 2, 7});
  long_header[14] = std::byte{0x44};  // shorter than there is
  CHECK_FALSE(leaves(long_header));
}

TEST_CASE("from the unspecified address a guest may look whether its own addresses are free") {
  CHECK(leaves(ipv6(ipv6_none, 58, neighbour(135, ipv6_own))));
  CHECK(leaves(ipv6(ipv6_none, 58, neighbour(135, ipv6_link_local))));
  CHECK_FALSE(leaves(ipv6(ipv6_none, 58, neighbour(135, ipv6_other))));
  CHECK_FALSE(leaves(cut(ipv6(ipv6_none, 58, neighbour(135, ipv6_own)), 14 + 40 + 23)));
  CHECK(leaves(ipv6(ipv6_none, 0, behind(58, 0, Bytes(8, std::byte{143})))));  // multicast listener report
  CHECK_FALSE(leaves(ipv6(ipv6_none, 17)));
  CHECK_FALSE(leaves(ipv6(ipv6_none, 44)));
}

}  // namespace hum
