// SPDX-License-Identifier: Apache-2.0
//
// For libFuzzer: rings of an interface as a hostile driver would fill them, and frames from the host. What
// the host gets must be a frame with a sound header, filters must see all of each frame, and the device must
// do with each queue what it has to and give all of them back.
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "devices/net/anti_spoof_filter.h"
#include "devices/net/frame_header.h"
#include "devices/net/frame_path.h"
#include "devices/net/net_device.h"
#include "devices/net/net_wire.h"
#include "vmm/base/endian.h"
#include "vmm/base/fd.h"
#include "vmm/base/fuzz_input.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/fake_driver.h"

namespace {

using namespace hum;
using namespace net_wire;
using hum::testing::FuzzInput;
using virtio::testing::Buffer;
using virtio::testing::FakeEvents;
using virtio::testing::FakeQueue;

constexpr std::uint64_t memory_bytes = 1 << 20;
constexpr std::uint64_t data_begin = 1 << 16;
constexpr std::uint16_t queue_size = 16;
constexpr MacAddress own{{2, 0, 0, 0, 0, 1}};

void require(bool holds) {
  if (!holds) std::abort();
}

std::size_t size_of(std::span<const iovec> parts) {
  std::size_t size = 0;
  for (const iovec& part : parts) size += part.iov_len;
  return size;
}

class Endpoint final : public FrameEndpoint {
 public:
  int fd() const override { return event_.fd(); }
  Transfer receive(std::span<const iovec> buffers) override {
    if (packets.empty()) return {State::wait};
    const std::vector<std::byte> packet = std::move(packets.front());
    packets.pop_front();
    copy_to(buffers, 0, packet);
    return {State::moved, packet.size()};
  }
  Transfer send(std::span<const iovec> frame) override {
    const std::size_t size = size_of(frame);
    require(size >= sizeof(Header) + ethernet_header_bytes && size <= sizeof(Header) + most_frame_bytes);
    Header header;
    require(frame.front().iov_len >= sizeof header);
    std::memcpy(&header, frame.front().iov_base, sizeof header);
    const auto checked = checked_header(header, size - sizeof header, features);
    require(checked && std::memcmp(&*checked, &header, sizeof header) == 0);
    return {++sent % 7 == 0 ? State::lost : State::moved, size};
  }

  std::deque<std::vector<std::byte>> packets;
  std::uint64_t features = 0;

 private:
  EventFd event_;
  unsigned sent = 0;
};

class Backend final : public NetBackend {
 public:
  std::string_view kind() const override { return "fuzz"; }
  std::uint64_t offloads() const override { return guest_offloads | host_offloads; }
  std::uint16_t pairs() const override { return 1; }
  FrameEndpoint& endpoint(std::uint16_t) override { return end; }
  void set_offloads(std::uint64_t accepted) override { require((accepted & ~guest_offloads) == 0); }
  void use_pairs(std::uint16_t count) override { require(count == 1); }

  Endpoint end;
};

class Filter final : public FrameFilter {
 public:
  Answer decide(Direction, const Frame& frame) override {
    require(frame.start.size() == std::min(frame.bytes, Frame::most_start_bytes));
    require(frame.start.size() + size_of(frame.rest) == frame.bytes);
    const auto choice = std::to_integer<unsigned>(frame.start[11]) % 8;
    if (choice == 0) return {Verdict::drop};
    if (choice != 1 || held_) {
      held_ = false;
      return {};
    }
    held_ = true;
    return {Verdict::hold};
  }

