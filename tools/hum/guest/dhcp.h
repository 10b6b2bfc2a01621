// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Messages of a DHCP client (RFC 2131, options RFC 2132), as IPv4 packets: an interface without an address
// sends and receives nothing else. Bytes in and out, no system call. Addresses are in network byte order.

enum { dhcp_discover = 1, dhcp_offer = 2, dhcp_request = 3, dhcp_ack = 5, dhcp_nak = 6 };
enum { dhcp_packet_bytes = 576, dhcp_name_servers = 3 };
static const uint32_t dhcp_for_ever = UINT32_MAX;  // of seconds

struct dhcp_client {
  unsigned char mac[6];
  uint32_t transaction;
};

// What a server offers or has confirmed. Zero: it did not say.
struct dhcp_lease {
  uint32_t address;
  uint32_t mask;
  uint32_t router;
  uint32_t server;
  uint32_t seconds;
  uint32_t name_servers[dhcp_name_servers];
};

#ifdef __cplusplus
extern "C" {
#endif

// Writes a discover, or a request for what was offered; returns its size, at most dhcp_packet_bytes.
size_t dhcp_write(const struct dhcp_client* client, const struct dhcp_lease* offer, unsigned char* packet);

// The kind of message if the packet is one for this client, with *lease filled; otherwise 0.
int dhcp_read(const struct dhcp_client* client, const unsigned char* packet, size_t size,
              struct dhcp_lease* lease);

#ifdef __cplusplus
}
#endif
