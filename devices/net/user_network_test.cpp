// SPDX-License-Identifier: Apache-2.0
// UserBackend with the passt of this host, in a network namespace of its own.
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "devices/net/passt_socket_backend.h"
#include "devices/net/passt_testing.h"
#include "devices/net/tap_testing.h"
#include "devices/net/user_backend.h"
#include "devices/net/user_host.h"
#include "devices/virtio_testing.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Bytes = std::vector<std::byte>;
using testing::comes_true;
using testing::config_error_of;
using testing::contains;
using testing::in_own_network;
using testing::KeptLog;

bool run(const std::string& commands) {
  return std::system(("{ " + commands + "; } 2>/dev/null").c_str()) == 0;
}

// A host with the address 10.9.0.2, the gateway 10.9.0.1, which is not there, and 10.77.0.1 as one more
// address of its own.
constexpr const char* make_host =
    "ip link set lo up && ip link add eth0 type veth peer name peer0 && ip link set eth0 up && "
    "ip link set peer0 up && ip address add 10.9.0.2/24 dev eth0 && ip address add 10.77.0.1/32 dev lo && "
    "ip route add default via 10.9.0.1 dev eth0";

// Runs work on that host.
template <class Work>
void on_a_host(Work&& work) {
  if (find_passt().empty()) {
    WARN("skipped: passt is not installed");
    return;
  }
  in_own_network([&] {
    if (run(make_host)) return work();
    WARN("skipped: interfaces cannot be made (ip, of the package iproute2, and veth)");
  });
}

// The passt that this process has started.
pid_t running_passt() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream children(task.path() / "children");
    for (pid_t child = 0; children >> child;) {
      std::string name;
      std::ifstream("/proc/" + std::to_string(child) + "/comm") >> name;
      if (name.starts_with("passt")) return child;
    }
  }
  return -1;
}

void put(Bytes& bytes, std::size_t at, std::size_t size, std::uint64_t value) {
  store_be(std::span(bytes).subspan(at, size), value);
}
std::uint64_t get(const Bytes& bytes, std::size_t at, std::size_t size) {
  return at + size <= bytes.size() ? load_be(std::span(bytes).subspan(at, size)) : 0;
}

constexpr std::uint64_t guest_mac = 0x525400123456;
constexpr std::uint32_t guest_address = 0x0a090002;  // the host's, as passt does
constexpr std::uint32_t gateway = 0x0a090001;
constexpr std::uint32_t other_address = 0x0a4d0001;
constexpr std::uint32_t everybody = 0xffffffff;
constexpr unsigned tcp = 6;
constexpr unsigned udp = 17;

