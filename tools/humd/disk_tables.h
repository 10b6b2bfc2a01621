// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/humd/image_files.h"
#include "tools/humd/object.h"
#include "tools/humd/store.h"

namespace hum {

// A name for an image's content, as the store has it.
struct ImageRow {
  std::int64_t id = 0;
  std::string name{};
  uid_t owner = 0;
  ObjectState state = ObjectState::creating;
  std::string digest{};   // empty until its content is known
  std::string source{};   // JSON: what it was made of
  std::string summary{};  // JSON: of its content; empty until that is known
  double created = 0;
};

// A disk that VMs write to, as the store has it.
struct VolumeRow {
  std::int64_t id = 0;
  std::string name{};  // empty: it is a VM's own
  uid_t owner = 0;
  ObjectState state = ObjectState::creating;
  ImageFormat format = ImageFormat::raw;
  std::uint64_t size = 0;  // bytes; 0: its image's, until it is made
  std::string digest{};    // of the image that it is built upon; empty: none
  std::optional<std::int64_t> vm{};
  double created = 0;
};

// What a list is to have.
struct ListFilter {
  std::optional<uid_t> owner{};
  std::string after{};  // the name before the first
  int most = 1000;
};

// Images by name, and the contents that they stand for. Nothing here commits.
class ImageTable {
 public:
  explicit ImageTable(Store& store) : store_(store) {}

  // Throws ApiError (409): the name is taken.
  std::int64_t insert(const std::string& name, uid_t owner, const std::string& source);
  void remove(std::int64_t id);
  std::optional<ImageRow> find(std::int64_t id);
  std::optional<ImageRow> find(std::string_view name);
  std::vector<ImageRow> list(const ListFilter& filter);
  void set_state(std::int64_t id, ObjectState state);

  // The image has this content from now on, which stays as long as anything needs it.
  void set_content(std::int64_t id, const Image& content);
  // Needed by nothing any more.
  std::vector<std::string> unneeded_contents();
  bool is_needed(const std::string& digest);
  void forget_content(const std::string& digest);
  std::vector<std::string> contents();

 private:
  Store& store_;
};

// Volumes, and which VMs use them. Nothing here commits.
class VolumeTable {
 public:
  explicit VolumeTable(Store& store) : store_(store) {}

  // Throws ApiError (409): the name is taken.
  std::int64_t insert(const VolumeRow& row);
  void remove(std::int64_t id);
  std::optional<VolumeRow> find(std::int64_t id);
  std::optional<VolumeRow> find(std::string_view name);
  // Those with names.
  std::vector<VolumeRow> list(const ListFilter& filter);
  // A VM's own.
  std::vector<VolumeRow> of_vm(std::int64_t vm);
  std::vector<std::int64_t> all();
  void set_state(std::int64_t id, ObjectState state);
  void set_made(std::int64_t id, ImageFormat format, std::uint64_t size);

  // The volumes that a VM uses, besides its own.
  void set_uses(std::int64_t vm, const std::vector<std::int64_t>& volumes);
  // The names of the VMs that use it.
  std::vector<std::string> users(std::int64_t volume);

 private:
  Store& store_;
};

}  // namespace hum
