// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk_command.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "devices/block/qcow2_header.h"
#include "devices/block/raw_file.h"
#include "tools/hum/disk/common.h"
#include "tools/hum/disk/new_file.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"
#include "vmm/base/printable.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

// Of the disk in an image, in whole sectors.
std::uint64_t virtual_size_of(const std::string& key, const std::string& path, const std::string& format) {
  const auto file = RawFile::open(key, path, true);
  const std::uint64_t size =
      format == "qcow2" ? read_qcow2_header(key, path, *file).virtual_size : file->size();
  return (size + 511) / 512 * 512;
}

bool looks_like_qcow2(const std::string& path, ImageFile& file) {
  constexpr std::uint64_t magic = 0x514649fb;
  std::array<std::byte, 4> begin{};
  if (file.read(0, begin) != BlockResult::ok) throw HostError(EIO, "read '" + path + "'");
  return load_be(begin) == magic;
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

DiskCommand::DiskCommand(CLI::App& app, int& exit_code)
    : check_(app, exit_code),
      convert_(app, exit_code),
      resize_(app, exit_code),
      commit_(app, exit_code),
      map_(app, exit_code) {
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
  NewFile file("path", path_);
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
  NewFile file("path", path_);
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
    print_json(json);
    return;
  }
  print_line("path", path_);
  print_line("format", qcow2 ? "qcow2" : "raw");
  print_line("virtual size", with_bytes(header.virtual_size));
  print_line("size on disk", with_bytes(on_disk));
  if (qcow2) print_qcow2(header);
}

}  // namespace hum
