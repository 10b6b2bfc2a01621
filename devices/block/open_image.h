// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "devices/block/block_backend.h"
#include "devices/block/qcow2_image.h"
#include "devices/block/raw_file.h"
#include "vmm/base/log.h"

namespace hum {

enum class ImageFormat : std::uint8_t { raw, qcow2 };

// How a disk's image is opened. The formats are said and never guessed: a guest that may write a raw image
// could make it look like one that leads to other files of the host.
struct ImageSettings {
  std::string path;
  ImageFormat format = ImageFormat::raw;
  bool read_only = false;
  BlockCache cache = BlockCache::writeback;
  std::uint64_t metadata_cache = 32u << 20;  // bytes, for each image of the chain
  bool any_backing = false;  // backing images may be outside of the folder of the image that names them
  // Empty: none. "tmp": writes go to a file without a name that is gone at the end. Otherwise a qcow2 image
  // on top of this one, made where it is not there.
  std::string overlay = {};

  bool operator==(const ImageSettings&) const = default;
};

// Opens an image and what it is built upon. what is the option's name ("disk"), for errors; empty: a path on
// a command line. Throws ConfigError, HostError.
std::unique_ptr<BlockBackend> open_image(const std::string& what, const ImageSettings& settings,
                                         const Log& log);
// A qcow2 image and the one below it, both to be written.
std::unique_ptr<Qcow2Image> open_for_commit(const std::string& what, const ImageSettings& settings,
                                            const Log& log);

}  // namespace hum
