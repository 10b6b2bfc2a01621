// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/volume_files.h"

#include <cstdio>

#include "devices/block/block_engines.h"
#include "devices/block/raw_file.h"
#include "devices/block/testing.h"
#include "tools/humd/crash_testing.h"
#include "tools/humd/image_testing.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using Kind = BlockOperation::Kind;
using Names = std::set<std::string>;

constexpr std::size_t image_size = 256UL * 1024;

struct Store {
  explicit Store(const std::string& folder)
      : images(folder + "/images"), volumes(folder + "/volumes", images) {}

  std::string import(const std::string& folder, ImageFormat format = ImageFormat::raw) const {
    const Image image = images.stage(1, {.disk = folder + "/disk", .format = format});
    images.publish(1, image.digest);
    return image.digest;
  }

  ImageFiles images;
  VolumeFiles volumes;
};

struct Bench {
  Bench() : store(folder.path()) { write_whole_file(folder / "disk", some_bytes(image_size)); }

  testing::TemporaryFolder folder;
  Store store;
  const VolumeFiles& volumes = store.volumes;

  std::string import() const { return store.import(folder.path()); }
  Names files() const { return files_below(folder / "volumes"); }
};

// A disk as hum-vmm opens it with the volume's options.
class Disk {
 public:
  explicit Disk(const Volume& volume)
      : image_(open_image("disk",
                          {.path = volume.path,
                           .format = volume.format,
                           .any_backing = volume.options().ends_with(",backing=any")},
                          log_)),
        engine_(make_block_engine(BlockEngineKind::threads, 8)) {}

  std::string read(std::uint64_t offset, std::size_t size) {
    std::string text(size, '?');
    CHECK(perform(*image_, *engine_, TestOperation(Kind::read, offset, size, {{text.data(), size}})) ==
          BlockResult::ok);
    return text;
  }
  void write(std::uint64_t offset, std::string text) {
    CHECK(perform(*image_, *engine_,
                  TestOperation(Kind::write, offset, text.size(), {{text.data(), text.size()}})) ==
          BlockResult::ok);
    CHECK(perform(*image_, *engine_, TestOperation(Kind::flush, 0, 0)) == BlockResult::ok);
  }
  std::uint64_t size() const { return image_->size(); }

 private:
  Log log_;
  std::unique_ptr<BlockBackend> image_;
  std::unique_ptr<BlockEngine> engine_;
};