Bytes ip_frame(std::uint32_t source, std::uint32_t destination, unsigned protocol, const Bytes& payload) {
  Bytes frame(34);
  put(frame, 0, 6, 0xffffffffffff);
  put(frame, 6, 6, guest_mac);
  put(frame, 12, 2, 0x0800);
  put(frame, 14, 1, 0x45);
  put(frame, 16, 2, 20 + payload.size());
  put(frame, 22, 1, 64);
  put(frame, 23, 1, protocol);
  put(frame, 26, 4, source);
  put(frame, 30, 4, destination);
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

Bytes udp_frame(std::uint32_t source, std::uint32_t destination, unsigned from, unsigned to,
                const Bytes& data) {
  Bytes payload(8);
  put(payload, 0, 2, from);
  put(payload, 2, 2, to);
  put(payload, 4, 2, 8 + data.size());
  payload.insert(payload.end(), data.begin(), data.end());
  return ip_frame(source, destination, udp, payload);
}

Bytes syn_frame(std::uint32_t destination, unsigned port) {
  Bytes payload(20);
  put(payload, 0, 2, 40000);
  put(payload, 2, 2, port);
  put(payload, 4, 4, 1000);
  put(payload, 12, 2, 0x5002);
  put(payload, 14, 2, 65535);
  return ip_frame(guest_address, destination, tcp, payload);
}

Bytes arp_frame() {
  Bytes frame(42);
  put(frame, 0, 6, 0xffffffffffff);
  put(frame, 6, 6, guest_mac);
  put(frame, 12, 8, 0x0806000108000604);
  put(frame, 20, 2, 1);
  put(frame, 22, 6, guest_mac);
  put(frame, 28, 4, guest_address);
  put(frame, 38, 4, gateway);
  return frame;
}

// The guest's side of the network, by hand.
class Guest {
 public:
  explicit Guest(const std::string& ports = {}) : backend(settings(ports), log.log) { backend.settle(); }

  FrameEndpoint::State send(const Bytes& frame) {
    Bytes whole(12);
    whole.insert(whole.end(), frame.begin(), frame.end());
    const iovec part{whole.data(), whole.size()};
    return backend.endpoint(0).send({&part, 1}).state;
  }
  // The next frame that is wanted; empty: none in that time.
  Bytes receive(const std::function<bool(const Bytes&)>& wanted, int milliseconds = 20000) {
    Bytes buffer(70000);
    const iovec part{buffer.data(), buffer.size()};
    for (pollfd entry{backend.endpoint(0).fd(), POLLIN, 0}; ::poll(&entry, 1, milliseconds) == 1;)
      for (auto got = backend.endpoint(0).receive({&part, 1}); got.state == FrameEndpoint::State::moved;
           got = backend.endpoint(0).receive({&part, 1})) {
        const Bytes frame(buffer.begin() + 12, buffer.begin() + static_cast<std::ptrdiff_t>(got.bytes));
        if (wanted(frame)) return frame;
      }
    return {};
  }
  Bytes receive(unsigned protocol, unsigned to, int milliseconds = 20000) {
    return receive(
        [&](const Bytes& frame) {
          return get(frame, 12, 2) == 0x0800 && get(frame, 23, 1) == protocol && get(frame, 36, 2) == to;
        },
        milliseconds);
  }
  bool hears_arp() {
    send(arp_frame());
    return !receive([](const Bytes& frame) { return get(frame, 12, 2) == 0x0806; }).empty();
  }

  KeptLog log;
  UserBackend backend;

 private:
  static UserSettings settings(const std::string& ports) {
    UserSettings settings;
    settings.mtu = 9000;
    if (!ports.empty()) settings.ports = parse_published_ports("net.publish", ports);
    return settings;
  }
};

sockaddr_in place_of(std::uint32_t address, unsigned port) {
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = htonl(address);
  place.sin_port = htons(static_cast<std::uint16_t>(port));
  return place;
}

Fd socket_at(int type, std::uint32_t address, unsigned port) {
  Fd socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  const sockaddr_in place = place_of(address, port);
  REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) == 0);
  if (type == SOCK_STREAM) REQUIRE(::listen(socket.get(), 5) == 0);
  return socket;
}

// Begins to connect, and does not wait for that.
Fd client_of(int type, std::uint32_t address, unsigned port) {
  Fd socket(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in place = place_of(address, port);
  const int refused = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place);
  REQUIRE((refused == 0 || errno == EINPROGRESS));
  return socket;
}

bool has_option(const Bytes& reply, unsigned code, std::uint64_t value, std::size_t size) {
  for (std::size_t at = 14 + 20 + 8 + 240; at + 1 < reply.size() && get(reply, at, 1) != 255;
       at += 2 + get(reply, at + 1, 1))
    if (get(reply, at, 1) == code) return get(reply, at + 1, 1) == size && get(reply, at + 2, size) == value;
  return false;
}

}  // namespace

TEST_CASE("passt gives the guest the host's address, gateway and the interface's MTU") {
  on_a_host([] {
    Guest guest;
    CHECK(guest.hears_arp());
    Bytes discover(240);
    put(discover, 0, 4, 0x01010600);
    put(discover, 28, 6, guest_mac);
    put(discover, 236, 4, 0x63825363);
    const Bytes options = {std::byte{53}, std::byte{1}, std::byte{1}, std::byte{255}};
    discover.insert(discover.end(), options.begin(), options.end());
    CHECK(guest.send(udp_frame(0, everybody, 68, 67, discover)) == FrameEndpoint::State::moved);
    const Bytes offer = guest.receive(udp, 68);
    CHECK(get(offer, 42 + 16, 4) == guest_address);
    CHECK(has_option(offer, 3, gateway, 4));
    CHECK(has_option(offer, 26, 9000, 2));
  });
}

