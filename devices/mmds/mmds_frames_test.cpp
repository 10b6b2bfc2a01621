// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/mmds_frames.h"

#include <initializer_list>
#include <string_view>
#include <vector>

#include "vmm/base/testing.h"

namespace hum::mmds {
namespace {

using Bytes = std::vector<std::byte>;

constexpr Ipv4Address service{169, 254, 169, 254};
constexpr Ipv4Address guest{192, 0, 2, 7};
constexpr MacAddress service_mac{{0x06, 0x01, 0x23, 0x45, 0x67, 0x01}};
constexpr MacAddress guest_mac{{0x52, 0x54, 0, 0x12, 0x34, 0x56}};

Bytes bytes(std::initializer_list<int> values) {
  Bytes all;
  for (const int each : values) all.push_back(static_cast<std::byte>(each));
  return all;
}

// From port 40000 of the guest to port 80: a SYN with a maximum segment size of 1460, and a segment with
// data.
const Bytes syn_frame =
    bytes({0x06, 0x01, 0x23, 0x45, 0x67, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x00, 0x45,
           0x00, 0x00, 0x2c, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0x24, 0xc8, 0xc0, 0x00, 0x02, 0x07,
           0xa9, 0xfe, 0xa9, 0xfe, 0x9c, 0x40, 0x00, 0x50, 0xff, 0xff, 0xff, 0xf0, 0x00, 0x00, 0x00,
           0x00, 0x60, 0x02, 0xfa, 0xf0, 0xea, 0xaf, 0x00, 0x00, 0x02, 0x04, 0x05, 0xb4});
const Bytes data_frame =
    bytes({0x06, 0x01, 0x23, 0x45, 0x67, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x00, 0x45,
           0x00, 0x00, 0x2b, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0x24, 0xc9, 0xc0, 0x00, 0x02, 0x07,
           0xa9, 0xfe, 0xa9, 0xfe, 0x9c, 0x40, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
           0x08, 0x50, 0x18, 0xf0, 0x00, 0x61, 0xda, 0x00, 0x00, 0x47, 0x45, 0x54});
const Bytes arp_frame =
    bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x06,
           0x00, 0x01, 0x08, 0x00, 6,    4,    0x00, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56,
           192,  0,    2,    7,    0,    0,    0,    0,    0,    0,    169,  254,  169,  254});

// The sums of a frame without options of IP are made anew.
Bytes mended(Bytes frame) {
  const auto sum = [&](std::size_t from, std::size_t to) {
    unsigned all = 0;
    for (std::size_t at = from; at < to; ++at)
      all += std::to_integer<unsigned>(frame[at]) << ((at - from) % 2 == 0 ? 8 : 0);
    return all;
  };
  const auto store = [&](std::size_t at, unsigned all) {
    while (all > 0xffff) all = (all & 0xffff) + (all >> 16);
    frame[at] = static_cast<std::byte>(~all >> 8 & 0xff);
    frame[at + 1] = static_cast<std::byte>(~all & 0xff);
  };
  frame[24] = frame[25] = frame[50] = frame[51] = std::byte{0};
  store(24, sum(14, 34));
  store(50, sum(26, 34) + 6 + static_cast<unsigned>(frame.size() - 34) + sum(34, frame.size()));
  return frame;
}

Bytes changed(Bytes frame, std::size_t at, int value) {
  frame[at] = static_cast<std::byte>(value);
  return frame;
}

TEST_CASE("segments are read and written as they stand in frames") {
  const auto syn = read_segment(syn_frame, 0);
  REQUIRE(syn);
  CHECK(syn->from.mac == guest_mac);
  CHECK(syn->from.address == guest);
  CHECK(syn->from.port == 40000);
  CHECK(syn->to.mac == service_mac);
  CHECK(syn->to.address == service);
  CHECK(syn->to.port == 80);
  CHECK(syn->segment.sequence == 0xfffffff0);
  CHECK(syn->segment.window == 64240);
  CHECK((syn->segment.syn && !syn->segment.ack && !syn->segment.fin && !syn->segment.rst &&
         !syn->segment.push));
  CHECK(syn->segment.most_payload == 1460);
  CHECK(syn->segment.payload.empty());
  CHECK(syn->segment.length() == 1);

  const auto data = read_segment(data_frame, 0);
  REQUIRE(data);
  CHECK(data->segment.sequence == 0x01020304);
  CHECK(data->segment.acknowledgement == 0x05060708);
  CHECK((data->segment.ack && data->segment.push && !data->segment.syn));
  CHECK_FALSE(data->segment.most_payload);
  CHECK(data->segment.length() == 3);

  Bytes written(most_header_bytes, std::byte{0x5a});
  CHECK(write_segment(*syn, written) == syn_frame.size());
  CHECK(std::equal(syn_frame.begin(), syn_frame.end(), written.begin()));
  CHECK(write_segment(*data, written) == data_frame.size());
  CHECK(std::equal(data_frame.begin(), data_frame.end(), written.begin()));
  CHECK(mended(data_frame) == data_frame);
}

TEST_CASE("a frame with any bit behind its addresses changed is damaged") {
  for (const Bytes& frame : {syn_frame, data_frame})
    for (std::size_t bit = 8 * 12; bit < 8 * frame.size(); ++bit) {
      Bytes damaged = frame;
      damaged[bit / 8] ^= std::byte{1} << bit % 8;
      INFO("bit " << bit);
      CHECK_FALSE(read_segment(damaged, 0));
    }
}

