// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "devices/block/qcow2_format.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

// Where a number stands in the header, bytes.
struct Field {
  std::size_t offset;
  std::size_t size;
};

constexpr Field field_magic{0, 4};
constexpr Field field_version{4, 4};
constexpr Field field_backing_offset{8, 8};
constexpr Field field_backing_size{16, 4};
constexpr Field field_cluster_bits{20, 4};
constexpr Field field_virtual_size{24, 8};
constexpr Field field_encryption{32, 4};
constexpr Field field_l1_entries{36, 4};
constexpr Field field_l1_offset{40, 8};
constexpr Field field_refcount_table_offset{48, 8};
constexpr Field field_refcount_table_clusters{56, 4};
constexpr Field field_snapshots{60, 4};
// Version 3.
constexpr Field field_incompatible{72, 8};
constexpr Field field_autoclear{88, 8};
constexpr Field field_refcount_order{96, 4};
constexpr Field field_header_size{100, 4};
constexpr Field field_compression{104, 1};

constexpr std::uint64_t magic = 0x514649fb;
constexpr std::size_t header_size_v2 = 72;
constexpr std::size_t least_header_size_v3 = 104;
constexpr std::size_t new_header_size = 112;
constexpr unsigned least_cluster_bits = 9;
constexpr unsigned most_cluster_bits = 21;
constexpr unsigned most_refcount_order = 6;
constexpr unsigned new_refcount_bits = 16;
constexpr std::uint64_t most_virtual_size = std::uint64_t{1} << 56;
constexpr std::uint64_t most_backing_name = 1023;

constexpr std::uint64_t extension_end = 0;
constexpr std::uint64_t extension_backing_format = 0xe2792aca;
constexpr std::uint64_t extension_feature_names = 0x6803f857;
constexpr std::size_t extension_header_size = 8;
constexpr std::size_t extension_alignment = 8;

struct Feature {
  enum Kind : std::uint8_t { incompatible, compatible, autoclear };
  Kind kind;
  unsigned bit;
  std::string_view name;
};

constexpr Feature dirty{Feature::incompatible, 0, "dirty"};
constexpr Feature corrupt{Feature::incompatible, 1, "corrupt"};
constexpr Feature compression_type{Feature::incompatible, 3, "compression type"};
constexpr std::array features = {
    dirty,
    corrupt,
    Feature{Feature::incompatible, 2, "external data file"},
    compression_type,
    Feature{Feature::incompatible, 4, "extended L2 entries"},
    Feature{Feature::compatible, 0, "lazy refcounts"},
    Feature{Feature::autoclear, 0, "bitmaps"},
    Feature{Feature::autoclear, 1, "raw external data"},
};
constexpr std::size_t feature_entry_size = 48;
constexpr std::size_t feature_name_size = feature_entry_size - 2;

constexpr std::uint64_t mask_of(const Feature& feature) {
  return std::uint64_t{1} << feature.bit;
}

constexpr const char* convert = "convert it, with 'qemu-img convert -O qcow2'";
constexpr const char* repair = "take a copy that is whole, or see what 'qemu-img check' says";

std::uint64_t load(std::span<const std::byte> header, Field field) {
  return load_be(header.subspan(field.offset, field.size));
}

