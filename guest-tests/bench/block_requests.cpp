// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/doorbell.h"
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr unsigned most_in_flight = 64;
constexpr unsigned pieces = 3;  // descriptors of a request
constexpr std::uint64_t data_at = 16 << 20;

struct Slot {
  VirtioDisk::Header header;
  volatile std::uint8_t status;
};

// Reads from the start of the disk to its end and again, so many in flight, polled at CPL 3. Each slot has
// its own place in memory.
class Reader {
 public:
  void open(const BootInfo& boot, std::uint32_t size) {
    bell_ = find_doorbell(boot, virtio_block);
    check(1, bell_.device != nullptr, "block device");
    check(2, bell_.device->begin(), "feature negotiation");
    constexpr std::uint16_t entries = 256;
    check(3, bell_.device->queue_size(0) >= entries, "room in the queue");
    bell_.device->set_queue(0, queue_, entries);
    queue_.available.flags = VirtioQueue::Available::no_interrupt;
    bell_.device->finish();
    sectors_ = size / VirtioDisk::sector_size;
    capacity_ = bell_.device->config<std::uint64_t>(0);
    check(4, sectors_ != 0 && sectors_ <= capacity_, "size of a request");
    for (unsigned i = 0; i < most_in_flight; ++i) {
      slots_[i].header.type = VirtioDisk::in;
      const VirtioBuffer buffers[pieces] = {{&slots_[i].header, sizeof(VirtioDisk::Header), false},
                                            {reinterpret_cast<void*>(data_at + i * size), size, true},
                                            {&slots_[i].status, 1, true}};
      queue_.place(buffers, pieces);
    }
  }

  void read(unsigned depth, std::uint32_t requests) {
    std::uint32_t sent = 0;
    while (sent < depth && sent < requests) submit(sent++);
    notify();
    const Deadline deadline(20);
    for (std::uint32_t done = 0; done < requests; pause()) {
      const std::uint32_t sent_before = sent;
      while (queue_.has_used()) {
        const std::uint32_t slot = queue_.take().id / pieces;
        check(5, slot < most_in_flight && slots_[slot].status == VirtioDisk::ok, "status of a request");
        ++done;
        if (sent == requests) continue;
        submit(slot);
        ++sent;
      }
      if (sent != sent_before) notify();
      check(6, !deadline.passed(), "answers in time");
    }
  }

 private:
  void submit(std::uint32_t slot) {
    slots_[slot].header.sector = next_;
    slots_[slot].status = VirtioDisk::unanswered;
    next_ = next_ + 2 * sectors_ > capacity_ ? 0 : next_ + sectors_;
    queue_.offer(static_cast<std::uint16_t>(slot * pieces));
  }

  void notify() const {
    if ((queue_.used.flags & VirtioQueue::Used::no_notify) == 0) bell_.ring();
  }

  Doorbell bell_{};
  VirtioQueue queue_{};
  Slot slots_[most_in_flight]{};
  std::uint64_t sectors_ = 0;  // of one request
  std::uint64_t capacity_ = 0;
  std::uint64_t next_ = 0;
};

constinit Reader reader{};

void measure_reads(unsigned depth, std::uint32_t requests) {
  const std::uint64_t cycles = least_cycles(5, [=] { reader.read(depth, requests); });
  const Duration each = duration_of(cycles / requests);
  print("block_read_", std::uint64_t{depth}, " ", each.value, " ", each.unit, "\n");
}

}  // namespace

// What a read of a block device costs when so many are in flight: depth=N (1, 4, 16 and 64), requests=N of
// them (1000), size=N bytes each (4096), transport=pci|mmio.
std::uint32_t guest_main(const BootInfo& boot) {
  const auto number = [&](Text key, std::uint32_t otherwise) {
    return static_cast<std::uint32_t>(parse_number(boot.option(key), otherwise));
  };
  const std::uint32_t requests = number("requests", 1000);
  reader.open(boot, number("size", 4096));
  const unsigned only = number("depth", 0);
  check(7, requests != 0 && only <= most_in_flight, "options");
  constexpr unsigned depths[] = {1, 4, 16, most_in_flight};
  for (const unsigned depth : depths) {
    if (only == 0) measure_reads(depth, requests);
  }
  if (only != 0) measure_reads(only, requests);
  return 0;
}
