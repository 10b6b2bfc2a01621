// SPDX-License-Identifier: Apache-2.0
#include "devices/net/net_kind.h"

#include <fcntl.h>

#include <filesystem>

#include "devices/mmds/metadata_service.h"
#include "devices/mmds/mmds_frames.h"
#include "devices/net/fake_net.h"
#include "devices/temporary_file.h"
#include "vmm/base/state.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using namespace std::chrono_literals;

// An interface from options, as a machine has it, whose frames come back.
struct Loop {
  explicit Loop(const std::string& more = "")
      : options(OptionValues::parse("net", net_kind.options, "loopback" + more)),
        device(std::get<DeviceKind::VirtioFactory>(net_kind.create)(options, machine.context)) {
    driver.emplace(machine.memory, *device);
    driver->activate();
  }
  ~Loop() { driver.reset(); }

  void change(const std::string& text) {
    OptionValues changed = options.changed("net0", text);
    device->apply(changed);
    options = std::move(changed);
  }
  MacAddress mac() const {
    MacAddress mac;
    device->read_config(0, writable_bytes_of(mac));
    return mac;
  }
  std::uint64_t config(std::uint32_t offset) const {
    std::vector<std::byte> data(2);
    device->read_config(offset, data);
    return load_le(data);
  }
  // Sends a frame from that address; true if it comes back.
  bool echoes(const MacAddress& from, std::chrono::milliseconds timeout = patience) {
    Bytes frame = frame_of(60, broadcast_mac);
    std::memcpy(frame.data() + 6, from.bytes.data(), 6);
    driver->queue(0).add({{driver->allocate(256), 256, true}});
    driver->kick(0);
    if (!driver->request(1, with_header({}, frame), 0)) return false;
    return driver->wait_used(0, timeout).has_value();
  }

  VirtioMachine machine;
  OptionValues options;
  std::unique_ptr<virtio::VirtioDevice> device;
  std::optional<FakeDriver> driver;
};

std::string refusal_of(const std::string& text) {
  VirtioMachine machine;
  return config_error_of([&] { machine.create(net_kind, text); });
}

TEST_CASE("one place to be connected to is enough") {
  for (const char* text : {"user,tap=tap0", "tap=tap0,bridge=br0", "macvtap=mv0,tap-fd=3", "tap=a,mode=user",
                           "socket=a,tap=b", "mode=user,socket=a"}) {
    CAPTURE(text);
    CHECK(contains(refusal_of(text), "give one of user, tap, tap-fd, bridge, macvtap, socket and socket-fd"));
  }
}

TEST_CASE("what does not fit together is refused by name") {
  for (const auto& [text, key] : {std::pair{"user,vhost=on", "net.vhost"},
                                  {"vhost=on", "net.vhost"},
                                  {"socket=a,vhost=on", "net.vhost"},
                                  {"socket=a,queues=2", "net.queues"},
                                  {"socket=a,publish=1:1", "net.publish"},
                                  {"loopback,vhost=on", "net.vhost"},
                                  {"tap=tap0,vhost=on,pcap=x", "net.pcap"},
                                  {"tap=tap0,vhost=on,anti-spoof=on", "net.anti-spoof"},
                                  {"tap=tap0,vhost=on,mmds=169.254.169.254", "net.mmds"},
                                  {"tap=tap0,vhost=on,rx-bandwidth=1M", "net.rx-bandwidth"},
                                  {"tap=tap0,vhost=on,rx-ops=5", "net.rx-ops"},
                                  {"tap=tap0,vhost=on,tx-bandwidth=1M", "net.tx-bandwidth"},
                                  {"tap=tap0,vhost=on,tx-ops=5", "net.tx-ops"},
                                  {"tap=tap0,vhost=on,poll-us=5", "net.poll-us"},
                                  {"user,queues=2", "net.queues"},
                                  {"tap=tap0,publish=8080:80", "net.publish"},
                                  {"loopback,publish=8080:80", "net.publish"}}) {
    CAPTURE(text);
    CHECK(contains(refusal_of(text), key));
  }
}

TEST_CASE("values that are none are refused by name") {
  for (const auto& [text, key] : {std::pair{"loopback,mac=52:54:00:12:34", "net.mac"},
                                  {"loopback,mac=01:00:5e:00:00:01", "net.mac"},
                                  {"loopback,mtu=67", "net.mtu"},
                                  {"loopback,mtu=65536", "net.mtu"},
                                  {"loopback,queues=0", "net.queues"},
                                  {"loopback,queue-size=100", "net.queue-size"},
                                  {"loopback,anti-spoof=here", "net.anti-spoof"},
                                  {"loopback,pcap=/no/such/folder/file", "net.pcap"},
                                  {"eth0", "net.mode"},
                                  {"tap-fd=", "net.tap-fd"},
                                  {"tap-fd=x", "net.tap-fd"},
                                  {"tap-fd=3+", "net.tap-fd"},
                                  {"tap-fd=3+3", "net.tap-fd"},
                                  {"tap-fd=-1", "net.tap-fd"},
                                  {"tap-fd=3:4", "net.tap-fd"}}) {
    CAPTURE(text);
    CHECK(contains(refusal_of(text), key));
  }
}