void store(std::span<std::byte> header, Field field, std::uint64_t value) {
  store_be(header.subspan(field.offset, field.size), value);
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::uint64_t l1_entries_for(std::uint64_t virtual_size, std::uint64_t cluster_size) {
  return quotient_up(virtual_size, cluster_size * (cluster_size / 8));
}

// Calls visit for each extension in area. False: one ends behind it.
bool walk_extensions(std::span<const std::byte> area,
                     const std::function<void(std::uint64_t type, std::span<const std::byte> data)>& visit) {
  while (area.size() >= extension_header_size) {
    const std::uint64_t type = load_be(area.first(4));
    const std::uint64_t size = load_be(area.subspan(4, 4));
    if (type == extension_end) return true;
    area = area.subspan(extension_header_size);
    if (size > area.size()) return false;
    visit(type, area.first(size));
    area = area.subspan(
        std::min<std::size_t>(quotient_up(size, extension_alignment) * extension_alignment, area.size()));
  }
  return true;
}

// What the image itself calls an incompatible feature.
std::string name_in(std::span<const std::byte> area, unsigned bit) {
  std::string name;
  walk_extensions(area, [&](std::uint64_t type, std::span<const std::byte> data) {
    for (; type == extension_feature_names && data.size() >= feature_entry_size;
         data = data.subspan(feature_entry_size)) {
      if (data[0] != std::byte{Feature::incompatible} || data[1] != std::byte(bit)) continue;
      const std::string padded = text_of(data.subspan(2, feature_name_size));
      name = padded.substr(0, padded.find('\0'));
      std::replace_if(name.begin(), name.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    }
  });
  return name;
}

std::string name_of(std::span<const std::byte> area, unsigned bit) {
  const auto* const known = std::find_if(features.begin(), features.end(), [&](const Feature& feature) {
    return feature.kind == Feature::incompatible && feature.bit == bit;
  });
  if (known != features.end()) return std::string(known->name);
  const std::string name = name_in(area, bit);
  const std::string number = "bit " + std::to_string(bit);
  return name.empty() ? number : name + " (" + number + ")";
}

// Reads one header. The steps stand in the order in which each relies on those before it.
class HeaderReader {
 public:
  HeaderReader(const std::string& key, const std::string& path, ImageFile& file)
      : key_(key), path_(path), file_(file) {}

  Qcow2Header read() {
    read_version();
    read_cluster();
    read_features();
    read_sizes();
    read_tables();
    read_backing();
    return header_;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem, const std::string& fix = repair) const {
    throw ConfigError(key_, path_, problem, fix);
  }

  std::uint64_t number(Field field) const { return load(cluster_, field); }

  void fill(std::size_t size) {
    cluster_.resize(size);
    if (file_.read(0, cluster_) != BlockResult::ok) throw HostError(EIO, "read '" + path_ + "'");
  }

  void check_whole(std::uint64_t size) const {
    if (file_.size() < size) refuse("is truncated: its header is not whole");
  }

  void read_version() {
    fill(std::size_t{1} << least_cluster_bits);
    if (file_.size() < field_magic.size || number(field_magic) != magic)
      refuse("is no qcow2 image", "give its format: an image without one is raw");
    check_whole(header_size_v2);
    const std::uint64_t version = number(field_version);
    if (version != 2 && version != 3)
      refuse("is of qcow2 version " + std::to_string(version) + "; accepted are 2 and 3", convert);
    header_.version = static_cast<unsigned>(version);
    if (version == 3) check_whole(least_header_size_v3);
    header_size_ = version == 2 ? header_size_v2 : number(field_header_size);
  }

  void read_cluster() {
    const std::uint64_t bits = number(field_cluster_bits);
    if (bits < least_cluster_bits || bits > most_cluster_bits)
      refuse("its clusters are of 2^" + std::to_string(bits) + " bytes; accepted are 512 bytes to 2M",
             convert);
    header_.cluster_bits = static_cast<unsigned>(bits);
    if (header_.version != 2 && (header_size_ < least_header_size_v3 || header_size_ % 8 != 0 ||
                                 header_size_ > header_.cluster_size()))
      refuse("its header says that it has " + std::to_string(header_size_) +
             " bytes; accepted are multiples of 8 from " + std::to_string(least_header_size_v3) +
             " to a cluster");
    check_whole(header_size_);
    fill(header_.cluster_size());
  }

  void read_features() {
    const std::uint64_t encryption = number(field_encryption);
    if (encryption != 0)
      refuse("is encrypted (" +
                 (encryption == 1   ? std::string("AES")
                  : encryption == 2 ? std::string("LUKS")
                                    : "method " + std::to_string(encryption)) +
                 "), which is not supported",
             convert);
    if (header_.version == 2) return;
    const std::uint64_t incompatible = number(field_incompatible);
    std::uint64_t unsupported =
        incompatible & ~(mask_of(dirty) | mask_of(corrupt) | mask_of(compression_type));
    std::string names;
    for (; unsupported != 0; unsupported &= unsupported - 1)
      names += (names.empty() ? "" : ", ") + name_of(std::span(cluster_).subspan(header_size_),
                                                     static_cast<unsigned>(std::countr_zero(unsupported)));
    if (!names.empty()) refuse("needs what is not supported: " + names, convert);
    header_.dirty = (incompatible & mask_of(dirty)) != 0;
    header_.corrupt = (incompatible & mask_of(corrupt)) != 0;
    header_.autoclear_features = number(field_autoclear);

    const std::uint64_t type = header_size_ > field_compression.offset ? number(field_compression) : 0;
    if (type > 1)
      refuse("its compression is of type " + std::to_string(type) + "; accepted are zlib and zstd", convert);
    if ((type != 0) != ((incompatible & mask_of(compression_type)) != 0))
      refuse("its header contradicts itself about the type of compression");
    header_.compression = type == 0 ? Qcow2Compression::zlib : Qcow2Compression::zstd;
  }

  void read_sizes() {
    header_.virtual_size = number(field_virtual_size);
    if (header_.virtual_size > most_virtual_size)
      refuse("its disk is of " + std::to_string(header_.virtual_size) + " bytes; accepted are up to 2^56");
    if (header_.version != 2) {
      const std::uint64_t order = number(field_refcount_order);
      if (order > most_refcount_order)
        refuse("its refcounts are of 2^" + std::to_string(order) + " bits; accepted are up to 64");
      header_.refcount_bits = 1u << order;
    }
    header_.snapshots = static_cast<std::uint32_t>(number(field_snapshots));
  }

  void read_tables() {
    header_.l1_entries = static_cast<std::uint32_t>(number(field_l1_entries));
    header_.l1_offset = number(field_l1_offset);
    const std::uint64_t needed = l1_entries_for(header_.virtual_size, header_.cluster_size());
    if (header_.l1_entries < needed)
      refuse("its L1 table has " + std::to_string(header_.l1_entries) + " entries; its disk needs " +
             std::to_string(needed));
    const std::uint64_t l1_size = std::uint64_t{header_.l1_entries} * 8;
    if (l1_size > qcow2_most_l1_size) refuse("its L1 table is of more than 32M", convert);
    // A table without entries is nowhere.
    if (l1_size != 0) check_place("L1 table", header_.l1_offset, l1_size);

    header_.refcount_table_clusters = static_cast<std::uint32_t>(number(field_refcount_table_clusters));
    header_.refcount_table_offset = number(field_refcount_table_offset);
    const std::uint64_t refcount_size = header_.refcount_table_clusters * header_.cluster_size();
    if (refcount_size == 0) refuse("has no refcount table");
    if (refcount_size > qcow2_most_refcount_table_size)
      refuse("its refcount table is of more than 8M", convert);
    check_place("refcount table", header_.refcount_table_offset, refcount_size);
    if (l1_size != 0 && header_.l1_offset < header_.refcount_table_offset + refcount_size &&
        header_.refcount_table_offset < header_.l1_offset + l1_size)
      refuse("its L1 table and its refcount table overlap");
  }

  // The file's last cluster need not be whole.
  void check_place(const std::string& name, std::uint64_t offset, std::uint64_t size) const {
    const std::uint64_t end = quotient_up(file_.size(), header_.cluster_size()) * header_.cluster_size();
    if (offset == 0) refuse("its " + name + " lies in its header");
    if (offset % header_.cluster_size() != 0) refuse("its " + name + " does not begin with a cluster");
    if (size > end || offset > end - size) refuse("its " + name + " lies behind the end of the file");
  }

  void read_backing() {
    const std::uint64_t offset = number(field_backing_offset);
    const std::span<const std::byte> cluster(cluster_);
    std::uint64_t end = cluster.size();
    if (offset != 0) {
      const std::uint64_t size = number(field_backing_size);
      if (offset < header_size_ || offset > cluster.size() || size > cluster.size() - offset)
        refuse(
            "the name of its backing file does not lie between its header and the end of the first cluster");
      if (size > most_backing_name) refuse("the name of its backing file has more than 1023 bytes");
      header_.backing_file = text_of(cluster.subspan(offset, size));
      if (header_.backing_file.find('\0') != std::string::npos)
        refuse("the name of its backing file has a zero byte");
      end = offset;
    }
    const bool whole = walk_extensions(cluster.subspan(header_size_, end - header_size_),
                                       [&](std::uint64_t type, std::span<const std::byte> data) {
                                         if (type == extension_backing_format)
                                           header_.backing_format = text_of(data);
                                       });
    if (!whole) refuse("one of its header's extensions ends behind the place for them");
  }

  const std::string& key_;
  const std::string& path_;
  ImageFile& file_;
  Qcow2Header header_;
  std::vector<std::byte> cluster_;  // the first one, or as much of it as was read
  std::uint64_t header_size_ = 0;
};

void append_extension(std::vector<std::byte>& header, std::uint64_t type, std::span<const std::byte> data) {
  const std::size_t begin = header.size();
  header.resize(begin + extension_header_size +
                quotient_up(data.size(), extension_alignment) * extension_alignment);
  store(header, {begin, 4}, type);
  store(header, {begin + 4, 4}, data.size());
  std::copy(data.begin(), data.end(),
            header.begin() + static_cast<std::ptrdiff_t>(begin + extension_header_size));
}

std::vector<std::byte> feature_names() {
  std::vector<std::byte> table;
  for (const Feature& feature : features) {
    std::array<std::byte, feature_entry_size> entry{std::byte{feature.kind}, std::byte(feature.bit)};
    std::memcpy(entry.data() + 2, feature.name.data(), feature.name.size());
    table.insert(table.end(), entry.begin(), entry.end());
  }
  return table;
}

std::vector<std::byte> encode(const Qcow2Header& header) {
  std::vector<std::byte> bytes(new_header_size);
  store(bytes, field_magic, magic);
  store(bytes, field_version, header.version);
  store(bytes, field_cluster_bits, header.cluster_bits);
  store(bytes, field_virtual_size, header.virtual_size);
  store(bytes, field_l1_entries, header.l1_entries);
  store(bytes, field_l1_offset, header.l1_offset);
  store(bytes, field_refcount_table_offset, header.refcount_table_offset);
  store(bytes, field_refcount_table_clusters, header.refcount_table_clusters);
  store(bytes, field_refcount_order, static_cast<unsigned>(std::countr_zero(header.refcount_bits)));
  store(bytes, field_header_size, bytes.size());
  if (header.compression == Qcow2Compression::zstd) {
    store(bytes, field_incompatible, mask_of(compression_type));
    store(bytes, field_compression, 1);
  }
  if (!header.backing_format.empty())
    append_extension(bytes, extension_backing_format, std::as_bytes(std::span(header.backing_format)));
  // The names are a courtesy, left out where a cluster is too small for them.
  std::vector<std::byte> with_names = bytes;
  append_extension(with_names, extension_feature_names, feature_names());
  if (with_names.size() + extension_header_size + header.backing_file.size() <= header.cluster_size())
    bytes = std::move(with_names);
  append_extension(bytes, extension_end, {});
  if (!header.backing_file.empty()) {
    store(bytes, field_backing_offset, bytes.size());
    store(bytes, field_backing_size, header.backing_file.size());
    const auto name = std::as_bytes(std::span(header.backing_file));
    bytes.insert(bytes.end(), name.begin(), name.end());
  }
  return bytes;
}

// Clusters of a new image: the header, the refcount table, its blocks, the L1 table, in this order.
struct Layout {
  std::uint64_t refcount_table;
  std::uint64_t refcount_blocks;
  std::uint64_t l1;
  std::uint64_t total() const { return 1 + refcount_table + refcount_blocks + l1; }
};

Layout lay_out(const Qcow2Header& header) {
  const std::uint64_t cluster_size = header.cluster_size();
  const std::uint64_t refcounts_per_block = cluster_size * 8 / header.refcount_bits;
  Layout layout{1, 0, quotient_up(std::uint64_t{header.l1_entries} * 8, cluster_size)};
  // As many clusters as there will be when the disk is full: its own, an L2 table for each L1 entry, what is
  // there from the start, and their refcounts, which count themselves.
  const std::uint64_t full =
      quotient_up(header.virtual_size, cluster_size) + header.l1_entries + layout.l1 + 1;
  const std::uint64_t blocks = quotient_up(full, refcounts_per_block - 2);
  layout.refcount_table = std::clamp<std::uint64_t>(quotient_up(blocks * 8, cluster_size), 1,
                                                    qcow2_most_refcount_table_size / cluster_size);
  layout.refcount_blocks = quotient_up(layout.total(), refcounts_per_block - 1);
  return layout;
}

void check_new(const std::string& key, const std::string& path, const Qcow2Header& header) {
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw ConfigError(key, path, problem, fix);
  };
  if (header.version != 3) refuse("a new image is of version 3", "");
  if (header.cluster_bits < least_cluster_bits || header.cluster_bits > most_cluster_bits)
    refuse("clusters of 2^" + std::to_string(header.cluster_bits) + " bytes are not accepted",
           "give 512 bytes to 2M");
  if (header.virtual_size > most_virtual_size)
    refuse("the disk is larger than 2^56 bytes", "give a smaller size");
  if (l1_entries_for(header.virtual_size, header.cluster_size()) * 8 > qcow2_most_l1_size)
    refuse("the disk is too large for clusters of " + std::to_string(header.cluster_size()) + " bytes",
           "give larger clusters or a smaller size");
  if (header.backing_file.size() > most_backing_name || header.backing_format.size() > most_backing_name)
    refuse("the name of the backing file has more than 1023 bytes", "give a shorter one");
  if (header.backing_file.find('\0') != std::string::npos)
    refuse("the name of the backing file has a zero byte", "");
}

void expect(BlockResult result, const std::string& path) {
  if (result == BlockResult::ok) return;
  throw HostError(result == BlockResult::no_space ? ENOSPC : EIO, "write '" + path + "'");
}

}  // namespace

