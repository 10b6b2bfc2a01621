// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr std::uint64_t feature_discard = 1 << 13;
constexpr std::uint64_t feature_write_zeroes = 1 << 14;
constexpr std::uint32_t max_segments = 40;  // in configuration space: of discard, and of write zeroes
constexpr std::uint32_t max_zeroes_segments = 52;
constexpr unsigned sectors = 16;
constinit VirtioDisk disk{};
constinit volatile char data[sectors * VirtioDisk::sector_size]{};

bool is_sector(unsigned sector, char value) {
  for (unsigned i = 0; i < VirtioDisk::sector_size; ++i)
    if (data[sector * VirtioDisk::sector_size + i] != value) return false;
  return true;
}

}  // namespace

// Discard and write zeroes (virtio 1.2, 5.2.6): each of the ranges, nothing beside them, and nothing at all
// where one is wrong.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot, feature_discard | feature_write_zeroes), "disk");
  check(2,
        (disk.device->features() & feature_discard) != 0 &&
            (disk.device->features() & feature_write_zeroes) != 0,
        "features");
  check(3,
        disk.device->config<std::uint32_t>(max_segments) >= 2 &&
            disk.device->config<std::uint32_t>(max_zeroes_segments) >= 2,
        "segments");
  for (volatile char& each : data) each = 'x';
  check(4, disk.request(VirtioDisk::out, 0, data, sizeof(data)) == VirtioDisk::ok, "write");
  VirtioDisk::Segment ranges[2] = {{2, 1, 0}, {8, 3, 0}};
  check(5, disk.request(VirtioDisk::write_zeroes, 0, ranges, sizeof(ranges)) == VirtioDisk::ok, "zeroes");
  ranges[0] = {13, 1, 0};
  check(6, disk.request(VirtioDisk::discard, 0, ranges, sizeof(ranges[0])) == VirtioDisk::ok, "discard");

  ranges[0] = {0, 1, 0};
  ranges[1] = {disk.capacity(), 1, 0};
  for (const std::uint32_t type : {VirtioDisk::discard, VirtioDisk::write_zeroes})
    check(7, disk.request(type, 0, ranges, sizeof(ranges)) == VirtioDisk::io_error, "past the end");
  ranges[1] = {0, 1, 2};
  for (const std::uint32_t type : {VirtioDisk::discard, VirtioDisk::write_zeroes})
    check(8, disk.request(type, 0, ranges, sizeof(ranges)) == VirtioDisk::unsupported, "an unknown flag");
  ranges[1] = {0, 1, 1};
  check(9, disk.request(VirtioDisk::discard, 0, ranges, sizeof(ranges)) == VirtioDisk::unsupported,
        "a discard that asks for unmapping");

  check(10, disk.request(VirtioDisk::in, 0, data, sizeof(data)) == VirtioDisk::ok, "read");
  for (unsigned sector = 0; sector < sectors; ++sector) {
    if (sector == 13) continue;  // may have any content
    const bool zero = sector == 2 || (sector >= 8 && sector < 11);
    check(11, is_sector(sector, zero ? '\0' : 'x'), "content");
  }
  return 0;
}
