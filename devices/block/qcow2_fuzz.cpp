// SPDX-License-Identifier: Apache-2.0
//
// For libFuzzer: a qcow2 image of which some bytes are others, and a guest that uses it. Nothing it has may
// do more than fail: each operation ends, and only the image's own memory is touched (with the sanitizers).
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "devices/block/qcow2_testing.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/fuzz_input.h"

namespace {

using namespace hum;
using hum::testing::FileState;
using hum::testing::FinishingEngine;
using hum::testing::FuzzInput;
using hum::testing::LateFile;
using hum::testing::MemoryImageFile;
using hum::testing::NoEngine;

constexpr std::uint64_t disk_size = 96 << 10;

struct Access final : BlockOperation {
  Access(Kind what, std::uint64_t at, std::uint64_t bytes) : memory(bytes), part{memory.data(), bytes} {
    kind = what;
    offset = at;
    size = bytes;
    may_unmap = true;
    if (what == Kind::read || what == Kind::write) buffers = {&part, 1};
  }
  void finished(BlockResult /*how*/) override { done = true; }

  std::vector<std::byte> memory;
  iovec part;
  bool done = false;
};

void use(BlockBackend& image, FileState& file, FuzzInput& input) {
  NoEngine engine;
  std::mt19937 random(1);
  std::vector<std::unique_ptr<Access>> accesses;
  for (int i = 0; i < 24 && !input.empty(); ++i) {
    const auto kind = static_cast<BlockOperation::Kind>(input.number(1) % 5);
    const std::uint64_t sectors = image.size() / 512;
    if (sectors == 0) break;
    const std::uint64_t first = input.number(2) % sectors;
    const std::uint64_t count = 1 + input.number(1) % std::min<std::uint64_t>(sectors - first, 40);
    accesses.push_back(std::make_unique<Access>(kind, first * 512, count * 512));
    image.start(engine, *accesses.back());
    if (i % 3 == 0) file.finish_one(random);
  }
  while (file.finish_one(random)) {
  }
  for (const auto& each : accesses)
    if (!each->done) std::abort();
}

std::unique_ptr<Qcow2Image> open(FileState& file, bool read_only) {
  static const Log log;
  MemoryImageFile copy(file.bytes);
  const Qcow2Header header = read_qcow2_header("disk.path", "image", copy);
  return std::make_unique<Qcow2Image>("disk.path", std::make_unique<LateFile>(file), header, nullptr,
                                      Qcow2Image::Settings{"image", read_only, 0}, log);
}

// A check, a repair, and another check: what the repair says it left is what is there.
void repair(FileState& state, bool all) {
  LateFile file(state);
  Qcow2Check check("disk.path", "image", file, read_qcow2_header("disk.path", "image", file));
  check.run();
  if (check.repair(all) != BlockResult::ok) return;
  Qcow2Check again("disk.path", "image", file, read_qcow2_header("disk.path", "image", file));
  if (again.run().counts != check.findings().counts) std::abort();
}

// With data, so that there are tables of each kind.
std::vector<std::byte> image_with_data(unsigned cluster_bits) {
  MemoryImageFile empty;
  Qcow2Header header;
  header.virtual_size = disk_size;
  header.cluster_bits = cluster_bits;
  write_new_qcow2("disk.path", "image", empty, header);
  FileState file{.bytes = empty.bytes, .records = {}, .waiting = {}, .fault = {}};
  {
    const auto image = open(file, false);
    const std::vector<std::uint8_t> writes = {1, 0, 3, 30, 1, 0,  100, 20, 2,  0,
                                              0, 0, 3, 0,  8, 16, 1,   0,  60, 9};
    FuzzInput input(writes);
    use(*image, file, input);
  }
  return file.bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::byte> templates[] = {image_with_data(9), image_with_data(10),
                                                     image_with_data(12)};
  FuzzInput input({data, size});
  FileState file{.bytes = templates[input.number(1) % 3], .records = {}, .waiting = {}, .fault = {}};
  const bool read_only = input.number(1) % 4 == 0;
  // Entries of tables and fields of the header are aligned.
  for (std::uint64_t patches = input.number(1) % 8; patches != 0; --patches) {
    const std::size_t width = std::size_t{1} << input.number(1) % 4;
    const std::uint64_t at = input.number(2) % (file.bytes.size() / width) * width;
    store_be(std::span(file.bytes).subspan(at, width), input.number(width));
  }
  try {
    if (input.number(1) % 4 == 0) repair(file, input.number(1) % 2 == 0);
    const auto image = open(file, read_only);
    if (image->size() > disk_size * 64) return 0;
    use(*image, file, input);
    if (input.number(1) % 4 == 0) {
      FinishingEngine engine({&file});
      image->resize(engine, input.number(2) % (disk_size / 128) * 512);
      use(*image, file, input);
    }
  } catch (const ConfigError&) {
  } catch (const HostError&) {
  }
  return 0;
}
