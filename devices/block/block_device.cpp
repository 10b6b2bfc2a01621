// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_device.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <utility>

#include "devices/block/block_wait.h"
#include "devices/block/block_wire.h"
#include "devices/block/open_image.h"
#include "devices/config_space.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace block_wire;

BlockDevice::BlockDevice(std::unique_ptr<BlockBackend> backend, Settings settings, MachineControl& control,
                         const Log& log)
    : backend_(std::move(backend)),
      settings_(std::move(settings)),
      disk_{.backend = backend_.get(),
            .name = settings_.name,
            .id = settings_.id,
            .read_only = settings_.read_only,
            .block_size = settings_.block_size != 0 ? settings_.block_size : backend_->logical_block_size(),
            .pause_on_error = settings_.pause_on_error,
            .poll = settings_.poll,
            .control = control,
            .log = log},
      queue_sizes_(settings_.queues, settings_.queue_size),
      counters_(settings_.threads),
      latencies_(settings_.queues) {
  disk_.limiter.set(settings_.bandwidth, settings_.operations);
  take_size();
}

void BlockDevice::take_size() {
  disk_.capacity = backend_->size() / disk_.block_size * (disk_.block_size / sector_size);
  if (const std::uint64_t rest = backend_->size() % disk_.block_size; rest != 0)
    disk_.log.warning("disk '" + disk_.name + "': the guest does not see the last " + std::to_string(rest) +
                      " bytes, which are no whole block");
}

std::uint64_t BlockDevice::features() const {
  std::uint64_t features =
      feature_seg_max | feature_blk_size | feature_topology | feature_flush | feature_config_wce;
  if (settings_.queues > 1) features |= feature_mq;
  if (settings_.read_only) return features | feature_ro;
  if (backend_->has_discard()) features |= feature_discard | feature_write_zeroes;
  return features;
}

void BlockDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  const std::uint32_t physical = std::max(backend_->physical_block_size(), disk_.block_size);
  ConfigSpace space = {};
  space.capacity = disk_.capacity;
  space.seg_max = settings_.queue_size - 2u;  // beside the data: header and status
  space.blk_size = disk_.block_size;
  space.physical_block_exponent = static_cast<std::uint8_t>(std::countr_zero(physical / disk_.block_size));
  space.min_io_size = static_cast<std::uint16_t>(physical / disk_.block_size);
  space.writeback = chosen_writeback_ ? 1 : 0;
  space.num_queues = settings_.queues;
  if (backend_->has_discard()) {
    space.max_discard_sectors = most_segment_sectors;
    space.max_discard_seg = most_segments;
    space.discard_sector_alignment = static_cast<std::uint32_t>(physical / sector_size);
    space.max_write_zeroes_sectors = most_segment_sectors;
    space.max_write_zeroes_seg = most_segments;
    space.write_zeroes_may_unmap = 1;
  }
  read_config_space(bytes_of(space), offset, data);
}

// 5.2.5: only the write cache can be set.
void BlockDevice::write_config(std::uint32_t offset, std::span<const std::byte> data) {
  if (offset != offsetof(ConfigSpace, writeback) || data.size() != 1) return;
  chosen_writeback_ = load_le(data) != 0;
  if (!workers_.empty()) disk_.writeback.store(chosen_writeback_, std::memory_order_relaxed);
}

void BlockDevice::activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                           virtio::DeviceEvents& events) {
  // 5.2.5.1, 5.2.6.2: a driver without either feature relies on a write being safe once it is answered.
  disk_.writeback = (driver_features & feature_config_wce) != 0 ? chosen_writeback_
                                                                : (driver_features & feature_flush) != 0;
  driver_features_ = driver_features;
  events_ = &events;
  const std::vector<HeldRequest> held = std::exchange(held_, {});
  if (std::exchange(change_untold_, false)) events.config_changed();
  for (std::size_t thread = 0; thread < counters_.size(); ++thread) {
    std::vector<virtio::ActiveQueue> own;
    unsigned entries = 0;
    for (virtio::ActiveQueue& each : queues) {
      if (each.queue == nullptr || each.index % counters_.size() != thread) continue;
      entries += each.queue->layout().size;
      own.push_back(std::move(each));
    }
    if (own.empty()) continue;
    workers_.push_back(std::make_unique<BlockWorker>(disk_, make_block_engine(settings_.engine, entries),
                                                     std::move(own), held, events,
                                                     BlockWorker::Counts{counters_[thread], latencies_}));
  }
}

