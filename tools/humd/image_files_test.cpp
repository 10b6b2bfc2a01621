// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/image_files.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "devices/block/qcow2_header.h"
#include "devices/block/raw_file.h"
#include "tools/humd/crash_testing.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/sha256.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using Names = std::set<std::string>;

constexpr std::int64_t operation = 7;

// An empty qcow2 disk of 1 MiB.
void make_qcow2(const std::string& path, const std::string& backing = {}) {
  write_whole_file(path, "");
  Qcow2Header header{.virtual_size = 1 << 20};
  header.backing_file = backing;
  if (!backing.empty()) header.backing_format = "raw";
  write_new_qcow2("path", path, *RawFile::open("path", path, false), header);
}

struct Bench {
  testing::TemporaryFolder folder;
  ImageFiles images{folder / "images"};

  std::string file(const std::string& name, const std::string& content) const {
    write_whole_file(folder / name, content);
    return folder / name;
  }
  Image import(const ImageSource& source) const {
    const Image image = images.stage(operation, source);
    images.publish(operation, image.digest);
    return image;
  }
  std::string refusal(const ImageSource& source) const {
    try {
      images.stage(operation, source);
    } catch (const ConfigError& error) {
      CHECK(files_below(folder / "images") == Names{"staging/7"});
      return error.what();
    }
    return "was taken";
  }
  std::set<std::string> files() const { return files_below(folder / "images"); }
};

