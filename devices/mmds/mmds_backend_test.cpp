// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/mmds_backend.h"

#include "devices/mmds/testing.h"
#include "devices/net/fake_net.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using namespace net_wire;

const std::string request = "GET /ami HTTP/1.1\r\nConnection: close\r\n\r\n";

// An interface with the service, its driver, and the host's end.
struct MmdsBench {
  explicit MmdsBench(std::uint16_t pairs = 1)
      : net({.pairs = pairs,
             .wrap = [this](std::unique_ptr<NetBackend> inner) -> std::unique_ptr<NetBackend> {
               return std::make_unique<MmdsBackend>(std::move(inner), service, MmdsResponder::usual_address);
             }}) {
    store.put(R"({"ami":"ami-1"})");
    net.control_queue = 2 * std::size_t{pairs};
    net.give_buffers(64, 2048);
    end.send_frame = [this](std::span<const std::byte> frame) {
      CHECK(net.transmit(with_header(header, frame), cuts, send_queue));
    };
    end.receive_frame = [this]() -> std::optional<std::vector<std::byte>> {
      const auto packet = net.received(0, patience_for_frames);
      if (!packet) return {};
      return std::vector(packet->begin() + sizeof(Header), packet->end());
    };
  }

  // What the host got, and the guest then did.
  std::string ask() {
    if (!end.connect()) return "no connection";
    end.say(request);
    std::string text;
    while (!end.closed) {
      const auto heard = end.hear();
      if (!heard) return "no answer";
      text += end.take(*heard);
    }
    end.acknowledge();
    return body_of(text);
  }
  bool host_got_nothing() { return !net.host().take(0ms); }

  MetadataStore store;
  MetadataService service{store, {}};
  std::chrono::milliseconds patience_for_frames = patience;
  Header header;
  std::vector<std::size_t> cuts;
  std::size_t send_queue = 1;
  NetBench net;
  GuestEnd end;
};

TEST_CASE("a guest's request is answered through its own queues, and the host sees nothing of it") {
  MmdsBench bench;
  CHECK(bench.ask() == "ami-1");
  CHECK(bench.host_got_nothing());
  CHECK(bench.net.counts("tx_lost_by_host", 0));
}

TEST_CASE("an ARP request for the service is answered, and one for another address is the host's") {
  MmdsBench bench;
  Bytes frame(42);
  mmds::write_arp_reply({guest_mac, MmdsResponder::usual_address}, guest_address, guest_mac, frame);
  frame[21] = std::byte{1};  // a request
  CHECK(bench.net.transmit(with_header({}, frame)));
  const auto reply = bench.net.received();
  REQUIRE(reply);
  CHECK(reply->size() == sizeof(Header) + 42);
  CHECK(bench.host_got_nothing());
  frame[41] = std::byte{1};
  CHECK(bench.net.transmit(with_header({}, frame)));
  CHECK(is_frame(bench.net.host().take(), frame));
}

TEST_CASE("frames of and to others pass as they are, however they are cut, between those of the service") {
  MmdsBench bench;
  REQUIRE(bench.end.connect());
  for (const std::size_t size : {14u, 41u, 42u, 43u, 60u, 1514u, 60000u})
    for (const auto& cuts : std::vector<std::vector<std::size_t>>{{}, {12}, {13}, {12, 20}, {12, 18, 25}}) {
      const Bytes frame = frame_of(size);
      CHECK(bench.net.transmit(with_header({}, frame), cuts));
      CHECK(is_frame(bench.net.host().take(), frame));
    }
  const Bytes frame = frame_of(500);
  bench.net.host().give(with_header({}, frame));
  CHECK(is_frame(bench.net.received(), frame));
  bench.end.say(request);
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(body_of(heard->text) == "ami-1");
}

TEST_CASE("a frame for the service may lie in pieces, lack its checksum and be one to segment") {
  MmdsBench bench;
  bench.cuts = {5, 12, 30, 45, 60};
  REQUIRE(bench.end.connect());
  Bytes frame = bench.end.frame_of(bench.end.segment(request));
  frame[50] ^= std::byte{0x55};
  CHECK(bench.net.transmit(with_header({}, frame)));  // damaged
  Header header;
  header.flags = header_needs_csum;
  header.gso_type = gso_tcp4;
  header.gso_size = 20;
  header.hdr_len = 54;
  header.csum_start = 34;
  header.csum_offset = 16;
  CHECK(bench.net.transmit(with_header(header, frame)));
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(body_of(heard->text) == "ami-1");
  CHECK(heard->segment.acknowledgement == bench.end.sequence + request.size());
}

TEST_CASE("a frame for the service that is larger than any it takes is lost") {
  MmdsBench bench;
  REQUIRE(bench.end.connect());
  Bytes frame = bench.end.frame_of(bench.end.segment(request));
  frame.resize(MmdsResponder::most_taken_bytes + 1);
  CHECK(bench.net.transmit(with_header({}, frame)));
  CHECK(bench.net.counts("tx_lost_by_host", 1));
  frame.resize(MmdsResponder::most_taken_bytes);
  CHECK(bench.net.transmit(with_header({}, frame)));
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(body_of(heard->text) == "ami-1");
}

TEST_CASE("an answer that the guest does not acknowledge comes again by itself") {
  MmdsBench bench;
  const auto then = std::chrono::steady_clock::now();
  bench.end.open();
  const auto first = bench.end.hear();
  REQUIRE(first);
  const auto second = bench.end.hear();
  REQUIRE(second);
  CHECK(second->segment.sequence == first->segment.sequence);
  CHECK(std::chrono::steady_clock::now() - then >= mmds::TcpConnection::first_timeout);
}

TEST_CASE("whatever queue the guest sends by, it is answered on the first") {
  MmdsBench bench(2);
  REQUIRE(bench.net.command_with(class_mq, mq_pairs_set, le16(2)) == control_ok);
  bench.send_queue = 3;
  CHECK(bench.ask() == "ami-1");
  const Bytes frame = frame_of(100);
  CHECK(bench.net.transmit(with_header({}, frame), {}, 3));
  CHECK(is_frame(bench.net.host(1).take(), frame));
}

TEST_CASE("frames that the host does not take yet wait for it as without the service") {
  MmdsBench bench;
  bench.net.host().shrink(1);
  const Bytes frame = frame_of(4000);
  constexpr int frames = 50;
  for (int i = 0; i < frames; ++i) bench.net.add_packet(with_header({}, frame));
  bench.net.driver.kick(1);
  ::poll(nullptr, 0, 20);
  CHECK(bench.net.count("tx_frames") < frames);
  for (int i = 0; i < frames; ++i) REQUIRE(is_frame(bench.net.host().take(), frame));
  CHECK(bench.net.counts("tx_frames", frames));
}

TEST_CASE("an answer waits for buffers of the guest, as a frame of the host does") {
  MmdsBench bench;
  for (int i = 0; i < 64; ++i) {
    bench.net.host().give(with_header({}, frame_of(60)));
    REQUIRE(bench.net.received());
  }
  bench.end.open();
  CHECK_FALSE(bench.net.received(0, 20ms));
  bench.net.give_buffers(4, 2048);
  CHECK(bench.end.hear());
}

}  // namespace
}  // namespace hum
