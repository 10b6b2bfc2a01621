// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/volume_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <string_view>

#include "devices/block/qcow2_header.h"
#include "devices/block/raw_file.h"
#include "tools/hum-vmm/fields.h"
#include "tools/hum/disk/common.h"
#include "tools/hum/disk/resize_image.h"
#include "tools/humd/file_changes.h"
#include "tools/humd/file_copy.h"
#include "tools/humd/sha256.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr const char* new_begin = ".new-";
constexpr const char* removed_begin = ".removed-";
constexpr std::uint64_t sector = 512;

const char* file_name(ImageFormat format) {
  return format == ImageFormat::qcow2 ? "disk.qcow2" : "disk.raw";
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

void check_size(std::uint64_t size) {
  if (size == 0 || size % sector != 0)
    throw ConfigError("size", std::to_string(size), "not a multiple of 512 bytes, or nothing",
                      "give bytes or a number with K, M, G or T, like 10G");
  if (size > INT64_MAX)
    throw ConfigError("size", std::to_string(size), "too large for a file", "give a smaller size");
}

// The image's digest that a backing file's name leads to; empty: it was not written here.
std::string digest_in(const std::string& backing_file) {
  const std::string name = fs::path(backing_file).parent_path().filename();
  if (name.find('-') == std::string::npos) return {};
  const std::string digest = "sha256:" + name.substr(name.find('-') + 1);
  return is_sha256(digest) ? digest : std::string();
}

void expect_wanted(std::int64_t id, const Volume& found, const Volume& wanted) {
  if (found.format == wanted.format && found.size == wanted.size && found.image == wanted.image) return;
  throw ConfigError("volume", std::to_string(id), "is there already and is another one",
                    "give another id, or remove it first");
}

void make_raw(const FileTask& task, const fs::path& path, std::uint64_t size) {
  const Fd file = make_file(task, path);
  task.changes("set size");
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
    if (errno == EFBIG || errno == EINVAL)
      throw ConfigError("size", std::to_string(size), "its file system has no files so large",
                        "give a smaller size, or the format qcow2");
    throw HostError(errno, "make '" + path.string() + "'");
  }
  sync_file(task, file, path);
}

void make_qcow2(const FileTask& task, const fs::path& path, const Qcow2Header& header) {
  make_file(task, path);
  task.changes("write file");
  write_new_qcow2("volume", path, *RawFile::open("volume", path, false), header);
}

// The number that a name has behind its begin.
std::optional<std::int64_t> id_in(std::string_view name, std::string_view begin) {
  if (!name.starts_with(begin)) return {};
  name.remove_prefix(begin.size());
  std::int64_t id = 0;
  std::from_chars(name.data(), name.data() + name.size(), id);
  if (id <= 0 || std::to_string(id) != name) return {};
  return id;
}

}  // namespace

std::string Volume::options() const {
  return "path=" + escaped_option(path) + ",format=" + (format == ImageFormat::qcow2 ? "qcow2" : "raw") +
         (image.empty() ? "" : ",backing=any");
}

fs::path VolumeFiles::place(std::int64_t id) const {
  return beside("", id);
}

fs::path VolumeFiles::beside(std::string_view begin, std::int64_t id) const {
  if (id <= 0) throw ConfigError("volume", std::to_string(id), "no volume's id", "give a number from 1 on");
  return folder_ / (std::string(begin) + std::to_string(id));
}

fs::path VolumeFiles::path(std::int64_t id, ImageFormat format) const {
  return place(id) / file_name(format);
}

bool VolumeFiles::has(std::int64_t id) const {
  return is_there(place(id));
}

Volume VolumeFiles::look(std::int64_t id) const {
  if (!has(id)) throw ConfigError("volume", std::to_string(id), "there is no such volume", "create it");
  Volume volume;
  volume.format = is_there(place(id) / file_name(ImageFormat::qcow2)) ? ImageFormat::qcow2 : ImageFormat::raw;
  volume.path = place(id) / file_name(volume.format);
  const auto file = RawFile::open("volume", volume.path, true);
  volume.size = file->size();
  if (volume.format == ImageFormat::raw) return volume;
  const Qcow2Header header = read_qcow2_header("volume", volume.path, *file);
  volume.size = header.virtual_size;
  volume.image = digest_in(header.backing_file);
  return volume;
}

