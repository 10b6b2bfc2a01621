// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>

#include "devices/block/block_engines.h"
#include "tools/hum/disk/common.h"
#include "tools/hum/disk/new_file.h"
#include "tools/hum/disk/verbs.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

// Of holes in a raw target, as file systems have them.
constexpr std::uint64_t raw_unit = 4096;

}  // namespace

DiskConvert::DiskConvert(CLI::App& disk, int& exit_code) {
  const CLI::IsMember formats({"raw", "qcow2"});
  CLI::App& app = *disk.add_subcommand("convert", "Copy a disk into a new image of another format");
  app.add_option("source", source_, "the image, which nobody writes to; with all that it is built upon")
      ->required();
  app.add_option("target", target_, "the new image; a file that is there is never overwritten")->required();
  app.add_option("--format", format_, "of the source: raw or qcow2; never guessed")
      ->required()
      ->check(formats);
  app.add_option("--to", to_, "of the target: raw or qcow2")->required()->check(formats);
  app.add_flag("--compress", compress_, "qcow2: compress each cluster");
  app.add_option("--compression", compression_, "qcow2: of compressed clusters")
      ->check(CLI::IsMember({"zlib", "zstd"}))
      ->default_str("zlib");
  app.add_option("--cluster-size", cluster_size_, "qcow2: a power of two from 512 to 2M")->default_str("64K");
  app.add_option(
      "--backing", backing_,
      "qcow2: only what differs from this image is written; a relative path starts at the target's "
      "folder");
  app.add_option("--backing-format", backing_format_, "the format of --backing; never guessed")
      ->check(formats);
  app.add_flag("--any-backing", any_backing_,
               "backing images may be outside of the folders of their overlays");
  app.footer(
      "What reads as zeroes takes no room in the target. Stopped by Ctrl-C nothing is left of it.\n"
      "Examples:\n  hum disk convert debian.qcow2 debian.img --format qcow2 --to raw\n"
      "  hum disk convert disk.img small.qcow2 --format raw --to qcow2 --compress --compression zstd");
  app.callback([this, &exit_code] {
    check_options();
    exit_code = run();
  });
}

void DiskConvert::check_options() const {
  if (to_ == "raw") {
    for (const auto& [name, value] :
         {std::pair<const char*, const std::string&>("--cluster-size", cluster_size_),
          {"--compression", compression_},
          {"--backing", backing_},
          {"--backing-format", backing_format_}})
      if (!value.empty())
        throw ConfigError(name, value, "a raw image has no such thing", "leave it out, or give --to qcow2");
    if (compress_)
      throw ConfigError("--compress", "", "a raw image has no such thing",
                        "leave it out, or give --to qcow2");
  }
  if (backing_.empty() != backing_format_.empty())
    throw ConfigError(backing_.empty() ? "--backing-format" : "--backing",
                      backing_.empty() ? backing_format_ : backing_,
                      backing_.empty() ? "there is no backing image" : "its format is not given",
                      "give both --backing and --backing-format, or none");
  if (compress_ && !backing_.empty())
    throw ConfigError("--compress", "", "not with --backing", "leave one of them out");
}

int DiskConvert::run() const {
  const Log log;
  LongWork work("converting");
  const auto source = open_image(
      "", {.path = source_, .format = parse_format(format_), .read_only = true, .any_backing = any_backing_},
      log);
  Qcow2Header header;
  if (!cluster_size_.empty()) header.cluster_bits = parse_cluster_bits(cluster_size_);
  if (compression_ == "zstd") header.compression = Qcow2Compression::zstd;
  // The guest's disk has whole sectors.
  header.virtual_size = (source->size() + 511) / 512 * 512;
  header.backing_file = backing_;
  header.backing_format = backing_format_;
  NewFile file("target", target_);
  std::uint64_t unit = raw_unit;
  if (to_ == "raw") {
    const bool possible = header.virtual_size <= INT64_MAX;
    if (!possible || ::ftruncate(file.fd(), static_cast<off_t>(header.virtual_size)) != 0) {
      const int error = possible ? errno : EFBIG;
      throw HostError(error, "make '" + target_ + "' of " + with_bytes(header.virtual_size));
    }
  } else {
    write_new_qcow2("target", target_, *RawFile::open("target", file.temporary_path(), false), header);
    unit = header.cluster_size();
  }
  const auto target = open_image(
      "", {.path = file.temporary_path(), .format = parse_format(to_), .any_backing = any_backing_}, log);
  const auto engine = make_block_engine(BlockEngineKind::automatic, 64);
  const Tried tried{"copy '" + source_ + "' to '" + target_ + "'", "target", target_,
                    "its file system has no files of " + with_bytes(header.virtual_size),
                    "give a target on another file system, or --to qcow2"};
  const bool done = work.run(tried, [&](const CopyProgress& progress) {
    if (compress_) return copy_compressed(*source, dynamic_cast<Qcow2Image&>(*target), *engine, progress);
    if (!backing_.empty()) return copy_differences(*source, *target, *engine, unit, progress);
    return copy_image(*source, *target, *engine, unit, progress);
  });
  if (!done) return work.exit_code();
  file.publish();
  return 0;
}

}  // namespace hum
