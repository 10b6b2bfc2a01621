// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/image_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include "devices/block/qcow2_check.h"
#include "devices/block/qcow2_header.h"
#include "devices/block/raw_file.h"
#include "tools/humd/file_changes.h"
#include "tools/humd/file_copy.h"
#include "tools/humd/sha256.h"
#include "vmm/base/errors.h"
#include "vmm/base/printable.h"
#include "vmm/boot/kernel_facts.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view first_line = "hum image 1";
constexpr std::array part_names = {"kernel", "initrd", "disk.raw", "disk.qcow2"};
constexpr std::string_view folder_begin = "sha256-";
constexpr std::string_view aside_begin = ".removed-";
constexpr unsigned read_only_file = 0444;

std::string digits_of(const std::string& digest) {
  return digest.substr(digest.find(':') + 1);
}

void check_digest(const std::string& digest) {
  if (!is_sha256(digest))
    throw ConfigError("image", digest, "no image's digest", "give sha256: and 64 hexadecimal digits");
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

// The list of an image's parts, of which it has its digest.
std::string manifest_of(const std::vector<ImagePart>& parts) {
  std::string text = std::string(first_line) + "\n";
  for (const ImagePart& part : parts)
    text += part.name + " " + part.digest + " " + std::to_string(part.size) + "\n";
  return text;
}

// Nothing: it is none that manifest_of has written.
std::optional<std::vector<ImagePart>> parts_of(const std::string& manifest) {
  std::vector<ImagePart> parts;
  std::string_view rest = manifest;
  for (bool first = true; !rest.empty(); first = false) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (first) continue;
    const std::size_t name_end = line.find(' ');
    const std::size_t digest_end = line.find(' ', name_end + 1);
    if (name_end == std::string_view::npos || digest_end == std::string_view::npos) return {};
    ImagePart part{.name = std::string(line.substr(0, name_end)),
                   .digest = std::string(line.substr(name_end + 1, digest_end - name_end - 1)),
                   .size = 0};
    const std::string_view size = line.substr(digest_end + 1);
    std::from_chars(size.data(), size.data() + size.size(), part.size);
    if (std::find(part_names.begin(), part_names.end(), part.name) == part_names.end()) return {};
    parts.push_back(std::move(part));
  }
  if (parts.empty() || manifest_of(parts) != manifest) return {};
  return parts;
}

std::string text_of(const fs::path& path) {
  constexpr std::size_t most = 4096;
  const Fd file = open_file(path, O_RDONLY | O_NOFOLLOW);
  std::string text(most, '\0');
  const ssize_t count = ::read(file.get(), text.data(), text.size());
  if (count < 0) throw HostError(errno, "read '" + path.string() + "'");
  text.resize(static_cast<std::size_t>(count));
  return text;
}

std::optional<std::vector<ImagePart>> parts_in(const fs::path& folder, const std::string& digest) {
  const std::string manifest = text_of(folder / "manifest");
  if (sha256_of(manifest) != digest) return {};
  return parts_of(manifest);
}

// A regular file with content. A pipe must be refused, not waited for.
Fd open_part(const std::string& key, const std::string& path, std::uint64_t& size) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file && (errno == ENOENT || errno == ENOTDIR))
    throw ConfigError(key, path, "no such file", "check the path");
  if (!file && errno == EACCES)
    throw ConfigError(key, path, "permission denied", "let this user read it, or copy it");
  if (!file) throw HostError(errno, "open '" + path + "'");
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) throw HostError(errno, "look at '" + path + "'");
  if (!S_ISREG(status.st_mode) || status.st_size == 0)
    throw ConfigError(key, path, S_ISREG(status.st_mode) ? "is empty" : "is no regular file",
                      "give the path of a file");
  size = static_cast<std::uint64_t>(status.st_size);
  return file;
}

void check_kernel(const std::string& path) {
  const KernelFacts facts = examine_kernel(path);
  if (!facts.pvh && !facts.linux_64 && !facts.multiboot)
    throw ConfigError("kernel", path,
                      facts.problem.empty() ? "has no way in for this machine" : facts.problem,
                      "give a Linux kernel for x86-64");
}

void check_header(const std::string& path, const Qcow2Header& header) {
  const std::string key = "disk";
  if (!header.backing_file.empty())
    throw ConfigError(key, path, "has a backing file, '" + printable(header.backing_file) + "'",
                      "an image stands alone: make one with 'hum disk convert'");
  if (header.corrupt)
    throw ConfigError(key, path, "is marked as corrupt", "see 'hum disk check --repair all'");
}