 private:
  bool held_ = false;
};

struct Ring {
  Ring(const GuestMemory& memory, std::uint16_t index)
      : ring(memory, {std::uint64_t{4096} * index}, queue_size) {}
  FakeQueue ring;
  EventFd kick;
};

// A request that a driver may make, and some that none does.
void add_request(FuzzInput& input, const GuestMemory& memory, FakeQueue& ring, bool for_guest) {
  std::vector<Buffer> buffers;
  for (std::uint64_t count = 1 + input.number(1) % 5; count != 0; --count) {
    const std::uint64_t kind = input.number(1);
    const GuestAddress at{data_begin + input.number(2)};
    const auto length = static_cast<std::uint32_t>((kind & 1) != 0 ? input.number(1) : input.number(2));
    // Mostly what the queue is for; at the end of memory, or behind it, now and then.
    const bool writable = (kind & 0x30) == 0x30 ? !for_guest : for_guest;
    buffers.push_back(
        {(kind & 0xc0) == 0xc0 ? GuestAddress{memory_bytes - input.number(1)} : at, length, writable});
    if (!writable && (kind & 2) != 0 && at.value + 32 < memory_bytes)
      memory.write_bytes(at, input.bytes(input.number(1) % 32));
  }
  try {
    ring.add(buffers);
  } catch (const std::logic_error&) {  // no free descriptors
  }
}

void add_command(FuzzInput& input, const GuestMemory& memory, FakeQueue& ring) {
  const std::vector<std::byte> command = input.bytes(input.number(1) % 64);
  const GuestAddress at{data_begin + input.number(2)};
  memory.write_bytes(at, command);
  const auto cut = static_cast<std::uint32_t>(command.empty() ? 0 : input.number(1) % command.size());
  const auto size = static_cast<std::uint32_t>(command.size());
  try {
    ring.add({{at, cut}, {at + cut, size - cut}, {at + 64, 1, true}});
  } catch (const std::logic_error&) {
  }
}

void add_frame(FuzzInput& input, Endpoint& end) {
  constexpr std::size_t sizes[] = {60, 200, 1514, 9000, most_frame_bytes, 13};
  std::vector<std::byte> packet = input.bytes(sizeof(Header) + 14);
  packet.resize(sizeof(Header) + sizes[input.number(1) % std::size(sizes)]);
  if (end.packets.size() < 16) end.packets.push_back(std::move(packet));
}

// Until the queue has no more for the device, or there is nobody to serve it; not for ever.
void wait_for(const FakeQueue& ring, const FakeEvents& events) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
  while (ring.used_index() != ring.available_index() && events.resets == 0 &&
         std::chrono::steady_clock::now() < end)
    std::this_thread::yield();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const GuestMemory memory(std::vector<GuestRange>{{{0}, memory_bytes}});
  static const Log log;
  FuzzInput input({data, size});
  const std::uint64_t choices = input.number(1);
  auto backend = std::make_unique<Backend>();
  Endpoint& end = backend->end;
  std::vector<std::unique_ptr<FrameFilter>> filters;
  if ((choices & 1) != 0)
    filters.push_back(std::make_unique<AntiSpoofFilter>(own, SenderAddresses{{{10, 0, 0, 1}}, {}}));
  if ((choices & 2) != 0) filters.push_back(std::make_unique<Filter>());
  FakeEvents events;
  NetDevice device(std::make_unique<FramePath>(std::move(backend), std::move(filters),
                                               FramePath::Settings{.name = "fuzz"}, log),
                   {.mac = own, .queue_size = queue_size});
  std::uint64_t features = device.features() & (input.number(8) | feature_ctrl_vq);
  if ((choices & 4) != 0) features = device.features();
  end.features = features;

  std::vector<std::unique_ptr<Ring>> rings;
  for (std::uint16_t index = 0; index < 3; ++index) rings.push_back(std::make_unique<Ring>(memory, index));
  while (!input.empty()) {
    switch (input.number(1) % 8) {
      case 0:
      case 1:
        add_request(input, memory, rings[1]->ring, false);
        break;
      case 2:
      case 3:
        add_request(input, memory, rings[0]->ring, true);
        break;
      case 4:
        add_command(input, memory, rings[2]->ring);
        break;
      case 5:
      case 6:
        add_frame(input, end);
        break;
      default: {  // anything anywhere in the rings
        const std::uint64_t at = input.number(2) % (3 * 4096 - 8);
        memory.write_bytes({at}, input.bytes(1 + input.number(1) % 8));
      }
    }
  }

  std::vector<virtio::ActiveQueue> queues;
  for (std::uint16_t index = 0; index < 3; ++index) {
    const virtio::QueueLayout layout = rings[index]->ring.layout((choices & 8) != 0, (choices & 16) != 0);
    queues.push_back({.index = index,
                      .queue = std::make_unique<virtio::VirtQueue>(memory, layout, [] {}),
                      .kick_fd = rings[index]->kick.fd()});
  }
  device.activate(features, std::move(queues), events);
  for (const std::size_t index : {2u, 1u}) wait_for(rings[index]->ring, events);
  const auto back = device.suspend();
  require(back.size() == 3);
  for (const virtio::ActiveQueue& each : back) require(each.queue->with_device() == 0);
  return 0;
}
