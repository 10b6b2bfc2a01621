// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "devices/block/open_image.h"
#include "tools/humd/file_task.h"
#include "tools/humd/image_files.h"

namespace hum {

// A disk that a guest writes to.
struct Volume {
  std::string path;
  ImageFormat format = ImageFormat::raw;
  std::uint64_t size = 0;  // bytes, of the guest's disk
  // The digest of the image that it is built upon, which has to stay as long as the volume; empty: none.
  std::string image{};

  // Words of the option --disk: "path=...,format=qcow2,backing=any". An image is in another folder than the
  // volumes that are built upon it, which is allowed with backing=any only; it is safe here, as the name
  // of the backing file was written by VolumeFiles and no guest can write there.
  std::string options() const;
};

// Volumes as folders of one file:
//   FOLDER/ID/disk.raw or disk.qcow2
//   FOLDER/.new-ID, FOLDER/.removed-ID   what is being made, or removed
// The backing file of an overlay is named relative to it, so that the daemon's folder may move. Which volumes
// there are is the caller's to know, and that an image stays while a volume needs it. Every function may be
// killed at any instruction and called again. From any thread, for several volumes at once. Throws
// ConfigError, HostError, Cancelled.
class VolumeFiles {
 public:
  // Made when it is needed. images outlives this.
  VolumeFiles(std::filesystem::path folder, const ImageFiles& images)
      : folder_(std::move(folder)), images_(images) {}

  // An empty disk. Where the volume is there already it must be such a one; the same holds below.
  Volume create(std::int64_t id, std::uint64_t size, ImageFormat format, const FileTask& task = {}) const;
  // A qcow2 disk on top of an image's, of its size or a larger one.
  Volume create_overlay(std::int64_t id, const std::string& digest, std::optional<std::uint64_t> size,
                        const FileTask& task = {}) const;
  // A copy of a volume that nobody uses.
  Volume clone(std::int64_t id, std::int64_t from, const FileTask& task = {}) const;

  bool has(std::int64_t id) const;
  std::filesystem::path path(std::int64_t id, ImageFormat format) const;
  // One that is there and that nobody uses.
  Volume look(std::int64_t id) const;
  // Of a volume that nobody uses. What is behind a smaller size is lost, so may_shrink has to say so.
  Volume resize(std::int64_t id, std::uint64_t size, bool may_shrink, const FileTask& task = {}) const;
  // Whole or half made. False: there was none. One that is in use stays (ConfigError).
  bool remove(std::int64_t id, const FileTask& task = {}) const;
  // Removes what is there of volumes that nobody knows; a volume is known from before it is made until it is
  // removed. One that is in use stays. What has another name than this class gives stays. The ids.
  std::vector<std::int64_t> sweep(const std::set<std::int64_t>& known, const FileTask& task = {}) const;

 private:
  std::filesystem::path place(std::int64_t id) const;
  std::filesystem::path beside(std::string_view begin, std::int64_t id) const;
  using Fill = std::function<void(const std::filesystem::path& file)>;
  Volume make(std::int64_t id, const Volume& wanted, const FileTask& task, const Fill& fill) const;

  std::filesystem::path folder_;
  const ImageFiles& images_;
};

}  // namespace hum
