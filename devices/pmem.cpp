// SPDX-License-Identifier: Apache-2.0
#include "devices/pmem.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/config_space.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t alignment = 2 << 20;  // of the guest's mappings, and of the range as drivers want it
constexpr std::uint64_t page = 4096;

// 5.19.4 and 5.19.6.
struct ConfigSpace {
  le64 start;
  le64 size;
};
static_assert(sizeof(ConfigSpace) == 16);
constexpr std::uint32_t type_flush = 0;
constexpr std::uint32_t status_ok = 0;
constexpr std::uint32_t status_failed = 0xffffffff;  // -1
constexpr std::uint32_t status_size = 4;

int to_disk(int file) {
  return ::fdatasync(file);
}

HostMemory map_file(const RawFile& file, std::uint64_t size) {
  HostMemory memory = HostMemory::zeroes(size);
  memory.put_file(file.fd(), file.size(), PROT_READ | (file.read_only() ? 0 : PROT_WRITE));
  return memory;
}

std::uint64_t region_size(const RawFile& file, const std::string& what, const std::string& path) {
  if (file.size() == 0) throw ConfigError(what + ".path", path, "has no bytes", "give a file with a size");
  if (file.size() > INT64_MAX - alignment)
    throw ConfigError(what + ".path", path, "is too large", "give a smaller file");
  return (file.size() + alignment - 1) / alignment * alignment;
}

}  // namespace

PmemDevice::PmemDevice(std::unique_ptr<RawFile> file, const Settings& settings, DeviceContext& context)
    : PmemDevice(std::move(file), settings, context, to_disk) {}

PmemDevice::PmemDevice(std::unique_ptr<RawFile> file, const Settings& settings, DeviceContext& context,
                       Sync sync)
    : file_(std::move(file)),
      log_(context.log),
      path_(settings.path),
      device_memory_(context.device_memory),
      sync_(sync) {
  limiter_.set(settings.bandwidth, settings.operations);
  const std::uint64_t size = region_size(*file_, settings.what, path_);
  region_ = device_memory_.place({.key = settings.what + ".path",
                                  .value = path_,
                                  .size = size,
                                  .alignment = alignment,
                                  .writable = !file_->read_only()},
                                 [&] { return map_file(*file_, size); });
  try {
    slot_ = device_memory_.slots().add(region_.range, region_.host, file_->read_only());
  } catch (const HostError&) {
    device_memory_.give_back(region_.range);
    throw;
  }
  if (!file_->read_only() && file_->size() % page != 0)
    log_.warning("pmem '" + path_ + "': what the guest writes behind the last " +
                 std::to_string(file_->size() % page) + " bytes is lost, which are no whole page");
}

PmemDevice::~PmemDevice() {
  deactivate();
  device_memory_.slots().remove(slot_);
  device_memory_.give_back(region_.range);
  file_->unlock();  // the memory may go on in another machine, whose device takes the lock
}

void PmemDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  read_config_space(bytes_of(ConfigSpace{region_.range.begin.value, region_.range.size}), offset, data);
}

void PmemDevice::activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                          virtio::DeviceEvents& events) {
  taken_ = 0;
  service_ = std::make_unique<QueueService>("pmem", std::move(queues), events);
  service_->start([this](std::uint16_t) { serve(); });
}

std::vector<virtio::ActiveQueue> PmemDevice::suspend() {
  std::vector<virtio::ActiveQueue> queues = QueueService::end(service_);
  limit_timer_.reset();
  return queues;
}

// One flush serves all that were asked for before it began, and none that came later.
void PmemDevice::serve() {
  virtio::VirtQueue* const queue = service_->queue(0);
  if (queue == nullptr) return;
  service_->drain(0, [&](virtio::DescriptorChain& chain) {
    if (taken_ == 0 && !may_flush()) {
      queue->undo_pop();
      return false;
    }
    if (chain.writable_bytes < status_size) throw GuestError("a request has no room for its answer");
    le32 type{};
    const bool whole =
        copy_from(chain.readable, 0, std::as_writable_bytes(std::span(&type, 1))) == sizeof type;
    if (!whole || type != type_flush) {
      queue->push(chain.head, answer(chain, status_failed));
      return true;
    }
    assert(taken_ < requests_.size());  // a queue never gives out more than it has entries
    std::swap(requests_[taken_++], chain);
    return true;
  });
  if (taken_ == 0) return;
  const std::uint32_t status = bring_to_disk() ? status_ok : status_failed;
  for (std::size_t i = 0; i < taken_; ++i) queue->push(requests_[i].head, answer(requests_[i], status));
  taken_ = 0;
  queue->publish();
}

// False: there is a timer that serves the queue again.
bool PmemDevice::may_flush() {
  const auto wait = limiter_.take(file_->size());
  if (wait == wait.zero()) return true;
  if (!limit_timer_) {
    limit_timer_.emplace();
    service_->watch(limit_timer_->fd(), EventLoop::Interest::readable, [this] {
      limit_timer_->stop();
      serve();
    });
  }
  limit_timer_->set(wait);
  return false;
}

std::uint32_t PmemDevice::answer(const virtio::DescriptorChain& chain, std::uint32_t status) const {
  return static_cast<std::uint32_t>(copy_to(chain.writable, 0, bytes_of(le32(status))));
}

bool PmemDevice::bring_to_disk() {
  flushes_.add();
  if (file_->read_only() || sync_(file_->fd()) == 0) return true;
  errors_.add();
  if (!std::exchange(failure_told_, true))
    log_.error("pmem '" + path_ + "': the host cannot bring it to its disk: " + std::strerror(errno));
  return false;
}

void PmemDevice::apply(const OptionValues& options) {
  limiter_.set(options.limit("bandwidth"), options.limit("ops"));
  if (service_) service_->call([this] { serve(); });
}

void PmemDevice::fields(StateVisitor& visitor) {
  visitor.same("address", region_.range.begin.value);
  visitor.same("size", region_.range.size);
}

std::vector<virtio::DeviceReport::Own> PmemDevice::report() const {
  return {{"flushes", flushes_.get()}, {"errors", errors_.get()}};
}

namespace {

constexpr OptionSpec pmem_options[] = {
    {.key = "path", .help = "the file, or a block device of the host", .required = true},
    {.key = "readonly",
     .type = OptionType::boolean,
     .help = "the guest may not write; several machines may share the file",
     .default_value = "off"},
    {.key = "bandwidth",
     .type = OptionType::limit,
     .help =
         "the most bytes flushed, where each flush is one of the whole file: SIZE[/MILLISECONDS][+BURST], "
         "like 1G (in each second) or 1G/100+10G",
     .default_value = "off",
     .live = true},
    {.key = "ops",
     .type = OptionType::limit,
     .help = "the most flushes, in the same way, like 100",
     .default_value = "off",
     .live = true},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  const PmemDevice::Settings settings{.what = std::string(values.what()),
                                      .path = values.text("path"),
                                      .bandwidth = values.limit("bandwidth"),
                                      .operations = values.limit("ops")};
  auto file = RawFile::open(settings.what + ".path", settings.path, values.flag("readonly"));
  if (!file->locked())
    context.log.warning(settings.what + " '" + settings.path +
                        "': the file system has no locks; nothing keeps it from being used twice");
  return std::make_unique<PmemDevice>(std::move(file), settings, context);
}

}  // namespace

constinit const DeviceKind pmem_kind{
    .name = "pmem",
    .help = "a file of the host as memory of the guest, /dev/pmemN (virtio)",
    .options = pmem_options,
    .create = DeviceKind::VirtioFactory{create},
    .brings_memory = true,
};

}  // namespace hum
