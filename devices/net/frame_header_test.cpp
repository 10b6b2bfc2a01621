// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_header.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace net_wire;

constexpr std::size_t frame = 200;

Header with_checksum(std::uint16_t start, std::uint16_t offset) {
  Header header;
  header.flags = header_needs_csum;
  header.csum_start = start;
  header.csum_offset = offset;
  return header;
}

Header in_pieces(std::uint8_t gso_type) {
  Header header = with_checksum(34, 16);
  header.gso_type = gso_type;
  header.gso_size = 1;
  header.hdr_len = 54;
  return header;
}

TEST_CASE("a checksum is inside its frame, behind the Ethernet header") {
  const auto sound = [](std::uint16_t start, std::uint16_t offset, std::size_t bytes = frame) {
    return checked_header(with_checksum(start, offset), bytes, feature_csum).has_value();
  };
  CHECK(sound(14, 0));
  CHECK_FALSE(sound(13, 0));
  CHECK(sound(14, 184));
  CHECK_FALSE(sound(14, 185));
  CHECK(sound(198, 0));
  CHECK_FALSE(sound(199, 0));
  CHECK_FALSE(sound(0xffff, 0xffff));
  CHECK_FALSE(sound(0xffff, 0xffff, most_frame_bytes));
  CHECK_FALSE(checked_header(with_checksum(34, 16), frame, ~feature_csum));
}

TEST_CASE("a frame is cut only as was negotiated, with a size and a checksum") {
  for (const auto& [type, needed] :
       {std::pair{gso_tcp4, feature_host_tso4},
        {gso_tcp6, feature_host_tso6},
        {gso_udp, feature_host_ufo},
        {gso_udp_l4, feature_host_uso},
        {static_cast<std::uint8_t>(gso_tcp4 | gso_ecn), feature_host_tso4 | feature_host_ecn},
        {static_cast<std::uint8_t>(gso_tcp6 | gso_ecn), feature_host_tso6 | feature_host_ecn}}) {
    CAPTURE(type);
    CHECK(checked_header(in_pieces(type), frame, feature_csum | needed));
    for (std::uint64_t rest = needed; rest != 0; rest &= rest - 1)
      CHECK_FALSE(checked_header(in_pieces(type), frame, ~(rest & ~(rest - 1))));
    Header header = in_pieces(type);
    header.gso_size = 0;
    CHECK_FALSE(checked_header(header, frame, ~0ull));
    header = in_pieces(type);
    header.flags = 0;
    CHECK_FALSE(checked_header(header, frame, ~0ull));
    header = in_pieces(type);
    header.hdr_len = frame;
    CHECK(checked_header(header, frame, ~0ull));
    header.hdr_len = frame + 1;
    CHECK_FALSE(checked_header(header, frame, ~0ull));
  }
}

TEST_CASE("types that do not exist are refused") {
  for (const unsigned type : {2u, 6u, 7u, 0x80u, 0x83u, 0x85u, 0x40u, 0xffu}) {
    CAPTURE(type);
    CHECK_FALSE(checked_header(in_pieces(static_cast<std::uint8_t>(type)), frame, ~0ull));
    Header header;
    header.gso_type = static_cast<std::uint8_t>(type);
    CHECK_FALSE(can_take(header, ~0ull));
  }
}

TEST_CASE("a driver takes frames that need what it has switched on") {
  for (const auto& [type, needed] :
       {std::pair{gso_tcp4, feature_guest_tso4},
        {gso_tcp6, feature_guest_tso6},
        {gso_udp, feature_guest_ufo},
        {static_cast<std::uint8_t>(gso_tcp4 | gso_ecn), feature_guest_tso4 | feature_guest_ecn}}) {
    CAPTURE(type);
    CHECK(can_take(in_pieces(type), feature_guest_csum | needed));
    CHECK_FALSE(can_take(in_pieces(type), feature_guest_csum));
    CHECK_FALSE(can_take(in_pieces(type), needed));
  }
  CHECK(can_take(in_pieces(gso_udp_l4), feature_guest_csum | feature_guest_uso6));
  CHECK_FALSE(can_take(in_pieces(gso_udp_l4), ~(feature_guest_uso4 | feature_guest_uso6)));
  CHECK(can_take(Header{}, 0));
}

}  // namespace
}  // namespace hum