Volume VolumeFiles::make(std::int64_t id, const Volume& wanted, const FileTask& task,
                         const Fill& fill) const {
  const fs::path temporary = beside(new_begin, id);
  remove_all(task, temporary);
  if (!has(id)) {
    make_folders(task, folder_);
    UnlessDone cleaning(temporary);
    make_folders(task, temporary);
    fill(temporary / file_name(wanted.format));
    sync_folder(task, temporary);
    publish(task, temporary, place(id));
    cleaning.done();
  } else {
    sync_folder(task, folder_);  // who made it may have been killed before
  }
  Volume made = look(id);
  expect_wanted(id, made, wanted);
  return made;
}

Volume VolumeFiles::create(std::int64_t id, std::uint64_t size, ImageFormat format,
                           const FileTask& task) const {
  check_size(size);
  return make(id, {.path = {}, .format = format, .size = size}, task, [&](const fs::path& file) {
    if (format == ImageFormat::raw) return make_raw(task, file, size);
    make_qcow2(task, file, {.virtual_size = size});
  });
}

Volume VolumeFiles::create_overlay(std::int64_t id, const std::string& digest,
                                   std::optional<std::uint64_t> size, const FileTask& task) const {
  const Image image = images_.look(digest);
  const ImagePart* const disk = image.part("disk");
  if (disk == nullptr) throw ConfigError("image", digest, "has no disk", "give an image with one");
  const std::uint64_t wanted = size.value_or(image.disk_size);
  check_size(wanted);
  if (wanted < image.disk_size)
    throw ConfigError("size", std::to_string(wanted),
                      "is less than the image has, " + with_bytes(image.disk_size),
                      "give a larger one, or none");
  return make(id, {.path = {}, .format = ImageFormat::qcow2, .size = wanted, .image = digest}, task,
              [&](const fs::path& file) {
                Qcow2Header header{.virtual_size = wanted};
                header.backing_file = fs::relative(images_.path(digest, *disk), file.parent_path());
                header.backing_format = image.format() == ImageFormat::qcow2 ? "qcow2" : "raw";
                make_qcow2(task, file, header);
              });
}

Volume VolumeFiles::clone(std::int64_t id, std::int64_t from, const FileTask& task) const {
  const Volume source = look(from);
  return make(id, source, task, [&](const fs::path& file) {
    // Its lock keeps virtual machines from writing meanwhile.
    const auto content = RawFile::open("volume", source.path, true);
    copy_content(task, {content->fd(), "volume", source.path, content->size()}, file, nullptr);
  });
}

Volume VolumeFiles::resize(std::int64_t id, std::uint64_t size, bool may_shrink, const FileTask& task) const {
  check_size(size);
  const Volume volume = look(id);
  if (size == volume.size) return volume;
  if (size < volume.size && !may_shrink)
    throw ConfigError("size", std::to_string(size), "is less than the volume has, " + with_bytes(volume.size),
                      "say that it may shrink if what is behind may be lost");
  const ImageSettings settings{.path = volume.path, .format = volume.format, .any_backing = true};
  const Log log;
  task.changes("set size");
  resize_image(*open_image("volume", settings, log), settings, std::to_string(size), size);
  return look(id);
}

bool VolumeFiles::remove(std::int64_t id, const FileTask& task) const {
  const fs::path unfinished = beside(new_begin, id);
  const bool begun = is_there(unfinished);
  remove_all(task, unfinished);
  std::unique_ptr<RawFile> lock;
  for (const ImageFormat format : {ImageFormat::raw, ImageFormat::qcow2})
    if (const fs::path file = place(id) / file_name(format); is_there(file))
      lock = RawFile::open("volume", file, false);
  return remove_at_once(task, place(id), beside(removed_begin, id)) || begun;
}

std::vector<std::int64_t> VolumeFiles::sweep(const std::set<std::int64_t>& known,
                                             const FileTask& task) const {
  std::set<std::int64_t> found;
  std::error_code error;
  for (fs::directory_iterator each(folder_, error), end; !error && each != end; each.increment(error))
    for (const char* const begin : {"", new_begin, removed_begin})
      if (const auto id = id_in(each->path().filename().string(), begin); id && !known.contains(*id))
        found.insert(*id);
  std::vector<std::int64_t> swept;
  for (const std::int64_t id : found) {
    try {
      if (remove(id, task)) swept.push_back(id);
    } catch (const ConfigError&) {
      continue;  // in use
    }
  }
  return swept;
}

}  // namespace hum
