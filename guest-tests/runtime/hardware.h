// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Instructions that C++ does not have, and access to physical memory. Memory is mapped one to one, so a
// physical address is an address. Only instructions that KVM's instruction emulator knows.
namespace guest {

template <class T>
T read(std::uint64_t address) {
  return *reinterpret_cast<const volatile T*>(address);
}

template <class T>
void write(std::uint64_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}

inline std::uint64_t address_of(const volatile void* object) {
  return reinterpret_cast<std::uint64_t>(object);
}

inline std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

inline std::uint16_t in16(std::uint16_t port) {
  std::uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

inline std::uint32_t in32(std::uint16_t port) {
  std::uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

inline void out8(std::uint16_t port, std::uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

inline void out16(std::uint16_t port, std::uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

inline void out32(std::uint16_t port, std::uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

inline std::uint64_t read_msr(std::uint32_t number) {
  std::uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number) : "memory");
  return std::uint64_t{high} << 32 | low;
}

inline void write_msr(std::uint32_t number, std::uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(number), "a"(static_cast<std::uint32_t>(value)),
                 "d"(static_cast<std::uint32_t>(value >> 32))
               : "memory");
}

struct CpuidResult {
  std::uint32_t eax, ebx, ecx, edx;
};

inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  CpuidResult r;
  asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return r;
}

inline std::uint64_t read_tsc() {
  std::uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return std::uint64_t{high} << 32 | low;
}

inline void pause() {
  asm volatile("pause" : : : "memory");
}
inline void enable_interrupts() {
  asm volatile("sti" : : : "memory");
}
inline void disable_interrupts() {
  asm volatile("cli" : : : "memory");
}
// Sleeps until the next interrupt, with none lost in between, and returns with interrupts off.
inline void wait_for_interrupt() {
  asm volatile("sti; hlt; cli" : : : "memory");
}
// Orders all earlier stores before all later loads (mfence is not in KVM's emulator).
inline void full_barrier() {
  asm volatile("lock; orl $0, (%%rsp)" : : : "memory", "cc");
}

[[noreturn]] inline void stop() {
  while (true) asm volatile("cli; hlt" : : : "memory");
}

// Lets so many cycles of the time stamp counter go by; interrupts that are under way arrive meanwhile.
inline void let_pass(std::uint64_t cycles) {
  const std::uint64_t start = read_tsc();
  while (read_tsc() - start < cycles) pause();
}

// A moment about `seconds` from now on a 2 to 4 GHz processor: only to end a wait that has failed anyway.
class Deadline {
 public:
  explicit Deadline(unsigned seconds) : end_(read_tsc() + seconds * std::uint64_t{3'000'000'000}) {}
  bool passed() const { return read_tsc() > end_; }

 private:
  std::uint64_t end_;
};

// Waits until condition() holds, with whatever the interrupt flag is; false if it did not within so many
// seconds.
template <class Condition>
bool wait_until(Condition&& condition, unsigned seconds = 10) {
  const Deadline deadline(seconds);
  while (!condition()) {
    if (deadline.passed()) return false;
    pause();
  }
  return true;
}

}  // namespace guest