std::vector<virtio::ActiveQueue> BlockDevice::suspend() {
  std::vector<virtio::ActiveQueue> queues;
  for (const auto& worker : workers_)
    for (virtio::ActiveQueue& each : worker->stop(held_)) queues.push_back(std::move(each));
  workers_.clear();
  return queues;
}

void BlockDevice::deactivate() {
  suspend();
  held_.clear();
  events_ = nullptr;
  chosen_writeback_ = true;
}

// The driver has read the capacity; whether it was told of a failure is the log's business.
void BlockDevice::fields(StateVisitor& visitor) {
  visitor.same("capacity", disk_.capacity);
  visitor.flag("writeback", chosen_writeback_);
  visitor.list("held", held_, std::size_t{settings_.queues} * settings_.queue_size);
}

std::vector<virtio::DeviceReport::Own> BlockDevice::report() const {
  const auto sum = [this](Counter BlockCounters::* counter) {
    std::uint64_t all = 0;
    for (const BlockCounters& each : counters_) all += (each.*counter).get();
    return all;
  };
  return {{"bytes_read", sum(&BlockCounters::bytes_read)},
          {"bytes_written", sum(&BlockCounters::bytes_written)},
          {"bytes_discarded", sum(&BlockCounters::bytes_discarded)},
          {"flushes", sum(&BlockCounters::flushes)},
          {"errors", sum(&BlockCounters::errors)},
          {"throttled", sum(&BlockCounters::throttled)}};
}

std::vector<virtio::DeviceReport::Latency> BlockDevice::latencies() const {
  std::vector<virtio::DeviceReport::Latency> all;
  for (std::uint16_t queue = 0; queue < settings_.queues; ++queue)
    for (const auto& [name, histogram] : {std::pair("read", &latencies_[queue].read),
                                          {"write", &latencies_[queue].write},
                                          {"flush", &latencies_[queue].flush}})
      all.push_back({name, queue, histogram->buckets(), histogram->nanoseconds()});
  return all;
}

