// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk_command.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "devices/block/big_endian.h"
#include "devices/block/qcow2_header.h"
#include "devices/block/raw_file.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t sector_size = 512;

// A file that has another name, in the same folder, until it is complete; without publish, nothing is left of
// it.
class NewFile {
 public:
  explicit NewFile(const std::string& path) : path_(path) {
    folder_ = fs::path(path).parent_path();
    if (folder_.empty()) folder_ = ".";
    std::error_code ignored;  // who cannot look cannot make it either
    if (fs::exists(fs::symlink_status(path, ignored))) refuse_existing();
    const std::string prefix = folder_ / (".new-" + std::to_string(::getpid()) + "-");
    for (int i = 0; !file_; ++i) {
      temporary_ = prefix + std::to_string(i);
      file_ = Fd(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (!file_ && errno != EEXIST) refuse_folder(errno);
    }
  }
  ~NewFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  int fd() const { return file_.get(); }
  const std::string& temporary_path() const { return temporary_; }

  // Never takes the place of another file, not even of one made meanwhile.
  void publish() {
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0) {
      temporary_.clear();
    } else if (errno == EEXIST) {
      refuse_existing();
    } else if (::link(temporary_.c_str(), path_.c_str()) != 0) {  // a file system without such a rename
      if (errno == EEXIST) refuse_existing();
      throw HostError(errno, "make '" + path_ + "'");
    }
    const Fd folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder) ::fsync(folder.get());
  }

 private:
  [[noreturn]] void refuse_existing() const {
    throw ConfigError("path", path_, "is there already", "give another name, or remove it first");
  }
  [[noreturn]] void refuse_folder(int error) const {
    if (error == ENOENT || error == ENOTDIR)
      throw ConfigError("path", path_, "there is no folder " + folder_.string(), "make it first");
    if (error == EACCES || error == EPERM || error == EROFS)
      throw ConfigError("path", path_, "no file may be made in " + folder_.string(), "give another folder");
    throw HostError(error, "make a file in " + folder_.string());
  }

  const std::string& path_;
  fs::path folder_;
  std::string temporary_;
  Fd file_;
};

std::uint64_t parse_disk_size(const std::string& text) {
  const std::uint64_t size = parse_size("size", text);
  if (size % sector_size != 0)
    throw ConfigError("size", text, "not a multiple of " + std::to_string(sector_size) + " bytes",
                      "give bytes or a number with K, M, G or T, like 10G");
  return size;
}

unsigned parse_cluster_bits(const std::string& text) {
  const std::uint64_t size = parse_size("--cluster-size", text);
  if (!std::has_single_bit(size) || size < 512 || size > 2 << 20)
    throw ConfigError("--cluster-size", text, "not accepted", "give a power of two from 512 to 2M");
  return static_cast<unsigned>(std::countr_zero(size));
}

// Of the disk in an image, in whole sectors.
std::uint64_t virtual_size_of(const std::string& key, const std::string& path, const std::string& format) {
  const auto file = RawFile::open(key, path, true);
  const std::uint64_t size =
      format == "qcow2" ? read_qcow2_header(key, path, *file).virtual_size : file->size();
  return (size + sector_size - 1) / sector_size * sector_size;
}

bool looks_like_qcow2(const std::string& path, ImageFile& file) {
  constexpr std::uint64_t magic = 0x514649fb;
  std::array<std::byte, 4> begin{};
  if (file.read(0, begin) != BlockResult::ok) throw HostError(EIO, "read '" + path + "'");
  return load_be(begin) == magic;
}

std::string with_bytes(std::uint64_t size) {
  const std::string shown = format_size(size);
  return shown + (shown == std::to_string(size) ? " bytes" : " (" + std::to_string(size) + " bytes)");
}

// An image may come from anywhere: nothing in it reaches a terminal but what can be seen.
std::string printable(std::string text) {
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text;
}

const char* name_of(Qcow2Compression compression) {
  return compression == Qcow2Compression::zstd ? "zstd" : "zlib";
}

void print_line(const char* name, const std::string& value) {
  std::printf("%-14s %s\n", name, value.c_str());
}

void print_qcow2(const Qcow2Header& header) {
  print_line("version", std::to_string(header.version));
  print_line("cluster size", format_size(header.cluster_size()));
  print_line("compression", name_of(header.compression));
  if (!header.backing_file.empty()) {
    print_line("backing file", printable(header.backing_file));
    print_line("backing format",
               header.backing_format.empty() ? "not said" : printable(header.backing_format));
  }
  print_line("snapshots", std::to_string(header.snapshots));
  if (header.dirty) print_line("dirty", "yes: its refcounts may be wrong");
  if (header.corrupt) print_line("corrupt", "yes: it must not be written to");
}

void add_qcow2(nlohmann::ordered_json& json, const Qcow2Header& header) {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
  };
  json["version"] = header.version;
  json["cluster_size"] = header.cluster_size();
  json["compression"] = name_of(header.compression);
  json["backing_file"] = text_or_null(header.backing_file);
  json["backing_format"] = text_or_null(header.backing_format);
  json["snapshots"] = header.snapshots;
  json["dirty"] = header.dirty;
  json["corrupt"] = header.corrupt;
}

}  // namespace

