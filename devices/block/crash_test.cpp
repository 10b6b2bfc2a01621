// SPDX-License-Identifier: Apache-2.0
//
// Losses of power: what a file got is recorded and cut, and what such a loss can leave is looked at.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "devices/block/copy_image.h"
#include "devices/block/qcow2_guest_testing.h"
#include "devices/block/raw_file.h"
#include "devices/temporary_file.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

// So many cuts at least, and every so many of them are shown to qemu-img, too.
struct Extent {
  unsigned long cuts;
  unsigned long sample;
};

Extent extent_of(unsigned long slice, unsigned long whole) {
  return std::getenv("HUM_LONG") != nullptr ? Extent{whole, 40} : Extent{slice, 50};
}

FileState state_of(std::vector<std::byte> bytes) {
  return {.bytes = std::move(bytes), .records = {}, .waiting = {}, .fault = {}};
}

// Counts, and tells at the end.
class Cuts {
 public:
  Cuts(const char* what, Extent extent) : what_(what), extent_(extent) {}
  bool enough() const { return cuts_ >= extent_.cuts; }
  void next() { ++cuts_; }
  // The image is sound; leaks are allowed.
  void check(const std::vector<std::byte>& image) {
    REQUIRE(leaked_clusters(image));
    if (cuts_ % extent_.sample != 0) return;
    const TemporaryFile file(0);
    std::ofstream(file.path(), std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()), static_cast<std::streamsize>(image.size()));
    const int status =
        std::system(("qemu-img check -q -f qcow2 " + file.path() + " >/dev/null 2>&1").c_str());
    REQUIRE(WIFEXITED(status));
    const int code = WEXITSTATUS(status);
    if (code == 127) return;  // it is not there
    CHECK((code == 0 || code == 3));
    ++shown_;
  }
  ~Cuts() {
    std::printf("count: %lu cuts of %s, seeds from 1, %lu shown to qemu-img check\n", cuts_, what_, shown_);
  }
  Cuts(const Cuts&) = delete;
  Cuts& operator=(const Cuts&) = delete;

 private:
  const char* what_;
  Extent extent_;
  unsigned long cuts_ = 0;
  unsigned long shown_ = 0;
};

// The disk has a size that it could have and each sector one of its values; none: any. What is behind them is
// zeroes.
void require_possible(BlockBackend& image, FileState& state, const Qcow2Guest::Point& point) {
  const std::uint64_t sectors = image.size() / sector;
  REQUIRE(point.sizes.contains(sectors));
  Access read(Kind::read, 0, sectors);
  REQUIRE(run(image, state, read) == BlockResult::ok);
  std::vector<std::uint64_t> wrong;
  for (std::uint64_t i = 0; i < sectors; ++i) {
    const bool known = i < point.possible.size();
    if (known ? !point.possible[i].empty() && !point.possible[i].contains(read.at(i)) : read.at(i) != 0)
      wrong.push_back(i);
  }
  REQUIRE(wrong == std::vector<std::uint64_t>{});
}

TEST_CASE("after a loss of power at any moment a qcow2 image is sound and has what was flushed") {
  Cuts cuts("a qcow2 image", extent_of(500, 5000));
  for (unsigned seed = 1; !cuts.enough(); ++seed) {
    const bool has_backing = seed % 2 == 0;
    const auto backing = [&] { return has_backing ? std::make_unique<Backing>(600 * sector) : nullptr; };
    const std::vector<std::byte> before = new_image(600 * sector, 9 + seed % 4);
    FileState state = state_of(before);
    Qcow2Guest guest(seed, 600, has_backing);
    {
      const auto image = open_image(state, backing(), seed % 3 == 0 ? 0 : 1 << 20);
      guest.steps(*image, state, 80);
    }
    std::mt19937 random(seed);
    for (const Qcow2Guest::Point& point : guest.points) {
      if (random() % 4 != 0) continue;
      cuts.next();
      INFO("seed " << seed << ", after " << point.records << " records");
      FileState crashed = state_of(after_crash(before, state.records, point.records, random));
      cuts.check(crashed.bytes);
      const auto image = open_image(crashed, backing());
      require_possible(*image, crashed, point);
    }
  }
}

TEST_CASE(
    "after a loss of power while a disk grows or shrinks it has what was flushed and one of both sizes") {
  Cuts cuts("a qcow2 image that grows and shrinks", extent_of(250, 3000));
  for (unsigned seed = 1; !cuts.enough(); ++seed) {
    const bool has_backing = seed % 2 == 0;
    const auto backing = [&] { return has_backing ? std::make_unique<Backing>(300 * sector) : nullptr; };
    const unsigned bits = 9 + seed % 4;
    const std::vector<std::byte> before = new_image(250 * sector, bits);
    FileState state = state_of(before);
    Qcow2Guest guest(seed, 250, has_backing);
    const std::vector<std::uint64_t> sizes = {331, 5000, 317, 4200};
    {
      const auto image = open_image(state, backing(), seed % 3 == 0 ? 0 : 1 << 20);
      for (const std::uint64_t size : sizes) {
        guest.steps(*image, state, 12);
        guest.look_at_forgotten(*image, state);
        guest.resize(*image, state, size);
        guest.check_all(*image, state);
      }
    }
    std::mt19937 random(seed);
    for (const Qcow2Guest::Point& point : guest.points) {
      if (random() % 3 != 0) continue;
      cuts.next();
      INFO("seed " << seed << ", after " << point.records << " records");
      FileState crashed = state_of(after_crash(before, state.records, point.records, random));
      cuts.check(crashed.bytes);
      const auto image = open_image(crashed, backing());
      require_possible(*image, crashed, point);
    }
  }
}

