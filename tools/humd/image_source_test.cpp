// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/image_source.h"

#include <nlohmann/json.hpp>

#include "tools/humd/crash_testing.h"
#include "tools/humd/file_server_testing.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/sha256.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

// The key of what is wrong.
std::string wrong_key(const json& fields) {
  try {
    check_image_source(fields);
  } catch (const ConfigError& error) {
    return error.key();
  }
  return "none";
}

}  // namespace

TEST_CASE("what an image is made of is pulled where it is a URL, and is staged from there") {
  FileServer server;
  const testing::TemporaryFolder folder;
  const std::string disk = some_bytes(300'000);
  server.serve("/disk", {.content = disk});
  server.serve("/initrd", {.content = "initrd"});
  write_whole_file(folder / "kernel", some_kernel());
  const ImageFiles images(folder / "images");
  const json fields{{"kernel", folder / "kernel"},
                    {"initrd", server.url("/initrd")},
                    {"disk", server.url("/disk")},
                    {"disk_digest", sha256_of(disk)},
                    {"name", "web"}};
  std::uint64_t last = 0;
  FileTask task;
  task.progress = [&](std::uint64_t done, std::uint64_t whole) {
    CHECK(done >= last);
    CHECK(whole >= done);
    last = done;
  };
  const ImageSource source = pull_image_source(images.operation_folder(7), fields, {}, task);
  CHECK(last == disk.size() + 6);
  CHECK(source.kernel == folder / "kernel");
  CHECK(source.format == ImageFormat::raw);
  const Image image = images.stage(7, source);
  images.publish(7, image.digest);
  CHECK(image.part("disk")->digest == sha256_of(disk));
  CHECK(content_of(images.path(image.digest, *image.part("initrd"))) == "initrd");
  CHECK(images.verify(image.digest).empty());
}

TEST_CASE("a path with a digest is checked, and an error names the field that it is about") {
  const testing::TemporaryFolder folder;
  write_whole_file(folder / "disk", "content");
  json fields{{"disk", folder / "disk"}, {"disk_digest", sha256_of("content")}, {"format", "qcow2"}};
  const ImageSource source = pull_image_source(folder / "7", fields);
  CHECK(content_of(source.disk) == "content");
  CHECK(source.disk != folder / "disk");
  CHECK(source.format == ImageFormat::qcow2);
  fields["disk_digest"] = sha256_of("another");
  const auto key_of = [&] {
    try {
      pull_image_source(folder / "8", fields);
    } catch (const ConfigError& error) {
      CHECK(files_below(folder / "8").empty());
      return error.key();
    }
    return std::string("none");
  };
  CHECK(key_of() == "disk_digest");
  fields["disk"] = folder / "none";
  CHECK(key_of() == "disk");
}

TEST_CASE("an image's source is checked before anything is got") {
  const std::string digest = sha256_of("x");
  CHECK(wrong_key({{"kernel", "/a"}, {"disk", "http://host/b"}, {"disk_digest", digest}}) == "none");
  CHECK(wrong_key(json::object()) == "none");  // what is missing is said by stage
  CHECK(wrong_key(json::array()) == "image");
  CHECK(wrong_key({{"disk", 1}}) == "disk");
  CHECK(wrong_key({{"disk", "a"}}) == "disk");
  CHECK(wrong_key({{"initrd", "https://host/a"}}) == "initrd");
  CHECK(wrong_key({{"kernel", "file:///a"}}) == "kernel");
  CHECK(wrong_key({{"kernel_digest", digest}}) == "kernel_digest");
  CHECK(wrong_key({{"disk", "/a"}, {"disk_digest", "sha256:x"}}) == "disk_digest");
  CHECK(wrong_key({{"disk", "/a"}, {"format", "vmdk"}}) == "format");
}

}  // namespace hum