DiskCommand::DiskCommand(CLI::App& app, int& exit_code) {
  const CLI::IsMember formats({"raw", "qcow2"});
  app.require_subcommand(1);
  CLI::App& create_app = *app.add_subcommand("create", "Make a new, empty disk image");
  create_app.add_option("path", path_, "the image; a file that is there is never overwritten")->required();
  create_app.add_option("size", size_,
                        "of the guest's disk, like 10G (default with --backing: the same size)");
  create_app.add_option("--format", format_, "raw (a sparse file) or qcow2")
      ->check(formats)
      ->default_str("qcow2");
  create_app.add_option("--cluster-size", cluster_size_, "qcow2: a power of two from 512 to 2M")
      ->default_str("64K");
  create_app.add_option("--compression", compression_, "qcow2: of clusters that are written compressed")
      ->check(CLI::IsMember({"zlib", "zstd"}))
      ->default_str("zlib");
  create_app.add_option(
      "--backing", backing_,
      "qcow2: what is not written is read from this image, which must not change any more; a "
      "relative path starts at the new image's folder");
  create_app.add_option("--backing-format", backing_format_, "the format of --backing; never guessed")
      ->check(formats);
  create_app.footer(
      "Examples:\n  hum disk create disk.qcow2 20G\n  hum disk create --format raw disk.img 512M\n"
      "  hum disk create --backing base.img --backing-format raw vm1.qcow2");
  create_app.callback([this, &exit_code] {
    create();
    exit_code = 0;
  });

  CLI::App& info_app = *app.add_subcommand("info", "Describe a disk image");
  info_app.add_option("path", path_, "the image")->required();
  info_app
      .add_option("--format", format_, "raw or qcow2 (default: as its first bytes look; nothing is written)")
      ->check(formats);
  info_app.add_flag("--json", json_, "print JSON");
  info_app.footer("Examples:\n  hum disk info disk.qcow2\n  hum disk info --json disk.qcow2");
  info_app.callback([this, &exit_code] {
    info();
    exit_code = 0;
  });
}

void DiskCommand::create() const {
  if (size_.empty() && backing_.empty())
    throw ConfigError("size", "", "no value is given", "give the size of the guest's disk, like 10G");
  if (format_ == "raw") {
    create_raw();
  } else {
    create_qcow2();
  }
}

void DiskCommand::create_raw() const {
  for (const auto& [name, value] :
       {std::pair<const char*, const std::string&>("--cluster-size", cluster_size_),
        {"--compression", compression_},
        {"--backing", backing_},
        {"--backing-format", backing_format_}})
    if (!value.empty())
      throw ConfigError(name, value, "a raw image has no such thing", "leave it out, or give --format qcow2");
  const std::uint64_t size = parse_disk_size(size_);
  if (size > INT64_MAX) throw ConfigError("size", size_, "too large for a file", "give a smaller size");
  NewFile file(path_);
  if (::ftruncate(file.fd(), static_cast<off_t>(size)) != 0 || ::fsync(file.fd()) != 0)
    throw HostError(errno, "make '" + path_ + "' of " + std::to_string(size) + " bytes");
  file.publish();
}

void DiskCommand::create_qcow2() const {
  if (!backing_.empty() && backing_format_.empty())
    throw ConfigError("--backing", backing_, "its format is not given", "add --backing-format raw or qcow2");
  if (backing_.empty() && !backing_format_.empty())
    throw ConfigError("--backing-format", backing_format_, "there is no backing image",
                      "give one with --backing");
  Qcow2Header header;
  if (!cluster_size_.empty()) header.cluster_bits = parse_cluster_bits(cluster_size_);
  if (compression_ == "zstd") header.compression = Qcow2Compression::zstd;
  if (!size_.empty()) header.virtual_size = parse_disk_size(size_);
  if (!backing_.empty()) {
    const fs::path where = fs::path(path_).parent_path() / backing_;
    const std::uint64_t size = virtual_size_of("--backing", where, backing_format_);
    if (size_.empty()) header.virtual_size = size;
    header.backing_file = backing_;
    header.backing_format = backing_format_;
  }
  NewFile file(path_);
  write_new_qcow2("path", path_, *RawFile::open("path", file.temporary_path(), false), header);
  file.publish();
}

void DiskCommand::info() const {
  const auto file = RawFile::open("path", path_, true);
  struct stat status{};
  if (::stat(path_.c_str(), &status) != 0) throw HostError(errno, "look at '" + path_ + "'");
  const auto on_disk = static_cast<std::uint64_t>(status.st_blocks) * 512;
  const bool qcow2 = format_.empty() ? looks_like_qcow2(path_, *file) : format_ == "qcow2";
  Qcow2Header header;
  header.virtual_size = file->size();
  if (qcow2) header = read_qcow2_header("path", path_, *file);
  if (json_) {
    nlohmann::ordered_json json = {{"path", path_},
                                   {"format", qcow2 ? "qcow2" : "raw"},
                                   {"virtual_size", header.virtual_size},
                                   {"size_on_disk", on_disk}};
    if (qcow2) add_qcow2(json, header);
    std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
    return;
  }
  print_line("path", path_);
  print_line("format", qcow2 ? "qcow2" : "raw");
  print_line("virtual size", with_bytes(header.virtual_size));
  print_line("size on disk", with_bytes(on_disk));
  if (qcow2) print_qcow2(header);
}

}  // namespace hum
