// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include "tools/hum/disk/common.h"
#include "tools/hum/disk/resize_image.h"
#include "tools/hum/disk/verbs.h"
#include "vmm/base/errors.h"

namespace hum {
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
  const Log log;
  const ImageSettings settings{.path = path_, .format = parse_format(format_), .any_backing = any_backing_};
  const auto image = open_image("", settings, log);
  if (more && given > UINT64_MAX - image->size())
    throw ConfigError("size", size_, "too large", "give a smaller size");
  const std::uint64_t size = more ? image->size() + given : given;
  const bool shrinks = size < image->size();
  if (shrinks && !shrink_)
    throw ConfigError("size", size_, "is less than the disk has, " + with_bytes(image->size()),
                      "add --shrink if what is behind may be lost");
  resize_image(*image, settings, size_, size);
}

}  // namespace hum
