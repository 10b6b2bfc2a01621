// SPDX-License-Identifier: Apache-2.0
#include "devices/block/open_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "devices/block/qcow2_header.h"
#include "vmm/base/errors.h"
#include "vmm/base/printable.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_chain = 64;

ImageFormat format_of(const std::string& key, const std::string& path, const Qcow2Header& header) {
  if (header.backing_format == "raw") return ImageFormat::raw;
  if (header.backing_format == "qcow2") return ImageFormat::qcow2;
  throw ConfigError(
      key, path,
      header.backing_format.empty() ? "does not say in which format its backing file is"
                                    : "its backing file is in format '" + printable(header.backing_format) +
                                          "', which is not supported",
      "say it with qemu-img rebase -u -F raw|qcow2 -b '" + printable(header.backing_file) + "'");
}

// The place of the backing file, which is in the image's folder unless that does not matter.
std::string backing_path(const std::string& key, const std::string& any, const ImageSettings& settings,
                         const Qcow2Header& header) {
  const std::string& name = header.backing_file;
  const std::size_t colon = name.find(':');
  if (colon != std::string::npos && name.find('/') > colon)
    throw ConfigError(key, settings.path,
                      "its backing file '" + printable(name) + "' is not a plain file name",
                      "only files and block devices of the host can be backing files");
  const fs::path folder = fs::weakly_canonical(settings.path).parent_path();
  const fs::path path = fs::weakly_canonical(folder / name);
  const auto inside =
      std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
  if (!inside && !settings.any_backing)
    throw ConfigError(key, settings.path,
                      "its backing file '" + printable(path.string()) + "' is outside of its folder",
                      "where you trust the image, add " + any);
  return path.string();
}

class Opener {
 public:
  Opener(const std::string& what, const Log& log)
      : key_(what.empty() ? "path" : what + ".path"),
        what_(what.empty() ? "path" : what),
        any_backing_(what.empty() ? "--any-backing" : "backing=any"),
        log_(log) {}

  std::unique_ptr<BlockBackend> open(const ImageSettings& settings) {
    auto file = RawFile::open(key_, settings.path, settings.read_only, settings.cache);
    if (!file->locked())
      log_.warning(what_ + " '" + settings.path +
                   "': the file system has no locks; nothing keeps it from being used twice");
    if (settings.format == ImageFormat::raw) {
      std::array<std::byte, 4> begin{};
      constexpr std::array magic = {std::byte{'Q'}, std::byte{'F'}, std::byte{'I'}, std::byte{0xfb}};
      if (depth_ == 0 && file->read(0, begin) == BlockResult::ok && begin == magic)
        log_.warning(what_ + " '" + settings.path +
                     "': begins like a qcow2 image and is used as raw; if it is one, add format=qcow2");
      return file;
    }
    const Qcow2Header header = read_header(settings, *file);
    std::unique_ptr<BlockBackend> backing;
    if (!header.backing_file.empty()) backing = open(below(settings, header));
    return image(std::move(file), header, std::move(backing), settings);
  }

  std::unique_ptr<Qcow2Image> open_for_commit(const ImageSettings& settings) {
    auto file = RawFile::open(key_, settings.path, false, settings.cache);
    const Qcow2Header header = read_header(settings, *file);
    if (header.backing_file.empty())
      throw ConfigError(key_, settings.path, "has no backing image", "give an overlay");
    ImageSettings base = below(settings, header);
    base.read_only = false;
    auto backing = open(base);
    return image(std::move(file), header, std::move(backing), settings);
  }

