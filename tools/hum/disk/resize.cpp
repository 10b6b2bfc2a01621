// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "devices/block/block_engines.h"
#include "devices/block/qcow2_format.h"
#include "tools/hum/disk/common.h"
#include "tools/hum/disk/verbs.h"
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

DiskResize::DiskResize(CLI::App& disk, int& exit_code) {
  CLI::App& app = *disk.add_subcommand("resize", "Make the disk in an image larger, or smaller");
  app.add_option("path", path_, "the image, which nobody uses")->required();
  app.add_option("size", size_, "of the guest's disk, like 20G, or +5G for so much more")->required();
  app.add_option("--format", format_, "raw or qcow2; never guessed")
      ->required()
      ->check(CLI::IsMember({"raw", "qcow2"}));
  app.add_flag("--shrink", shrink_, "a smaller size is meant: what is behind it is lost");
  app.add_flag("--any-backing", any_backing_, "backing images may be outside of the image's folder");
  app.footer(
      "The disk's partitions and file systems stay as they are: the guest's tools make them fit, after the "
      "disk "
      "has grown or before it shrinks.\nExamples:\n  hum disk resize disk.qcow2 +10G --format qcow2\n"
      "  hum disk resize disk.img 4G --format raw --shrink");
  app.callback([this, &exit_code] {
    run();
    exit_code = 0;
  });
}

void DiskResize::run() const {
  const bool more = size_.starts_with('+');
  const std::uint64_t given = parse_disk_size(more ? size_.substr(1) : size_);
  const ImageFormat format = parse_format(format_);
  const Log log;
  const auto image = open_image("", {.path = path_, .format = format, .any_backing = any_backing_}, log);
  if (more && given > UINT64_MAX - image->size())
    throw ConfigError("size", size_, "too large", "give a smaller size");
  const std::uint64_t size = more ? image->size() + given : given;
  const bool shrinks = size < image->size();
  if (shrinks && !shrink_)
    throw ConfigError("size", size_, "is less than the disk has, " + with_bytes(image->size()),
                      "add --shrink if what is behind may be lost");
  if (std::filesystem::is_block_file(path_) && format == ImageFormat::raw && size != image->size())
    throw ConfigError("path", path_, "is a block device, which keeps its size", "give an image file");
  if (auto* const qcow2 = dynamic_cast<Qcow2Image*>(image.get())) {
    check_snapshots(path_, qcow2->header(), shrinks);
    check_size(size_, qcow2->header(), size);
  }
  const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
  expect_ok(image->resize(*engine, size),
            {"resize '" + path_ + "' to " + with_bytes(size), "size", size_,
             "this image cannot have " + with_bytes(size),
             "give a size that its file system has files for, or convert it to a new qcow2 image"});
}

}  // namespace hum
