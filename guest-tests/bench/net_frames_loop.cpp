// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/bench/doorbell.h"
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constexpr std::uint16_t entries = 256;  // of each queue, and buffers in it
constexpr std::uint64_t receive_at = 16 << 20;
constexpr std::uint32_t receive_size = 2048;
constexpr std::uint32_t most_frame = 1514;

// Sends frames that come back, so many on their way, polled at CPL 3.
class Looper {
 public:
  void open(const BootInfo& boot, std::uint32_t frame_size) {
    receive_bell_ = find_doorbell(boot, virtio_net, 0);
    transmit_bell_ = find_doorbell(boot, virtio_net, 1);
    VirtioDevice* const device = transmit_bell_.device;
    check(1, device != nullptr, "network interface");
    check(2, device->begin(VirtioNet::has_mac), "feature negotiation");
    check(4, device->queue_size(0) >= entries && device->queue_size(1) >= entries, "room in the queues");
    device->set_queue(0, receive_, entries);
    device->set_queue(1, transmit_, entries);
    for (VirtioQueue* const each : {&receive_, &transmit_})
      each->available.flags = VirtioQueue::Available::no_interrupt;
    for (std::uint32_t i = 0; i < 6; ++i)
      frame_[VirtioNet::header_size + i] = device->config<std::uint8_t>(i);
    frame_[VirtioNet::header_size + 12] = 0x88;  // local experimental (IEEE 802, 9.2.3)
    frame_[VirtioNet::header_size + 13] = 0xb5;
    for (std::uint16_t i = 0; i < entries; ++i) {
      const VirtioBuffer to_fill{reinterpret_cast<void*>(receive_at + i * receive_size), receive_size, true};
      receive_.add(&to_fill, 1);
      const VirtioBuffer to_send{frame_, VirtioNet::header_size + frame_size, false};
      transmit_.place(&to_send, 1);
    }
    device->finish();
    receive_bell_.ring();
  }

  void run(unsigned depth, std::uint32_t frames) {
    std::uint32_t sent = 0;
    while (sent < depth && sent < frames) send(sent++);
    notify(transmit_, transmit_bell_);
    const Deadline deadline(60);
    for (std::uint32_t done = 0; done < frames; pause()) {
      const std::uint32_t done_before = done;
      const std::uint32_t sent_before = sent;
      for (; receive_.has_used(); ++done) {
        receive_.offer(static_cast<std::uint16_t>(receive_.take().id));
        if (sent < frames) send(sent++);
      }
      if (sent != sent_before) notify(transmit_, transmit_bell_);
      if (done != done_before) notify(receive_, receive_bell_);
      while (transmit_.has_used()) transmit_.take();
      check(5, !deadline.passed(), "frames in time");
    }
    check(6, wait_until([&] { return all_given_back(); }), "frames given back");
  }

 private:
  // Each frame has a descriptor of its own as long as no more are on their way than there are descriptors.
  void send(std::uint32_t number) { transmit_.offer(static_cast<std::uint16_t>(number % entries)); }

  bool all_given_back() {
    while (transmit_.has_used()) transmit_.take();
    return transmit_.used.index == transmit_.available.index;
  }

  static void notify(const VirtioQueue& queue, const Doorbell& bell) {
    if ((queue.used.flags & VirtioQueue::Used::no_notify) == 0) bell.ring();
  }

  Doorbell receive_bell_{};
  Doorbell transmit_bell_{};
  VirtioQueue receive_{};
  VirtioQueue transmit_{};
  std::uint8_t frame_[VirtioNet::header_size + most_frame]{};
};

constinit Looper looper{};

}  // namespace

// What a frame costs that an interface sends and receives again when so many are on their way: depth=N
// (without it 1, 4, 16 and 64), frames=N of them (1000), size=N bytes each (60), rounds=N of which the best
// counts (5), transport=pci|mmio. The host's end has to send frames back as they are.
std::uint32_t guest_main(const BootInfo& boot) {
  const auto number = [&](Text key, std::uint32_t otherwise) {
    return static_cast<std::uint32_t>(parse_number(boot.option(key), otherwise));
  };
  const std::uint32_t frames = number("frames", 1000);
  const std::uint32_t rounds = number("rounds", 5);
  const std::uint32_t size = number("size", 60);
  const unsigned only = number("depth", 0);
  check(3, size >= 14 && size <= most_frame && only <= entries && frames != 0 && rounds != 0, "options");
  looper.open(boot, size);
  constexpr unsigned depths[] = {1, 4, 16, 64};
  for (const unsigned each : depths) {
    const unsigned depth = only != 0 ? only : each;
    const std::uint64_t cycles = least_cycles(rounds, [=] { looper.run(depth, frames); });
    const Duration one = duration_of(cycles / frames);
    print("net_loop_", std::uint64_t{depth}, " ", one.value, " ", one.unit, "\n");
    if (only != 0) break;
  }
  return 0;
}
