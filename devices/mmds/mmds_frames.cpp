// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/mmds_frames.h"

#include <algorithm>
#include <cstring>

#include "devices/net/net_wire.h"
#include "vmm/base/big_endian.h"

namespace hum::mmds {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t ip_at = net_wire::ethernet_header_bytes;
constexpr std::size_t ip_bytes = 20;
constexpr std::size_t tcp_bytes = 20;
constexpr std::size_t tcp_checksum_offset = 16;
constexpr std::size_t arp_frame_bytes = 14 + 28;

constexpr unsigned type_ipv4 = 0x0800;
constexpr unsigned type_arp = 0x0806;
constexpr unsigned protocol_tcp = 6;
constexpr unsigned option_end = 0;
constexpr unsigned option_nothing = 1;
constexpr unsigned option_most_payload = 2;

// The flags of a segment (RFC 9293, 3.1).
constexpr unsigned flag_fin = 1;
constexpr unsigned flag_syn = 2;
constexpr unsigned flag_rst = 4;
constexpr unsigned flag_push = 8;
constexpr unsigned flag_ack = 16;

unsigned byte_at(Bytes bytes, std::size_t at) {
  return std::to_integer<unsigned>(bytes[at]);
}

std::uint16_t word_at(Bytes bytes, std::size_t at) {
  return static_cast<std::uint16_t>(load_be(bytes.subspan(at, 2)));
}

std::uint32_t long_at(Bytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(load_be(bytes.subspan(at, 4)));
}

template <std::size_t size>
std::array<std::uint8_t, size> address_at(Bytes bytes, std::size_t at) {
  std::array<std::uint8_t, size> address;
  std::memcpy(address.data(), bytes.subspan(at, size).data(), size);
  return address;
}

template <std::size_t size>
void put_address(std::span<std::byte> bytes, std::size_t at, const std::array<std::uint8_t, size>& address) {
  std::memcpy(bytes.subspan(at, size).data(), address.data(), size);
}

void put(std::span<std::byte> bytes, std::size_t at, std::size_t size, std::uint64_t value) {
  store_be(bytes.subspan(at, size), value);
}

void put_ethernet(std::span<std::byte> frame, const MacAddress& to, const MacAddress& from, unsigned type) {
  put_address(frame, 0, to.bytes);
  put_address(frame, 6, from.bytes);
  put(frame, 12, 2, type);
}

// The sum of RFC 1071, not yet folded.
std::uint64_t sum_of(Bytes bytes) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + 1 < bytes.size(); at += 2) sum += word_at(bytes, at);
  if (bytes.size() % 2 != 0) sum += byte_at(bytes, bytes.size() - 1) << 8;
  return sum;
}

// 0 for bytes that have their checksum in them.
std::uint16_t checksum_of(std::uint64_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// Of a segment with the pseudo-header (RFC 9293, 3.1).
std::uint16_t segment_checksum(Bytes packet, Bytes segment) {
  return checksum_of(sum_of(packet.subspan(12, 8)) + protocol_tcp + segment.size() + sum_of(segment));
}

bool may_send(const Ipv4Address& address) {
  return address[0] != 0 && address[0] < 224;
}

std::optional<std::uint16_t> most_payload_in(Bytes options) {
  while (!options.empty() && byte_at(options, 0) != option_end) {
    std::size_t bytes = 1;
    if (byte_at(options, 0) != option_nothing) {
      if (options.size() < 2) return {};
      bytes = byte_at(options, 1);
      if (bytes < 2 || bytes > options.size()) return {};
      if (byte_at(options, 0) == option_most_payload && bytes == 4) return word_at(options, 2);
    }
    options = options.subspan(bytes);
  }
  return {};
}

}  // namespace

bool is_for(const Ipv4Address& address, std::span<const std::byte> start) {
  if (start.size() < ip_at + ip_bytes) return false;
  const unsigned type = word_at(start, 12);
  if (type == type_ipv4) return address_at<4>(start, ip_at + 16) == address;
  return type == type_arp && read_arp_request(start) && address_at<4>(start, ip_at + 24) == address;
}

std::optional<ArpRequest> read_arp_request(Bytes frame) {
  if (frame.size() < arp_frame_bytes || word_at(frame, 12) != type_arp) return {};
  const Bytes packet = frame.subspan(ip_at);
  constexpr std::uint64_t ethernet_and_ipv4_request = 0x0001'0800'06'04'0001;
  if (load_be(packet.first(8)) != ethernet_and_ipv4_request) return {};
  const ArpRequest request{{address_at<6>(packet, 8)}, address_at<4>(packet, 14)};
  if (request.mac.is_multicast()) return {};
  return request;
}

