// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/block/block_device.h"
#include "devices/virtio_testing.h"
#include "vmm/base/endian.h"
#include "vmm/virtio/fake_driver.h"

// For the tests of the disk only.
namespace hum::testing {

using virtio::testing::FakeDriver;

constexpr std::uint64_t feature_flush = 1ull << 9;
constexpr std::uint64_t feature_config_wce = 1ull << 11;
constexpr std::uint64_t sectors = 64;
constexpr std::uint32_t writeback = 32;  // in configuration space

enum : std::uint32_t { in = 0, out = 1, flush = 4, get_id = 8, discard = 11, write_zeroes = 13 };
enum : int { ok = 0, ioerr = 1, unsupp = 2 };

// A disk of 64 sectors and 100 bytes in memory, with one call that fails.
class MemoryBackend final : public BlockBackend {
 public:
  std::uint64_t size() const override { return content.size(); }
  std::uint32_t logical_block_size() const override { return 512; }
  std::uint32_t physical_block_size() const override { return 4096; }
  bool has_discard() const override { return discards; }
  void start(BlockEngine&, BlockOperation& operation) override { operation.finished(carry_out(operation)); }

  std::vector<std::byte> content = std::vector<std::byte>(sectors * 512 + 100);
  bool discards = true;
  std::atomic<int> calls = 0;
  std::atomic<int> flushes = 0;
  int fault = -1;  // the number of the call that fails
  BlockResult failure = BlockResult::io_error;
  std::function<void()> hook;

 private:
  BlockResult carry_out(const BlockOperation& operation) {
    if (operation.kind == BlockOperation::Kind::flush) ++flushes;
    if (hook) hook();
    if (calls++ == fault) return failure;
    const auto at = content.begin() + static_cast<std::ptrdiff_t>(operation.offset);
    const auto size = static_cast<std::ptrdiff_t>(operation.size);
    switch (operation.kind) {
      case BlockOperation::Kind::read:
        copy_to(operation.buffers, 0, std::span(at, at + size));
        break;
      case BlockOperation::Kind::write:
        copy_from(operation.buffers, 0, std::span(at, at + size));
        break;
      case BlockOperation::Kind::flush:
        break;
      case BlockOperation::Kind::discard:
      case BlockOperation::Kind::write_zeroes:
        std::fill_n(at, size, std::byte{0});
        unmapped = operation.may_unmap;
        break;
    }
    return BlockResult::ok;
  }

 public:
  bool unmapped = false;  // the last range may be
};

inline std::vector<std::byte> header(std::uint32_t type, std::uint64_t sector) {
  struct {
    le32 type;
    le32 reserved;
    le64 sector;
  } fields{type, 0, sector};
  const auto bytes = bytes_of(fields);
  return {bytes.begin(), bytes.end()};
}

// A disk with that image, and its driver.
struct Bench {
  explicit Bench(bool read_only = false, const std::string& id = "disk-7") : Bench(read_only, id, ~0ull) {}
  Bench(bool read_only, const std::string& id, std::uint64_t features, bool pause_on_error = false)
      : backend(new MemoryBackend),
        device(std::unique_ptr<BlockBackend>(backend),
               {.name = "test.img", .read_only = read_only, .id = id, .pause_on_error = pause_on_error},
               machine.control, machine.log),
        driver(machine.memory, device) {
    driver.activate(features);
  }

  // The status of a request: data behind the header, or room for data before the status byte.
  int status(std::uint32_t type, std::uint64_t sector, std::size_t data = 0, std::uint32_t room = 0) {
    std::vector<std::byte> readable = header(type, sector);
    readable.resize(readable.size() + data, std::byte{0xd7});
    reply = driver.request(0, readable, room + 1).value();
    return std::to_integer<int>(reply.data.back());
  }
  std::uint64_t config(std::uint32_t offset, std::size_t width) {
    std::vector<std::byte> data(width, std::byte{0xff});
    device.read_config(offset, data);
    return load_le(data);
  }

  VirtioMachine machine;
  MemoryBackend* backend;
  BlockDevice device;
  FakeDriver driver;
  FakeDriver::Reply reply;
};

}  // namespace hum::testing
