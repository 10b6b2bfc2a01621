// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/doorbell.h"
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr unsigned most_in_flight = 128;
constexpr unsigned pieces = 3;  // descriptors of a request
// Without it the device makes each write durable before it answers (virtio 1.2, 5.2.6.2).
constexpr std::uint64_t virtio_block_flush = 1 << 9;
constexpr std::uint64_t data_at = 16 << 20;

struct Options {
  std::uint32_t size;  // bytes of a request
  bool write;
  bool random;
};

struct Slot {
  VirtioDisk::Header header;
  volatile std::uint8_t status;
  std::uint64_t start;
};

// How many requests took how long: 16 steps for each doubling of the cycles.
class Histogram {
 public:
  void clear() {
    for (std::uint32_t& each : counts_) each = 0;
  }
  void add(std::uint64_t cycles) { ++counts_[step_of(cycles)]; }
  // The cycles below which this many of 1000 requests stayed, to one step.
  std::uint64_t below(std::uint64_t thousandths, std::uint64_t requests) const {
    std::uint64_t seen = 0;
    unsigned step = 0;
    while (step < steps - 1 && (seen += counts_[step]) * 1000 < thousandths * requests) ++step;
    const unsigned doubling = step / parts;
    return doubling == 0 ? step + 1 : std::uint64_t{parts + step % parts + 1} << (doubling - 1);
  }

 private:
  static constexpr unsigned parts = 16;
  static constexpr unsigned steps = 48 * parts;

  static unsigned step_of(std::uint64_t cycles) {
    if (cycles < parts) return static_cast<unsigned>(cycles);
    unsigned doubling = 1;
    for (; cycles >= 2 * parts && doubling < 47; cycles >>= 1) ++doubling;
    return doubling * parts + static_cast<unsigned>(cycles % parts);
  }

  std::uint32_t counts_[steps]{};
};

// Reads or writes, so many in flight, polled at CPL 3: from the start of the disk to its end and again, or
// anywhere. Each slot has its own place in memory.
class Requester {
 public:
  void open(const BootInfo& boot, const Options& options) {
    bell_ = find_doorbell(boot, virtio_block);
    check(1, bell_.device != nullptr, "block device");
    check(2, bell_.device->begin(virtio_block_flush), "feature negotiation");
    constexpr std::uint16_t most_entries = 512;
    const std::uint16_t offered = bell_.device->queue_size(0);
    entries_ = offered < most_entries ? offered : most_entries;
    bell_.device->set_queue(0, queue_, entries_);
    queue_.available.flags = VirtioQueue::Available::no_interrupt;
    bell_.device->finish();
    random_ = options.random;
    sectors_ = options.size / VirtioDisk::sector_size;
    const auto capacity = bell_.device->config<std::uint64_t>(0);
    check(4, sectors_ != 0 && sectors_ <= capacity, "size of a request");
    places_ = capacity / sectors_;
    for (unsigned i = 0; i < slots(); ++i) {
      slots_[i].header.type = options.write ? VirtioDisk::out : VirtioDisk::in;
      const VirtioBuffer buffers[pieces] = {
          {&slots_[i].header, sizeof(VirtioDisk::Header), false},
          {reinterpret_cast<void*>(data_at + i * options.size), options.size, !options.write},
          {&slots_[i].status, 1, true}};
      queue_.place(buffers, pieces);
    }
  }

  // How many may be in flight.
  unsigned slots() const {
    const unsigned fit = entries_ / pieces;
    return fit < most_in_flight ? fit : most_in_flight;
  }

  const Histogram& histogram() const { return histogram_; }

  void run(unsigned depth, std::uint32_t requests) {
    histogram_.clear();
    std::uint32_t sent = 0;
    while (sent < depth && sent < requests) submit(sent++);
    notify();
    const Deadline deadline(60);
    for (std::uint32_t done = 0; done < requests; pause()) {
      const std::uint32_t sent_before = sent;
      while (queue_.has_used()) {
        const std::uint32_t slot = queue_.take().id / pieces;
        check(5, slot < most_in_flight && slots_[slot].status == VirtioDisk::ok, "status of a request");
        histogram_.add(read_tsc() - slots_[slot].start);
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
    slots_[slot].header.sector = next_place() * sectors_;
    slots_[slot].status = VirtioDisk::unanswered;
    slots_[slot].start = read_tsc();
    queue_.offer(static_cast<std::uint16_t>(slot * pieces));
  }

  std::uint64_t next_place() {
    if (!random_) return next_ = next_ + 1 < places_ ? next_ + 1 : 0;
    next_ = next_ * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX generator
    return (next_ >> 20) % places_;
  }

  void notify() const {
    if ((queue_.used.flags & VirtioQueue::Used::no_notify) == 0) bell_.ring();
  }

  Doorbell bell_{};
  VirtioQueue queue_{};
  Slot slots_[most_in_flight]{};
  Histogram histogram_{};
  std::uint16_t entries_ = 0;
  bool random_ = false;
  std::uint64_t sectors_ = 0;  // of one request
  std::uint64_t places_ = 0;   // requests that the disk has room for
  std::uint64_t next_ = 0;
};

constinit Requester requester{};

void print_duration(Text kind, unsigned depth, Text what, std::uint64_t cycles) {
  const Duration each = duration_of(cycles);
  print(kind, std::uint64_t{depth}, what, " ", each.value, " ", each.unit, "\n");
}

void measure_requests(Text kind, unsigned depth, std::uint32_t requests, unsigned rounds) {
  const std::uint64_t cycles = least_cycles(rounds, [=] { requester.run(depth, requests); });
  print_duration(kind, depth, "", cycles / requests);
}

}  // namespace

// What a request to a block device costs when so many are in flight: depth=N (without it 1, 4, 16 and 64),
// requests=N of them (1000), size=N bytes each (4096), write=1, random=1 for places all over the disk,
// rounds=N of which the best counts (5), transport=pci|mmio. With depth=N also how long the requests of the
// last round took: p50, p99 and p999.
std::uint32_t guest_main(const BootInfo& boot) {
  const auto number = [&](Text key, std::uint32_t otherwise) {
    return static_cast<std::uint32_t>(parse_number(boot.option(key), otherwise));
  };
  const std::uint32_t requests = number("requests", 1000);
  const std::uint32_t rounds = number("rounds", 5);
  const Options options{number("size", 4096), number("write", 0) != 0, number("random", 0) != 0};
  const Text kind = options.write ? Text("block_write_") : Text("block_read_");
  requester.open(boot, options);
  const unsigned only = number("depth", 0);
  check(3, only <= requester.slots() && requester.slots() >= 64, "room in the queue");
  check(7, requests != 0 && rounds != 0, "options");
  if (only == 0) {
    constexpr unsigned depths[] = {1, 4, 16, 64};
    for (const unsigned depth : depths) measure_requests(kind, depth, requests, rounds);
    return 0;
  }
  measure_requests(kind, only, requests, rounds);
  print_duration(kind, only, "_p50", requester.histogram().below(500, requests));
  print_duration(kind, only, "_p99", requester.histogram().below(990, requests));
  print_duration(kind, only, "_p999", requester.histogram().below(999, requests));
  return 0;
}
