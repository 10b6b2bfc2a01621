// SPDX-License-Identifier: Apache-2.0
#include "devices/net/tap_backend.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <map>

#include "devices/net/tap_testing.h"
#include "devices/virtio_testing.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using State = FrameEndpoint::State;

const Log quiet;
constexpr int several = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;

std::string refusal(const TapSettings& settings) {
  return config_error_of([&] { const TapBackend tap(settings, quiet); });
}

// From now on this thread has no right over networks.
void drop_rights() {
  __user_cap_header_struct head{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> sets{};
  must(::syscall(SYS_capget, &head, sets.data()) == 0, "read its rights");
  sets[0].effective &= ~(1u << CAP_NET_ADMIN);
  must(::syscall(SYS_capset, &head, sets.data()) == 0, "drop a right");
}

// The first link after the namespace's own is 1 or more: of a name with this prefix there are so many.
unsigned links_named(const std::string& prefix) {
  unsigned count = 0;
  for (unsigned number = 0; number < 16; ++number)
    if (HostLink::find(prefix + std::to_string(number))) ++count;
  return count;
}

TEST_CASE("tap: a frame that goes into one tap of a bridge comes out of the other") {
  in_own_network([] {
    make_bridge("br");
    TapBackend one({.bridge = "br"}, quiet);
    TapBackend other({.bridge = "br"}, quiet);
    CHECK(one.kind() == "tap");
    CHECK(one.pairs() == 1);
    CHECK(one.link());
    const std::vector<std::byte> frame = test_frame(100);
    const auto sent = send_frame(one.endpoint(0), frame);
    CHECK(sent.state == State::moved);
    CHECK(sent.bytes == frame.size());
    const std::vector<std::byte> got = receive_frame(other.endpoint(0));
    REQUIRE(got.size() == frame.size());
    CHECK(std::equal(frame.begin() + sizeof(Header), frame.end(), got.begin() + sizeof(Header)));
    CHECK(header_of(got).flags == 0);
    CHECK(header_of(got).gso_type == gso_none);
  });
}

TEST_CASE("tap: a checksum is left to a guest that accepts that, and made for others") {
  in_own_network([] {
    make_bridge("br");
    TapBackend one({.bridge = "br"}, quiet);
    TapBackend other({.bridge = "br"}, quiet);
    REQUIRE((other.offloads() & (feature_csum | feature_guest_csum)) == (feature_csum | feature_guest_csum));
    send_frame(one.endpoint(0), tcp_frame(101, 0));
    std::vector<std::byte> got = receive_frame(other.endpoint(0));
    REQUIRE(got.size() == sizeof(Header) + 54 + 101);
    CHECK((header_of(got).flags & header_needs_csum) == 0);
    CHECK(tcp_checksum_is_right(got));

    other.set_offloads(feature_guest_csum);
    send_frame(one.endpoint(0), tcp_frame(101, 0));
    got = receive_frame(other.endpoint(0));
    REQUIRE(got.size() == sizeof(Header) + 54 + 101);
    CHECK((header_of(got).flags & header_needs_csum) == header_needs_csum);
    CHECK(header_of(got).csum_start == 34);
    CHECK(header_of(got).csum_offset == 16);
    CHECK_FALSE(tcp_checksum_is_right(got));

    other.set_offloads(0);
    send_frame(one.endpoint(0), tcp_frame(101, 0));
    got = receive_frame(other.endpoint(0));
    CHECK((header_of(got).flags & header_needs_csum) == 0);
    CHECK(tcp_checksum_is_right(got));
  });
}

TEST_CASE("tap: a segment that is too large for the line stays whole for a guest that accepts it") {
  in_own_network([] {
    make_bridge("br");
    TapBackend one({.bridge = "br"}, quiet);
    TapBackend other({.bridge = "br"}, quiet);
    other.set_offloads(feature_guest_csum | feature_guest_tso4);
    send_frame(one.endpoint(0), tcp_frame(3000, 1000));
    const std::vector<std::byte> whole = receive_frame(other.endpoint(0));
    REQUIRE(whole.size() == sizeof(Header) + 54 + 3000);
    CHECK(header_of(whole).gso_type == gso_tcp4);
    CHECK(header_of(whole).gso_size == 1000);

    // One without the checksum is nothing the kernel takes: nothing is set then.
    for (const std::uint64_t accepted : {std::uint64_t{0}, feature_guest_tso4, feature_guest_csum}) {
      other.set_offloads(accepted);
      send_frame(one.endpoint(0), tcp_frame(3000, 1000));
      for (int part = 0; part < 3; ++part)
        CHECK(receive_frame(other.endpoint(0)).size() == sizeof(Header) + 54 + 1000);
    }
  });
}

TEST_CASE("tap: every choice of offloads can be set") {
  in_own_network([] {
    make_tap("t0");
    TapBackend tap({.tap = "t0"}, quiet);
    const std::array bits = {feature_guest_csum, feature_guest_tso4, feature_guest_tso6, feature_guest_ecn,
                             feature_guest_ufo,  feature_guest_uso4, feature_guest_uso6};
    for (unsigned choice = 0; choice < 1u << bits.size(); ++choice) {
      std::uint64_t accepted = 0;
      for (std::size_t bit = 0; bit < bits.size(); ++bit)
        if (choice >> bit & 1) accepted |= bits[bit];
      CHECK_NOTHROW(tap.set_offloads(accepted));
    }
    CHECK((tap.offloads() & ~(guest_offloads | host_offloads)) == 0);
    CHECK(((tap.offloads() & feature_guest_uso4) != 0) == ((tap.offloads() & feature_host_uso) != 0));
    CHECK((tap.offloads() & (feature_guest_ufo | feature_host_ufo)) == 0);
  });
}

TEST_CASE("tap: a frame that is longer than its buffers says so") {
  in_own_network([] {
    make_bridge("br");
    TapBackend one({.bridge = "br"}, quiet);
    TapBackend other({.bridge = "br"}, quiet);
    send_frame(one.endpoint(0), test_frame(100));
    REQUIRE_FALSE(receive_frame(other.endpoint(0)).empty());  // the bridge carries frames from now on
    const std::size_t size = test_frame(100).size();
    for (const std::size_t room : {size, size - 1}) {
      FrameEndpoint::Transfer got;
      std::vector<std::byte> bytes(room);
      const std::array<iovec, 2> parts = {{{bytes.data(), 20}, {bytes.data() + 20, room - 20}}};
      send_frame(one.endpoint(0), test_frame(100));
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      do {  // the host has frames of its own
        REQUIRE(std::chrono::steady_clock::now() < end);
        got = other.endpoint(0).receive(parts);
      } while (got.state == State::wait || std::memcmp(bytes.data() + 18, test_sender.bytes.data(), 6) != 0);
      CHECK(got.state == State::moved);
      CHECK(got.bytes == size);
      CHECK((got.bytes > room) == (room < size));
      CHECK(
          std::equal(bytes.begin() + sizeof(Header), bytes.end(), test_frame(100).begin() + sizeof(Header)));
    }
  });
}

TEST_CASE("tap: what becomes of a frame follows from the kernel's answer") {
  in_own_network([] {
    make_tap("t0");
    TapBackend tap({.tap = "t0"}, quiet);
    FrameEndpoint& endpoint = tap.endpoint(0);
    const auto down = send_frame(endpoint, test_frame(100));
    CHECK(down.state == State::lost);
    CHECK(down.error == EIO);
    link_named("t0").set_up();
    CHECK(send_frame(endpoint, test_frame(100)).state == State::moved);

    std::vector<std::byte> lie = test_frame(100);
    lie[1] = std::byte{0x77};  // a kind of segment that there is not
    const auto refused = send_frame(endpoint, lie);
    CHECK(refused.state == State::lost);
    CHECK(refused.error == EINVAL);
    CHECK(send_frame(endpoint, test_frame(100)).state == State::moved);

    CHECK(receive_frame(endpoint, std::chrono::milliseconds(0)).empty());
    std::array<std::byte, 2000> bytes;
    const iovec room{bytes.data(), bytes.size()};
    while (endpoint.receive({&room, 1}).state == State::moved) {
    }
    CHECK(endpoint.receive({&room, 1}).state == State::wait);

    must(std::system("ip link del t0") == 0, "delete a tap");
    CHECK(send_frame(endpoint, test_frame(100)).state == State::closed);
    CHECK(endpoint.receive({&room, 1}).state == State::closed);
  });
}

TEST_CASE("tap: frames come to the queues that are in use, and to no others") {
  in_own_network([] {
    make_bridge("br");
    TapBackend one({.bridge = "br"}, quiet);
    TapBackend other({.bridge = "br", .pairs = 4}, quiet);
    REQUIRE(other.pairs() == 4);
    REQUIRE(other.fds().size() == 4);
    send_frame(one.endpoint(0), test_frame(100));
    REQUIRE_FALSE(receive_frame(other.endpoint(0)).empty());
    const auto got_by_queue = [&] {
      std::map<std::uint16_t, unsigned> got;
      for (std::uint16_t flow = 0; flow < 64; ++flow) {
        std::vector<std::byte> frame = tcp_frame(10, 0);
        frame[sizeof(Header) + 35] = static_cast<std::byte>(flow);  // the port it comes from
        send_frame(one.endpoint(0), frame);
      }
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      for (unsigned all = 0; all < 64 && std::chrono::steady_clock::now() < end;)
        for (std::uint16_t queue = 0; queue < 4; ++queue)
          while (!receive_frame(other.endpoint(queue), std::chrono::milliseconds(0)).empty()) {
            ++got[queue];
            ++all;
          }
      return got;
    };
    std::map<std::uint16_t, unsigned> got = got_by_queue();
    CHECK(got.size() == 1);
    CHECK(got[0] == 64);
    other.use_pairs(4);
    got = got_by_queue();
    CHECK(got.size() == 4);
    CHECK(got[0] + got[1] + got[2] + got[3] == 64);
    other.use_pairs(2);
    got = got_by_queue();
    CHECK(got.size() == 2);
    CHECK(got[0] + got[1] == 64);
    pollfd unused{.fd = other.endpoint(2).fd(), .events = POLLIN, .revents = 0};
    CHECK(::poll(&unused, 1, 0) == 0);
    other.use_pairs(4);
    other.use_pairs(1);
    CHECK(got_by_queue()[0] == 64);
  });
}

TEST_CASE("tap: one that exists is used and stays") {
  in_own_network([] {
    make_tap("t0");
    make_tap("t1", several);
    link_named("t0").set_mtu(9000);
    std::string logged;
    const Log log([&](LogLevel, std::string_view text) { logged += text; });
    {
      const TapBackend one({.tap = "t0"}, log);
      CHECK(one.mtu() == 9000);
      CHECK_FALSE(one.address());
      CHECK(logged == "net: the interface t0 is down and carries nothing; ip link set t0 up");
      const TapBackend other({.tap = "t1", .pairs = 2}, quiet);
      CHECK(other.pairs() == 2);
      link_named("t1").set_up();
    }
    CHECK(HostLink::find("t0"));
    logged.clear();
    const TapBackend again({.tap = "t1", .pairs = 2, .mtu = std::uint16_t{1400}}, log);
    CHECK(logged.empty());
    CHECK(again.mtu() == 1400);
  });
}

TEST_CASE("tap: names that will not do are refused with what will") {
  in_own_network([] {
    make_tap("t0");
    make_tap("many", several);
    make_tap("theirs", IFF_TAP | IFF_NO_PI, 1);
    make_tap("tun0", IFF_TUN | IFF_NO_PI);
    make_bridge("br");
    CHECK(refusal({.tap = "t1"}) ==
          "net.tap 't1': there is no such interface; make it: ip tuntap add t1 mode tap user USER; or give "
          "bridge=NAME, which makes one by itself");
    CHECK(contains(refusal({.tap = "a-name-of-16-bytes"}), "there is no such interface"));
    CHECK(contains(refusal({.tap = "t%d"}), "there is no such interface"));
    CHECK(refusal({.tap = "tun0"}) ==
          "net.tap 'tun0': is a tun interface, which carries no Ethernet frames; make a tap: ip tuntap add "
          "NAME mode tap user USER");
    CHECK(refusal({.tap = "br"}) == "net.tap 'br': is a bridge; give bridge=br, which makes a tap for it");
    CHECK(refusal({.tap = "lo"}) ==
          "net.tap 'lo': is no tap; make one: ip tuntap add NAME mode tap user USER");
    CHECK(
        refusal({.what = "net#2", .tap = "t0", .pairs = 2}) ==
        "net#2.tap 't0': has one queue only, 2 pairs were asked for; make it with several: ip tuntap add t0 "
        "mode tap multi_queue user USER; or give queues=1");
    CHECK(refusal({.tap = "many"}) ==
          "net.tap 'many': was made for several queues; give queues=2 or more, or make it without "
          "multi_queue: ip tuntap add many mode tap user USER");
    CHECK(refusal({.tap = "t0", .mtu = std::uint16_t{1501}}) ==
          "net.mtu '1501': the interface t0 carries 1500; give at most that, or do: ip link set t0 mtu 1501");
    const TapBackend first({.tap = "t0"}, quiet);
    CHECK(refusal({.tap = "t0"}) ==
          "net.tap 't0': is in use by another process; end that, or make one tap for each virtual machine");
    CHECK(refusal({.bridge = "br1"}) ==
          "net.bridge 'br1': there is no such interface; make it: ip link add br1 type bridge, ip link set "
          "br1 up");
    CHECK(refusal({.bridge = "t0"}) ==
          "net.bridge 't0': is no bridge; give the name of one (ip link show type bridge), or tap=NAME");
    CHECK(contains(refusal({.bridge = "br", .mtu = std::uint16_t{9000}}), "net.mtu '9000'"));
    CHECK(contains(refusal({.macvtap = "mv0"}), "net.macvtap 'mv0': there is no such interface"));
    CHECK(
        contains(refusal({.macvtap = "br"}), "net.macvtap 'br': is no macvtap interface; make one: ip link"));
    drop_rights();
    CHECK(refusal({.tap = "theirs"}) ==
          "net.tap 'theirs': belongs to another user; make it for this one: ip tuntap add theirs mode tap "
          "user USER");
    CHECK(refusal({.bridge = "br"}) ==
          "net.bridge 'br': this user may not make a tap for it (CAP_NET_ADMIN); have one made: ip tuntap "
          "add NAME mode tap user USER, ip link set NAME master br up; and give tap=NAME");
  });
}

TEST_CASE("tap: queues that are handed in are checked, used and left to their owner") {
  in_own_network([] {
    make_bridge("br");
    const Fd only = open_queue("t0");
    const Fd first = open_queue("t1", several | IFF_VNET_HDR);
    const Fd second = open_queue("t1", several | IFF_VNET_HDR);
    link_named("t0").set_mtu(1400);
    link_named("br").add_port(link_named("t0"));
    link_named("t0").set_up();
    {
      TapBackend tap({.fds = {only.get()}}, quiet);
      CHECK(tap.mtu() == 1400);
      CHECK(tap.fds().front() != only.get());
      TapBackend other({.bridge = "br"}, quiet);
      send_frame(tap.endpoint(0), test_frame(60));
      CHECK(receive_frame(other.endpoint(0)).size() == test_frame(60).size());
    }
    CHECK(HostLink::find("t0"));
    // What one has switched off is on for the next.
    for (int round = 0; round < 2; ++round)
      CHECK(TapBackend({.fds = {first.get(), second.get()}}, quiet).pairs() == 2);
    const auto of = [](int fd) { return "net.tap-fd '" + std::to_string(fd) + "': "; };
    CHECK(refusal({.fds = {only.get()}, .pairs = 2}) ==
          "net.queues '2': tap-fd gives 1 queue; give as many descriptors as queues, or leave queues out");
    CHECK(refusal({.fds = {only.get(), only.get()}}) ==
          of(only.get()) + "is the only queue of t0; open the tap with IFF_MULTI_QUEUE, once for each queue");
    const std::string needs = "; pass in a tap that was opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR";
    const Fd null = open_file("/dev/null", O_RDWR);
    CHECK(refusal({.fds = {null.get()}}) == of(null.get()) + "is no tap" + needs);
    CHECK(contains(refusal({.fds = {999999}}), of(999999) + "there is no such descriptor; open it for this"));
    const Fd nothing = open_file("/dev/net/tun", O_RDWR);
    CHECK(refusal({.fds = {nothing.get()}}) == of(nothing.get()) + "is a queue of no interface" + needs);
    const Fd tun = open_queue("tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
    CHECK(refusal({.fds = {tun.get()}}) ==
          of(tun.get()) + "is a tun, which carries no Ethernet frames" + needs);
    const Fd bare = open_queue("t2", IFF_TAP | IFF_NO_PI);
    CHECK(refusal({.fds = {bare.get()}}) == of(bare.get()) + "was opened without IFF_VNET_HDR" + needs);
    const Fd third = open_queue("t4", several | IFF_VNET_HDR);
    CHECK(refusal({.fds = {first.get(), third.get()}}) ==
          of(third.get()) + "is a queue of t4, another one is of t1; give queues of one interface");
  });
}

TEST_CASE("tap: a queue of another network namespace is not mistaken for one of this") {
  in_own_network([] {
    const Fd far = open_queue("t0");
    link_named("t0").set_mtu(1400);
    must(::unshare(CLONE_NEWNET) == 0, "change the namespace");
    make_tap("t0");
    CHECK_FALSE(TapBackend({.fds = {far.get()}}, quiet).mtu());
    CHECK(TapBackend({.fds = {far.get()}, .mtu = std::uint16_t{1600}}, quiet).mtu() == 1600);
  });
}

TEST_CASE("tap: one that was made for a bridge has its MTU, and goes with its owner") {
  in_own_network([] {
    make_bridge("br");
    CHECK(links_named("hum") == 0);
    {
      const TapBackend one({.bridge = "br"}, quiet);
      CHECK(one.mtu() == 1500);
      link_named("hum0").set_mtu(9000);
      link_named("br").set_mtu(9000);
      const TapBackend other({.bridge = "br", .pairs = 2, .mtu = std::uint16_t{1400}}, quiet);
      CHECK(links_named("hum") == 2);
      CHECK(link_named("hum1").mtu() == 9000);
      CHECK(link_named("hum1").is_up());
      CHECK(other.mtu() == 1400);
      CHECK(link_named("br").mtu() == 9000);
    }
    CHECK(links_named("hum") == 0);
  });
}

TEST_CASE("tap: nothing is left where the owner of a bridge's tap is killed") {
  in_own_network([] {
    make_bridge("br");
    std::array<int, 2> ends{};
    must(::pipe2(ends.data(), O_CLOEXEC) == 0, "make a pipe");
    const Fd from(ends[0]);
    Fd to(ends[1]);
    const pid_t child = ::fork();
    must(child >= 0, "fork");
    if (child == 0) {
      const TapBackend tap({.bridge = "br"}, quiet);
      [[maybe_unused]] const ssize_t written = ::write(to.get(), "x", 1);
      while (true) ::pause();
    }
    to.reset();
    char byte = 0;
    const bool made = ::read(from.get(), &byte, 1) == 1;
    const unsigned before = links_named("hum");
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    REQUIRE(made);
    CHECK(before == 1);
    CHECK(links_named("hum") == 0);
  });
}

TEST_CASE("tap: macvtap interfaces carry frames by address") {
  in_own_network([] {
    // The files are those of all namespaces: numbers that no other one has.
    const std::string base = std::to_string(100000 + 8 * (::getpid() % 100000));
    const std::string next = std::to_string(100004 + 8 * (::getpid() % 100000));
    const std::string make =
        "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up && "
        "ip link add link v0 name mv0 index " +
        base +
        " address 52:54:00:00:00:01 type macvtap mode bridge && "
        "ip link add link v0 name mv1 index " +
        next +
        " address 52:54:00:00:00:02 type macvtap mode bridge && "
        "ip link add link v0 name plain type macvlan mode bridge && ip link set mv1 up";
    if (std::system((make + " 2>/dev/null").c_str()) != 0 ||
        ::access(("/dev/tap" + base).c_str(), R_OK) != 0) {
      WARN("skipped: no macvtap interface can be made here");
      return;
    }
    std::string logged;
    const Log log([&](LogLevel, std::string_view text) { logged += text; });
    TapBackend one({.macvtap = "mv0", .pairs = 2}, log);
    CHECK(logged == "net: the interface mv0 is down and carries nothing; ip link set mv0 up");
    link_named("mv0").set_up();
    TapBackend other({.macvtap = "mv1"}, quiet);
    CHECK(other.address() == test_receiver);
    CHECK(other.mtu() == 1500);
    CHECK((one.offloads() & (feature_guest_csum | feature_host_tso4)) ==
          (feature_guest_csum | feature_host_tso4));
    one.use_pairs(2);
    one.use_pairs(1);
    other.set_offloads(feature_guest_csum | feature_guest_tso4);
    send_frame(one.endpoint(0), tcp_frame(3000, 1000, test_receiver));
    const std::vector<std::byte> got = receive_frame(other.endpoint(0));
    CHECK(got.size() == sizeof(Header) + 54 + 3000);
    CHECK(contains(refusal({.macvtap = "plain"}), "net.macvtap 'plain': there is no /dev/tap"));
  });
}

}  // namespace
}  // namespace hum
