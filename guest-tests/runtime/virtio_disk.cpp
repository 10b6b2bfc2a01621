// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_disk.h"

#include "guest-tests/runtime/hardware.h"

namespace guest {

bool VirtioDisk::open(const BootInfo& boot, std::uint64_t features, std::uint16_t entries) {
  device = find_virtio_device(boot, virtio_block);
  return device != nullptr && start(features, entries);
}

bool VirtioDisk::start(std::uint64_t features, std::uint16_t entries) {
  if (!device->begin(features)) return false;
  device->set_queue(0, queue, entries);
  device->finish();
  return true;
}

VirtioDisk::Parts VirtioDisk::begin_request(std::uint32_t type, std::uint64_t sector,
                                            const volatile void* data, std::uint32_t size) {
  header = {type, 0, sector};
  status = unanswered;
  const bool device_reads = type == out || type == discard || type == write_zeroes;
  return {{{&header, sizeof(header), false}, {data, size, !device_reads}, {&status, 1, true}}};
}

std::uint16_t VirtioDisk::place(std::uint32_t type, std::uint64_t sector, const volatile void* data,
                                std::uint32_t size) {
  const Parts whole = begin_request(type, sector, data, size);
  const VirtioBuffer without_data[] = {whole.buffers[0], whole.buffers[2]};
  return size != 0 ? queue.place(whole.buffers, 3) : queue.place(without_data, 2);
}

void VirtioDisk::place_in_table(volatile VirtioDescriptor* table, std::uint32_t type, std::uint64_t sector,
                                const volatile void* data, std::uint32_t size) {
  write_chain(table, 0, begin_request(type, sector, data, size).buffers, 3);
}

std::uint8_t VirtioDisk::send(std::uint16_t head) {
  queue.offer(head);
  device->notify(0);
  if (!wait_until([this] { return queue.has_used(); }, 3)) return unanswered;
  written = queue.take().size;
  return status;
}

bool is_disk_pattern(const volatile char* data, std::uint32_t size, std::uint64_t sector) {
  constexpr Text line = "hummingbird\n";
  std::size_t place = sector * VirtioDisk::sector_size % line.size();
  for (std::uint32_t i = 0; i < size; ++i) {
    if (data[i] != line[place]) return false;
    place = place + 1 == line.size() ? 0 : place + 1;
  }
  return true;
}

}  // namespace guest
