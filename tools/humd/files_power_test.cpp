// SPDX-License-Identifier: Apache-2.0
//
// The power goes at every change of the folders of images and volumes, and what was not synced is lost: names
// and content, or content alone. What has an image's or a volume's name is whole, and what was done is there.
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>

#include "tools/humd/image_files.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/synced_tree_testing.h"
#include "tools/humd/volume_files.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using Folder = testing::TemporaryFolder;

struct CutWork {
  std::function<void(const std::string& folder)> prepare;
  std::function<void(const std::string& folder, const FileTask& task)> work;
  // What must hold when the power is back; may do the work again. done: it had returned.
  std::function<void(const std::string& folder, bool done)> then;
};

void check_after_cut(const SyncedTree& tree, const CutWork& cut, bool done) {
  for (const SyncedTree::Names names : {SyncedTree::Names::synced, SyncedTree::Names::latest}) {
    const Folder left;
    tree.put(names, left.path());
    INFO((names == SyncedTree::Names::synced ? "names and content" : "content") << " was lost");
    cut.then(left.path(), done);
  }
}

// Before each change and before each sync, and at the end. How often the power went.
unsigned cut_everywhere(const CutWork& cut) {
  const Folder folder;
  cut.prepare(folder.path());
  unsigned cuts = 0;
  bool is_off = false;
  std::function<void(bool)> go_off;
  const SyncedTree tree(folder.path(), [&] { go_off(false); });
  go_off = [&](bool done) {
    if (is_off) return;  // what comes then syncs, too
    is_off = true;
    INFO("cut " << cuts);
    check_after_cut(tree, cut, done);
    ++cuts;
    is_off = false;
  };
  FileTask task;
  task.before = [&](std::string_view) { go_off(false); };
  cut.work(folder.path(), task);
  go_off(true);
  return cuts;
}

// The work ends at each change in turn, is done again, and then the power goes. How often it ended.
unsigned cut_after_second_try(const CutWork& cut) {
  struct Ended : std::runtime_error {
    Ended() : std::runtime_error("ended") {}
  };
  for (unsigned point = 0;; ++point) {
    const Folder folder;
    cut.prepare(folder.path());
    const SyncedTree tree(folder.path());
    unsigned left = point;
    FileTask task;
    task.before = [&](std::string_view) {
      if (left-- == 0) throw Ended();
    };
    bool ended = false;
    try {
      cut.work(folder.path(), task);
    } catch (const Ended&) {
      ended = true;
    }
    if (!ended) return point;
    cut.work(folder.path(), {});
    INFO("ended at change " << point);
    check_after_cut(tree, cut, true);
  }
}

constexpr std::int64_t operation = 7;
constexpr std::uint64_t size = 1 << 20;

Image import(const std::string& folder, const FileTask& task = {}) {
  const ImageFiles images(folder + "/images");
  const Image image = images.stage(operation, {.kernel = folder + "/kernel", .disk = folder + "/disk"}, task);
  images.publish(operation, image.digest, task);
  return image;
}