TEST_CASE("an interface has the address, the pairs, the MTU and the link that were asked for") {
  Loop loop(",mac=52:54:00:00:00:07,queues=3,mtu=9000,queue-size=64,link=off");
  CHECK(loop.mac().text() == "52:54:00:00:00:07");
  CHECK(loop.config(offsetof(ConfigSpace, status)) == 0);
  CHECK(loop.config(offsetof(ConfigSpace, max_virtqueue_pairs)) == 3);
  CHECK(loop.config(offsetof(ConfigSpace, mtu)) == 9000);
  CHECK(loop.device->queue_sizes().size() == 7);
  CHECK(loop.device->queue_sizes()[0] == 64);
  loop.change("link=on");
  CHECK((loop.config(offsetof(ConfigSpace, status)) & status_link_up) != 0);
}

TEST_CASE("addresses that are drawn are local, differ, and stay with the guest") {
  Loop one;
  Loop other;
  CHECK((one.mac().bytes[0] & 3) == 2);
  const MacAddress mac = one.mac();
  CHECK(mac != other.mac());
  other.driver->reset();
  one.driver->pause();
  restore(*other.device, state_of(*one.device));
  CHECK(other.mac() == mac);
  one.driver->resume();
}

TEST_CASE("frames from another address stay here, also where the interface has its address from a state") {
  Loop one(",anti-spoof=on");
  Loop other(",anti-spoof=on");
  const MacAddress mac = one.mac();
  CHECK(one.echoes(mac));
  CHECK_FALSE(one.echoes(other.mac(), 20ms));
  other.driver->reset();
  one.driver->pause();
  restore(*other.device, state_of(*one.device));
  one.driver->resume();
  other.driver->activate();
  CHECK(other.echoes(mac));
}

TEST_CASE("limits change while the VM runs, and those that do not are not filled again") {
  Loop loop(",tx-ops=2/3600000");
  CHECK(loop.echoes(own_mac));
  CHECK(loop.echoes(own_mac));
  loop.change("rx-ops=100/3600000");
  const Bytes packet = with_header({}, frame_of(60));
  loop.driver->queue(1).add({{loop.driver->place(packet), static_cast<std::uint32_t>(packet.size())}});
  loop.driver->kick(1);
  CHECK_FALSE(loop.driver->wait_used(1, 50ms));
  loop.change("tx-ops=off");
  CHECK(loop.driver->wait_used(1));
  loop.change("rx-ops=1/3600000");
  CHECK(loop.echoes(own_mac));
  CHECK_FALSE(loop.echoes(own_mac, 50ms));
}

TEST_CASE("a capture has the frames of both directions") {
  const TemporaryFile file(0);
  {
    Loop loop(",pcap=" + file.path());
    CHECK(loop.echoes(own_mac));
  }
  CHECK(std::filesystem::file_size(file.path()) >= 24 + 2 * (16 + 60));
}

TEST_CASE("with mmds= the program's metadata are at that address, and other addresses are the network's") {
  VirtioMachine machine;
  const MetadataStore store;
  MetadataService service{store, {}};
  machine.context.services = {&service};
  const auto device = machine.create(net_kind, "loopback,mmds=169.254.1.0");
  FakeDriver driver(machine.memory, *device);
  driver.activate();
  Bytes frame(42);  // an ARP request: what comes back is another frame, or this one
  mmds::write_arp_reply({own_mac, {169, 254, 1, 0}}, {192, 0, 2, 7}, own_mac, frame);
  frame[21] = std::byte{1};
  for (const bool own : {true, false}) {
    if (!own) frame[41] = std::byte{1};
    const GuestAddress buffer = driver.allocate(256);
    driver.queue(0).add({{buffer, 256, true}});
    driver.kick(0);
    REQUIRE(driver.request(1, with_header({}, frame), 0));
    REQUIRE(driver.wait_used(0));
    CHECK(machine.memory.read<std::uint8_t>(buffer + sizeof(Header) + 21) == (own ? 2 : 1));
  }
}

TEST_CASE("an address for metadata is one that guests can reach, and of a program that has some") {
  const MetadataStore store;
  MetadataService service{store, {}};
  const auto refusal = [&](const std::string& address, bool served) {
    VirtioMachine machine;
    if (served) machine.context.services = {&service};
    return config_error_of([&] { machine.create(net_kind, "loopback,mmds=" + address); });
  };
  for (const char* address :
       {"", "on", "169.254.0.255", "169.254.255.0", "169.253.1.1", "10.0.0.1", "fe80::1"})
    CHECK(contains(refusal(address, true), "not an address from 169.254.1.0 to 169.254.254.255"));
  CHECK(contains(refusal("169.254.169.254", false), "no metadata"));
  VirtioMachine machine;
  machine.context.services = {&service};
  CHECK(machine.create(net_kind, "loopback,mmds=169.254.254.255"));
}

TEST_CASE("what is no option of an interface is refused with those that there are") {
  CHECK(contains(refusal_of("user,speed=10"),
                 "known are mode, tap, tap-fd, bridge, macvtap, socket, socket-fd, mac"));
  Loop loop;
  CHECK(contains(config_error_of([&] { loop.change("mac=52:54:00:00:00:01"); }),
                 "link, rx-bandwidth, rx-ops, tx-bandwidth, tx-ops"));
}

}  // namespace
}  // namespace hum
