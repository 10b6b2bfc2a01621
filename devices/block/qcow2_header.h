// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "devices/block/image_file.h"

namespace hum {

enum class Qcow2Compression : std::uint8_t { zlib, zstd };

// The header of a qcow2 image, checked: what an image claims beyond this is not used.
// Source: QEMU, docs/interop/qcow2.
struct Qcow2Header {
  unsigned version = 3;                     // 2 or 3
  unsigned cluster_bits = 16;               // 9 to 21
  std::uint64_t virtual_size = 0;           // bytes; the guest's disk
  std::uint64_t l1_offset = 0;              // bytes, of whole clusters
  std::uint32_t l1_entries = 0;             // enough for virtual_size
  std::uint64_t refcount_table_offset = 0;  // bytes, of whole clusters
  std::uint32_t refcount_table_clusters = 0;
  unsigned refcount_bits = 16;  // 1 to 64, a power of two
  std::uint32_t snapshots = 0;
  bool dirty = false;                    // refcounts may be wrong
  bool corrupt = false;                  // not to be written to
  std::uint64_t autoclear_features = 0;  // a writer that does not know a feature clears its bit
  Qcow2Compression compression = Qcow2Compression::zlib;
  std::string backing_file = {};    // as it stands there; empty: none
  std::string backing_format = {};  // "raw", "qcow2", another; empty: not said

  std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits; }  // bytes
};

// Reads the header and checks it against the file. key is the option's full name and path the image's, for
// errors. Throws ConfigError: no qcow2, truncated, a version, feature or size that is not supported (by
// name).
Qcow2Header read_qcow2_header(const std::string& key, const std::string& path, ImageFile& file);

// Writes a new, empty image into an empty file and syncs it. Of header counts: virtual_size (at most 2^56),
// version 3, cluster_bits, compression, backing_file and backing_format (at most 1023 bytes); the rest is
// filled in. Throws ConfigError, HostError.
void write_new_qcow2(const std::string& key, const std::string& path, ImageFile& file, Qcow2Header header);

}  // namespace hum
