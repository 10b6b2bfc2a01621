// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/route.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/hum/guest/dhcp.h"
#include "tools/hum/guest/init.h"

// The network of a guest whose init is ours. Each Ethernet interface has a process that gets it an address by
// DHCP and keeps that. The kernel takes addresses of IPv6 from router advertisements by itself.

static int first_address = -1;  // readable when an interface has got one

// --- One interface ---

static const char* interface_name;
static int control = -1;  // any socket, for requests

static struct ifreq request_for(void) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface_name);
  return request;
}

static void set_address_of(struct sockaddr* place, uint32_t address) {
  const struct sockaddr_in value = {.sin_family = AF_INET, .sin_addr.s_addr = address};
  memcpy(place, &value, sizeof value);
}

static void set_interface_address(unsigned long what, uint32_t address) {
  struct ifreq request = request_for();
  set_address_of(&request.ifr_addr, address);
  ioctl(control, what, &request);
}

static void add_route(uint32_t destination, uint32_t mask, uint32_t gateway) {
  char name[IFNAMSIZ];
  snprintf(name, sizeof name, "%s", interface_name);
  struct rtentry route = {.rt_flags = RTF_UP, .rt_dev = name};
  if (gateway != 0) route.rt_flags |= RTF_GATEWAY;
  if (mask == UINT32_MAX) route.rt_flags |= RTF_HOST;
  set_address_of(&route.rt_dst, destination);
  set_address_of(&route.rt_genmask, mask);
  set_address_of(&route.rt_gateway, gateway);
  ioctl(control, SIOCADDRT, &route);
}

// Makes the folders that a path is in.
static void make_folders(char* path) {
  for (char* at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
    *at = '\0';
    mkdir(path, 0755);
    *at = '/';
  }
}

// A disk's own file stays as it is, below a mount. A link of it that leads to a place below /run, which is
// ours, gets what it leads to; where there is no file, it becomes a link.
static void install_name_servers(const char* own, const char* usual) {
  if (root_is_disk && mount(own, usual, NULL, MS_BIND, NULL) == 0) return;
  char target[256];
  const ssize_t size = readlink(usual, target, sizeof target - 1);
  if (size <= 0) {
    (void)!symlink(own, usual);
    return;
  }
  target[size] = '\0';
  char* path = strncmp(target, "../run/", 7) == 0 ? target + 2 : target;
  if (strncmp(path, "/run/", 5) != 0) return;
  make_folders(path);
  (void)!symlink(own, path);
}

// The first interface that knows name servers names them.
static void name_servers(const uint32_t servers[dhcp_name_servers]) {
  static const char own[] = "/run/hum.resolv.conf";
  static const char usual[] = "/etc/resolv.conf";
  if (servers[0] == 0) return;
  int file = open(own, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) return;
  for (int i = 0; i < dhcp_name_servers && servers[i] != 0; ++i) {
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &servers[i], text, sizeof text);
    dprintf(file, "nameserver %s\n", text);
  }
  close(file);
  install_name_servers(own, usual);
}

static void use(const struct dhcp_lease* lease) {
  set_interface_address(SIOCSIFADDR, lease->address);
  if (lease->mask != 0) set_interface_address(SIOCSIFNETMASK, lease->mask);
  if (lease->router != 0) {
    if (((lease->router ^ lease->address) & lease->mask) != 0) add_route(lease->router, UINT32_MAX, 0);
    add_route(0, 0, lease->router);
  }
  name_servers(lease->name_servers);
}

// An answer of that kind; false after the milliseconds, or when the server says no.
static bool hear(int packets, const struct dhcp_client* client, int kind, int milliseconds,
                 struct dhcp_lease* lease) {
  const long long end = now() + milliseconds;
  for (long long left = milliseconds; left > 0; left = end - now()) {
    struct pollfd status = {.fd = packets, .events = POLLIN};
    if (poll(&status, 1, (int)left) <= 0) continue;
    unsigned char packet[2048];
    const ssize_t size = recv(packets, packet, sizeof packet, MSG_DONTWAIT);
    const int got = size > 0 ? dhcp_read(client, packet, (size_t)size, lease) : 0;
    if (got == kind && lease->address != 0) return true;
    if (got == dhcp_nak) return false;
  }
  return false;
}

