// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk/resize_image.h"

#include <algorithm>
#include <filesystem>

#include "devices/block/block_engines.h"
#include "devices/block/qcow2_format.h"
#include "tools/hum/disk/common.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

// Why a qcow2 image cannot have this size, where it is known before anything is done.
void check_snapshots(const std::string& path, const Qcow2Header& header, bool shrinks) {
  if (header.snapshots == 0) return;
  if (shrinks)
    throw ConfigError("path", path, "has snapshots, which need what is behind the new end",
                      "remove them (qemu-img snapshot -d), or convert the disk to a new image");
  if (header.version < 3)
    throw ConfigError("path", path, "has snapshots and is of version 2, where they have no size of their own",
                      "convert the disk to a new image");
}

// Its L1 table has an end.
void check_size(const std::string& given, const Qcow2Header& header, std::uint64_t size) {
  const std::uint64_t cluster = header.cluster_size();
  const std::uint64_t most = std::min(qcow2_most_l1_size / 8 * (cluster / 8) * cluster, qcow2_largest_file);
  if (size > most)
    throw ConfigError(
        "size", given,
        "this image's disk can have up to " + with_bytes(most) + " with clusters of " + with_bytes(cluster),
        "give a smaller size, or convert it with a larger --cluster-size");
}

}  // namespace

void resize_image(BlockBackend& image, const ImageSettings& settings, const std::string& given,
                  std::uint64_t size) {
  if (std::filesystem::is_block_file(settings.path) && settings.format == ImageFormat::raw &&
      size != image.size())
    throw ConfigError("path", settings.path, "is a block device, which keeps its size", "give an image file");
  if (auto* const qcow2 = dynamic_cast<Qcow2Image*>(&image)) {
    check_snapshots(settings.path, qcow2->header(), size < image.size());
    check_size(given, qcow2->header(), size);
  }
  const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
  expect_ok(image.resize(*engine, size),
            {"resize '" + settings.path + "' to " + with_bytes(size), "size", given,
             "this image cannot have " + with_bytes(size),
             "give a size that its file system has files for, or convert it to a new qcow2 image"});
}

}  // namespace hum
