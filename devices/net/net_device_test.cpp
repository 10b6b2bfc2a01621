// SPDX-License-Identifier: Apache-2.0
#include "devices/net/net_device.h"

#include <tuple>

#include "devices/net/fake_net.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using namespace std::chrono_literals;
using virtio::testing::wait_for;

bool offers(const NetBench& bench, std::uint64_t feature) {
  return (bench.device.features() & feature) == feature;
}

template <class T>
void append(Bytes& bytes, const T& value) {
  const auto more = bytes_of(value);
  bytes.insert(bytes.end(), more.begin(), more.end());
}

// The two tables of a MAC_TABLE_SET.
Bytes tables(const std::vector<MacAddress>& unicast, const std::vector<MacAddress>& multicast) {
  Bytes bytes;
  for (const auto* table : {&unicast, &multicast}) {
    append(bytes, le32(static_cast<std::uint32_t>(table->size())));
    for (const MacAddress& each : *table) append(bytes, each);
  }
  return bytes;
}

// Whether a frame to that address reaches the guest, which has buffers.
bool arrives(NetBench& bench, const MacAddress& to) {
  const std::uint64_t dropped = bench.count("rx_dropped_unwanted");
  const std::uint64_t passed = bench.count("rx_frames");
  bench.host().give(with_header({}, frame_of(60, to)));
  while (bench.count("rx_dropped_unwanted") + bench.count("rx_frames") == dropped + passed)
    ::poll(nullptr, 0, 0);
  return bench.count("rx_frames") != passed;
}

TEST_CASE("an interface offers what its host's end can do, and what belongs to that") {
  NetBench full({.pairs = 2, .mtu = 9000, .activate = false});
  CHECK(full.device.type() == 1);
  CHECK(offers(full, all_offloads | feature_mac | feature_status | feature_mtu | feature_ctrl_vq |
                         feature_ctrl_rx | feature_ctrl_rx_extra | feature_ctrl_mac_addr | feature_mq |
                         feature_ctrl_guest_offloads | feature_guest_announce | feature_mrg_rxbuf));
  CHECK(full.device.queue_sizes().size() == 5);

  NetBench plain({.offloads = 0, .activate = false});
  for (const std::uint64_t feature :
       {feature_csum, feature_guest_csum, feature_host_tso4, feature_guest_tso4, feature_ctrl_guest_offloads,
        feature_mq, feature_mtu, feature_ctrl_vlan, feature_speed_duplex})
    CHECK_FALSE(offers(plain, feature));
  CHECK(plain.device.queue_sizes().size() == 3);
}

TEST_CASE("the configuration shows address, link, pairs and MTU, and zero behind its end") {
  NetBench bench({.pairs = 3, .mtu = 9000});
  CHECK(bench.config(0, 4) == 0x12005452);
  CHECK(bench.config(4, 2) == 0x5634);
  CHECK(bench.status() == status_link_up);
  CHECK(bench.config(8, 2) == 3);
  CHECK(bench.config(10, 2) == 9000);
  CHECK(bench.config(24, 4) == 0);
  CHECK(bench.config(UINT32_MAX, 4) == 0);
  bench.device.write_config(0, Bytes(6, std::byte{1}));
  CHECK(bench.config(4, 2) == 0x5634);
}

TEST_CASE("the path gets the offloads that were negotiated, and one pair") {
  NetBench bench({.features = ~feature_guest_tso6});
  CHECK(bench.backend->offloads_set == (guest_offloads & ~feature_guest_tso6));
  CHECK(bench.backend->pairs_used == 1);
}