static bool get_lease(int packets, const struct dhcp_client* client, int milliseconds,
                      struct dhcp_lease* lease) {
  const struct sockaddr_ll everybody = {.sll_family = AF_PACKET,
                                        .sll_protocol = htons(ETHERTYPE_IP),
                                        .sll_ifindex = (int)if_nametoindex(interface_name),
                                        .sll_halen = ETH_ALEN,
                                        .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  unsigned char packet[dhcp_packet_bytes];
  struct dhcp_lease offer;
  size_t size = dhcp_write(client, NULL, packet);
  sendto(packets, packet, size, 0, (const struct sockaddr*)&everybody, sizeof everybody);
  if (!hear(packets, client, dhcp_offer, milliseconds, &offer)) return false;
  size = dhcp_write(client, &offer, packet);
  sendto(packets, packet, size, 0, (const struct sockaddr*)&everybody, sizeof everybody);
  return hear(packets, client, dhcp_ack, milliseconds, lease);
}

// A socket for packets of the interface; it hears all of them, so it is open only as long as it is needed.
static int open_packets(void) {
  int packets = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETHERTYPE_IP));
  const struct sockaddr_ll here = {.sll_family = AF_PACKET,
                                   .sll_protocol = htons(ETHERTYPE_IP),
                                   .sll_ifindex = (int)if_nametoindex(interface_name)};
  if (packets < 0 || bind(packets, (const struct sockaddr*)&here, sizeof here) != 0) _exit(1);
  return packets;
}

static void sleep_for(long long milliseconds) {
  const struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
  if (milliseconds > 0) nanosleep(&time, NULL);
}

// Somebody else has given it one, which is to stay.
static bool has_foreign_address(uint32_t own) {
  struct ifreq request = request_for();
  if (ioctl(control, SIOCGIFADDR, &request) != 0) return false;
  struct sockaddr_in address;
  memcpy(&address, &request.ifr_addr, sizeof address);
  return address.sin_addr.s_addr != own;
}

noreturn static void serve_interface(const char* name, int got_one) {
  interface_name = name;
  control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = request_for();
  if (ioctl(control, SIOCGIFHWADDR, &request) != 0) _exit(1);
  struct dhcp_client client;
  memcpy(client.mac, request.ifr_hwaddr.sa_data, sizeof client.mac);
  client.transaction = (uint32_t)now();
  getrandom(&client.transaction, sizeof client.transaction, GRND_NONBLOCK);
  struct dhcp_lease lease;
  uint32_t own = 0;
  int patience = 50;  // milliseconds; the first packets may be lost while the link comes up
  for (;;) {
    const long long begin = now();
    const int packets = open_packets();
    const bool got = get_lease(packets, &client, patience, &lease);
    close(packets);
    if (has_foreign_address(own)) _exit(0);
    if (!got) {
      sleep_for(begin + patience - now());  // a server that says no at once is not asked at once
      if (patience < 60000) patience *= 2;
      continue;
    }
    own = lease.address;
    use(&lease);
    (void)!write(got_one, "", 1);
    if (lease.seconds == 0 || lease.seconds == dhcp_for_ever) _exit(0);
    sleep_for((lease.seconds / 2 + 1LL) * 1000);
  }
}

// --- All of them ---

static bool is_ethernet(const char* name) {
  char path[300];
  size_t size = 0;
  snprintf(path, sizeof path, "/sys/class/net/%s/type", name);
  char* type = read_file(path, &size);
  const bool answer = type != NULL && strcmp(type, "1\n") == 0;
  free(type);
  return answer;
}

// A lasting address of IPv6 that reaches further than its link.
static bool has_ipv6(void) {
  size_t size = 0;
  char* const table = read_file("/proc/net/if_inet6", &size);
  char* rest = table;
  char* line = NULL;
  bool found = false;
  while (rest != NULL && (line = strsep(&rest, "\n")) != NULL) {
    unsigned scope = 0;
    unsigned flags = 0;
    if (sscanf(line, "%*s %*x %*x %x %x", &scope, &flags) != 2) continue;
    found |= scope == 0 && (flags & 0x40) == 0;  // global, and not tentative
  }
  free(table);
  return found;
}

void start_network(void) {
  int ends[2];
  DIR* interfaces = opendir("/sys/class/net");
  if (interfaces == NULL || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  first_address = ends[0];
  struct dirent* entry = NULL;
  while ((entry = readdir(interfaces)) != NULL) {
    if (!is_ethernet(entry->d_name)) continue;
    raise_interface(entry->d_name);
    if (fork() == 0) serve_interface(entry->d_name, ends[1]);
  }
  closedir(interfaces);
  close(ends[1]);
}

void await_network(int patience) {
  const long long end = now() + patience;
  struct pollfd status = {.fd = first_address, .events = POLLIN};
  for (long long left = patience; left > 0 && first_address >= 0; left = end - now())
    if (poll(&status, 1, left < 50 ? (int)left : 50) != 0 || has_ipv6()) return;
}
