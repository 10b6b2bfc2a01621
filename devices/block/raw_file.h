// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "devices/block/block_backend.h"
#include "vmm/base/fd.h"

namespace hum {

// A disk image whose bytes are those of a regular file or of a host's block device. Holds an advisory lock
// (fcntl(2), F_OFD_SETLK) as long as it lives: readers share a file, a writer has it alone.
class RawFile : public BlockBackend {
 public:
  // key is the option's full name, for errors. Throws ConfigError where another choice of the user's helps
  // (no such file, a directory, no permission, locked by another disk), HostError otherwise.
  static std::unique_ptr<RawFile> open(const std::string& key, const std::string& path, bool read_only);

  RawFile(Fd file, std::uint64_t size) : file_(std::move(file)), size_(size) {}

  // False where the file system has no locks.
  bool locked() const { return locked_; }

  std::uint64_t size() const override { return size_; }
  BlockResult read(std::span<const iovec> to, std::uint64_t offset) override;
  BlockResult write(std::span<const iovec> from, std::uint64_t offset) override;
  BlockResult flush() override;

 protected:
  // The system calls, as preadv(2), pwritev(2) and fdatasync(2); tests make them fail.
  virtual ssize_t read_some(std::span<const iovec> to, std::uint64_t offset);
  virtual ssize_t write_some(std::span<const iovec> from, std::uint64_t offset);
  virtual int sync();

 private:
  Fd file_;
  std::uint64_t size_;
  bool locked_ = false;
};

}  // namespace hum
