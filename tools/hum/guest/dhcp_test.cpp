// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/dhcp.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using Packet = std::vector<unsigned char>;

constexpr std::size_t options_at = 20 + 8 + 240;
const dhcp_client client = {{0x52, 0x54, 0, 0x12, 0x34, 0x56}, 0x11223344};

std::uint32_t address(const char* text) {
  in_addr parsed{};
  REQUIRE(::inet_pton(AF_INET, text, &parsed) == 1);
  return parsed.s_addr;
}

Packet message(const dhcp_lease* offer) {
  Packet packet(dhcp_packet_bytes);
  packet.resize(dhcp_write(&client, offer, packet.data()));
  return packet;
}

// What a server answers: our own message, turned round, with these options.
Packet answer(const Packet& options, std::size_t more_header = 0) {
  Packet packet = message(nullptr);
  packet.resize(options_at);
  packet[20] = packet[22] = 0;
  packet[21] = 67;
  packet[23] = 68;
  packet[28] = 2;
  const std::uint32_t offered = address("10.9.0.2");
  std::memcpy(packet.data() + 44, &offered, 4);
  packet.insert(packet.end(), options.begin(), options.end());
  packet.insert(packet.begin() + 20, more_header, 1);
  packet[0] = static_cast<unsigned char>(0x45 + more_header / 4);
  packet[2] = static_cast<unsigned char>(packet.size() >> 8);
  packet[3] = static_cast<unsigned char>(packet.size());
  return packet;
}

// From a copy that ends where its page of memory does, so that a sanitizer sees every byte too many.
int read(const Packet& packet, dhcp_lease& lease, std::size_t size = SIZE_MAX) {
  const std::size_t count = std::min(size, packet.size());
  const auto copy = std::make_unique<unsigned char[]>(count);
  std::copy_n(packet.begin(), count, copy.get());
  return dhcp_read(&client, copy.get(), count, &lease);
}

const Packet offer_options = {53, 1, dhcp_offer, 1, 4,  255, 255, 255, 0,  0, 3, 4, 10,
                              9,  0, 1,          6, 8,  10,  9,   0,   53, 1, 1, 1, 1,
                              51, 4, 0,          1, 81, 128, 54,  4,   10, 9, 0, 1, 255};

unsigned checksum(const Packet& packet) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < 20; i += 2) sum += packet[i] * 256u + packet[i + 1];
  return (sum & 0xffff) + (sum >> 16);
}

}  // namespace

TEST_CASE("a discover goes from nobody to everybody, with a right header and the interface's address") {
  const Packet packet = message(nullptr);
  CHECK(packet.size() >= 20 + 8 + 300);
  CHECK(packet.size() <= dhcp_packet_bytes);
  CHECK(packet[2] * 256u + packet[3] == packet.size());
  CHECK(packet[24] * 256u + packet[25] == packet.size() - 20);
  CHECK(checksum(packet) == 0xffff);
  CHECK(std::memcmp(packet.data() + 12, "\0\0\0\0\xff\xff\xff\xff\0\x44\0\x43", 12) == 0);
  CHECK(std::memcmp(packet.data() + 20 + 8 + 28, client.mac, 6) == 0);
  CHECK(std::memcmp(packet.data() + options_at, "\x35\x01\x01", 3) == 0);
}

TEST_CASE("a request names the address and the server that offered it") {
  dhcp_lease offer{};
  offer.address = address("10.9.0.2");
  offer.server = address("10.9.0.1");
  const Packet packet = message(&offer);
  CHECK(checksum(packet) == 0xffff);
  CHECK(std::memcmp(packet.data() + options_at,
                    "\x35\x01\x03\x32\x04\x0a\x09\x00\x02\x36\x04\x0a\x09\x00\x01", 15) == 0);
}

TEST_CASE("an offer is read whole, also behind options of IPv4") {
  dhcp_lease lease{};
  REQUIRE(read(answer(offer_options, GENERATE(0u, 4u, 40u)), lease) == dhcp_offer);
  CHECK(lease.address == address("10.9.0.2"));
  CHECK(lease.mask == address("255.255.255.0"));
  CHECK(lease.router == address("10.9.0.1"));
  CHECK(lease.server == address("10.9.0.1"));
  CHECK(lease.seconds == 86400);
  CHECK(lease.name_servers[0] == address("10.9.0.53"));
  CHECK(lease.name_servers[1] == address("1.1.1.1"));
  CHECK(lease.name_servers[2] == 0);
}

TEST_CASE("more name servers than there is room for are left out, and a half address is none") {
  dhcp_lease lease{};
  CHECK(read(answer({53, 1, dhcp_ack, 6, 18, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 255}),
             lease) == dhcp_ack);
  CHECK(lease.name_servers[2] == address("3.0.0.0"));
  CHECK(read(answer({53, 1, dhcp_ack, 6, 6, 1, 0, 0, 0, 2, 0, 3, 3, 1, 2, 3, 255}), lease) == dhcp_ack);
  CHECK(lease.name_servers[0] == address("1.0.0.0"));
  CHECK(lease.name_servers[1] == 0);
  CHECK(lease.router == 0);
}

TEST_CASE("a packet that is cut off anywhere is none, and nothing behind its end is read") {
  dhcp_lease lease{};
  const Packet whole = answer(offer_options);
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK(read(whole, lease, size) == 0);
  for (std::size_t size = options_at; size < whole.size(); ++size) {
    Packet packet = whole;
    packet.resize(size);
    packet[2] = static_cast<unsigned char>(size >> 8);
    packet[3] = static_cast<unsigned char>(size);
    read(packet, lease);
  }
  CHECK(read(answer({53, 2, dhcp_ack}), lease) == 0);
  CHECK(read(answer({53}), lease) == 0);
  CHECK(read(answer({0, 0, 53, 1, dhcp_ack, 0}), lease) == dhcp_ack);
  CHECK(read(answer({1, 4, 255, 255, 255, 0, 255}), lease) == 0);
}

TEST_CASE("what is for somebody else, or is no answer of a DHCP server, is passed over") {
  dhcp_lease lease{};
  const Packet good = answer(offer_options);
  struct Change {
    std::size_t at;
    unsigned char value;
  };
  for (const auto& [at, value] :
       {Change{0, 0x65}, Change{0, 0x44}, Change{6, 0x20}, Change{7, 1}, Change{9, 6}, Change{21, 68},
        Change{23, 67}, Change{28, 1}, Change{32, 0}, Change{56, 0}, Change{264, 0}}) {
    Packet packet = good;
    packet[at] = value;
    CHECK(read(packet, lease) == 0);
  }
  Packet whole = good;
  whole[6] = 0x40;  // may not be fragmented: fine
  CHECK(read(whole, lease) == dhcp_offer);
}

}  // namespace hum
