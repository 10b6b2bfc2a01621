// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "devices/block/open_image.h"
#include "tools/humd/file_task.h"

namespace hum {

// What an image is to be made of: paths; empty: it has none. A disk, a kernel, a kernel with an initrd, or
// all three.
struct ImageSource {
  std::string kernel{};
  std::string initrd{};
  std::string disk{};
  ImageFormat format = ImageFormat::raw;  // of the disk; said, never guessed
};

struct ImagePart {
  std::string name;    // of the file: "kernel", "initrd", "disk.raw", "disk.qcow2"
  std::string digest;  // "sha256:...", of the file
  std::uint64_t size;  // bytes, of the file
};

struct Image {
  // "sha256:...", of the list of its parts: the same parts make the same image, and one disk as raw and as
  // qcow2 are two.
  std::string digest;
  std::vector<ImagePart> parts;
  std::uint64_t disk_size = 0;  // bytes, of the guest's disk; 0: it has none

  // By its name up to the dot; null: it has none.
  const ImagePart* part(std::string_view name) const;
  // Of the disk.
  ImageFormat format() const;
};

// Images as folders of files that never change:
//   FOLDER/sha256-HEX/          whole, read-only, synced: manifest and parts
//   FOLDER/staging/OPERATION/   what an operation is still at; nobody else's
//   FOLDER/staging/.removed-HEX what is being removed
// Who names an image, and which operations live, is the caller's to know. Every function may be killed at any
// instruction and called again. From any thread, for several operations at once; but for one image, remove is
// not called beside anything else. Throws ConfigError, HostError, Cancelled.
class ImageFiles {
 public:
  // Made when it is needed.
  explicit ImageFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // First half of an import: copies what the source says, checks and syncs it. What an earlier try has left
  // is given up. After an error nothing is left of it but what pull has got. A file in the operation's own
  // folder is not copied.
  Image stage(std::int64_t operation, const ImageSource& source, const FileTask& task = {}) const;
  // Second half, once the caller has recorded the digest: gives it its place, or drops it where such an image
  // is there already, and ends the operation's folder.
  void publish(std::int64_t operation, const std::string& digest, const FileTask& task = {}) const;
  // Undoes what an operation has staged. Nothing happens where that is nothing.
  void discard(std::int64_t operation, const FileTask& task = {}) const;

  bool has(const std::string& digest) const;
  // An image that is there.
  Image look(const std::string& digest) const;
  std::filesystem::path path(const std::string& digest, const ImagePart& part) const;
  std::filesystem::path operation_folder(std::int64_t operation) const;

  // Reads all of an image and compares. What is wrong with it; nothing: it is sound.
  std::vector<std::string> verify(const std::string& digest, const FileTask& task = {}) const;
  // False: there was none. Whoever has a file of it open keeps that.
  bool remove(const std::string& digest, const FileTask& task = {}) const;

  struct Swept {
    std::vector<std::string> images;       // digests
    std::vector<std::int64_t> operations;  // whose folders were removed
  };
  // Removes images that nobody knows and folders of operations that do not live. What has another name than
  // this class gives stays.
  Swept sweep(const std::set<std::string>& known, const std::set<std::int64_t>& live,
              const FileTask& task = {}) const;

 private:
  std::filesystem::path staging() const { return folder_ / "staging"; }
  std::filesystem::path place(const std::string& digest) const;
  std::filesystem::path aside(const std::string& digest) const;

  std::filesystem::path folder_;
};

}  // namespace hum
