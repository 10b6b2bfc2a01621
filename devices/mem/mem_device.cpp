// SPDX-License-Identifier: Apache-2.0
#include "devices/mem/mem_device.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "devices/config_space.h"
#include "devices/mem/mem_wire.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace mem_wire;

namespace {

// Linux plugs pieces of up to 2 GiB at multiples of their size.
constexpr std::uint64_t alignment = std::uint64_t{2} << 30;
constexpr std::uint64_t smallest_block = 2 << 20;
constexpr std::uint64_t largest_total = std::uint64_t{1} << 46;

void check_requested(const std::string& what, std::uint64_t requested, const PluggedMemory::Layout& layout) {
  if (requested > layout.total)
    throw ConfigError(what + ".requested", format_size(requested), "is more than the total",
                      "give at most " + format_size(layout.total));
  if (requested % layout.block_size != 0)
    throw ConfigError(what + ".requested", format_size(requested), "is no whole number of blocks",
                      "give a multiple of " + format_size(layout.block_size));
}

const MemDevice::Settings& checked(const MemDevice::Settings& settings) {
  MemDevice::check_layout(settings.what, settings.layout);
  check_requested(settings.what, settings.requested, settings.layout);
  return settings;
}

MemoryRegion place(const MemDevice::Settings& settings, DeviceContext& context) {
  const auto& [total, slot_size, block_size] = settings.layout;
  // As RAM: what other processes shall map is a file.
  const bool shared = context.memory.regions().front().fd >= 0;
  return context.device_memory.place({.key = settings.what + ".total",
                                      .value = format_size(total),
                                      .size = total,
                                      .alignment = std::max(alignment, block_size),
                                      .block_size = block_size},
                                     [&] { return HostMemory::zeroes(total, {.shared = shared}); });
}

}  // namespace

void MemDevice::check_layout(const std::string& what, const PluggedMemory::Layout& layout) {
  const auto& [total, slot_size, block_size] = layout;
  if (!std::has_single_bit(block_size) || block_size < smallest_block)
    throw ConfigError(what + ".block-size", format_size(block_size), "not accepted",
                      "give a power of two from 2M on");
  if (slot_size == 0 || slot_size % block_size != 0)
    throw ConfigError(what + ".slot-size", format_size(slot_size), "is no whole number of blocks",
                      "give a multiple of " + format_size(block_size));
  if (total == 0 || total % slot_size != 0)
    throw ConfigError(what + ".total", format_size(total), "is no whole number of slots",
                      "give a multiple of " + format_size(slot_size));
}

MemDevice::MemDevice(const Settings& settings, DeviceContext& context)
    : device_memory_(context.device_memory),
      memory_(std::make_unique<PluggedMemory>(place(checked(settings), context), settings.layout,
                                              context.device_memory.slots(), context.log)) {
  memory_->request(settings.requested);
}

MemDevice::~MemDevice() {
  deactivate();
  const GuestRange range = memory_->region().range;
  memory_.reset();
  device_memory_.give_back(range);
}

// A driver that does not accept it may read what is unplugged, and can: zeroes, or all ones where there is no
// slot.
std::uint64_t MemDevice::features() const {
  return feature_unplugged_inaccessible;
}

void MemDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  const PluggedMemory::Sizes sizes = memory_->sizes();
  ConfigSpace space = {};
  space.block_size = memory_->layout().block_size;
  space.address = memory_->region().range.begin.value;
  space.region_size = memory_->layout().total;
  space.usable_region_size = sizes.usable;
  space.plugged_size = sizes.plugged;
  space.requested_size = sizes.requested;
  read_config_space(bytes_of(space), offset, data);
}

void MemDevice::activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                         virtio::DeviceEvents& events) {
  events_ = &events;
  if (std::exchange(change_untold_, false)) events.config_changed();
  service_ = std::make_unique<QueueService>("mem", std::move(queues), events);
  service_->start([this](std::uint16_t index) {
    service_->drain(index, [&](virtio::DescriptorChain& chain) {
      service_->queue(index)->push(chain.head, serve(chain));
      return true;
    });
  });
}