void make_sources(const std::string& folder) {
  write_whole_file(folder + "/kernel", some_kernel());
  write_whole_file(folder + "/disk", some_bytes(100'000));
}

unsigned images_in(const std::string& folder) {
  const ImageFiles images(folder + "/images");
  unsigned count = 0;
  if (!fs::exists(folder + "/images")) return count;
  for (const auto& each : fs::directory_iterator(folder + "/images"))
    if (const std::string name = each.path().filename(); name.starts_with("sha256-")) {
      CHECK(images.verify("sha256:" + name.substr(7)) == std::vector<std::string>{});
      ++count;
    }
  return count;
}

struct VolumeStore {
  ImageFiles images;
  VolumeFiles volumes;

  explicit VolumeStore(const std::string& folder)
      : images(folder + "/images"), volumes(folder + "/volumes", images) {}
};

struct VolumeWork {
  const char* name;
  std::function<void(const VolumeFiles&, const std::string& digest, const FileTask&)> work;
  // Of volume 1, where it is there.
  std::function<bool(const Volume&)> is_whole;
};

std::string digest_of(const std::string& folder) {
  return "sha256:" + (fs::directory_iterator(folder + "/images")->path().filename().string()).substr(7);
}

const VolumeWork volume_works[] = {
    {"create raw",
     [](const auto& volumes, const auto&, const auto& task) {
       volumes.create(1, size, ImageFormat::raw, task);
     },
     [](const Volume& volume) { return volume.format == ImageFormat::raw && volume.size == size; }},
    {"create qcow2",
     [](const auto& volumes, const auto&, const auto& task) {
       volumes.create(1, size, ImageFormat::qcow2, task);
     },
     [](const Volume& volume) { return volume.format == ImageFormat::qcow2 && volume.size == size; }},
    {"overlay",
     [](const auto& volumes, const auto& digest, const auto& task) {
       volumes.create_overlay(1, digest, size, task);
     },
     [](const Volume& volume) { return !volume.image.empty() && volume.size == size; }},
    {"clone", [](const auto& volumes, const auto&, const auto& task) { volumes.clone(1, 9, task); },
     [](const Volume& volume) { return content_of(volume.path) == some_bytes(size); }},
};

void prepare_volumes(const std::string& folder) {
  make_sources(folder);
  import(folder);
  fs::remove_all(folder + "/images/staging");
  const VolumeStore store(folder);
  write_whole_file(store.volumes.create(9, size, ImageFormat::raw).path, some_bytes(size));
}

}  // namespace

TEST_CASE(
    "a power cut at any change of an import leaves a whole image or none, and takes none that was done") {
  const CutWork work{.prepare = make_sources,
                     .work = [](const std::string& folder, const FileTask& task) { import(folder, task); },
                     .then =
                         [](const std::string& folder, bool done) {
                           const unsigned there = images_in(folder);
                           if (done) CHECK(there == 1);
                           import(folder);
                           CHECK(images_in(folder) == 1);
                         }};
  const unsigned cuts = cut_everywhere(work);
  CHECK(cuts > 40);
  const unsigned tries = cut_after_second_try(work);
  CHECK(tries > 20);
  std::printf("count: %u power cuts of an import, and %u after one that had ended before\n", cuts, tries);
}

TEST_CASE("a power cut at any change of an image's removal leaves it whole or takes it") {
  const CutWork work{.prepare =
                         [](const std::string& folder) {
                           make_sources(folder);
                           import(folder);
                           fs::remove_all(folder + "/images/staging");
                         },
                     .work =
                         [](const std::string& folder, const FileTask& task) {
                           const ImageFiles images(folder + "/images");
                           images.remove(digest_of(folder), task);
                         },
                     .then =
                         [](const std::string& folder, bool done) {
                           const unsigned there = images_in(folder);
                           if (done) CHECK(there == 0);
                           const ImageFiles images(folder + "/images");
                           images.sweep({}, {});
                           CHECK(images_in(folder) == 0);
                         }};
  CHECK(cut_everywhere(work) > 5);
}

TEST_CASE("a power cut at any change of a new volume leaves it whole or none, and takes none that was done") {
  unsigned cuts = 0;
  unsigned tries = 0;
  for (const VolumeWork& each : volume_works) {
    INFO(each.name);
    const CutWork work{.prepare = prepare_volumes,
                       .work =
                           [&](const std::string& folder, const FileTask& task) {
                             each.work(VolumeStore(folder).volumes, digest_of(folder), task);
                           },
                       .then =
                           [&](const std::string& folder, bool done) {
                             const VolumeStore store(folder);
                             if (done || store.volumes.has(1)) CHECK(each.is_whole(store.volumes.look(1)));
                             each.work(store.volumes, digest_of(folder), {});
                             CHECK(each.is_whole(store.volumes.look(1)));
                             CHECK(images_in(folder) == 1);
                           }};
    cuts += cut_everywhere(work);
    tries += cut_after_second_try(work);
  }
  CHECK(cuts > 30);
  CHECK(tries > 20);
  std::printf("count: %u power cuts of new volumes, and %u after one that had ended before\n", cuts, tries);
}

TEST_CASE("a power cut at any change of a volume's size or removal leaves a volume or takes it") {
  const CutWork resize{
      .prepare = prepare_volumes,
      .work = [](const std::string& folder,
                 const FileTask& task) { VolumeStore(folder).volumes.resize(9, 2 * size, false, task); },
      .then =
          [](const std::string& folder, bool done) {
            const VolumeStore store(folder);
            const Volume volume = store.volumes.look(9);
            if (done) CHECK(volume.size == 2 * size);
            CHECK(content_of(volume.path).starts_with(some_bytes(size)));
          }};
  CHECK(cut_everywhere(resize) > 1);
  const CutWork remove{.prepare = prepare_volumes,
                       .work = [](const std::string& folder,
                                  const FileTask& task) { VolumeStore(folder).volumes.remove(9, task); },
                       .then =
                           [](const std::string& folder, bool done) {
                             const VolumeStore store(folder);
                             if (done) CHECK_FALSE(store.volumes.has(9));
                             if (store.volumes.has(9))
                               CHECK(content_of(store.volumes.look(9).path) == some_bytes(size));
                             store.volumes.sweep({});
                             CHECK(fs::is_empty(folder + "/volumes"));
                           }};
  CHECK(cut_everywhere(remove) > 3);
}

}  // namespace hum
