// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/dhcp.h"

#include <string.h>

// Offsets: IPv4 header, UDP header, BOOTP fields, magic cookie, options.
enum {
  udp_at = 20,
  bootp_at = udp_at + 8,
  transaction_at = bootp_at + 4,
  flags_at = bootp_at + 10,
  offered_at = bootp_at + 16,
  mac_at = bootp_at + 28,
  cookie_at = bootp_at + 236,
  options_at = cookie_at + 4,
  least_bytes = bootp_at + 300,  // what old relays want

  protocol_udp = 17,
  server_port = 67,
  client_port = 68,
};

enum {
  option_pad = 0,
  option_mask = 1,
  option_router = 3,
  option_name_servers = 6,
  option_wanted_address = 50,
  option_seconds = 51,
  option_kind = 53,
  option_server = 54,
  option_wanted = 55,
  option_end = 255,
};

static const unsigned char cookie[4] = {0x63, 0x82, 0x53, 0x63};

static void put16(unsigned char* at, unsigned value) {
  at[0] = (unsigned char)(value >> 8);
  at[1] = (unsigned char)value;
}

static unsigned get16(const unsigned char* at) {
  return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get_address(const unsigned char* at) {
  uint32_t address = 0;
  memcpy(&address, at, sizeof address);
  return address;
}

// RFC 1071, over a header of 20 bytes.
static unsigned header_checksum(const unsigned char* header) {
  unsigned sum = 0;
  for (int i = 0; i < udp_at; i += 2) sum += get16(header + i);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

static unsigned char* put_option(unsigned char* at, int code, const void* value, size_t size) {
  at[0] = (unsigned char)code;
  at[1] = (unsigned char)size;
  memcpy(at + 2, value, size);
  return at + 2 + size;
}

size_t dhcp_write(const struct dhcp_client* client, const struct dhcp_lease* offer, unsigned char* packet) {
  memset(packet, 0, dhcp_packet_bytes);
  packet[bootp_at] = 1;      // a request
  packet[bootp_at + 1] = 1;  // Ethernet
  packet[bootp_at + 2] = sizeof client->mac;
  memcpy(packet + transaction_at, &client->transaction, sizeof client->transaction);
  packet[flags_at] = 0x80;  // the answer to everybody
  memcpy(packet + mac_at, client->mac, sizeof client->mac);
  memcpy(packet + cookie_at, cookie, sizeof cookie);

  static const unsigned char wanted[] = {option_mask, option_router, option_name_servers, option_seconds};
  const unsigned char kind = offer == NULL ? dhcp_discover : dhcp_request;
  unsigned char* end = put_option(packet + options_at, option_kind, &kind, sizeof kind);
  if (offer != NULL) {
    end = put_option(end, option_wanted_address, &offer->address, sizeof offer->address);
    end = put_option(end, option_server, &offer->server, sizeof offer->server);
  }
  end = put_option(end, option_wanted, wanted, sizeof wanted);
  *end++ = option_end;
  size_t size = (size_t)(end - packet);
  if (size < least_bytes) size = least_bytes;

  packet[0] = 0x45;
  put16(packet + 2, (unsigned)size);
  packet[8] = 64;  // hops
  packet[9] = protocol_udp;
  memset(packet + 16, 0xff, 4);  // to everybody, from nobody
  put16(packet + 10, header_checksum(packet));
  put16(packet + udp_at, client_port);
  put16(packet + udp_at + 2, server_port);
  put16(packet + udp_at + 4, (unsigned)(size - udp_at));  // no checksum: allowed for IPv4
  return size;
}

// One option of a message; size fits.
static void take_option(int code, const unsigned char* value, size_t size, int* kind,
                        struct dhcp_lease* lease) {
  if (code == option_kind && size == 1) *kind = value[0];
  if (size < 4) return;
  const uint32_t first = get_address(value);
  if (code == option_mask) lease->mask = first;
  if (code == option_router) lease->router = first;
  if (code == option_server) lease->server = first;
  if (code == option_seconds) lease->seconds = (uint32_t)get16(value) << 16 | get16(value + 2);
  if (code == option_name_servers) {
    for (size_t i = 0; i < dhcp_name_servers && 4 * i + 4 <= size; ++i)
      lease->name_servers[i] = get_address(value + 4 * i);
  }
}

int dhcp_read(const struct dhcp_client* client, const unsigned char* packet, size_t size,
              struct dhcp_lease* lease) {
  *lease = (struct dhcp_lease){.address = 0};
  if (size < udp_at || packet[0] >> 4 != 4 || packet[9] != protocol_udp) return 0;
  const size_t header = 4 * (size_t)(packet[0] & 15);
  const size_t whole = get16(packet + 2);
  if (header < udp_at || whole > size || (get16(packet + 6) & 0x3fff) != 0) return 0;  // or a fragment
  const size_t skipped = header - udp_at;                                              // IPv4's own options
  if (whole < skipped + options_at) return 0;
  const unsigned char* message = packet + skipped;
  const unsigned char* const end = packet + whole;
  if (get16(message + udp_at) != server_port || get16(message + udp_at + 2) != client_port ||
      message[bootp_at] != 2 || memcmp(message + transaction_at, &client->transaction, 4) != 0 ||
      memcmp(message + mac_at, client->mac, sizeof client->mac) != 0 ||
      memcmp(message + cookie_at, cookie, sizeof cookie) != 0) {
    return 0;
  }
  int kind = 0;
  lease->address = get_address(message + offered_at);
  for (const unsigned char* at = message + options_at; at < end && *at != option_end;) {
    if (*at == option_pad) {
      ++at;
      continue;
    }
    if (end - at < 2 || end - at - 2 < at[1]) return 0;
    take_option(at[0], at + 2, at[1], &kind, lease);
    at += 2 + at[1];
  }
  return kind;
}