TEST_CASE("after a loss of power at any moment a raw image has what was flushed") {
  Cuts cuts("a raw image", extent_of(250, 2000));
  for (unsigned seed = 1; !cuts.enough(); ++seed) {
    const TemporaryFile file(600 * sector);
    const auto image = RawFile::open("disk.path", file.path(), false);
    const std::vector<std::byte> before(600 * sector);
    FileState state = state_of(before);
    Qcow2Guest guest(seed, 600, false);
    guest.steps(*image, state, 80);
    std::mt19937 random(seed);
    for (const Qcow2Guest::Point& point : guest.points) {
      if (random() % 4 != 0) continue;
      cuts.next();
      INFO("seed " << seed << ", after " << point.records << " records");
      FileState crashed = state_of(after_crash(before, state.records, point.records, random));
      require_possible(*image, crashed, point);
    }
  }
}

TEST_CASE("after a loss of power while an overlay is committed its disk has all that it had") {
  Cuts cuts("an overlay and its base in a commit", extent_of(250, 2500));
  for (unsigned seed = 1; !cuts.enough(); ++seed) {
    const std::uint64_t sectors = 400;
    FileState base = state_of(new_image((seed % 2 == 0 ? sectors : 150) * sector, 9 + seed % 4));
    FileState over = state_of(new_image(sectors * sector, 9 + seed / 4 % 4));
    const auto open_both = [&](FileState& below, FileState& top) {
      return open_image(top, open_image(below), seed % 3 == 0 ? 0 : 1 << 20);
    };
    Qcow2Guest guest(seed, sectors, false);
    {
      const auto image = open_image(base);
      Access write(Kind::write, 0, 100);
      for (std::uint32_t i = 0; i < 100; ++i) write.set(i, 99);
      REQUIRE(run(*image, base, write) == BlockResult::ok);
    }
    {
      const auto image = open_image(over);
      guest.steps(*image, over, 40);
      guest.look_at_forgotten(*image, over);
    }
    Qcow2Guest::Point expected{0, {}, {sectors}};
    {
      const auto image = open_both(base, over);
      Access read(Kind::read, 0, sectors);
      FileStateEngine engine(over);
      FinishingEngine finish({&base, &over});
      image->start(engine, read);
      finish.drain();
      REQUIRE(read.outcome == BlockResult::ok);
      for (std::uint64_t i = 0; i < sectors; ++i) expected.possible.push_back({read.at(i)});
    }
    const std::vector<std::byte> base_before = base.bytes;
    const std::vector<std::byte> over_before = over.bytes;
    std::vector<const FileState*> order;
    for (FileState* const each : {&base, &over}) {
      each->records.clear();
      each->order = &order;
    }
    {
      const auto image = open_both(base, over);
      FinishingEngine engine({&base, &over});
      REQUIRE(commit_image(*image, engine, [](auto, auto) { return true; })->result == BlockResult::ok);
    }
    REQUIRE(leaked_clusters(over.bytes) == 0u);
    REQUIRE(leaked_clusters(base.bytes) == 0u);
    {
      const auto below = open_image(base);
      REQUIRE(below->size() == sectors * sector);
      require_possible(*below, base, expected);
    }
    std::mt19937 random(seed);
    std::size_t of_base = 0;
    for (std::size_t cut = 0; cut <= order.size(); ++cut) {
      if (cut != 0 && order[cut - 1] == &base) ++of_base;
      if (random() % 2 != 0) continue;
      cuts.next();
      INFO("seed " << seed << ", after " << cut << " records");
      FileState base_left = state_of(after_crash(base_before, base.records, of_base, random));
      FileState over_left = state_of(after_crash(over_before, over.records, cut - of_base, random));
      cuts.check(base_left.bytes);
      cuts.check(over_left.bytes);
      const auto image = open_both(base_left, over_left);
      Access read(Kind::read, 0, sectors);
      FileStateEngine engine(over_left);
      FinishingEngine finish({&base_left, &over_left});
      image->start(engine, read);
      finish.drain();
      REQUIRE(read.outcome == BlockResult::ok);
      std::vector<std::uint64_t> wrong;
      for (std::uint64_t i = 0; i < sectors; ++i)
        if (!expected.possible[i].contains(read.at(i))) wrong.push_back(i);
      REQUIRE(wrong == std::vector<std::uint64_t>{});
    }
  }
}

}  // namespace
}  // namespace hum
