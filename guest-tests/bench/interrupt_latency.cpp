// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/doorbell.h"
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

namespace {

constexpr unsigned rounds = 10;
constexpr unsigned samples = 100;
constexpr std::uint8_t timer_vector = 34;
constexpr std::uint8_t pin_vector = 35;

constinit volatile std::uint64_t arrived = 0;  // the counter in the handler; 0: not yet
constinit Doorbell entropy{};
constinit VirtioQueue queue{};
constinit std::uint64_t entropy_data = 0;

void wait_for_arrival() {
  check(125, wait_until([] { return arrived != 0; }, 3), "the interrupt arrives");
}

// The mean of latency(), in cycles, in the best of the rounds; at CPL 3, where interrupts arrive. Their
// handlers are at CPL 0 all the same.
template <class Latency>
std::uint64_t least_mean(const Latency& latency) {
  std::uint64_t least = ~std::uint64_t{0};
  const Exception met = exception_in_user_mode(
      Ports::by_map,
      [&] {
        for (unsigned round = 0; round < rounds; ++round) {
          std::uint64_t total = 0;
          for (unsigned i = 0; i < samples; ++i) {
            arrived = 0;
            total += latency();
          }
          if (total / samples < least) least = total / samples;
        }
      },
      Interrupts::on);
  check(126, met.vector == Exception::none, "no exception at CPL 3");
  return least;
}

void print_latency(Text name, std::uint64_t cycles) {
  const Duration latency = duration_of(cycles);
  print(name, " ", latency.value, " ", latency.unit, "\n");
}

// The local APIC's timer, past its deadline: no VMM takes part. The handler sets the next.
void measure_timer() {
  constexpr std::uint32_t has_deadline = 1 << 24;
  if ((cpuid(1).ecx & has_deadline) == 0) return;
  constexpr std::uint32_t deadline_mode = 2 << 17;
  static constinit volatile std::uint64_t deadline = 0;
  static constinit volatile std::uint64_t late = 0;
  static constexpr auto set_deadline = [] {
    constexpr std::uint32_t deadline_msr = 0x6e0;
    constexpr std::uint64_t ahead = 2'000'000;  // under a millisecond
    deadline = read_tsc() + ahead;
    write_msr(deadline_msr, deadline);
  };
  set_interrupt_handler(timer_vector, [] {
    const std::uint64_t now = read_tsc();
    late = now - deadline;
    arrived = now;
    set_deadline();
  });
  write_local_apic(LocalApic::timer, deadline_mode | timer_vector);
  set_deadline();
  const std::uint64_t cycles = least_mean([] {
    wait_for_arrival();
    return std::uint64_t{late};
  });
  write_local_apic(LocalApic::timer, pin_masked | timer_vector);
  print_latency("interrupt_timer", cycles);
}

// The serial port's transmitter, always empty, raises pin 4 when a write at CPL 3 switches its interrupt on.
void measure_pin() {
  constexpr std::uint8_t transmitter = 0x02;
  set_interrupt_handler(pin_vector, [] {
    arrived = read_tsc();
    in8(serial::interrupt_id);  // takes the condition away
  });
  route_pin(serial_pin, pin_vector);
  out8(serial::modem_control, serial::out2);
  const std::uint64_t cycles = least_mean([] {
    const std::uint64_t start = read_tsc();
    out8(serial::interrupt_enable, transmitter);
    wait_for_arrival();
    out8(serial::interrupt_enable, 0);
    return arrived - start;
  });
  mask_pin(serial_pin);
  print_latency("interrupt_pin", cycles);
}

// A request to an entropy device: notified at CPL 3, served, answered with an interrupt.
void measure_device(const BootInfo& boot) {
  entropy = find_doorbell(boot, virtio_rng);
  if (entropy.device == nullptr) return;
  check(1, entropy.device->begin(), "feature negotiation");
  check(2, entropy.device->has_interrupts(), "route of the device's interrupt");
  set_interrupt_handler(entropy.device->vector(), [] {
    arrived = read_tsc();
    entropy.device->acknowledge_interrupt();
  });
  entropy.device->set_queue(0, queue);
  entropy.device->finish();
  const VirtioBuffer buffer{&entropy_data, sizeof(entropy_data), true};
  const std::uint64_t cycles = least_mean([&] {
    queue.add(&buffer, 1);
    const std::uint64_t start = read_tsc();
    entropy.ring();
    wait_for_arrival();
    queue.take();
    return arrived - start;
  });
  print_latency("interrupt_device", cycles);
}

}  // namespace

// From the cause of an interrupt to its handler in C++. interrupt_self: the local APIC alone; interrupt_pin:
// a port exit and a pin of the I/O APIC; interrupt_device: a request to a virtio device and back, left out
// where there is none. transport=pci|mmio.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  measure_timer();
  measure_pin();
  measure_device(boot);
  return 0;
}