TEST_CASE("the control queue is behind those of all pairs, or of one where the driver knows only one") {
  for (const bool many : {true, false}) {
    NetBench bench({.pairs = 3, .features = many ? ~std::uint64_t{0} : ~feature_mq});
    bench.control_queue = many ? 6 : 2;
    CHECK(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
    CHECK(bench.command_with(class_mq, mq_pairs_set, le16(2)) == (many ? control_ok : control_error));
    CHECK(bench.device.suspend().size() == 7);
  }
}

TEST_CASE("without the control queue nobody answers there, and frames pass") {
  NetBench bench({.features = ~feature_ctrl_vq});
  bench.driver.queue(2).add({{bench.driver.allocate(64), 3}, {bench.driver.allocate(64), 1, true}});
  bench.driver.kick(2);
  bench.give_buffers(2, 2048);
  CHECK(arrives(bench, other_mac));
  CHECK_FALSE(bench.driver.wait_used(2, 10ms));
}

TEST_CASE("receive modes are on or off, for drivers that have them") {
  NetBench bench;
  bench.give_buffers(60, 256);
  const auto mode = [&](std::uint8_t number, std::uint8_t value) {
    return bench.command_with(class_rx, number, value);
  };
  using Arrivals = std::tuple<bool, bool, bool, bool>;
  const auto arrivals = [&] {
    const bool own = arrives(bench, own_mac);
    const bool other = arrives(bench, other_mac);
    const bool group = arrives(bench, group_mac);
    return Arrivals{own, other, group, arrives(bench, broadcast_mac)};
  };
  CHECK(arrivals() == Arrivals{true, true, true, true});
  CHECK(mode(rx_promiscuous, 0) == control_ok);
  CHECK(arrivals() == Arrivals{true, false, false, true});
  CHECK(mode(rx_all_multicast, 1) == control_ok);
  CHECK(mode(rx_no_broadcast, 1) == control_ok);
  CHECK(arrivals() == Arrivals{true, false, true, false});
  CHECK(mode(rx_no_multicast, 1) == control_ok);
  CHECK(mode(rx_all_unicast, 1) == control_ok);
  CHECK(arrivals() == Arrivals{true, true, false, false});
  CHECK(mode(rx_no_unicast, 1) == control_ok);
  CHECK(arrivals() == Arrivals{false, false, false, false});
  CHECK(mode(rx_promiscuous, 1) == control_ok);
  CHECK(arrivals() == Arrivals{true, true, true, true});

  CHECK(mode(rx_promiscuous, 2) == control_error);
  CHECK(mode(rx_no_broadcast + 1, 1) == control_error);
  CHECK(bench.command(class_rx, rx_promiscuous) == control_error);
  CHECK(bench.count("control_errors") == 3);

  NetBench old({.features = ~feature_ctrl_rx_extra});
  CHECK(old.command_with(class_rx, rx_all_multicast, std::uint8_t{1}) == control_ok);
  CHECK(old.command_with(class_rx, rx_all_unicast, std::uint8_t{1}) == control_error);
}

TEST_CASE("the tables of addresses decide, and one that is too large lets all through") {
  NetBench bench;
  bench.give_buffers(60, 256);
  REQUIRE(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
  CHECK(bench.command(class_mac, mac_table_set, tables({other_mac}, {group_mac}), {1, 7, 13, 19}) ==
        control_ok);
  CHECK(arrives(bench, other_mac));
  CHECK(arrives(bench, group_mac));
  CHECK(bench.command(class_mac, mac_table_set, tables({}, {})) == control_ok);
  CHECK(arrives(bench, own_mac));
  CHECK_FALSE(arrives(bench, other_mac));
  CHECK_FALSE(arrives(bench, group_mac));

  const std::vector<MacAddress> most(ReceiveRules::most_addresses, own_mac);
  std::vector<MacAddress> more = most;
  more.push_back(own_mac);
  CHECK(bench.command(class_mac, mac_table_set, tables(most, most)) == control_ok);
  CHECK_FALSE(arrives(bench, other_mac));
  CHECK(bench.command(class_mac, mac_table_set, tables(more, {})) == control_ok);
  CHECK(arrives(bench, other_mac));
  CHECK_FALSE(arrives(bench, group_mac));
  CHECK(bench.command(class_mac, mac_table_set, tables({}, more)) == control_ok);
  CHECK_FALSE(arrives(bench, other_mac));
  CHECK(arrives(bench, group_mac));
}

TEST_CASE("tables that are cut short, or say more than there is, change nothing") {
  NetBench bench;
  bench.give_buffers(8, 256);
  REQUIRE(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
  const Bytes whole = tables({other_mac}, {group_mac});
  for (std::size_t size = 0; size < whole.size(); ++size)
    REQUIRE(bench.command(class_mac, mac_table_set, std::span(whole).first(size)) == control_error);
  Bytes lie = whole;
  lie[0] = lie[1] = lie[2] = lie[3] = std::byte{0xff};
  CHECK(bench.command(class_mac, mac_table_set, lie) == control_error);
  CHECK_FALSE(arrives(bench, other_mac));
  CHECK_FALSE(arrives(bench, group_mac));
}

TEST_CASE("the driver may take another address, which is gone with a reset") {
  NetBench bench;
  bench.give_buffers(8, 256);
  REQUIRE(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
  CHECK(bench.command_with(class_mac, mac_address_set, other_mac) == control_ok);
  CHECK(bench.config(4, 2) == 0x0100);
  CHECK(arrives(bench, other_mac));
  CHECK_FALSE(arrives(bench, own_mac));
  CHECK(bench.command_with(class_mac, mac_address_set, group_mac) == control_error);
  CHECK(bench.command(class_mac, mac_address_set, Bytes(5)) == control_error);
  CHECK(bench.config(4, 2) == 0x0100);
  bench.driver.reset();
  CHECK(bench.config(4, 2) == 0x5634);
}

TEST_CASE("the number of pairs is one that there is") {
  NetBench bench({.pairs = 3});
  bench.control_queue = 6;
  for (const auto& [pairs, answer] : {std::pair{0, control_error},
                                      {1, control_ok},
                                      {3, control_ok},
                                      {4, control_error},
                                      {0x8000, control_error}})
    CHECK(bench.command_with(class_mq, mq_pairs_set, le16(static_cast<std::uint16_t>(pairs))) == answer);
  CHECK(bench.backend->pairs_used == 3);
  CHECK(bench.command_with(class_mq, mq_pairs_set, std::uint8_t{1}) == control_error);
  CHECK(bench.command_with(class_mq, std::uint8_t{1}, le16(1)) == control_error);
  bench.backend->refuses = true;
  CHECK(bench.command_with(class_mq, mq_pairs_set, le16(1)) == control_error);
  CHECK(bench.driver.events().resets == 0);
  bench.backend->refuses = false;
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.backend->pairs_used == 1);
}

TEST_CASE("offloads are switched off and on again, of those that were negotiated") {
  NetBench bench({.features = ~feature_guest_tso6});
  const auto set = [&](std::uint64_t value) {
    return bench.command_with(class_guest_offloads, guest_offloads_set, le64(value));
  };
  CHECK(set(feature_guest_csum) == control_ok);
  CHECK(bench.backend->offloads_set == feature_guest_csum);
  bench.driver.pause();
  bench.backend->offloads_set = 0;
  bench.driver.resume();
  CHECK(bench.backend->offloads_set == feature_guest_csum);
  CHECK(set(feature_guest_csum | feature_guest_tso6) == control_error);
  CHECK(set(feature_csum) == control_error);
  CHECK(bench.backend->offloads_set == feature_guest_csum);
  CHECK(set(feature_guest_csum | feature_guest_tso4) == control_ok);
  CHECK(bench.backend->offloads_set == (feature_guest_csum | feature_guest_tso4));
  bench.backend->refuses = true;
  CHECK(set(0) == control_error);
  bench.backend->refuses = false;
  CHECK(bench.command(class_guest_offloads, guest_offloads_set, Bytes(7)) == control_error);
  CHECK(bench.command_with(class_guest_offloads, std::uint8_t{1}, le64(0)) == control_error);
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.backend->offloads_set == guest_offloads);
}

TEST_CASE("a command that nobody knows, or is cut short, is answered with an error") {
  NetBench bench;
  CHECK(bench.send_command({}) == control_error);
  CHECK(bench.send_command(Bytes(1)) == control_error);
  CHECK(bench.command(class_vlan, vlan_add, Bytes(2)) == control_error);
  CHECK(bench.command(99, 0) == control_error);
  CHECK(bench.command(class_mac, 2, Bytes(100)) == control_error);
  CHECK(bench.command(class_announce, 1) == control_error);
  NetBench bare({.features = feature_ctrl_vq});
  for (const std::uint8_t each : {class_rx, class_mac, class_announce, class_mq, class_guest_offloads})
    for (const std::uint8_t number : {std::uint8_t{0}, std::uint8_t{1}})
      CHECK(bare.command(each, number, Bytes(16)) == control_error);
  CHECK(bench.driver.events().resets == 0);
}

TEST_CASE("a command is read and answered wherever the borders of its descriptors lie") {
  NetBench bench;
  CHECK(bench.send_command(Bytes{std::byte{class_rx}, std::byte{rx_all_multicast}, std::byte{1}}, {1, 2}) ==
        control_ok);
  // Without a byte for the answer it is given back and not carried out.
  const Bytes readable{std::byte{class_rx}, std::byte{rx_promiscuous}, std::byte{0}};
  bench.driver.queue(2).add({{bench.driver.place(readable), 3}});
  bench.driver.kick(2);
  CHECK(bench.driver.wait_used(2)->written == 0);
  bench.give_buffers(1, 256);
  CHECK(arrives(bench, other_mac));
  // With more room than for the answer that is the first byte.
  const GuestAddress answer = bench.driver.place(Bytes(3, std::byte{7}));
  bench.driver.queue(2).add({{bench.driver.place(readable), 3}, {answer, 1, true}, {answer + 1, 2, true}});
  bench.driver.kick(2);
  CHECK(bench.driver.wait_used(2)->written == 1);
  CHECK(bench.machine.memory.read<std::uint8_t>(answer) == control_ok);
  CHECK(bench.machine.memory.read<std::uint8_t>(answer + 1) == 7);
}

TEST_CASE("a broken control queue needs a reset") {
  NetBench bench;
  virtio::testing::FakeQueue& queue = bench.driver.queue(2);
  queue.set_available_index(static_cast<std::uint16_t>(queue.available_index() + 300));
  bench.driver.kick(2);
  REQUIRE(wait_for(bench.driver.events().broken));
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
}

TEST_CASE("the driver sees the link of the host's end, and is asked to announce itself when it is back") {
  NetBench bench;
  bench.backend->set_link(false);
  REQUIRE(wait_for(bench.driver.events().changed));
  CHECK(bench.status() == 0);
  bench.backend->set_link(true);
  REQUIRE(wait_for(bench.driver.events().changed));
  CHECK(bench.status() == (status_link_up | status_announce));
  CHECK(bench.command(class_announce, announce_acknowledge) == control_ok);
  CHECK(bench.status() == status_link_up);

  NetBench silent({.features = ~feature_guest_announce});
  silent.backend->set_link(true);
  REQUIRE(wait_for(silent.driver.events().changed));
  CHECK(silent.status() == status_link_up);
  CHECK(silent.command(class_announce, announce_acknowledge) == control_error);

  bench.driver.reset();
  bench.backend->set_link(true);
  CHECK_FALSE(wait_for(bench.driver.events().changed, 0ms));
}

constexpr OptionSpec link_option[] = {
    {.key = "link", .type = OptionType::boolean, .help = "plugged in", .default_value = "on"}};

OptionValues link_is(const char* word) {
  return OptionValues::parse("net", link_option, std::string("link=") + word);
}

TEST_CASE("a link that is unplugged carries nothing, and is plugged in again") {
  NetBench bench;
  bench.give_buffers(8, 256);
  bench.device.apply(link_is("on"));
  CHECK(bench.driver.events().config_changes == 0);
  bench.device.apply(link_is("off"));
  CHECK(bench.driver.events().config_changes == 1);
  CHECK(bench.status() == 0);
  CHECK(bench.transmit(with_header({}, frame_of(60))));
  bench.host().give(with_header({}, frame_of(60)));
  CHECK(bench.counts("rx_dropped_link_down", 1));
  CHECK(bench.counts("tx_dropped_link_down", 1));
  bench.driver.pause();
  bench.driver.resume();
  bench.host().give(with_header({}, frame_of(60)));
  CHECK(bench.counts("rx_dropped_link_down", 2));

  bench.device.apply(link_is("on"));
  CHECK(bench.driver.events().config_changes == 2);
  CHECK(bench.status() == (status_link_up | status_announce));
  CHECK(bench.transmit(with_header({}, frame_of(61))));
  CHECK(bench.host().take() == with_header({}, frame_of(61)));
  CHECK(arrives(bench, own_mac));
  bench.driver.reset();
  bench.device.apply(link_is("off"));
  CHECK(bench.status() == 0);
}

TEST_CASE("an interface goes on in another machine as its driver knows it, and announces itself there") {
  NetBench source({.pairs = 2});
  source.control_queue = 4;
  source.give_buffers(4, 256);
  REQUIRE(source.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
  REQUIRE(source.command_with(class_mac, mac_address_set, other_mac) == control_ok);
  REQUIRE(source.command(class_mac, mac_table_set, tables({own_mac}, {group_mac})) == control_ok);
  REQUIRE(source.command_with(class_mq, mq_pairs_set, le16(2)) == control_ok);
  REQUIRE(source.command_with(class_guest_offloads, guest_offloads_set, le64(feature_guest_csum)) ==
          control_ok);
  auto queues = source.device.suspend();

  NetBench next({.pairs = 2, .activate = false});
  CHECK(mistakes_in_fields(source.device, next.device) == "");
  CHECK(next.config(4, 2) == 0x0100);
  CHECK(next.status() == status_link_up);
  next.device.activate(next.device.features(), std::move(queues), source.driver.events());
  CHECK(next.backend->pairs_used == 2);
  CHECK(next.backend->offloads_set == feature_guest_csum);
  CHECK(source.driver.events().config_changes == 1);
  CHECK(next.status() == (status_link_up | status_announce));
  CHECK(source.command(class_announce, announce_acknowledge) == control_ok);
  CHECK(next.status() == status_link_up);
  // Its filter is the same.
  next.host().give(with_header({}, frame_of(60, MacAddress{{2, 0, 0, 0, 0, 9}})));
  CHECK(next.counts("rx_dropped_unwanted", 1));
  next.device.deactivate();
  CHECK(next.config(4, 2) == 0x5634);
}

TEST_CASE("an interface keeps its own address in another machine, which its maker learns") {
  NetBench source({.activate = false});
  NetBench frame({.activate = false});
  MacAddress taken;
  NetDevice other(std::make_unique<FramePath>(std::make_unique<FakeBackend>(),
                                              std::vector<std::unique_ptr<FrameFilter>>(),
                                              FramePath::Settings{.name = "fake"}, frame.machine.log),
                  {.mac = other_mac, .took_mac = [&](const MacAddress& mac) { taken = mac; }});
  restore(other, state_of(source.device));
  CHECK(taken == own_mac);
  other.deactivate();
  Bytes mac(6);
  other.read_config(0, mac);
  CHECK(mac[5] == std::byte{0x56});
}

TEST_CASE("a state of an interface with other pairs or another MTU is refused") {
  NetBench source({.pairs = 2, .activate = false});
  NetBench fewer({.activate = false});
  NetBench larger({.pairs = 2, .mtu = 9000, .activate = false});
  CHECK_THROWS_AS(restore(fewer.device, state_of(source.device)), ConfigError);
  CHECK_THROWS_AS(restore(larger.device, state_of(source.device)), ConfigError);
}

TEST_CASE("a pause keeps what the driver has set, and a reset does not") {
  NetBench bench;
  bench.give_buffers(8, 256);
  REQUIRE(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
  bench.driver.pause();
  bench.driver.resume();
  CHECK_FALSE(arrives(bench, other_mac));
  CHECK(bench.driver.events().config_changes == 0);
  bench.driver.reset();
  bench.driver.activate();
  bench.give_buffers(8, 256);
  CHECK(arrives(bench, other_mac));
}

TEST_CASE("a host's end that refuses at the start is told, and may be tried again") {
  NetBench bench({.activate = false});
  bench.backend->refuses = true;
  CHECK_THROWS_AS(bench.driver.activate(), HostError);
  bench.device.deactivate();
  bench.backend->refuses = false;
  bench.driver.activate();
  CHECK(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
}

}  // namespace
}  // namespace hum