std::size_t write_arp_reply(const ArpRequest& request, const Ipv4Address& address, const MacAddress& mac,
                            std::span<std::byte> to) {
  put_ethernet(to, request.mac, mac, type_arp);
  const std::span packet = to.subspan(ip_at);
  put(packet, 0, 8, 0x0001'0800'06'04'0002);
  put_address(packet, 8, mac.bytes);
  put_address(packet, 14, address);
  put_address(packet, 18, request.mac.bytes);
  put_address(packet, 24, request.address);
  return arp_frame_bytes;
}

std::optional<SegmentFrame> read_segment(Bytes frame, std::size_t checksum_at) {
  if (frame.size() < least_header_bytes || word_at(frame, 12) != type_ipv4) return {};
  Bytes packet = frame.subspan(ip_at);
  const std::size_t ip_header = 4 * std::size_t{byte_at(packet, 0) & 15};
  const std::size_t total = word_at(packet, 2);
  if (byte_at(packet, 0) >> 4 != 4 || ip_header < ip_bytes || total < ip_header + tcp_bytes ||
      total > packet.size())
    return {};
  packet = packet.first(total);
  const bool fragment = (word_at(packet, 6) & 0x3fff) != 0;
  if (checksum_of(sum_of(packet.first(ip_header))) != 0 || fragment || byte_at(packet, 9) != protocol_tcp)
    return {};

  const Bytes tcp = packet.subspan(ip_header);
  const std::size_t tcp_header = 4 * std::size_t{byte_at(tcp, 12) >> 4};
  if (tcp_header < tcp_bytes || tcp_header > tcp.size()) return {};
  if (checksum_at != ip_at + ip_header + tcp_checksum_offset && segment_checksum(packet, tcp) != 0) return {};

  SegmentFrame content;
  content.from = {{address_at<6>(frame, 6)}, address_at<4>(packet, 12), word_at(tcp, 0)};
  content.to = {{address_at<6>(frame, 0)}, address_at<4>(packet, 16), word_at(tcp, 2)};
  if (content.from.mac.is_multicast() || !may_send(content.from.address) || content.from.port == 0 ||
      content.from.address == content.to.address)
    return {};
  const unsigned flags = byte_at(tcp, 13);
  content.segment = {.sequence = long_at(tcp, 4),
                     .acknowledgement = long_at(tcp, 8),
                     .window = word_at(tcp, 14),
                     .syn = (flags & flag_syn) != 0,
                     .ack = (flags & flag_ack) != 0,
                     .fin = (flags & flag_fin) != 0,
                     .rst = (flags & flag_rst) != 0,
                     .push = (flags & flag_push) != 0,
                     .payload = tcp.subspan(tcp_header)};
  if (content.segment.syn)
    content.segment.most_payload = most_payload_in(tcp.subspan(tcp_bytes, tcp_header - tcp_bytes));
  return content;
}

std::size_t write_segment(const SegmentFrame& content, std::span<std::byte> to) {
  const Segment& segment = content.segment;
  const std::size_t tcp_header = tcp_bytes + (segment.most_payload ? 4 : 0);
  const std::size_t total = ip_bytes + tcp_header + segment.payload.size();
  const std::span frame = to.first(ip_at + total);
  std::fill_n(frame.begin(), ip_at + ip_bytes + tcp_header, std::byte{0});
  put_ethernet(frame, content.to.mac, content.from.mac, type_ipv4);

  const std::span packet = frame.subspan(ip_at);
  put(packet, 0, 1, 0x45);
  put(packet, 2, 2, total);
  put(packet, 6, 2, 0x4000);  // not to be fragmented
  put(packet, 8, 1, 64);      // time to live
  put(packet, 9, 1, protocol_tcp);
  put_address(packet, 12, content.from.address);
  put_address(packet, 16, content.to.address);
  put(packet, 10, 2, checksum_of(sum_of(packet.first(ip_bytes))));

  const std::span tcp = packet.subspan(ip_bytes);
  put(tcp, 0, 2, content.from.port);
  put(tcp, 2, 2, content.to.port);
  put(tcp, 4, 4, segment.sequence);
  put(tcp, 8, 4, segment.acknowledgement);
  put(tcp, 12, 1, tcp_header / 4 << 4);
  put(tcp, 13, 1,
      (segment.fin ? flag_fin : 0) | (segment.syn ? flag_syn : 0) | (segment.rst ? flag_rst : 0) |
          (segment.push ? flag_push : 0) | (segment.ack ? flag_ack : 0));
  put(tcp, 14, 2, segment.window);
  if (segment.most_payload)
    put(tcp, tcp_bytes, 4, option_most_payload << 24 | 4 << 16 | *segment.most_payload);
  std::copy(segment.payload.begin(), segment.payload.end(), tcp.subspan(tcp_header).begin());
  put(tcp, tcp_checksum_offset, 2, segment_checksum(packet, tcp));
  return frame.size();
}

}  // namespace hum::mmds
