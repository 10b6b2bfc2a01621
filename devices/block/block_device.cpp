// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_device.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "devices/block/raw_file.h"
#include "devices/config_space.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t sector_size = 512;
constexpr std::size_t id_size = 20;
constexpr std::array<std::uint16_t, 1> queue_sizes_of_block = {256};

// Virtio 1.2, 5.2.3.
constexpr std::uint64_t feature_seg_max = 1ull << 2;
constexpr std::uint64_t feature_ro = 1ull << 5;
constexpr std::uint64_t feature_blk_size = 1ull << 6;
constexpr std::uint64_t feature_flush = 1ull << 9;

// 5.2.6.
constexpr std::uint32_t type_in = 0;
constexpr std::uint32_t type_out = 1;
constexpr std::uint32_t type_flush = 4;
constexpr std::uint32_t type_get_id = 8;

constexpr std::uint8_t status_ok = 0;
constexpr std::uint8_t status_ioerr = 1;
constexpr std::uint8_t status_unsupp = 2;

// The start of struct virtio_blk_config, 5.2.4, as far as the features offered have fields in it.
struct ConfigSpace {
  le64 capacity;
  le32 size_max;
  le32 seg_max;
  std::array<std::byte, 4> geometry;
  le32 blk_size;
};
static_assert(sizeof(ConfigSpace) == 24);

struct Header {
  le32 type;
  le32 reserved;
  le64 sector;
};
static_assert(sizeof(Header) == 16);

// The parts without their first bytes, of which there are as many.
std::span<iovec> without_front(std::span<iovec> parts, std::size_t bytes) {
  while (!parts.empty() && bytes >= parts.front().iov_len) {
    bytes -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (bytes != 0) {
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + bytes;
    parts.front().iov_len -= bytes;
  }
  return parts;
}

// The parts without their last byte, which is there.
std::span<iovec> without_last_byte(std::span<iovec> parts) {
  return --parts.back().iov_len == 0 ? parts.first(parts.size() - 1) : parts;
}

}  // namespace

// A request taken apart: the header's copy, the data behind it, and the buffers before the status byte.
struct BlockDevice::Request {
  Header header;
  std::span<const iovec> out;
  std::span<const iovec> in;
  std::uint64_t out_bytes;
  std::uint64_t in_bytes;
};

struct BlockDevice::Answer {
  std::uint8_t status;
  std::uint64_t written = 0;  // bytes at the start of the request's `in`
};

BlockDevice::BlockDevice(std::unique_ptr<BlockBackend> backend, Settings settings, const Log& log)
    : backend_(std::move(backend)),
      settings_(std::move(settings)),
      log_(log),
      capacity_(backend_->size() / sector_size) {}

std::uint64_t BlockDevice::features() const {
  return feature_seg_max | feature_blk_size | feature_flush | (settings_.read_only ? feature_ro : 0);
}

std::span<const std::uint16_t> BlockDevice::queue_sizes() const {
  return queue_sizes_of_block;
}

void BlockDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  ConfigSpace space = {};
  space.capacity = capacity_;
  space.seg_max = queue_sizes_of_block[0] - 2;  // beside the data: header and status
  space.blk_size = static_cast<std::uint32_t>(sector_size);
  read_config_space(bytes_of(space), offset, data);
}

void BlockDevice::activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                           virtio::DeviceEvents& events) {
  // A driver without FLUSH relies on a write being safe once it is answered (5.2.6.2).
  write_through_ = (driver_features & feature_flush) == 0;
  failure_logged_ = false;
  service_ = std::make_unique<QueueService>("disk", std::move(queues), events);
  service_->start([this](std::uint16_t index) {
    virtio::VirtQueue* const queue = service_->queue(index);
    service_->drain(index, [&](virtio::DescriptorChain& chain) {
      queue->push(chain.head, serve(chain));
      return true;
    });
  });
}

std::vector<virtio::ActiveQueue> BlockDevice::suspend() {
  return QueueService::end(service_);
}

// The driver has read the capacity; whether it was told of a failure is the log's business.
void BlockDevice::fields(StateVisitor& visitor) {
  visitor.same("capacity", capacity_);
}

std::vector<virtio::DeviceReport::Own> BlockDevice::report() const {
  return {{"bytes_read", bytes_read_.get()},
          {"bytes_written", bytes_written_.get()},
          {"flushes", flushes_.get()},
          {"errors", errors_.get()}};
}