  // On top of a base that is only read.
  std::unique_ptr<BlockBackend> open_overlay(ImageSettings base) {
    const std::string overlay = std::exchange(base.overlay, {});
    const bool temporary = overlay == "tmp";
    if (base.read_only)
      throw ConfigError(what_ + ".overlay", overlay, "a disk that is only read needs none",
                        "drop one of the two");
    ImageSettings top = base;
    top.format = ImageFormat::qcow2;
    base.read_only = true;
    if (!temporary && fs::exists(overlay)) {
      top.path = overlay;
      return open_kept(top, base);
    }
    auto below = open(base);
    Qcow2Header header;
    header.virtual_size = below->size();
    if (!temporary) {
      header.backing_file = fs::weakly_canonical(base.path).string();
      header.backing_format = base.format == ImageFormat::raw ? "raw" : "qcow2";
    }
    const Fd made = make(overlay, temporary);
    // The lock comes with opening it.
    top.path = temporary ? "/proc/self/fd/" + std::to_string(made.get()) : overlay;
    auto file = RawFile::open(what_ + ".overlay", top.path, false, top.cache);
    try {
      write_new_qcow2(what_ + ".overlay", overlay, *file, header);
    } catch (...) {
      if (!temporary) ::unlink(overlay.c_str());
      throw;
    }
    file = nullptr;
    file = RawFile::open(what_ + ".overlay", top.path, false, top.cache);
    const Qcow2Header written = read_qcow2_header(what_ + ".overlay", overlay, *file);
    return image(std::move(file), written, std::move(below), top);
  }

 private:
  Qcow2Header read_header(const ImageSettings& settings, RawFile& file) {
    if (++depth_ > longest_chain)
      throw ConfigError(key_, settings.path, "has more than 64 images below it, or is its own backing file",
                        "shorten the chain (qemu-img rebase, commit)");
    return read_qcow2_header(key_, settings.path, file);
  }

  // How the backing image is opened.
  ImageSettings below(const ImageSettings& settings, const Qcow2Header& header) const {
    ImageSettings base = settings;
    base.path = backing_path(key_, any_backing_, settings, header);
    base.format = format_of(key_, settings.path, header);
    base.read_only = true;
    return base;
  }

  std::unique_ptr<Qcow2Image> image(std::unique_ptr<RawFile> file, const Qcow2Header& header,
                                    std::unique_ptr<BlockBackend> backing, const ImageSettings& settings) {
    return std::make_unique<Qcow2Image>(key_, std::move(file), header, std::move(backing),
                                        Qcow2Image::Settings{.name = settings.path,
                                                             .read_only = settings.read_only,
                                                             .metadata_cache = settings.metadata_cache},
                                        log_);
  }

  // It was made for this base, which the user names here again.
  std::unique_ptr<BlockBackend> open_kept(const ImageSettings& top, const ImageSettings& base) {
    auto file = RawFile::open(what_ + ".overlay", top.path, false, top.cache);
    const Qcow2Header header = read_qcow2_header(what_ + ".overlay", top.path, *file);
    const fs::path folder = fs::weakly_canonical(top.path).parent_path();
    if (header.backing_file.empty() ||
        fs::weakly_canonical(folder / header.backing_file) != fs::weakly_canonical(base.path))
      throw ConfigError(what_ + ".overlay", top.path,
                        header.backing_file.empty()
                            ? "has no backing file"
                            : "is an overlay of '" + printable(header.backing_file) + "'",
                        "give another overlay, or its own base");
    if (format_of(what_ + ".overlay", top.path, header) != base.format)
      throw ConfigError(what_ + ".overlay", top.path,
                        "says that its base is in format '" + printable(header.backing_format) + "'",
                        "add format=" + printable(header.backing_format));
    auto below = open(base);
    return image(std::move(file), header, std::move(below), top);
  }

  Fd make(const std::string& overlay, bool temporary) const {
    const char* const chosen = std::getenv("TMPDIR");
    const std::string folder = chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
    Fd file(temporary ? ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
                      : ::open(overlay.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
    if (!file)
      throw ConfigError(
          what_ + ".overlay", overlay,
          temporary ? "cannot make a file without a name in '" + folder + "'" : "cannot be made",
          temporary ? "set TMPDIR to a folder of a usual file system" : "give the path of a new file");
    return file;
  }

  std::string key_;
  std::string what_;
  std::string any_backing_;
  const Log& log_;
  std::size_t depth_ = 0;
};

}  // namespace

std::unique_ptr<BlockBackend> open_image(const std::string& what, const ImageSettings& settings,
                                         const Log& log) {
  Opener opener(what, log);
  return settings.overlay.empty() ? opener.open(settings) : opener.open_overlay(settings);
}

std::unique_ptr<Qcow2Image> open_for_commit(const std::string& what, const ImageSettings& settings,
                                            const Log& log) {
  return Opener(what, log).open_for_commit(settings);
}

}  // namespace hum
