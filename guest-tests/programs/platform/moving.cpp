// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/processors.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr std::uint32_t requests_per_line = 4;
constexpr std::uint64_t sectors = 64;
constexpr std::uint32_t words = VirtioDisk::sector_size / sizeof(std::uint64_t);

constinit VirtioDisk disk{};
constinit std::uint64_t written[words]{};
constinit std::uint64_t seen[words]{};
constinit volatile std::uint32_t ticks = 0;
constinit volatile std::uint32_t turns = 0;  // of the second processor

void tick() {
  ticks = ticks + 1;
}

void second_processor() {
  while (true) {
    turns = turns + 1;
    pause();
  }
}

// The APIC timer in each of its modes in turn.
class Timer {
 public:
  static constexpr std::uint8_t vector = 34;
  static constexpr std::uint32_t clocks = 200'000;

  Timer() : modes_((cpuid(1).ecx & 1 << 24) != 0 ? 3 : 2) {
    constexpr std::uint32_t divide_by_1 = 0xb;
    set_interrupt_handler(vector, tick);
    write_local_apic(LocalApic::timer_divide, divide_by_1);
  }

  void start(std::uint64_t turn) const {
    constexpr std::uint32_t one_shot = 0;
    constexpr std::uint32_t periodic = 1 << 17;
    constexpr std::uint32_t deadline = 2 << 17;
    constexpr std::uint32_t deadline_msr = 0x6e0;
    const std::uint32_t mode = turn % modes_ == 0 ? one_shot : turn % modes_ == 1 ? periodic : deadline;
    write_local_apic(LocalApic::timer, mode | vector);
    if (mode == deadline)
      write_msr(deadline_msr, read_tsc() + clocks);
    else
      write_local_apic(LocalApic::timer_initial, clocks);
  }
  static void stop() {
    constexpr std::uint32_t masked = 1 << 16;
    write_local_apic(LocalApic::timer_initial, 0);
    write_local_apic(LocalApic::timer, masked | vector);
  }

 private:
  unsigned modes_;
};

// One request whose answer is an interrupt.
void request(std::uint32_t type, std::uint64_t sector, void* data) {
  const std::uint32_t before = disk.device->interrupts();
  const std::uint32_t head = disk.place(type, sector, data, VirtioDisk::sector_size);
  disk.queue.offer(static_cast<std::uint16_t>(head));
  disk.device->notify(0);
  check(2, wait_until([&] { return disk.device->interrupts() != before; }), "interrupt of the disk");
  check(3, disk.queue.has_used(), "answer of the disk");
  disk.queue.take();
  check(4, disk.status == VirtioDisk::ok, "status of the request");
}

}  // namespace

// Writes to a disk and reads back, waits for timers, and prints a line about it again and again: the same
// text however often the machine is stopped and goes on elsewhere. lines=N how many; cpus=2: a second
// processor counts.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  const Timer timer;
  check(1, disk.open(boot) && disk.device->has_interrupts(), "disk with an interrupt");
  const bool two = boot.option("cpus") == "2";
  if (two) start_processors(find_processors(), second_processor);
  enable_interrupts();

  std::uint64_t number = 0x9e3779b97f4a7c15;
  std::uint64_t sum = 0;
  const std::uint64_t lines = parse_number(boot.option("lines"), 20);
  for (std::uint64_t line = 0; line < lines; ++line) {
    const std::uint32_t ticks_before = ticks;
    const std::uint32_t turns_before = turns;
    timer.start(line);
    for (std::uint32_t i = 0; i < requests_per_line; ++i) {
      const std::uint64_t sector = (line * requests_per_line + i) % sectors;
      for (std::uint64_t& word : written) word = number += 0x9e3779b97f4a7c15;
      request(VirtioDisk::out, sector, written);
      request(VirtioDisk::in, sector, seen);
      for (std::uint32_t word = 0; word < words; ++word) {
        check(5, seen[word] == written[word], "content of the disk");
        sum = sum * 31 + seen[word];
      }
    }
    check(6, wait_until([&] { return ticks != ticks_before; }), "tick of the timer");
    Timer::stop();
    if (two) check(7, wait_until([&] { return turns != turns_before; }), "the second processor goes on");
    print("line ", line, " sum ", hex(sum), "\n");
  }
  return 0;
}