std::uint32_t BlockDevice::serve(virtio::DescriptorChain& chain) {
  if (chain.writable_bytes == 0) throw GuestError("a block request has no byte for its status");
  const iovec& last = chain.writable.back();
  const iovec status{static_cast<std::byte*>(last.iov_base) + last.iov_len - 1, 1};
  Answer answer{status_ioerr};
  if (chain.readable_bytes >= sizeof(Header)) {
    Request request{};
    copy_from(chain.readable, 0, writable_bytes_of(request.header));
    request.out = without_front(chain.readable, sizeof(Header));
    request.in = without_last_byte(chain.writable);
    request.out_bytes = chain.readable_bytes - sizeof(Header);
    request.in_bytes = chain.writable_bytes - 1;
    answer = execute(request);
  }
  if (answer.status != status_ok) errors_.add();
  copy_to({&status, 1}, 0, bytes_of(answer.status));
  // The used length counts from the first byte on, so the status counts only behind complete data.
  const bool complete = answer.written == chain.writable_bytes - 1;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(answer.written + (complete ? 1 : 0), UINT32_MAX));
}

BlockDevice::Answer BlockDevice::execute(const Request& request) {
  switch (request.header.type) {
    case type_in:
      return read(request);
    case type_out:
      return write(request);
    case type_flush:
      flushes_.add();
      return {status_of(backend_->flush())};
    case type_get_id:
      return give_id(request);
    default:
      return {status_unsupp};
  }
}

BlockDevice::Answer BlockDevice::read(const Request& request) {
  if (!in_range(request.header.sector, request.in_bytes)) return {status_ioerr};
  const std::uint8_t status = status_of(backend_->read(request.in, request.header.sector * sector_size));
  if (status != status_ok) return {status};
  bytes_read_.add(request.in_bytes);
  return {status, request.in_bytes};
}

BlockDevice::Answer BlockDevice::write(const Request& request) {
  if (settings_.read_only || !in_range(request.header.sector, request.out_bytes)) return {status_ioerr};
  BlockResult result = backend_->write(request.out, request.header.sector * sector_size);
  if (result == BlockResult::ok) bytes_written_.add(request.out_bytes);
  if (result == BlockResult::ok && write_through_) result = backend_->flush();
  return {status_of(result)};
}

BlockDevice::Answer BlockDevice::give_id(const Request& request) const {
  std::array<char, id_size> id = {};
  std::copy_n(settings_.id.begin(), std::min(settings_.id.size(), id.size()), id.begin());
  return {status_ok, copy_to(request.in, 0, bytes_of(id))};
}

bool BlockDevice::in_range(std::uint64_t sector, std::uint64_t bytes) const {
  return bytes % sector_size == 0 && sector <= capacity_ && bytes / sector_size <= capacity_ - sector;
}

std::uint8_t BlockDevice::status_of(BlockResult result) {
  if (result == BlockResult::ok) return status_ok;
  if (!std::exchange(failure_logged_, true))
    log_.warning(
        "disk '" + settings_.name + "': " +
        (result == BlockResult::no_space ? "no space left on the host" : "the host reports an I/O error") +
        "; the guest is told of an I/O error");
  return status_ioerr;
}

namespace {

constexpr OptionSpec block_options[] = {
    {.key = "path", .help = "the disk image, or a block device of the host", .required = true},
    {.key = "readonly",
     .type = OptionType::boolean,
     .help = "the guest may not write; several machines may share the image",
     .default_value = "off"},
    {.key = "id",
     .help =
         "the disk's serial number in the guest, at most 20 bytes; by default the start of the file's name"},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  const std::string what(values.what());
  const std::string& path = values.text("path");
  const bool read_only = values.flag("readonly");
  std::string id = std::filesystem::path(path).filename().string().substr(0, id_size);
  if (values.has("id")) id = values.text("id");
  if (id.size() > id_size) throw ConfigError(what + ".id", id, "too long", "give at most 20 bytes");
  auto image = RawFile::open(what + ".path", path, read_only);
  if (!image->locked())
    context.log.warning("disk '" + path +
                        "': the file system has no locks; nothing keeps it from being used twice");
  if (image->size() % sector_size != 0)
    context.log.warning("disk '" + path + "': the guest does not see the last " +
                        std::to_string(image->size() % sector_size) + " bytes, which are no whole sector");
  return std::make_unique<BlockDevice>(std::move(image), BlockDevice::Settings{path, read_only, id},
                                       context.log);
}

}  // namespace

constinit const DeviceKind block_kind{
    .name = "disk",
    .help = "a disk from a raw image file or a block device (virtio)",
    .options = block_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
