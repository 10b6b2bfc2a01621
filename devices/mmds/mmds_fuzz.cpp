// SPDX-License-Identifier: Apache-2.0
//
// For libFuzzer: frames of a hostile guest to the metadata service, on a few connections at a time. A frame
// comes only when one is due, there are only so many for each of the guest's, and whatever was before, the
// next guest is served.
#include <array>
#include <cstdlib>
#include <string>

#include "devices/mmds/testing.h"
#include "vmm/base/fuzz_input.h"

namespace {

using namespace hum;
using namespace hum::testing;

void require(bool holds) {
  if (!holds) std::abort();
}

class Guest {
 public:
  explicit Guest(FuzzInput input) : input_(input) {
    for (std::size_t i = 0; i < ends_.size(); ++i)
      ends_[i] = bench_.from_port(static_cast<std::uint16_t>(1 + i));
  }

  void run() {
    while (!input_.empty()) {
      step();
      for (auto left = input_.number(1) % 4; left != 0 && hear(); --left) {
      }
    }
    for (int frames = 0; hear(); ++frames) require(frames < 10000);
    bench_.now += MmdsResponder::idle;
    for (int frames = 0; hear(); ++frames) require(frames < 10000);
    require(bench_.end.connect());
    bench_.end.say(request_ami);
    require(body_of(bench_.end.listen()) == "ami-1");
  }

 private:
  void step() {
    const std::uint64_t kind = input_.number(1);
    if (kind < 32) {
      bench_.now += std::chrono::milliseconds(input_.number(2));
    } else if (kind < 64) {
      const std::uint64_t checksum_at = input_.number(1);
      bench_.responder.take(input_.bytes(input_.number(1)), checksum_at, bench_.now);
    } else {
      const std::vector<std::byte> text = kind < 96    ? bytes_of_text(request_long)
                                          : kind < 128 ? bytes_of_text(request_ami)
                                                       : input_.bytes(kind - 128);
      segment(text);
    }
  }

  // One that follows the last ones, or not quite.
  void segment(std::span<const std::byte> text) {
    GuestEnd& end = ends_[input_.number(1) % ends_.size()];
    const std::uint64_t flags = input_.number(1);
    const auto off = [&](bool is) { return is ? static_cast<std::uint32_t>(input_.number(4)) : 0; };
    mmds::Segment segment{.sequence = end.sequence + off((flags & 64) != 0),
                          .acknowledgement = end.acknowledgement + off((flags & 128) != 0),
                          .window = static_cast<std::uint16_t>(input_.number(2)),
                          .syn = (flags & 1) != 0,
                          .ack = (flags & 2) == 0,
                          .fin = (flags & 4) != 0,
                          .rst = (flags & 8) != 0,
                          .payload = text};
    if ((flags & 16) != 0) segment.most_payload = static_cast<std::uint16_t>(input_.number(2));
    end.send(segment);
  }

  bool hear() {
    const auto frame = bench_.next();
    if (!frame) return false;
    if (mmds::read_arp_request(*frame)) return true;
    const auto content = mmds::read_segment(*frame, 0);
    if (!content || content->to.port == 0 || content->to.port > ends_.size()) return true;
    GuestEnd& end = ends_[content->to.port - 1u];
    end.acknowledgement = content->segment.sequence + content->segment.length();
    if (content->segment.ack) end.sequence = content->segment.acknowledgement;
    return true;
  }

  static std::vector<std::byte> bytes_of_text(const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
  }

  FuzzInput input_;
  ResponderBench bench_;
  std::array<GuestEnd, 4> ends_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Guest(FuzzInput({data, size})).run();
  return 0;
}