TEST_CASE("a passt that somebody else has started answers at its socket") {
  on_a_host([] {
    const testing::TemporaryFolder folder;
    std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
    // It ends with its only client.
    REQUIRE(run("passt --quiet --one-off --no-map-gw --socket " + (folder / "passt")));
    const KeptLog log;
    PasstSocketBackend backend({.what = "net", .path = folder / "passt", .mtu = {}}, log.log);
    FrameEndpoint& endpoint = backend.endpoint(0);
    Bytes frame = arp_frame();
    frame.insert(frame.begin(), 12, std::byte{0});
    const iovec sent{frame.data(), frame.size()};
    CHECK(endpoint.send({&sent, 1}).state == FrameEndpoint::State::moved);
    Bytes buffer(70000);
    const iovec room{buffer.data(), buffer.size()};
    bool heard = false;
    for (pollfd entry{endpoint.fd(), POLLIN, 0}; !heard && ::poll(&entry, 1, 20000) == 1;)
      heard =
          endpoint.receive({&room, 1}).state == FrameEndpoint::State::moved && get(buffer, 24, 2) == 0x0806;
    CHECK(heard);
  });
}

TEST_CASE("a guest reaches what the host reaches, but not the host's loopback") {
  on_a_host([] {
    const Fd server = socket_at(SOCK_STREAM, other_address, 7001);
    const Fd own_server = socket_at(SOCK_STREAM, INADDR_LOOPBACK, 7002);
    const Fd datagrams = socket_at(SOCK_DGRAM, other_address, 7003);
    Guest guest;
    guest.send(syn_frame(other_address, 7001));
    CHECK(get(guest.receive(tcp, 40000), 47, 1) == 0x12);
    guest.send(udp_frame(guest_address, other_address, 5000, 7003, Bytes(5, std::byte{'x'})));
    std::array<char, 10> text{};
    CHECK(::recv(datagrams.get(), text.data(), text.size(), 0) == 5);

    CHECK(guest.send(syn_frame(INADDR_LOOPBACK, 7002)) == FrameEndpoint::State::lost);
    guest.send(syn_frame(gateway, 7002));
    CHECK(get(guest.receive(tcp, 40000, 300), 47, 1) != 0x12);
  });
}

TEST_CASE("published ports reach the guest, TCP and UDP, and no other port is open") {
  on_a_host([] {
    Guest guest("7080:80+127.0.0.1:7053:53/udp");
    CHECK(guest.hears_arp());
    const Fd datagrams = client_of(SOCK_DGRAM, INADDR_LOOPBACK, 7053);
    CHECK(::send(datagrams.get(), "hello", 5, 0) == 5);
    CHECK(guest.receive(udp, 53).size() == 14 + 20 + 8 + 5);
    const Fd client = client_of(SOCK_STREAM, other_address, 7080);
    CHECK(get(guest.receive(tcp, 80), 47, 1) == 0x02);
    for (const unsigned closed : {80u, 7053u}) CHECK(socket_at(SOCK_STREAM, INADDR_LOOPBACK, closed));
    CHECK(socket_at(SOCK_DGRAM, other_address, 7080));
  });
}

TEST_CASE("a passt that was killed is replaced, published ports included") {
  on_a_host([] {
    Guest guest("7080:80");
    std::atomic<int> changes = 0;
    guest.backend.on_link_change([&] { ++changes; });
    CHECK(guest.hears_arp());
    const pid_t passt = running_passt();
    REQUIRE(passt > 0);
    REQUIRE(::kill(passt, SIGKILL) == 0);
    CHECK(comes_true([&] { return changes == 2; }));
    CHECK(guest.backend.link());
    CHECK(guest.hears_arp());
    const Fd client = client_of(SOCK_STREAM, other_address, 7080);
    CHECK(get(guest.receive(tcp, 80), 47, 1) == 0x02);
    guest.backend.on_link_change({});
  });
}

TEST_CASE("passt's own words are in the error where it refuses") {
  on_a_host([] {
    REQUIRE(run("ip route replace default dev lo"));
    CHECK(contains(config_error_of([] { const Guest guest; }), "passt did not start: "));
  });
}

TEST_CASE("a host without a route is told before passt is started") {
  on_a_host([] {
    CHECK_FALSE(user_network_obstacle("net"));
    REQUIRE(run("ip route del default"));
    CHECK(contains(config_error_of([] { const Guest guest; }), "no default route"));
  });
}

}  // namespace hum