// All of its tables, as in the copy that nobody else has.
void check_tables(const std::string& path, const fs::path& copy) {
  const auto file = RawFile::open("disk", copy, true);
  const Qcow2Header header = read_qcow2_header("disk", path, *file);
  check_header(path, header);
  Qcow2Check check("disk", path, *file, header);
  const Qcow2Findings& findings = check.run();
  if (findings.count(Qcow2Findings::Kind::unreadable) != 0)
    throw HostError(EIO, "read the tables of '" + path + "'");
  if (findings.errors() != 0)
    throw ConfigError("disk", path,
                      "has " + std::to_string(findings.errors()) + " errors: " + findings.first[0].text,
                      "see 'hum disk check --repair all'");
}

std::uint64_t disk_size_of(const fs::path& path, ImageFormat format) {
  const auto file = RawFile::open("disk", path, true);
  const std::uint64_t size =
      format == ImageFormat::qcow2 ? read_qcow2_header("disk", path, *file).virtual_size : file->size();
  return (size + 511) / 512 * 512;
}

// An image as it is being put together.
class Staging {
 public:
  Staging(const FileTask& task, const fs::path& operation) : task_(task), operation_(operation) {}

  void add(const std::string& name, const FileContent& content) {
    const fs::path to = folder() / name;
    Sha256 sum;
    if (link_own(content.path, to)) {
      add_content(task_, content, sum);
    } else {
      copy_content(task_, content, to, &sum);
    }
    make_read_only(to);
    image_.parts.push_back({name, sum.finish(), content.size});
  }

  Image finish() {
    const std::string manifest = manifest_of(image_.parts);
    write_new_file(task_, folder() / "manifest", manifest);
    make_read_only(folder() / "manifest");
    sync_folder(task_, folder());
    sync_folder(task_, operation_);
    image_.digest = sha256_of(manifest);
    return std::move(image_);
  }

  fs::path folder() const { return operation_ / "image"; }

 private:
  // What pull has got is there once only. Where it cannot be linked it is copied.
  bool link_own(const fs::path& from, const fs::path& to) {
    if (from.parent_path() != operation_) return false;
    task_.changes("link");
    return ::link(from.c_str(), to.c_str()) == 0;
  }

  void make_read_only(const fs::path& path) {
    task_.changes("make read-only");
    const Fd file = open_file(path, O_RDONLY | O_NOFOLLOW);
    if (::fchmod(file.get(), read_only_file) != 0)
      throw HostError(errno, "make '" + path.string() + "' read-only");
    sync_file(task_, file, path);
  }

  const FileTask& task_;
  fs::path operation_;
  Image image_;
};

void check_source(const ImageSource& source) {
  if (source.kernel.empty() && source.disk.empty())
    throw ConfigError("image", "", "neither a kernel nor a disk is given", "give at least one of them");
  if (source.kernel.empty() && !source.initrd.empty())
    throw ConfigError("initrd", source.initrd, "an initrd goes with a kernel", "give the kernel, too");
}

void add_disk(Staging& staging, const ImageSource& source) {
  // Its lock keeps virtual machines from writing meanwhile.
  const auto file = RawFile::open("disk", source.disk, true);
  if (file->size() == 0) throw ConfigError("disk", source.disk, "is empty", "copy or download it again");
  const bool qcow2 = source.format == ImageFormat::qcow2;
  if (qcow2) check_header(source.disk, read_qcow2_header("disk", source.disk, *file));
  const std::string name = qcow2 ? "disk.qcow2" : "disk.raw";
  staging.add(name, {file->fd(), "disk", source.disk, file->size()});
  if (qcow2) check_tables(source.disk, staging.folder() / name);
}

}  // namespace

const ImagePart* Image::part(std::string_view name) const {
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const ImagePart& each) {
    return std::string_view(each.name).substr(0, each.name.find('.')) == name;
  });
  return found == parts.end() ? nullptr : &*found;
}

ImageFormat Image::format() const {
  const ImagePart* const disk = part("disk");
  return disk != nullptr && disk->name == "disk.qcow2" ? ImageFormat::qcow2 : ImageFormat::raw;
}

fs::path ImageFiles::place(const std::string& digest) const {
  check_digest(digest);
  return folder_ / (std::string(folder_begin) + digits_of(digest));
}

fs::path ImageFiles::aside(const std::string& digest) const {
  return staging() / (std::string(aside_begin) + digits_of(digest));
}

fs::path ImageFiles::operation_folder(std::int64_t operation) const {
  return staging() / std::to_string(operation);
}

fs::path ImageFiles::path(const std::string& digest, const ImagePart& part) const {
  return place(digest) / part.name;
}

