// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/virtio.h"

namespace guest {

// Requests to a block device (virtio 1.2, 5.2.6), one at a time.
class VirtioDisk {
 public:
  static constexpr std::uint32_t sector_size = 512;
  static constexpr std::uint32_t in = 0;
  static constexpr std::uint32_t out = 1;
  static constexpr std::uint32_t flush = 4;
  static constexpr std::uint32_t get_id = 8;
  static constexpr std::uint32_t discard = 11;
  static constexpr std::uint32_t write_zeroes = 13;
  static constexpr std::uint8_t ok = 0;
  static constexpr std::uint8_t io_error = 1;
  static constexpr std::uint8_t unsupported = 2;
  static constexpr std::uint8_t unanswered = 0xff;

  struct Header {
    std::uint32_t type;
    std::uint32_t reserved;
    std::uint64_t sector;
  };

  // A range of discard and write_zeroes.
  struct Segment {
    std::uint64_t sector;
    std::uint32_t sectors;
    std::uint32_t flags;
  };

  // Finds the disk of the command line's transport and brings it up; again after a reset. False if there is
  // none or it refuses.
  bool open(const BootInfo& boot, std::uint64_t features = 0, std::uint16_t entries = 16);
  bool start(std::uint64_t features = 0, std::uint16_t entries = 16);

  // Writes a request's header and descriptors (header, data unless size is 0, status), unseen by the device,
  // and returns its head.
  std::uint16_t place(std::uint32_t type, std::uint64_t sector, const volatile void* data,
                      std::uint32_t size);
  // The same with data, into the first three descriptors of an indirect table.
  void place_in_table(volatile VirtioDescriptor* table, std::uint32_t type, std::uint64_t sector,
                      const volatile void* data, std::uint32_t size);
  // Makes it available, notifies, waits. Returns the status byte, `unanswered` if nothing came back.
  std::uint8_t send(std::uint16_t head);
  std::uint8_t request(std::uint32_t type, std::uint64_t sector, const volatile void* data,
                       std::uint32_t size) {
    return send(place(type, sector, data, size));
  }

  std::uint64_t capacity() { return device->config<std::uint64_t>(0); }

  VirtioDevice* device = nullptr;
  VirtioQueue queue;
  Header header{};
  volatile std::uint8_t status = unanswered;
  std::uint32_t written = 0;  // by the last request

 private:
  // A request's header, data and status.
  struct Parts {
    VirtioBuffer buffers[3];
  };
  Parts begin_request(std::uint32_t type, std::uint64_t sector, const volatile void* data,
                      std::uint32_t size);
};

// True for what a sector of `yes hummingbird` holds, with the sector's place in the file.
bool is_disk_pattern(const volatile char* data, std::uint32_t size, std::uint64_t sector = 0);

}  // namespace guest
