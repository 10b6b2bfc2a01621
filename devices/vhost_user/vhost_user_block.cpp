// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_block.h"

#include <bit>
#include <cstring>
#include <utility>

#include "devices/config_space.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace block_wire;

namespace {

constexpr std::uint64_t feature_size_max = 1ull << 1;
constexpr std::uint64_t known_features = feature_size_max | feature_seg_max | feature_ro | feature_blk_size |
                                         feature_flush | feature_topology | feature_config_wce |
                                         feature_discard | feature_write_zeroes;
constexpr std::uint64_t known_ring_features = virtio::feature_indirect_desc | virtio::feature_event_idx;

// Up to the fields of write zeroes, which every server has.
constexpr std::uint32_t config_bytes = offsetof(ConfigSpace, max_secure_erase_sectors);

}  // namespace

VhostUserBlock::VhostUserBlock(const Settings& settings, const GuestMemory& memory, const Log& log)
    : server_{.name = settings.what + " '" + settings.path + "'",
              .path = settings.path,
              .patience = settings.patience,
              .memory = memory,
              .log = log},
      queue_sizes_(settings.queues, settings.queue_size) {
  require_shared(memory, settings.what, settings.path);
  try {
    connect(settings);
  } catch (const VhostUserError& error) {
    throw ConfigError(settings.what, settings.path, std::string("no disk is served there: ") + error.what(),
                      "start the server, for example qemu-storage-daemon --blockdev "
                      "file,node-name=disk,filename=IMAGE --export vhost-user-blk,id=disk,node-name=disk,"
                      "writable=on,addr.type=unix,addr.path=" +
                          settings.path);
  }
}

void VhostUserBlock::connect(const Settings& settings) {
  server_.client = std::make_unique<VhostUserClient>(server_.path, VhostUserPatience{server_.patience});
  VhostUserClient& client = *server_.client;
  if (!(client.features() & virtio::feature_version_1))
    throw VhostUserError("the server is too old for virtio 1");
  if (!client.has_config()) throw VhostUserError("the server does not tell the disk's size");
  client.require_queues(settings.what, settings.queues, feature_mq);
  offered_ =
      client.features() & (known_features | known_ring_features | (settings.queues > 1 ? feature_mq : 0));
  config_ = config_of(client);
  first_writeback_ = chosen_writeback_ = config_.writeback != 0;
}

ConfigSpace VhostUserBlock::config_of(VhostUserClient& client) const {
  ConfigSpace config{};
  std::memcpy(writable_bytes_of(config).data(), client.read_config(config_bytes).data(), config_bytes);
  if (config.capacity > UINT64_MAX / sector_size) throw VhostUserError("no disk has that many sectors");
  if ((offered_ & feature_blk_size) && (!std::has_single_bit<std::uint32_t>(config.blk_size) ||
                                        config.blk_size < sector_size || config.blk_size > 1 << 20))
    throw VhostUserError("the size of its blocks is no power of two from 512 to 1 MiB");
  config.num_queues = static_cast<std::uint16_t>(queue_sizes_.size());
  return config;
}

std::uint64_t VhostUserBlock::features() const {
  return offered_ & ~known_ring_features;
}

std::uint64_t VhostUserBlock::ring_features() const {
  return offered_ & known_ring_features;
}

void VhostUserBlock::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  const std::lock_guard lock(mutex_);
  ConfigSpace space = config_;
  space.writeback = chosen_writeback_ ? 1 : 0;
  read_config_space(bytes_of(space), offset, data);
}

// 5.2.5: only the write cache can be set.
void VhostUserBlock::write_config(std::uint32_t offset, std::span<const std::byte> data) {
  if (offset != offsetof(ConfigSpace, writeback) || data.size() != 1) return;
  {
    const std::lock_guard lock(mutex_);
    chosen_writeback_ = load_le(data) != 0;
  }
  // A server that is away learns of it when it is back.
  if (service_ && (accepted_ & feature_config_wce))
    service_->call([&](VhostUserClient& client) { client.write_config(offset, data); });
}

void VhostUserBlock::activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                              virtio::DeviceEvents& events) {
  // A server has no business with features that it did not offer.
  accepted_ = driver_features & (offered_ | virtio::feature_version_1);
  events_ = &events;
  service_ = std::make_unique<VhostUserService>(
      server_,
      VhostUserService::Device{.features = accepted_,
                               .queues = static_cast<std::uint16_t>(queue_sizes_.size()),
                               .greet = [this](VhostUserClient& client) { greet(client); },
                               .config_changed = [this](VhostUserClient& client) { take_config(client); }},
      std::move(queues), events);
}