std::string folder_of(const std::string& digest) {
  return "sha256-" + digest.substr(7);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("an imported disk is there once, whole, read-only and under the digest of its content") {
  const Bench bench;
  const std::string content = some_bytes(300'000);
  const Image image = bench.import({.disk = bench.file("disk", content)});
  REQUIRE(image.parts.size() == 1);
  CHECK(image.parts[0].digest == sha256_of(content));
  CHECK(image.disk_size == 300'032);
  const std::string folder = folder_of(image.digest);
  CHECK(bench.files() == Names{folder + "/disk.raw", folder + "/manifest", "staging"});
  const fs::path path = bench.images.path(image.digest, *image.part("disk"));
  CHECK(content_of(path) == content);
  for (const fs::path& each : {path, path.parent_path() / "manifest"})
    CHECK((fs::status(each).permissions() & fs::perms::mask) == fs::perms(0444));
  CHECK(bench.images.verify(image.digest).empty());

  const Image again = bench.import({.disk = bench.file("copy", content)});
  CHECK(again.digest == image.digest);
  CHECK(bench.files().size() == 3);
  const Image found = bench.images.look(image.digest);
  CHECK(found.parts[0].digest == image.parts[0].digest);
  CHECK(found.disk_size == image.disk_size);
}

TEST_CASE("a kernel, its initrd and a disk are one image, and in other company another one") {
  const Bench bench;
  const std::string kernel = bench.file("kernel", some_kernel());
  const std::string initrd = bench.file("initrd", "initrd");
  const std::string disk = bench.file("disk", some_bytes(4096));
  std::set<std::string> digests;
  for (const ImageSource& source : {ImageSource{.kernel = kernel},
                                    {.kernel = kernel, .initrd = initrd},
                                    {.kernel = kernel, .disk = disk},
                                    {.kernel = kernel, .initrd = initrd, .disk = disk},
                                    {.disk = disk}})
    digests.insert(bench.import(source).digest);
  CHECK(digests.size() == 5);
  const Image all = bench.import({.kernel = kernel, .initrd = initrd, .disk = disk});
  CHECK(content_of(bench.images.path(all.digest, *all.part("kernel"))) == some_kernel());
  CHECK(content_of(bench.images.path(all.digest, *all.part("initrd"))) == "initrd");
  CHECK(all.part("disk")->name == "disk.raw");
}

TEST_CASE("holes and blocks of zeroes take no room, and the digest is that of the whole content") {
  const Bench bench;
  std::string content(8 << 20, '\0');
  content.replace(5 << 20, 5, "in it");
  const std::string path = bench.file("zeroes", content);
  const std::string sparse = bench.file("sparse", "");
  fs::resize_file(sparse, content.size());
  const Fd file = open_file(sparse, O_WRONLY);
  REQUIRE(::pwrite(file.get(), "in it", 5, 5 << 20) == 5);
  for (const std::string& each : {path, sparse}) {
    const Image image = bench.import({.disk = each});
    CHECK(image.parts[0].digest == sha256_of(content));
    const fs::path copy = bench.images.path(image.digest, image.parts[0]);
    CHECK(content_of(copy) == content);
    struct stat status{};
    REQUIRE(::stat(copy.c_str(), &status) == 0);
    CHECK(status.st_blocks * 512 <= 64 * 1024);
    bench.images.remove(image.digest);
  }
}

TEST_CASE("a qcow2 image stays one, and is refused where it does not stand alone or is broken") {
  const Bench bench;
  const std::string path = bench.folder / "disk";
  make_qcow2(path);
  const std::string good = content_of(path);
  const Image image = bench.import({.disk = path, .format = ImageFormat::qcow2});
  CHECK(image.format() == ImageFormat::qcow2);
  CHECK(image.disk_size == 1 << 20);
  CHECK(content_of(bench.images.path(image.digest, *image.part("disk"))) == good);
  CHECK(bench.import({.disk = path}).digest != image.digest);
  for (const Image& each : {image, bench.import({.disk = path})}) bench.images.remove(each.digest);

  const auto with = [&](std::size_t offset, const std::string& bytes) {
    std::string bad = good;
    bad.replace(offset, bytes.size(), bytes);
    return bench.refusal({.disk = bench.file("bad", bad), .format = ImageFormat::qcow2});
  };
  // The incompatible features are at 72; the L1 table of a new image is its fourth cluster.
  CHECK(contains(with(79, "\x04"), "external data file"));
  CHECK(contains(with(79, "\x02"), "is marked as corrupt"));
  CHECK(contains(with(3 * 65536, std::string("\x80\0\0\0\0\x10\0\0", 8)), "errors: "));
  CHECK(contains(bench.refusal({.disk = bench.file("bad", some_bytes(4096)), .format = ImageFormat::qcow2}),
                 "qcow2"));
  make_qcow2(bench.folder / "over", "base.img");
  CHECK(contains(bench.refusal({.disk = bench.folder / "over", .format = ImageFormat::qcow2}),
                 "has a backing file, 'base.img'"));
}

TEST_CASE("what is no kernel, no file, empty, missing or in use is refused by name, and nothing is left") {
  const Bench bench;
  const std::string kernel = bench.file("kernel", some_kernel());
  const std::string empty = bench.file("empty", "");
  const std::string pipe = bench.folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(bench.refusal({.kernel = bench.file("text", "no kernel")}), "kernel '"));
  CHECK(contains(bench.refusal({.kernel = empty}), "is empty"));
  CHECK(contains(bench.refusal({.kernel = pipe}), "is no regular file"));
  CHECK(contains(bench.refusal({.kernel = kernel, .initrd = bench.folder / "none"}), "no such file"));
  CHECK(contains(bench.refusal({.kernel = kernel, .disk = empty}), "disk '" + empty + "': is empty"));
  CHECK(contains(bench.refusal({.disk = bench.folder.path()}), "is a directory"));
  CHECK_THROWS_AS(bench.images.stage(1, {}), ConfigError);
  CHECK_THROWS_AS(bench.images.stage(1, {.initrd = kernel, .disk = kernel}), ConfigError);
  const auto used = RawFile::open("disk", bench.file("used", some_bytes(512)), false);
  CHECK(contains(bench.refusal({.disk = bench.folder / "used"}), "is in use"));
}

TEST_CASE("verify finds every byte that changed, a file that is missing, and a list that is not its own") {
  const Bench bench;
  const Image image = bench.import(
      {.kernel = bench.file("kernel", some_kernel()), .disk = bench.file("disk", some_bytes(70'000))});
  const fs::path disk = bench.images.path(image.digest, *image.part("disk"));
  std::uint64_t last = 0;
  FileTask task;
  task.progress = [&](std::uint64_t done, std::uint64_t whole) {
    CHECK(whole == 70'000 + some_kernel().size());
    CHECK(done > last);
    last = done;
  };
  CHECK(bench.images.verify(image.digest, task).empty());
  CHECK(last == 70'000 + some_kernel().size());

  fs::permissions(disk, fs::perms(0600));
  for (const std::size_t at : {0UL, 69'999UL}) {
    std::string bad = some_bytes(70'000);
    bad[at] = static_cast<char>(bad[at] ^ 1);
    write_whole_file(disk, bad);
    CHECK(bench.images.verify(image.digest) ==
          std::vector<std::string>{"disk.raw: its content is not what it was"});
  }
  write_whole_file(disk, some_bytes(69'999));
  CHECK(bench.images.verify(image.digest) ==
        std::vector<std::string>{"disk.raw: has 69999 bytes and should have 70000"});
  fs::remove(disk);
  CHECK(bench.images.verify(image.digest) == std::vector<std::string>{"disk.raw: is missing"});
  const fs::path manifest = disk.parent_path() / "manifest";
  fs::permissions(manifest, fs::perms(0600));
  write_whole_file(manifest, content_of(manifest) + "x");
  CHECK(bench.images.verify(image.digest) == std::vector<std::string>{"manifest: is not what it was"});
  CHECK_THROWS_AS(bench.images.look(image.digest), ConfigError);
  CHECK(bench.images.remove(image.digest));
}

TEST_CASE("only a digest is an image's name") {
  const Bench bench;
  for (const std::string& name : {std::string(), std::string("../x"), std::string("sha256:"),
                                  "sha256:" + std::string(63, 'a'), "sha256:" + std::string(65, 'a'),
                                  "sha256:" + std::string(63, 'a') + "G", "sha512:" + std::string(64, 'a')}) {
    INFO(name);
    CHECK_THROWS_AS(bench.images.has(name), ConfigError);
    CHECK_THROWS_AS(bench.images.remove(name), ConfigError);
  }
  const std::string none = "sha256:" + std::string(64, 'a');
  CHECK_FALSE(bench.images.has(none));
  CHECK_FALSE(bench.images.remove(none));
  CHECK_THROWS_AS(bench.images.look(none), ConfigError);
  CHECK_THROWS_AS(bench.images.verify(none), ConfigError);
}

TEST_CASE("only what an operation has staged is published, once, and again without harm") {
  const Bench bench;
  const Image image = bench.images.stage(operation, {.disk = bench.file("disk", some_bytes(512))});
  const std::string other = "sha256:" + std::string(64, 'a');
  CHECK_THROWS_AS(bench.images.publish(operation, other), ConfigError);
  CHECK_THROWS_AS(bench.images.publish(8, image.digest), ConfigError);
  CHECK_FALSE(bench.images.has(image.digest));
  for (int i = 0; i < 2; ++i) bench.images.publish(operation, image.digest);
  CHECK(bench.images.has(image.digest));
}

TEST_CASE("a sweep leaves known images, living operations and what is not its own") {
  const Bench bench;
  const Image known = bench.import({.disk = bench.file("a", some_bytes(512, 1))});
  const Image unknown = bench.import({.disk = bench.file("b", some_bytes(512, 2))});
  bench.images.stage(1, {.disk = bench.folder / "a"});
  bench.images.stage(2, {.disk = bench.folder / "a"});
  bench.file("images/notes", "mine");
  fs::create_directory(bench.folder / "images/sha256-old");
  fs::create_directory(bench.folder / "images/staging/02");
  const ImageFiles::Swept swept = bench.images.sweep({known.digest}, {1});
  CHECK(swept.images == std::vector<std::string>{unknown.digest});
  CHECK(swept.operations == std::vector<std::int64_t>{2});
  CHECK(bench.files() == Names{folder_of(known.digest) + "/disk.raw", folder_of(known.digest) + "/manifest",
                               "notes", "sha256-old", "staging/02", "staging/1/image/disk.raw",
                               "staging/1/image/manifest"});
  const ImageFiles::Swept nothing = bench.images.sweep({known.digest}, {1});
  CHECK((nothing.images.empty() && nothing.operations.empty()));
}

TEST_CASE("an import that is cancelled leaves nothing") {
  const Bench bench;
  std::atomic<bool> cancelled = false;
  FileTask task;
  task.cancelled = &cancelled;
  task.progress = [&](std::uint64_t done, std::uint64_t) { cancelled = done >= 128 * 1024; };
  CHECK_THROWS_AS(bench.images.stage(operation, {.disk = bench.file("disk", some_bytes(1 << 20))}, task),
                  Cancelled);
  CHECK(bench.files() == Names{"staging/7"});
}

namespace {

const ImageSource whole_source(const std::string& folder) {
  return {.kernel = folder + "/kernel",
          .initrd = folder + "/initrd",
          .disk = folder + "/disk",
          .format = ImageFormat::qcow2};
}

void make_sources(const std::string& folder) {
  write_whole_file(folder + "/kernel", some_kernel());
  write_whole_file(folder + "/initrd", "initrd");
  make_qcow2(folder + "/disk");
}

void import_whole(const std::string& folder, const FileTask& task = {}) {
  const ImageFiles images(folder + "/images");
  const Image image = images.stage(operation, whole_source(folder), task);
  images.publish(operation, image.digest, task);
}

// What has an image's name is an image.
void check_no_half_images(const std::string& folder) {
  const ImageFiles images(folder + "/images");
  if (!fs::exists(folder + "/images")) return;
  for (const auto& each : fs::directory_iterator(folder + "/images"))
    if (const std::string name = each.path().filename(); name.starts_with("sha256-"))
      CHECK(images.verify("sha256:" + name.substr(7)).empty());
}

constexpr std::size_t files_of_whole = 5;  // its three parts, its manifest, the empty folder staging

}  // namespace

TEST_CASE("an import that is killed at any change is done by the next one, or swept away") {
  const unsigned done =
      kill_everywhere({.prepare = make_sources, .work = import_whole, .then = [](const std::string& folder) {
                         check_no_half_images(folder);
                         import_whole(folder);
                         check_no_half_images(folder);
                         CHECK(files_below(folder + "/images").size() == files_of_whole);
                       }});
  const unsigned swept =
      kill_everywhere({.prepare = make_sources, .work = import_whole, .then = [](const std::string& folder) {
                         const ImageFiles images(folder + "/images");
                         images.sweep({}, {});
                         if (fs::exists(folder + "/images"))
                           for (const auto& each : files_below(folder + "/images")) CHECK(each == "staging");
                       }});
  CHECK(done == swept);
  CHECK(done > 40);
  std::printf("count: %u kills of an import, each done again and swept\n", done);
}

TEST_CASE("a publication that is killed at any change is finished by the next one") {
  std::string digest;
  const unsigned killed = kill_everywhere(
      {.prepare =
           [&](const std::string& folder) {
             make_sources(folder);
             digest = ImageFiles(folder + "/images").stage(operation, whole_source(folder)).digest;
           },
       .work = [&](const std::string& folder,
                   const FileTask& task) { ImageFiles(folder + "/images").publish(operation, digest, task); },
       .then =
           [&](const std::string& folder) {
             const ImageFiles images(folder + "/images");
             // The image is known from before its publication on.
             images.sweep({digest}, {operation});
             images.publish(operation, digest);
             CHECK(images.verify(digest).empty());
             CHECK(files_below(folder + "/images").size() == files_of_whole);
           }});
  CHECK(killed >= 4);
  std::printf("count: %u kills of a publication\n", killed);
}

TEST_CASE("a removal that is killed at any change leaves the image whole or nothing but what is swept") {
  const auto digest = [](const std::string& folder) {
    for (const auto& each : fs::directory_iterator(folder + "/images"))
      if (const std::string name = each.path().filename(); name.starts_with("sha256-"))
        return "sha256:" + name.substr(7);
    return std::string();
  };
  std::string known;
  const KilledWork work{
      .prepare =
          [&](const std::string& folder) {
            make_sources(folder);
            import_whole(folder);
            known = digest(folder);
          },
      .work = [&](const std::string& folder,
                  const FileTask& task) { ImageFiles(folder + "/images").remove(known, task); },
      .then =
          [&](const std::string& folder) {
            check_no_half_images(folder);
            ImageFiles(folder + "/images").remove(known);
            CHECK(files_below(folder + "/images") == Names{"staging"});
          }};
  const unsigned killed = kill_everywhere(work);
  KilledWork swept = work;
  swept.then = [&](const std::string& folder) {
    ImageFiles(folder + "/images").sweep({}, {});
    CHECK(files_below(folder + "/images") == Names{"staging"});
  };
  CHECK(kill_everywhere(swept) == killed);
  CHECK(killed >= 6);
  std::printf("count: %u kills of an image's removal, each done again and swept\n", killed);
}

TEST_CASE("an import that fails at any change leaves no image and nothing that it copied") {
  const unsigned failed =
      fail_everywhere({.prepare = make_sources,
                       .work =
                           [](const std::string& folder, const FileTask& task) {
                             ImageFiles(folder + "/images").stage(operation, whole_source(folder), task);
                           },
                       .then =
                           [](const std::string& folder) {
                             if (!fs::exists(folder + "/images")) return;
                             for (const std::string& each : files_below(folder + "/images"))
                               CHECK((each == "staging" || each == "staging/7"));
                           }},
                      [] { throw HostError(ENOSPC, "write"); });
  CHECK(failed > 30);
  std::printf("count: %u changes of an import that fail\n", failed);
}

}  // namespace hum