namespace {

constexpr OptionSpec block_options[] = {
    {.key = "path", .help = "the disk image, or a block device of the host", .required = true, .live = true},
    {.key = "format",
     .type = OptionType::choice,
     .help = "the image's format; it is never guessed",
     .default_value = "raw",
     .choices = "raw|qcow2",
     .live = true},
    {.key = "overlay",
     .help = "the image is only read and writes go on top of it: tmp, thrown away at the end, or a qcow2 "
             "file, made if needed",
     .live = true},
    {.key = "backing",
     .type = OptionType::choice,
     .help = "where a qcow2 image's backing file may be: in the image's folder, or any",
     .default_value = "folder",
     .choices = "folder|any",
     .live = true},
    {.key = "metadata-cache",
     .type = OptionType::size,
     .help = "the most memory for a qcow2 image's tables, twice: of places, and of reference counts",
     .default_value = "32M",
     .minimum = 1 << 20,
     .maximum = std::uint64_t{1} << 34},
    {.key = "readonly",
     .type = OptionType::boolean,
     .help = "the guest may not write; several machines may share the image",
     .default_value = "off"},
    {.key = "cache",
     .type = OptionType::choice,
     .help = "writeback: in the host's page cache until flushed; direct: past it; unsafe: flushes do nothing",
     .default_value = "writeback",
     .choices = "writeback|direct|unsafe"},
    {.key = "size",
     .type = OptionType::size,
     .help = "the disk's size; an image that is smaller is made so large, and it never gets smaller",
     .minimum = sector_size,
     .live = true},
    {.key = "bandwidth",
     .type = OptionType::limit,
     .help = "the most bytes read and written: SIZE[/MILLISECONDS][+BURST], like 100M (in each second) or "
             "10M/100+1G",
     .default_value = "off",
     .live = true},
    {.key = "ops",
     .type = OptionType::limit,
     .help = "the most requests, in the same way, like 5000",
     .default_value = "off",
     .live = true},
    {.key = "on-error",
     .type = OptionType::choice,
     .help =
         "what becomes of a request that the host fails: report: the guest is told of an I/O error; pause: "
         "the VM is paused, and the request tried again after that",
     .default_value = "report",
     .choices = "report|pause",
     .live = true},
    {.key = "id",
     .help =
         "the disk's serial number in the guest, at most 20 bytes; by default the start of the file's name"},
    {.key = "block-size",
     .type = OptionType::choice,
     .help = "the logical block size that the guest sees, bytes; auto: the host device's, 512 for a file",
     .default_value = "auto",
     .choices = "auto|512|4096"},
    {.key = "queues",
     .type = OptionType::integer,
     .help = "number of queues",
     .default_value = "1",
     .minimum = 1,
     .maximum = 64},
    {.key = "queue-size",
     .type = OptionType::choice,
     .help = "entries of each queue",
     .default_value = "256",
     .choices = "4|8|16|32|64|128|256|512|1024"},
    {.key = "iothreads",
     .type = OptionType::integer,
     .help = "threads that serve the queues, at most one for each",
     .default_value = "1",
     .minimum = 1,
     .maximum = 64},
    {.key = "poll-us",
     .type = OptionType::integer,
     .help = "the longest that a thread looks for work before it sleeps, microseconds, where that pays",
     .default_value = "0",
     .minimum = 0,
     .maximum = 1000},
    {.key = "aio",
     .type = OptionType::choice,
     .help = "how the host is asked: io_uring, threads, or auto: threads where the host refuses io_uring",
     .default_value = "auto",
     .choices = "auto|io_uring|threads"},
};

BlockCache cache_of(const std::string& word) {
  return word == "direct"   ? BlockCache::direct
         : word == "unsafe" ? BlockCache::unsafe
                            : BlockCache::writeback;
}

BlockEngineKind engine_of(const OptionValues& values) {
  const std::string& word = values.text("aio");
  if (word == "threads") return BlockEngineKind::threads;
  if (word == "auto") return BlockEngineKind::automatic;
  // Told at the start, where the user can still choose.
  if (!has_io_uring())
    throw ConfigError(std::string(values.what()) + ".aio", word,
                      "this host refuses it (kernel.io_uring_disabled, a filter)",
                      "use aio=auto or aio=threads");
  return BlockEngineKind::io_uring;
}

ImageSettings image_of(const OptionValues& values) {
  return {.path = values.text("path"),
          .format = values.text("format") == "qcow2" ? ImageFormat::qcow2 : ImageFormat::raw,
          .read_only = values.flag("readonly"),
          .cache = cache_of(values.text("cache")),
          .metadata_cache = values.number("metadata-cache"),
          .any_backing = values.text("backing") == "any",
          .overlay = values.has("overlay") ? values.text("overlay") : ""};
}

BlockDevice::Settings settings_of(const OptionValues& values) {
  const std::string what(values.what());
  const std::string& path = values.text("path");
  BlockDevice::Settings settings{
      .name = path, .image = image_of(values), .read_only = values.flag("readonly")};
  settings.id = values.has("id") ? values.text("id")
                                 : std::filesystem::path(path).filename().string().substr(0, id_size);
  if (settings.id.size() > id_size)
    throw ConfigError(what + ".id", settings.id, "too long", "give at most 20 bytes");
  if (values.text("block-size") != "auto")
    settings.block_size = static_cast<std::uint32_t>(std::stoul(values.text("block-size")));
  settings.queues = static_cast<std::uint16_t>(values.number("queues"));
  settings.queue_size = static_cast<std::uint16_t>(std::stoul(values.text("queue-size")));
  settings.threads = static_cast<std::uint16_t>(values.number("iothreads"));
  if (settings.threads > settings.queues)
    throw ConfigError(what + ".iothreads", std::to_string(settings.threads), "more threads than queues",
                      "give at most " + std::to_string(settings.queues) + ", or more queues");
  settings.poll = std::chrono::microseconds(values.number("poll-us"));
  settings.engine = engine_of(values);
  if (values.has("size")) settings.size = values.number("size");
  if (settings.size % sector_size != 0)
    throw ConfigError(what + ".size", std::to_string(settings.size), "not a multiple of 512 bytes",
                      "give bytes or a number with K, M, G or T, like 10G");
  settings.pause_on_error = values.text("on-error") == "pause";
  settings.bandwidth = values.limit("bandwidth");
  settings.operations = values.limit("ops");
  return settings;
}

std::unique_ptr<BlockBackend> open_disk(const std::string& what, const BlockDevice::Settings& settings,
                                        const Log& log) {
  auto image = open_image(what, settings.image, log);
  if (image->one_thread() && settings.threads > 1)
    throw ConfigError(what + ".iothreads", std::to_string(settings.threads),
                      "a disk with a qcow2 image has one", "drop iothreads=, or use a raw image");
  return image;
}

// No operation on the image is under way.
void resize(const std::string& what, BlockBackend& image, const BlockDevice::Settings& settings) {
  if (settings.size == 0 || settings.size == image.size()) return;
  const std::string key = what + ".size";
  const std::string value = format_size(settings.size);
  if (settings.size < image.size())
    throw ConfigError(key, value, "the image has " + format_size(image.size()),
                      "a disk never gets smaller while it is used; see hum disk resize --shrink");
  const auto engine = make_block_engine(settings.engine, 1);
  switch (image.resize(*engine, settings.size)) {
    case BlockResult::ok:
      return;
    case BlockResult::unsupported:
      throw ConfigError(
          key, value, "this image cannot be made so large",
          "give at most what a host's block device has; an image that is only read stays as it is");
    case BlockResult::no_space:
      throw HostError(ENOSPC, "make '" + settings.name + "' " + value + " large", "make room for it");
    case BlockResult::io_error:
      throw HostError(EIO, "make '" + settings.name + "' " + value + " large");
  }
}

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  BlockDevice::Settings settings = settings_of(values);
  const std::string what(values.what());
  auto image = open_disk(what, settings, context.log);
  resize(what, *image, settings);
  return std::make_unique<BlockDevice>(std::move(image), std::move(settings), context.control, context.log);
}

}  // namespace