// The guest keeps its driver over a change of servers, so what that has agreed to must still be true.
void VhostUserBlock::greet(VhostUserClient& client) {
  if ((client.features() & accepted_) != accepted_ || !client.has_config() ||
      client.most_queues() < queue_sizes_.size())
    throw VhostUserError("it cannot do all that the guest's driver was promised");
  take_config(client);
  if (!(accepted_ & feature_config_wce)) return;
  std::byte writeback{};
  {
    const std::lock_guard lock(mutex_);
    writeback = std::byte{chosen_writeback_ ? std::uint8_t{1} : std::uint8_t{0}};
  }
  client.write_config(offsetof(ConfigSpace, writeback), {&writeback, 1});
}

// Only a disk's size may change under its driver.
void VhostUserBlock::take_config(VhostUserClient& client) {
  const ConfigSpace now = config_of(client);
  {
    const std::lock_guard lock(mutex_);
    ConfigSpace expected = config_;
    expected.capacity = now.capacity;
    expected.writeback = now.writeback;
    if (std::memcmp(&expected, &now, sizeof now) != 0) throw VhostUserError("it has another disk now");
    const bool resized = config_.capacity != now.capacity;
    config_ = now;
    if (!resized) return;
  }
  events_->config_changed();
}

std::vector<virtio::ActiveQueue> VhostUserBlock::suspend() {
  if (!service_) return {};
  std::vector<virtio::ActiveQueue> queues = service_->stop();
  service_.reset();
  return queues;
}

void VhostUserBlock::deactivate() {
  suspend();
  server_.inflight.reset();
  const std::lock_guard lock(mutex_);
  chosen_writeback_ = first_writeback_;
}

// The server has the disk; what is saved is what its successor must know of the requests of this one.
void VhostUserBlock::fields(StateVisitor& visitor) {
  visitor.same("capacity", config_.capacity);
  visitor.same("features", offered_);
  visitor.flag("writeback", chosen_writeback_);
  if (!visitor.reading()) {
    saved_inflight_ = server_.inflight ? server_.inflight->content() : std::vector<std::byte>();
    saved_entries_ = server_.inflight ? server_.inflight->queue_size : std::uint16_t{0};
  }
  const auto content = visitor.list("inflight", saved_inflight_, InflightArea::most_bytes);
  const std::uint16_t entries = visitor.number("inflight-entries", saved_entries_, queue_sizes_.front());
  visitor.require(content.empty() == (entries == 0), "inflight", "has no size");
  visitor.afterwards([this, entries] {
    server_.inflight.reset();
    if (entries != 0)
      server_.inflight =
          InflightArea::from(saved_inflight_, static_cast<std::uint16_t>(queue_sizes_.size()), entries);
    saved_inflight_.clear();
  });
}

std::vector<virtio::DeviceReport::Own> VhostUserBlock::report() const {
  return {{"reconnections", server_.reconnections.get()}};
}

namespace {

constexpr OptionSpec vhost_user_block_options[] = {
    {.key = "socket", .help = "the server's Unix socket", .required = true},
    {.key = "queues",
     .type = OptionType::integer,
     .help = "number of queues, at most as many as the server has",
     .default_value = "1",
     .minimum = 1,
     .maximum = 64},
    {.key = "queue-size",
     .type = OptionType::choice,
     .help = "entries of each queue",
     .default_value = "256",
     .choices = "4|8|16|32|64|128|256|512|1024"},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  return std::make_unique<VhostUserBlock>(
      VhostUserBlock::Settings{
          .what = std::string(values.what()),
          .path = values.text("socket"),
          .queues = static_cast<std::uint16_t>(values.number("queues")),
          .queue_size = static_cast<std::uint16_t>(std::stoul(values.text("queue-size")))},
      context.memory, context.log);
}

}  // namespace

constinit const DeviceKind vhost_user_block_kind{
    .name = "vhost-user-disk",
    .help = "a disk that another process serves over a Unix socket (vhost-user-blk)",
    .options = vhost_user_block_options,
    .create = DeviceKind::VirtioFactory{create},
    .needs_shared_memory = true,
};

}  // namespace hum
