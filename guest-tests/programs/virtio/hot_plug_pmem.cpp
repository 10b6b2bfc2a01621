// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/pci.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

// As in hot_plug.cpp.
constexpr std::uint16_t inserted = 0x620;
constexpr std::uint16_t leaving = 0x624;
constexpr std::uint16_t eject = 0x628;

constexpr std::uint32_t virtio_pmem = 27;
constexpr std::uint64_t size = 2 << 20;

constinit VirtioDevice* memory = nullptr;
constinit VirtioQueue queue{};
constinit std::uint32_t flush = 0;
constinit volatile std::uint32_t answer = 0;

unsigned wait_for_insertion() {
  for (;;)
    if (const std::uint32_t slots = in32(inserted); slots != 0)
      return static_cast<unsigned>(__builtin_ctz(slots));
}

// Its first byte.
volatile char* open(const BootInfo& boot) {
  memory = find_virtio_device(boot, virtio_pmem);
  check(1, memory != nullptr && memory->begin(), "a device with memory");
  memory->set_queue(0, queue);
  memory->finish();
  check(2, memory->config<std::uint64_t>(8) == size, "2 MiB of memory");
  return reinterpret_cast<volatile char*>(memory->config<std::uint64_t>(0));
}

void bring_to_disk() {
  answer = 1;
  const VirtioBuffer buffers[] = {{&flush, sizeof flush, false}, {&answer, sizeof answer, true}};
  std::uint32_t written = 0;
  check(3, memory->request(0, queue, buffers, 2, written) && answer == 0, "a flush");
}

}  // namespace

// Files that come as memory and go while the guest runs: the first begins with 'a', the second with 'b', and
// both are 2 MiB large. Whoever runs this does as with hot_plug.
std::uint32_t guest_main(const BootInfo& boot) {
  check(4, find_virtio_device(boot, virtio_pmem) == nullptr, "no memory at the start");
  print("ready\n");
  const unsigned slot = wait_for_insertion();
  volatile char* const first = open(boot);
  check(5, first[0] == 'a' && first[size - 1] == 0, "the first file");
  first[1] = 'x';
  first[size - 1] = 'y';
  bring_to_disk();
  print("used\n");
  while ((in32(leaving) >> slot & 1) == 0) {
  }
  out32(eject, 1u << slot);
  check(6, !PciFunction(slot, 0).present(), "an empty slot");
  print("gone\n");
  check(7, wait_for_insertion() == slot, "the slot that is filled again");
  volatile char* const second = open(boot);
  check(8, second == first && second[0] == 'b' && second[1] == 0,
        "the second file, in the place of the first");
  second[1] = 'z';
  bring_to_disk();
  return 0;
}