template <typename Work>
std::string refusal(const Work& work) {
  try {
    work();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "was done";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a new volume is an empty disk of its format, and the same one when it is asked for again") {
  const Bench bench;
  for (const auto& [id, format] :
       {std::pair<std::int64_t, ImageFormat>{1, ImageFormat::raw}, {2, ImageFormat::qcow2}}) {
    const Volume volume = bench.volumes.create(id, 1 << 20, format);
    CHECK(volume.size == 1 << 20);
    CHECK(volume.format == format);
    CHECK(volume.image.empty());
    {
      Disk disk(volume);
      CHECK(disk.size() == 1 << 20);
      CHECK(disk.read((1 << 20) - 512, 512) == std::string(512, '\0'));
      disk.write(512, std::string(512, 'a'));
    }
    CHECK(bench.volumes.create(id, 1 << 20, format).path == volume.path);
    CHECK(Disk(volume).read(512, 512) == std::string(512, 'a'));
    CHECK(contains(refusal([&, number = id] { bench.volumes.create(number, 2 << 20, volume.format); }),
                   "is there already"));
  }
  CHECK(contains(refusal([&] { bench.volumes.create(1, 1 << 20, ImageFormat::qcow2); }), "is there already"));
  CHECK(bench.files() == Names{"1/disk.raw", "2/disk.qcow2"});
  CHECK(bench.volumes.look(1).options() == "path=" + bench.folder.path() + "/volumes/1/disk.raw,format=raw");
  CHECK(bench.volumes.look(2).options() ==
        "path=" + bench.folder.path() + "/volumes/2/disk.qcow2,format=qcow2");
}

TEST_CASE("sizes that a disk cannot have are refused, those at the limits are not") {
  const Bench bench;
  for (const ImageFormat format : {ImageFormat::raw, ImageFormat::qcow2}) {
    for (const std::uint64_t size : {0UL, 1UL, 511UL, 513UL, std::uint64_t{INT64_MAX} + 1, ~511UL}) {
      INFO(size);
      CHECK_THROWS_AS(bench.volumes.create(1, size, format), ConfigError);
    }
    CHECK(bench.volumes.create(1, 512, format).size == 512);
    bench.volumes.remove(1);
  }
  CHECK_THROWS_AS(bench.volumes.create(1, std::uint64_t{INT64_MAX} - 511, ImageFormat::raw), ConfigError);
  // With clusters of 64 KiB an L1 table of 32 MiB has an end.
  CHECK(bench.volumes.create(1, std::uint64_t{1} << 51, ImageFormat::qcow2).size == std::uint64_t{1} << 51);
  CHECK_THROWS_AS(bench.volumes.create(2, (std::uint64_t{1} << 51) + 512, ImageFormat::qcow2), ConfigError);
  for (const std::int64_t id : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
    CHECK_THROWS_AS(bench.volumes.create(id, 512, ImageFormat::raw), ConfigError);
    CHECK_THROWS_AS(bench.volumes.remove(id), ConfigError);
  }
  CHECK(bench.volumes.create(INT64_MAX, 512, ImageFormat::raw).size == 512);
  CHECK(bench.files() == Names{"1/disk.qcow2", std::to_string(INT64_MAX) + "/disk.raw"});
}

TEST_CASE("an overlay begins with its image's content and keeps what is written to itself") {
  const Bench bench;
  const std::string digest = bench.import();
  const Volume one = bench.volumes.create_overlay(1, digest, {});
  const Volume two = bench.volumes.create_overlay(2, digest, 1 << 20);
  CHECK(one.size == image_size);
  CHECK(two.size == 1 << 20);
  CHECK(one.image == digest);
  CHECK(one.options() == "path=" + bench.folder.path() + "/volumes/1/disk.qcow2,format=qcow2,backing=any");
  {
    Disk first(one);
    Disk second(two);
    CHECK(first.read(0, image_size) == some_bytes(image_size));
    first.write(0, std::string(512, 'a'));
    CHECK(second.read(0, image_size) == some_bytes(image_size));
    CHECK(second.read(image_size, 512) == std::string(512, '\0'));
  }
  CHECK(Disk(one).read(0, 512) == std::string(512, 'a'));
  CHECK(bench.store.images.verify(digest).empty());
  CHECK(bench.volumes.create_overlay(1, digest, {}).path == one.path);
  CHECK(contains(refusal([&] { bench.volumes.create_overlay(3, digest, image_size - 512); }),
                 "is less than the image has"));
  CHECK(contains(refusal([&] { bench.volumes.create_overlay(1, digest, 1 << 20); }), "is there already"));
  CHECK(contains(refusal([&] { bench.volumes.create_overlay(3, "sha256:" + std::string(64, 'a'), {}); }),
                 "there is no such image"));
  write_whole_file(bench.folder / "kernel", some_kernel());
  const Image kernel = bench.store.images.stage(1, {.kernel = bench.folder / "kernel"});
  bench.store.images.publish(1, kernel.digest);
  CHECK(contains(refusal([&] { bench.volumes.create_overlay(3, kernel.digest, {}); }), "has no disk"));
  CHECK(bench.files() == Names{"1/disk.qcow2", "2/disk.qcow2"});
}

TEST_CASE("overlays find their image after the daemon's folder has moved, and behind a link") {
  const testing::TemporaryFolder folder;
  fs::create_directories(folder / "a/elsewhere/deep");
  fs::create_directory_symlink("elsewhere/deep", folder / "a/volumes");
  write_whole_file(folder / "a/disk", some_bytes(image_size));
  {
    const Store store(folder / "a");
    const Volume volume = store.volumes.create_overlay(1, store.import(folder / "a"), {});
    CHECK(Disk(volume).read(0, image_size) == some_bytes(image_size));
  }
  fs::rename(folder / "a", folder / "b");
  const Store moved(folder / "b");
  CHECK(Disk(moved.volumes.look(1)).read(0, image_size) == some_bytes(image_size));
}

TEST_CASE("a disk of an odd size has an overlay of whole sectors") {
  const Bench bench;
  write_whole_file(bench.folder / "disk", some_bytes(1000));
  const Volume volume = bench.volumes.create_overlay(1, bench.import(), {});
  CHECK(volume.size == 1024);
  CHECK(Disk(volume).read(0, 1024) == some_bytes(1000) + std::string(24, '\0'));
}

TEST_CASE("an overlay of a qcow2 image, and a copy of it") {
  const Bench bench;
  const Volume made = bench.volumes.create(1, 1 << 20, ImageFormat::qcow2);
  Disk(made).write(4096, std::string(512, 'b'));
  fs::copy_file(made.path, bench.folder / "disk", fs::copy_options::overwrite_existing);
  const std::string digest = bench.store.import(bench.folder.path(), ImageFormat::qcow2);
  const Volume overlay = bench.volumes.create_overlay(2, digest, {});
  Disk(overlay).write(0, std::string(512, 'c'));
  const Volume copy = bench.volumes.clone(3, 2);
  CHECK(copy.image == digest);
  Disk(overlay).write(512, std::string(512, 'd'));
  Disk disk(copy);
  CHECK(disk.read(0, 512) == std::string(512, 'c'));
  CHECK(disk.read(512, 512) == std::string(512, '\0'));
  CHECK(disk.read(4096, 512) == std::string(512, 'b'));
}

TEST_CASE("a volume grows, and shrinks only when that is said") {
  const Bench bench;
  bench.volumes.create(1, 1 << 20, ImageFormat::raw);
  bench.volumes.create(2, 1 << 20, ImageFormat::qcow2);
  bench.volumes.create_overlay(3, bench.import(), 1 << 20);
  for (const std::int64_t id : {1, 2, 3}) {
    INFO(id);
    CHECK(bench.volumes.resize(id, 2 << 20, false).size == 2 << 20);
    CHECK(bench.volumes.resize(id, 2 << 20, false).size == 2 << 20);
    CHECK(
        contains(refusal([&, number = id] { bench.volumes.resize(number, 1 << 20, false); }), "may shrink"));
    CHECK_THROWS_AS(bench.volumes.resize(id, 1000, true), ConfigError);
    CHECK(bench.volumes.resize(id, 512 << 10, true).size == 512 << 10);
    CHECK(Disk(bench.volumes.look(id)).size() == 512 << 10);
  }
  CHECK_THROWS_AS(bench.volumes.resize(2, (std::uint64_t{1} << 51) + 512, false), ConfigError);
  CHECK_THROWS_AS(bench.volumes.resize(4, 512, false), ConfigError);
}

TEST_CASE("a volume in use is neither changed nor removed nor copied") {
  const Bench bench;
  const Volume volume = bench.volumes.create(1, 1 << 20, ImageFormat::qcow2);
  {
    const Disk disk(volume);
    CHECK(contains(refusal([&] { bench.volumes.resize(1, 2 << 20, false); }), "is in use"));
    CHECK(contains(refusal([&] { bench.volumes.remove(1); }), "is in use"));
    CHECK(contains(refusal([&] { bench.volumes.clone(2, 1); }), "is in use"));
    CHECK(bench.volumes.sweep({}).empty());
  }
  CHECK(bench.files() == Names{"1/disk.qcow2"});
  CHECK(bench.volumes.remove(1));
  CHECK_FALSE(bench.volumes.remove(1));
  CHECK(fs::is_empty(bench.folder / "volumes"));
}

TEST_CASE("a sweep of volumes leaves the known ones and what is not its own") {
  const Bench bench;
  for (const std::int64_t id : {1, 2, 3}) bench.volumes.create(id, 512, ImageFormat::raw);
  for (const std::string name : {"04", "-5", "notes", ".new-x", ".new-3", ".new-6", ".removed-7"})
    fs::create_directory(bench.folder / ("volumes/" + name));
  CHECK(bench.volumes.sweep({1, 3}) == std::vector<std::int64_t>{2, 6, 7});
  CHECK(bench.files() == Names{"-5", ".new-3", ".new-x", "04", "1/disk.raw", "3/disk.raw", "notes"});
}

TEST_CASE(
    "a volume that is made, copied, resized or removed and killed at any change is done again or swept") {
  std::string digest;
  const auto prepare = [&](const std::string& folder) {
    write_whole_file(folder + "/disk", some_bytes(image_size));
    const Store store(folder);
    digest = store.import(folder);
    store.volumes.create_overlay(9, digest, 1 << 20);
  };
  const auto all_of = [](const std::string& folder) { return files_below(folder + "/volumes"); };
  struct Case {
    const char* name;
    std::function<void(const VolumeFiles&, const FileTask&)> work;
    Names after;
  };
  const Names kept{"9/disk.qcow2"};
  unsigned kills = 0;
  for (const Case& each : std::vector<Case>{
           {"create raw",
            [](const auto& volumes, const auto& task) { volumes.create(1, 1 << 20, ImageFormat::raw, task); },
            {"1/disk.raw", "9/disk.qcow2"}},
           {"create qcow2",
            [](const auto& volumes, const auto& task) {
              volumes.create(1, 1 << 20, ImageFormat::qcow2, task);
            },
            {"1/disk.qcow2", "9/disk.qcow2"}},
           {"overlay",
            [&](const auto& volumes, const auto& task) { volumes.create_overlay(1, digest, {}, task); },
            {"1/disk.qcow2", "9/disk.qcow2"}},
           {"clone",
            [](const auto& volumes, const auto& task) { volumes.clone(1, 9, task); },
            {"1/disk.qcow2", "9/disk.qcow2"}},
           {"resize", [](const auto& volumes, const auto& task) { volumes.resize(9, 2 << 20, false, task); },
            kept},
           {"remove", [](const auto& volumes, const auto& task) { volumes.remove(9, task); }, {}}}) {
    INFO(each.name);
    const auto work = [&](const std::string& folder, const FileTask& task) {
      each.work(Store(folder).volumes, task);
    };
    const unsigned again =
        kill_everywhere({.prepare = prepare, .work = work, .then = [&](const std::string& folder) {
                           const Store store(folder);
                           // Where there is a volume, it is whole.
                           for (const std::int64_t id : {1, 9})
                             if (store.volumes.has(id)) Disk(store.volumes.look(id)).read(0, 512);
                           work(folder, {});
                           CHECK(all_of(folder) == each.after);
                         }});
    const unsigned undone =
        kill_everywhere({.prepare = prepare, .work = work, .then = [&](const std::string& folder) {
                           const Store store(folder);
                           store.volumes.remove(1);
                           store.volumes.sweep({9});
                           Names left = all_of(folder);
                           left.erase("9/disk.qcow2");
                           // Begun removals of what is known are gone on with.
                           for (const std::string& name : left) CHECK(name.starts_with(".removed-9"));
                           store.volumes.sweep({});
                           CHECK(fs::is_empty(folder + "/volumes"));
                         }});
    CHECK(again == undone);
    kills += again;
  }
  CHECK(kills > 30);
  std::printf("count: %u kills of work on volumes, each done again and undone\n", kills);
}

}  // namespace hum