TEST_CASE("a checksum that the host is to make counts as right, in its place only") {
  const Bytes unfinished = changed(data_frame, 51, 0);
  CHECK(read_segment(unfinished, 14 + 20 + 16));
  CHECK_FALSE(read_segment(unfinished, 14 + 20 + 14));
  CHECK_FALSE(read_segment(changed(data_frame, 25, 0), 14 + 20 + 16));  // that of IP
}

TEST_CASE("a frame that is cut off anywhere is none, and one with bytes behind the packet is whole") {
  for (std::size_t size = 0; size < syn_frame.size(); ++size)
    CHECK_FALSE(read_segment(std::span(syn_frame).first(size), 0));
  Bytes padded = syn_frame;
  padded.resize(100, std::byte{0x5a});
  CHECK(read_segment(padded, 0));
}

TEST_CASE("fragments, other protocols and packets that nobody sends are refused") {
  CHECK(read_segment(mended(changed(syn_frame, 20, 0)), 0));           // may be fragmented
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 20, 0x20)), 0));  // more to come
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 21, 1)), 0));     // not the first
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 23, 17)), 0));
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 14, 0x65)), 0));
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 14, 0x44)), 0));
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 26, 0)), 0));
  CHECK(read_segment(mended(changed(syn_frame, 26, 223)), 0));
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 26, 224)), 0));
  CHECK_FALSE(read_segment(mended(changed(changed(syn_frame, 34, 0), 35, 0)), 0));  // from port 0
  CHECK_FALSE(read_segment(changed(syn_frame, 6, 0x53), 0));                        // from a group
  Bytes own = syn_frame;
  std::copy_n(own.begin() + 30, 4, own.begin() + 26);
  CHECK_FALSE(read_segment(mended(own), 0));
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 46, 0x40)), 0));  // a header shorter than it can be
  CHECK_FALSE(read_segment(mended(changed(syn_frame, 46, 0x70)), 0));  // longer than the packet
  CHECK(read_segment(mended(changed(syn_frame, 46, 0x50)), 0));
}

TEST_CASE("the largest segment that a SYN asks for is found among its options, whatever they are") {
  const auto found = [](std::initializer_list<int> options) {
    Bytes frame = syn_frame;
    frame.resize(14 + 20 + 20);
    for (const int each : options) frame.push_back(static_cast<std::byte>(each));
    frame[17] = static_cast<std::byte>(frame.size() - 14);
    frame[46] = static_cast<std::byte>((20 + options.size()) / 4 << 4);
    const auto content = read_segment(mended(frame), 0);
    REQUIRE(content);
    return content->segment.most_payload;
  };
  CHECK(found({}) == std::nullopt);
  CHECK(found({1, 3, 3, 7, 2, 4, 1, 0}) == 256);
  CHECK(found({2, 4, 1, 0, 2, 4, 2, 0}) == 256);
  CHECK(found({0, 0, 0, 0, 2, 4, 1, 0}) == std::nullopt);
  CHECK(found({2, 3, 1, 1}) == std::nullopt);
  CHECK(found({5, 0, 2, 4}) == std::nullopt);
  CHECK(found({5, 1, 2, 4, 1, 0, 0, 0}) == std::nullopt);
  CHECK(found({1, 1, 2, 4}) == std::nullopt);
  CHECK(found({1, 1, 1, 2}) == std::nullopt);
  CHECK(found({5, 200, 0, 0}) == std::nullopt);
}

TEST_CASE("an ARP request is answered with the address of who asks in it") {
  const auto request = read_arp_request(arp_frame);
  REQUIRE(request);
  CHECK(request->mac == guest_mac);
  CHECK(request->address == guest);
  Bytes reply(100);
  REQUIRE(write_arp_reply(*request, service, service_mac, reply) == 42);
  reply.resize(42);
  CHECK(reply == bytes({0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x06, 0x01, 0x23, 0x45, 0x67, 0x01, 0x08, 0x06,
                        0x00, 0x01, 0x08, 0x00, 6,    4,    0x00, 0x02, 0x06, 0x01, 0x23, 0x45, 0x67, 0x01,
                        169,  254,  169,  254,  0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 192,  0,    2,    7}));
  CHECK_FALSE(read_arp_request(std::span(arp_frame).first(41)));
  CHECK_FALSE(read_arp_request(reply));
  CHECK_FALSE(read_arp_request(changed(arp_frame, 22, 0x53)));  // from a group
  for (std::size_t at = 12; at < 22; ++at) CHECK_FALSE(read_arp_request(changed(arp_frame, at, 0x77)));
}

TEST_CASE("what is for an address is IPv4 to it and ARP about it") {
  CHECK(is_for(service, arp_frame));
  CHECK(is_for(service, syn_frame));
  CHECK(is_for(service, std::span(syn_frame).first(start_bytes)));
  CHECK_FALSE(is_for(service, std::span(syn_frame).first(33)));
  CHECK_FALSE(is_for(service, std::span(arp_frame).first(41)));
  CHECK_FALSE(is_for(service, {}));
  CHECK_FALSE(is_for(service, changed(syn_frame, 33, 253)));
  CHECK_FALSE(is_for(service, changed(arp_frame, 41, 253)));
  CHECK_FALSE(is_for(service, changed(arp_frame, 21, 2)));
  CHECK_FALSE(is_for(service, changed(syn_frame, 12, 0x86)));
  CHECK_FALSE(is_for(guest, syn_frame));
}

}  // namespace
}  // namespace hum::mmds