Image ImageFiles::stage(std::int64_t operation, const ImageSource& source, const FileTask& task) const {
  check_source(source);
  const fs::path folder = operation_folder(operation);
  make_folders(task, folder);
  Staging staging(task, folder);
  remove_all(task, staging.folder());
  UnlessDone cleaning(staging.folder());
  make_folders(task, staging.folder());
  if (!source.kernel.empty()) {
    std::uint64_t size = 0;
    const Fd file = open_part("kernel", source.kernel, size);
    check_kernel(source.kernel);
    staging.add("kernel", {file.get(), "kernel", source.kernel, size});
  }
  if (!source.initrd.empty()) {
    std::uint64_t size = 0;
    const Fd file = open_part("initrd", source.initrd, size);
    staging.add("initrd", {file.get(), "initrd", source.initrd, size});
  }
  if (!source.disk.empty()) add_disk(staging, source);
  Image image = staging.finish();
  if (const ImagePart* const disk = image.part("disk"); disk != nullptr)
    image.disk_size = disk_size_of(staging.folder() / disk->name, image.format());
  cleaning.done();
  return image;
}

void ImageFiles::publish(std::int64_t operation, const std::string& digest, const FileTask& task) const {
  const fs::path staged = operation_folder(operation) / "image";
  if (is_there(staged)) {
    if (!parts_in(staged, digest))
      throw ConfigError("image", digest, "is not what operation " + std::to_string(operation) + " has staged",
                        "import it again");
    hum::publish(task, staged, place(digest));  // the same image may be there already
  } else if (!has(digest)) {
    throw ConfigError("image", digest, "was not staged", "import it again");
  } else {
    sync_folder(task, folder_);  // who published it may have been killed before
  }
  discard(operation, task);
}

void ImageFiles::discard(std::int64_t operation, const FileTask& task) const {
  remove_all(task, operation_folder(operation));
}

bool ImageFiles::has(const std::string& digest) const {
  return is_there(place(digest));
}

Image ImageFiles::look(const std::string& digest) const {
  if (!has(digest)) throw ConfigError("image", digest, "there is no such image", "import it");
  auto parts = parts_in(place(digest), digest);
  if (!parts)
    throw ConfigError("image", digest, "its list of parts is damaged", "remove and import it again");
  Image image{.digest = digest, .parts = std::move(*parts)};
  if (const ImagePart* const disk = image.part("disk"); disk != nullptr)
    image.disk_size = disk_size_of(path(digest, *disk), image.format());
  return image;
}

std::vector<std::string> ImageFiles::verify(const std::string& digest, const FileTask& task) const {
  if (!has(digest)) throw ConfigError("image", digest, "there is no such image", "import it");
  const auto parts = parts_in(place(digest), digest);
  if (!parts) return {"manifest: is not what it was"};
  std::vector<std::string> problems;
  std::uint64_t whole = 0;
  for (const ImagePart& each : *parts) whole += each.size;
  std::uint64_t before = 0;
  for (const ImagePart& each : *parts) {
    const fs::path file_path = path(digest, each);
    struct stat status{};
    const Fd file(::open(file_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file && errno != ENOENT) throw HostError(errno, "open '" + file_path.string() + "'");
    if (!file) {
      problems.push_back(each.name + ": is missing");
    } else if (::fstat(file.get(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) != each.size) {
      problems.push_back(each.name + ": has " + std::to_string(status.st_size) + " bytes and should have " +
                         std::to_string(each.size));
    } else {
      FileTask part_task = task;
      part_task.progress = [&](std::uint64_t done, std::uint64_t) { task.tell(before + done, whole); };
      Sha256 sum;
      add_content(part_task, {file.get(), "image", file_path, each.size}, sum);
      if (sum.finish() != each.digest) problems.push_back(each.name + ": its content is not what it was");
    }
    before += each.size;
  }
  return problems;
}

bool ImageFiles::remove(const std::string& digest, const FileTask& task) const {
  const fs::path from = place(digest);
  make_folders(task, staging());
  return remove_at_once(task, from, aside(digest));
}

ImageFiles::Swept ImageFiles::sweep(const std::set<std::string>& known, const std::set<std::int64_t>& live,
                                    const FileTask& task) const {
  Swept swept;
  const auto names_in = [](const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator each(folder, error), end; !error && each != end; each.increment(error))
      names.push_back(each->path().filename());
    return names;
  };
  for (const std::string& name : names_in(folder_)) {
    if (!name.starts_with(folder_begin)) continue;
    const std::string digest = "sha256:" + name.substr(folder_begin.size());
    if (!is_sha256(digest) || known.contains(digest)) continue;
    if (remove(digest, task)) swept.images.push_back(digest);
  }
  for (const std::string& name : names_in(staging())) {
    std::int64_t operation = 0;
    std::from_chars(name.data(), name.data() + name.size(), operation);
    const bool own = std::to_string(operation) == name;
    if (own && !live.contains(operation)) {
      discard(operation, task);
      swept.operations.push_back(operation);
    } else if (name.starts_with(aside_begin)) {
      remove_all(task, staging() / name);
    }
  }
  return swept;
}

}  // namespace hum
