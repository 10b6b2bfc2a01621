// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include "devices/block/block_engines.h"
#include "tools/hum/disk/common.h"
#include "tools/hum/disk/verbs.h"

namespace hum {

DiskCommit::DiskCommit(CLI::App& disk, int& exit_code) {
  CLI::App& app = *disk.add_subcommand("commit", "Write what an overlay has into its backing image");
  app.add_option("path", path_, "the overlay, which nobody uses; it is empty then")->required();
  app.add_option("--format", format_, "of the overlay: qcow2")->required()->check(CLI::IsMember({"qcow2"}));
  app.add_flag("--any-backing", any_backing_, "the backing image may be outside of the overlay's folder");
  app.footer(
      "The backing image is safe on disk before anything in the overlay is given up; stopped by Ctrl-C, the "
      "overlay is as before and the same command goes on. Other overlays of the same backing image are worth "
      "nothing afterwards.\nExample:\n  hum disk commit vm1.qcow2 --format qcow2");
  app.callback([this, &exit_code] { exit_code = run(); });
}

int DiskCommit::run() const {
  const Log log;
  LongWork work("committing");
  const auto overlay =
      open_for_commit("", {.path = path_, .format = ImageFormat::qcow2, .any_backing = any_backing_}, log);
  const auto engine = make_block_engine(BlockEngineKind::automatic, 64);
  const bool done =
      work.run({"commit '" + path_ + "' to its backing image", "path", path_,
                "its backing image is smaller and cannot grow to its size",
                "convert the overlay to a new image ('hum disk convert')"},
               [&](const CopyProgress& progress) { return commit_image(*overlay, *engine, progress); });
  return done ? 0 : work.exit_code();
}

}  // namespace hum
