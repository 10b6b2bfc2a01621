// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/mmds/mmds_frames.h"
#include "devices/mmds/mmds_responder.h"

// The guest's side of the metadata service, made by hand, for tests only.
namespace hum::testing {

inline constexpr MacAddress guest_mac{{0x52, 0x54, 0, 0x12, 0x34, 0x56}};
inline constexpr Ipv4Address guest_address{192, 0, 2, 7};

// A segment that owns its payload.
struct Heard {
  mmds::Segment segment;
  std::string text;
};

// One end of a TCP connection of the guest, that does what it is told and nothing by itself.
struct GuestEnd {
  using Send = std::function<void(std::span<const std::byte> frame)>;
  using Receive = std::function<std::optional<std::vector<std::byte>>()>;

  Send send_frame;
  Receive receive_frame;
  mmds::Place own{guest_mac, guest_address, 40000};
  mmds::Place server{MmdsResponder::mac, MmdsResponder::usual_address, MmdsResponder::port};
  std::uint32_t sequence = 1000;
  std::uint32_t acknowledgement = 0;
  std::uint16_t window = 60000;

  std::vector<std::byte> frame_of(const mmds::Segment& segment) const {
    std::vector<std::byte> frame(mmds::most_header_bytes + segment.payload.size());
    frame.resize(mmds::write_segment({own, server, segment}, frame));
    return frame;
  }
  void send(const mmds::Segment& segment) const { send_frame(frame_of(segment)); }
  // Text at the place where the guest is.
  mmds::Segment segment(std::string_view text = {}) const {
    return {.sequence = sequence,
            .acknowledgement = acknowledgement,
            .window = window,
            .ack = true,
            .payload = std::as_bytes(std::span(text))};
  }
  void say(std::string_view text, bool fin = false) {
    mmds::Segment next = segment(text);
    next.fin = fin;
    send(next);
    sequence += next.length();
  }
  void acknowledge() const { send(segment()); }
  void open(std::optional<std::uint16_t> most_payload = 1460) const {
    send({.sequence = sequence, .window = window, .syn = true, .most_payload = most_payload});
  }

  // The next segment for this port. Frames for others are passed over.
  std::optional<Heard> hear() const {
    while (const auto frame = receive_frame()) {
      const auto content = mmds::read_segment(*frame, 0);
      if (!content || content->to.port != own.port || content->to.mac != own.mac ||
          content->to.address != own.address || content->from.address != server.address)
        continue;
      Heard heard{content->segment, {}};
      heard.text.assign(reinterpret_cast<const char*>(content->segment.payload.data()),
                        content->segment.payload.size());
      heard.segment.payload = {};
      return heard;
    }
    return {};
  }
  // Takes in what is next in the stream, text and end; the text.
  std::string take(const Heard& heard) {
    if (heard.segment.sequence != acknowledgement) return {};
    acknowledgement += static_cast<std::uint32_t>(heard.text.size()) + heard.segment.fin;
    closed |= heard.segment.fin;
    return heard.text;
  }
  // All there is now, with one acknowledgement at the end.
  std::string listen() {
    std::string text;
    bool any = false;
    while (const auto heard = hear()) {
      text += take(*heard);
      any |= !heard->text.empty() || heard->segment.fin;
    }
    if (any) acknowledge();
    return text;
  }
  // True if the server has answered as it should.
  bool connect() {
    open();
    ++sequence;
    const auto heard = hear();
    if (!heard || !heard->segment.syn || !heard->segment.ack || heard->segment.acknowledgement != sequence)
      return false;
    acknowledgement = heard->segment.sequence + 1;
    acknowledge();
    return true;
  }

  bool closed = false;  // by the server
};

inline const std::string request_long = "GET /long HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";
inline const std::string request_ami = "GET /ami HTTP/1.1\r\n\r\n";
inline const std::string request_last = "GET /ami HTTP/1.1\r\nConnection: close\r\n\r\n";

inline std::string body_of(const std::string& response) {
  const std::size_t end = response.find("\r\n\r\n");
  return end == std::string::npos ? "" : response.substr(end + 4);
}

// A responder with a guest, between which nothing is lost unless it is told so.
struct ResponderBench {
  ResponderBench() {
    store.put(R"({"ami":"ami-1","long":")" + long_text + "\"}");
    end.send_frame = [this](std::span<const std::byte> frame) {
      if (!responder.is_for_it(frame.first(std::min(frame.size(), mmds::start_bytes))))
        throw std::logic_error("not for the service");
      responder.take(frame, 0, now);
    };
    end.receive_frame = [this] { return next(); };
  }

  std::optional<std::vector<std::byte>> next() {
    const bool due = responder.due() <= now;
    std::array<std::byte, MmdsResponder::most_made_bytes> frame{};
    const std::size_t bytes = responder.next(frame, now);
    if (bytes == 0) return {};
    if (!due) throw std::logic_error("a frame that was not due");
    return std::vector(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(bytes));
  }
  GuestEnd from_port(std::uint16_t port) const {
    GuestEnd other = end;
    other.own.port = port;
    return other;
  }
  bool quiet() { return !next(); }

  const std::string long_text = [] {
    std::string text;
    for (int i = 0; text.size() < 20000; ++i) text += std::to_string(i) + ' ';
    return text;
  }();
  MetadataStore store;
  MetadataService service{store, {}};
  MmdsResponder responder{service};
  MmdsResponder::Clock::time_point now{std::chrono::hours(1)};
  GuestEnd end;
};

}  // namespace hum::testing