void MemDevice::deactivate() {
  suspend();
  events_ = nullptr;
}

std::vector<virtio::ActiveQueue> MemDevice::suspend() {
  return QueueService::end(service_);
}

std::uint32_t MemDevice::serve(const virtio::DescriptorChain& chain) {
  using Answer = PluggedMemory::Answer;
  if (chain.writable_bytes < sizeof(Response)) throw GuestError("a request has no room for its answer");
  Request request{};
  const bool whole =
      copy_from(chain.readable, 0, std::as_writable_bytes(std::span(&request, 1))) == sizeof request;
  const GuestAddress address{request.address};
  Answer answer = Answer::wrong;
  Response response{};
  if (whole && request.type == type_plug) {
    answer = memory_->plug(address, request.blocks);
    if (answer == Answer::done) plugs_.add();
  } else if (whole && request.type == type_unplug) {
    answer = memory_->unplug(address, request.blocks);
    if (answer == Answer::done) unplugs_.add();
  } else if (whole && request.type == type_unplug_all) {
    memory_->unplug_all();
    unplugs_.add();
    answer = Answer::done;
  } else if (whole && request.type == type_state) {
    if (const auto state = memory_->state(address, request.blocks)) {
      response.state = static_cast<std::uint16_t>(*state);
      answer = Answer::done;
    }
  }
  if (answer != Answer::done) refusals_.add();
  response.type = static_cast<std::uint16_t>(answer);
  return static_cast<std::uint32_t>(copy_to(chain.writable, 0, bytes_of(response)));
}

void MemDevice::apply(const OptionValues& options) {
  const std::uint64_t requested = options.number("requested");
  check_requested(std::string(options.what()), requested, memory_->layout());
  if (requested == memory_->sizes().requested) return;
  memory_->request(requested);
  if (events_ != nullptr)
    events_->config_changed();
  else
    change_untold_ = true;
}

void MemDevice::fields(StateVisitor& visitor) {
  memory_->fields(visitor);
  visitor.flag("untold", change_untold_);
}

std::vector<virtio::DeviceReport::Own> MemDevice::report() const {
  const PluggedMemory::Sizes sizes = memory_->sizes();
  return {{"plugged_bytes", sizes.plugged},
          {"requested_bytes", sizes.requested},
          {"plugs", plugs_.get()},
          {"unplugs", unplugs_.get()},
          {"refusals", refusals_.get()}};
}

namespace {

constexpr OptionSpec mem_options[] = {
    {.key = "total",
     .type = OptionType::size,
     .help = "the most memory that can be plugged; its addresses are set aside, and no memory",
     .required = true,
     .minimum = smallest_block,
     .maximum = largest_total},
    {.key = "requested",
     .type = OptionType::size,
     .help = "how much the guest shall plug",
     .default_value = "0",
     .maximum = largest_total,
     .live = true},
    {.key = "slot-size",
     .type = OptionType::size,
     .help = "the pieces in which the guest's processors get at the memory",
     .default_value = "128M",
     .minimum = smallest_block,
     .maximum = largest_total},
    {.key = "block-size",
     .type = OptionType::size,
     .help = "the pieces in which memory is plugged and unplugged; a power of two",
     .default_value = "2M",
     .minimum = smallest_block,
     .maximum = largest_total},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  return std::make_unique<MemDevice>(
      MemDevice::Settings{.what = std::string(values.what()),
                          .layout = {.total = values.number("total"),
                                     .slot_size = values.number("slot-size"),
                                     .block_size = values.number("block-size")},
                          .requested = values.number("requested")},
      context);
}

}  // namespace

constinit const DeviceKind mem_kind{
    .name = "mem",
    .help = "memory that is plugged and unplugged while the machine runs (virtio-mem)",
    .options = mem_options,
    .create = DeviceKind::VirtioFactory{create},
    .brings_memory = true,
};

}  // namespace hum