Qcow2Header read_qcow2_header(const std::string& key, const std::string& path, ImageFile& file) {
  return HeaderReader(key, path, file).read();
}

void write_new_qcow2(const std::string& key, const std::string& path, ImageFile& file, Qcow2Header header) {
  check_new(key, path, header);
  const std::uint64_t cluster_size = header.cluster_size();
  header.refcount_bits = new_refcount_bits;
  header.l1_entries = static_cast<std::uint32_t>(l1_entries_for(header.virtual_size, cluster_size));
  const Layout layout = lay_out(header);
  const std::uint64_t blocks_offset = (1 + layout.refcount_table) * cluster_size;
  header.refcount_table_offset = cluster_size;
  header.refcount_table_clusters = static_cast<std::uint32_t>(layout.refcount_table);
  header.l1_offset = header.l1_entries == 0 ? 0 : (layout.total() - layout.l1) * cluster_size;
  const std::vector<std::byte> first = encode(header);
  if (first.size() > cluster_size)
    throw ConfigError(key, path, "the name of the backing file does not fit into a cluster",
                      "give a shorter one or larger clusters");

  std::vector<std::byte> table(layout.refcount_blocks * 8);
  for (std::uint64_t i = 0; i < layout.refcount_blocks; ++i)
    store_be(std::span(table).subspan(i * 8, 8), blocks_offset + i * cluster_size);
  std::vector<std::byte> refcounts(layout.total() * new_refcount_bits / 8);
  for (std::uint64_t i = 0; i < layout.total(); ++i) store_be(std::span(refcounts).subspan(i * 2, 2), 1);
  // The end first: what is not written before it is a hole, of zeroes.
  constexpr std::array<std::byte, 512> zeroes{};
  expect(file.write(layout.total() * cluster_size - zeroes.size(), zeroes), path);
  expect(file.write(header.refcount_table_offset, table), path);
  expect(file.write(blocks_offset, refcounts), path);
  // Until the header is there, the file is no image.
  expect(file.sync(), path);
  expect(file.write(0, first), path);
  expect(file.sync(), path);
}

}  // namespace hum