// What can be refused comes first, and what has no way back last.
void BlockDevice::apply(const OptionValues& options) {
  const std::string what(options.what());
  Settings next = settings_of(options);
  std::unique_ptr<BlockBackend> other;
  if (next.image != settings_.image) {
    other = open_disk(what, next, disk_.log);
    resize(what, *other, next);
  }
  if (other != nullptr || next.size != settings_.size) {
    const bool active = !workers_.empty();
    std::vector<virtio::ActiveQueue> queues = suspend();
    std::exception_ptr refused;
    try {
      if (other != nullptr) {
        // What the guest flushes from now on reaches the other image only.
        if (!settings_.read_only &&
            flush_now(*backend_, *make_block_engine(settings_.engine, 1)) != BlockResult::ok)
          throw HostError(EIO, "sync '" + disk_.name + "'");
        backend_ = std::move(other);
        disk_.backend = backend_.get();
        disk_.name = next.name;
        disk_.failure_told = false;
      } else {
        resize(what, *backend_, next);
      }
      take_size();
    } catch (const std::exception&) {
      refused = std::current_exception();
    }
    try {
      if (active) activate(driver_features_, std::move(queues), *events_);
    } catch (const std::exception& error) {
      suspend();
      events_->needs_reset(error.what());
    }
    if (refused) std::rethrow_exception(refused);
    if (events_ != nullptr)
      events_->config_changed();
    else
      change_untold_ = true;
  }
  if (next.bandwidth != settings_.bandwidth || next.operations != settings_.operations)
    disk_.limiter.set(next.bandwidth, next.operations);
  disk_.pause_on_error.store(next.pause_on_error, std::memory_order_relaxed);
  settings_.pause_on_error = next.pause_on_error;
  settings_.bandwidth = next.bandwidth;
  settings_.operations = next.operations;
  settings_.image = next.image;
  settings_.size = next.size;
  for (const auto& worker : workers_) worker->serve_all();
}

constinit const DeviceKind block_kind{
    .name = "disk",
    .help = "a disk from an image file (raw, qcow2) or a block device (virtio)",
    .options = block_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
