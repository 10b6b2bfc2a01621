// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constexpr std::uint32_t type_in = 0;
constexpr std::uint32_t type_out = 1;
constexpr std::uint32_t type_flush = 4;
constexpr std::uint32_t type_get_id = 8;
constexpr std::uint64_t feature_flush = 1 << 9;
constexpr std::uint32_t sector_size = 512;

// Requests to the block device (virtio 1.2, 5.2.6).
struct Disk {
  VirtioDevice& device;
  VirtioQueue queue{};
  struct Header {
    std::uint32_t type;
    std::uint32_t reserved;
    std::uint64_t sector;
  } header{};
  volatile std::uint8_t status = 0;
  std::uint32_t written = 0;

  // False if the device does not answer or says no.
  bool request(std::uint32_t type, std::uint64_t sector, const void* data, std::uint32_t size) {
    header = {type, 0, sector};
    status = 0xff;
    const VirtioBuffer buffers[] = {
        {&header, sizeof(header), false}, {data, size, type != type_out}, {&status, 1, true}};
    const VirtioBuffer without_data[] = {buffers[0], buffers[2]};
    const bool answered = size != 0 ? device.request(0, queue, buffers, 3, written)
                                    : device.request(0, queue, without_data, 2, written);
    return answered && status == 0;
  }
};

constinit char data[sector_size]{};
constinit char copy[sector_size]{};

// The content of the disk of `yes hummingbird | head -c SIZE`.
bool is_pattern(const char* bytes) {
  constexpr Text line = "hummingbird\n";
  std::size_t place = 0;
  for (std::uint32_t i = 0; i < sector_size; ++i) {
    if (bytes[i] != line[place]) return false;
    place = place + 1 == line.size() ? 0 : place + 1;
  }
  return true;
}

}  // namespace

// A block device: reads sector 0, writes and reads back sector 1, flushes, asks for its id, and interrupts.
// transport=pci|mmio, sectors=N the capacity expected, serial=TEXT the id expected, interrupts=off if none
// can arrive.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  VirtioDevice* device = find_virtio_device(boot, virtio_block);
  check(1, device != nullptr, "block device");
  check(2, device->begin(feature_flush), "feature negotiation");
  check(3, device->queue_size(0) >= VirtioQueue::entries, "size of queue 0");
  Disk disk{*device};
  device->set_queue(0, disk.queue);
  device->finish();
  enable_interrupts();

  const auto capacity = device->config<std::uint64_t>(0);
  print("capacity ", capacity, " sectors\n");
  const Text sectors = boot.option("sectors");
  if (!sectors.empty()) check(4, capacity == parse_number(sectors), "capacity");

  check(5, disk.request(type_in, 0, data, sector_size), "read of sector 0");
  check(6, disk.written == sector_size + 1, "length of the read");
  check(7, is_pattern(data), "content of sector 0");

  for (std::uint32_t i = 0; i < sector_size; ++i) data[i] = static_cast<char>(i * 7);
  check(8, disk.request(type_out, 1, data, sector_size), "write of sector 1");
  check(9, disk.written == 1, "length of the write");
  check(10, disk.request(type_in, 1, copy, sector_size), "read of sector 1");
  check(11, __builtin_memcmp(data, copy, sector_size) == 0, "content of sector 1");

  if ((device->features() & feature_flush) != 0) check(12, disk.request(type_flush, 0, nullptr, 0), "flush");

  char id[21] = {};
  check(13, disk.request(type_get_id, 0, id, 20), "id");
  print("id ", Text(id), "\n");
  const Text serial = boot.option("serial");
  if (!serial.empty()) check(14, Text(id) == serial, "the id is what serial= says");

  check(15, !disk.request(type_in, capacity, data, sector_size) && disk.status == 1,
        "read past the end fails");
  check(16, !disk.request(99, 0, data, sector_size) && disk.status == 2, "unknown request is unsupported");

  if (boot.option("interrupts") != "off") {
    check(17, device->has_interrupts(), "route of the interrupt");
    check(18, wait_until([] { return virtio_interrupts() > 0; }), "interrupt");
  }
  print("interrupts ", std::uint64_t{virtio_interrupts()}, "\n");
  check(19, device->reset(), "reset");
  return 0;
}
