// SPDX-License-Identifier: Apache-2.0
#include "devices/balloon/balloon_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "devices/config_space.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace balloon_wire;

namespace {

constexpr std::uint16_t queue_size = 128;

// So much of an array of the driver's is looked at in one go.
constexpr std::size_t most_numbers = 1024;
// There are 16, and some to come.
constexpr std::size_t most_statistics = 64;

constexpr std::string_view start_hinting = "start-hinting";
constexpr std::string_view stop_hinting = "stop-hinting";

BalloonDevice::Settings settings_of(const OptionValues& values) {
  return {.what = std::string(values.what()),
          .target = values.number("target"),
          .statistics = std::chrono::seconds(values.number("statistics")),
          .deflate_on_oom = values.flag("deflate-on-oom"),
          .reporting = values.flag("reporting"),
          .hinting = values.flag("hinting"),
          .acknowledge = values.flag("hinting-acknowledge")};
}

std::uint32_t pages_of(std::uint64_t bytes) {
  return static_cast<std::uint32_t>(bytes / page_bytes);
}

}  // namespace

BalloonDevice::BalloonDevice(const Settings& settings, const GuestMemory& memory)
    : settings_(settings),
      memory_(memory),
      target_(pages_of(settings.target)),
      acknowledge_(settings.acknowledge),
      interval_(settings.statistics) {
  check(settings);
  queue_sizes_.fill(queue_size);
}

void BalloonDevice::check(const Settings& settings) const {
  const std::string key = settings.what + ".target";
  if (settings.target > memory_.size())
    throw ConfigError(key, format_size(settings.target), "is more than the guest's memory",
                      "give at most " + format_size(memory_.size()));
  if (settings.target % page_bytes != 0)
    throw ConfigError(key, format_size(settings.target), "is not a multiple of 4096 bytes");
}

// Without PAGE_POISON a driver whose system fills its free pages would not report them.
std::uint64_t BalloonDevice::features() const {
  return (settings_.deflate_on_oom ? feature_deflate_on_oom : 0) |
         (settings_.statistics.count() != 0 ? feature_statistics : 0) |
         (settings_.hinting ? feature_hinting | feature_poison : 0) |
         (settings_.reporting ? feature_reporting | feature_poison : 0);
}

ConfigSpace BalloonDevice::config() const {
  return {target_.load(), actual_.load(), host_command_.load(), poison_.load()};
}

void BalloonDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  read_config_space(bytes_of(config()), offset, data);
}

void BalloonDevice::write_config(std::uint32_t offset, std::span<const std::byte> data) {
  ConfigSpace space = config();
  const std::span<std::byte> bytes = writable_bytes_of(space);
  if (offset >= bytes.size()) return;
  std::memcpy(bytes.data() + offset, data.data(), std::min(data.size(), bytes.size() - offset));
  actual_ = space.actual;
  poison_ = space.poison;
}

void BalloonDevice::activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                             virtio::DeviceEvents& events) {
  driver_features_ = driver_features;
  assign_queues(driver_features, queues);
  if (std::exchange(forgets_, false)) {
    const std::lock_guard lock(statistics_mutex_);
    told_ = 0;
    actual_ = 0;
  }
  service_ = std::make_unique<QueueService>("balloon", std::move(queues), events);
  events_ = &events;
  service_->call([this] {
    service_->watch(timer_.fd(), EventLoop::Interest::readable, [this] { ask_for_statistics(); });
  });
  if (place_of_[statistics_queue]) {
    const std::lock_guard lock(statistics_mutex_);
    timer_.set(interval_);
  }
  service_->start([this](std::uint16_t index) { serve(index); });
  if (std::exchange(untold_, false)) events.config_changed();
}

// What the last driver has told stays in the report until there is another.
void BalloonDevice::deactivate() {
  suspend();
  timer_.stop();
  driver_features_ = 0;
  poison_ = 0;
  forgets_ = true;
  untold_ = false;
  const std::lock_guard lock(hinting_mutex_);
  host_command_ = hinting_stop;
  guest_spoke_ = false;
}

std::vector<virtio::ActiveQueue> BalloonDevice::suspend() {
  std::vector<virtio::ActiveQueue> queues = QueueService::end(service_);
  events_ = nullptr;
  return queues;
}

// 5.5.2 has a number for each queue; Linux numbers those that there are, without gaps.
void BalloonDevice::assign_queues(std::uint64_t features, const std::vector<virtio::ActiveQueue>& queues) {
  constexpr std::array optional = {std::pair(statistics_queue, feature_statistics),
                                   std::pair(hinting_queue, feature_hinting),
                                   std::pair(reporting_queue, feature_reporting)};
  const auto enabled = [&](std::uint16_t index) {
    return std::any_of(queues.begin(), queues.end(), [&](const auto& each) { return each.index == index; });
  };
  const bool with_gaps = std::all_of(optional.begin(), optional.end(), [&](const auto& each) {
    return (features & each.second) == 0 || enabled(each.first);
  });
  place_of_ = {inflate_queue, deflate_queue};
  std::uint16_t next = statistics_queue;
  for (const auto& [queue, feature] : optional)
    if ((features & feature) != 0) place_of_[queue] = with_gaps ? queue : next++;
}

void BalloonDevice::serve(std::uint16_t index) {
  if (index == place_of_[inflate_queue]) return inflate(index);
  if (index == place_of_[deflate_queue]) return deflate(index);
  if (index == place_of_[statistics_queue]) return serve_statistics(index, false);
  if (index == place_of_[hinting_queue]) return take_hints(index);
  if (index == place_of_[reporting_queue]) return take_reports(index);
}

// A request that the end of the service interrupts is done again by the next: the pages are still the
// device's.
void BalloonDevice::inflate(std::uint16_t index) {
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(index);
    if (!give_back(chain)) {
      queue.undo_pop();
      return false;
    }
    counters_.inflated_pages.add(chain.readable_bytes / sizeof(le32));
    queue.push(chain.head, 0);
    return true;
  });
}

// The pages have memory again when the guest writes to them.
void BalloonDevice::deflate(std::uint16_t index) {
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    counters_.deflated_pages.add(chain.readable_bytes / sizeof(le32));
    service_->queue(index)->push(chain.head, 0);
    return true;
  });
}

// False: the service ends.
bool BalloonDevice::give_back(const virtio::DescriptorChain& chain) {
  std::array<le32, most_numbers> numbers;
  std::size_t offset = 0;
  while (!service_->stopping()) {
    const std::size_t bytes = copy_from(chain.readable, offset, std::as_writable_bytes(std::span(numbers)));
    give_back(std::span(numbers).first(bytes / sizeof(le32)));
    if (bytes < sizeof numbers) return true;
    offset += bytes;
  }
  return false;
}

// As few ranges as possible, in whatever order the pages come.
void BalloonDevice::give_back(std::span<le32> numbers) {
  std::sort(numbers.begin(), numbers.end());
  for (auto first = numbers.begin(); first != numbers.end();) {
    auto last = first;
    while (std::next(last) != numbers.end() && *std::next(last) - *last <= 1) ++last;
    const std::uint64_t pages = *last - *first + 1ull;
    counters_.returned_bytes.add(memory_.discard({{*first * page_bytes}, pages * page_bytes}));
    first = std::next(last);
  }
}

// 5.5.6.7. Pages that the guest has filled with something are to keep it.
void BalloonDevice::take_reports(std::uint16_t index) {
  const bool keep = (driver_features_ & feature_poison) != 0 && poison_ != 0;
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(index);
    for (const iovec& part : chain.writable) {
      if (service_->stopping()) {
        queue.undo_pop();
        return false;
      }
      if (!keep) counters_.returned_bytes.add(memory_.discard(part));
    }
    counters_.reported_bytes.add(chain.writable_bytes);
    queue.push(chain.head, 0);
    return true;
  });
}

// 5.5.6.5. A buffer is a command, or pages.
void BalloonDevice::take_hints(std::uint16_t index) {
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(index);
    le32 command;
    if (copy_from(chain.readable, 0, writable_bytes_of(command)) == sizeof command)
      take_hinting_command(command);
    for (const iovec& part : chain.writable)
      if (!give_back_hinted(part)) {
        queue.undo_pop();
        return false;
      }
    counters_.hinted_bytes.add(chain.writable_bytes);
    queue.push(chain.head, 0);
    return true;
  });
}

// False: the service ends.
bool BalloonDevice::give_back_hinted(const iovec& part) {
  if (service_->stopping()) return false;
  const std::lock_guard lock(hinting_mutex_);
  const std::uint32_t host_command = host_command_;
  if (host_command >= first_hinting_round && guest_spoke_ && guest_command_ == host_command)
    counters_.returned_bytes.add(memory_.discard(part));
  return true;
}

void BalloonDevice::take_hinting_command(std::uint32_t command) {
  {
    const std::lock_guard lock(hinting_mutex_);
    const bool ends = command == hinting_stop && guest_spoke_ && guest_command_ == host_command_;
    guest_spoke_ = true;
    guest_command_ = command;
    if (!ends || !acknowledge_) return;
    host_command_ = hinting_done;
  }
  events_->config_changed();
}

// 5.5.6.3: the device keeps the driver's buffer until it wants to know more. Here that is in the queue, so
// that none is with the device at a pause.
void BalloonDevice::serve_statistics(std::uint16_t index, bool ask_anew) {
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(index);
    if (std::exchange(ask_anew, false)) {
      queue.push(chain.head, 0);
      return true;
    }
    take_statistics(chain);
    queue.undo_pop();
    return false;
  });
}

void BalloonDevice::ask_for_statistics() {
  {
    const std::lock_guard lock(statistics_mutex_);
    timer_.set(interval_);
  }
  if (const auto index = place_of_[statistics_queue]) serve_statistics(*index, true);
}

void BalloonDevice::take_statistics(const virtio::DescriptorChain& chain) {
  std::array<Statistic, most_statistics> given;
  const std::size_t bytes = copy_from(chain.readable, 0, std::as_writable_bytes(std::span(given)));
  const std::lock_guard lock(statistics_mutex_);
  for (const Statistic& each : std::span(given).first(bytes / sizeof(Statistic))) {
    if (each.tag >= statistic_count) continue;
    statistics_[each.tag] = load_le(each.value);
    told_ |= static_cast<std::uint16_t>(1u << each.tag);
  }
  counters_.statistics_updates.add();
}

// While the device is not active its driver learns of it when it is again.
void BalloonDevice::config_changed() {
  if (events_ != nullptr)
    events_->config_changed();
  else
    untold_ = true;
}

void BalloonDevice::apply(const OptionValues& options) {
  const Settings next = settings_of(options);
  check(next);
  if ((next.statistics.count() == 0) != (settings_.statistics.count() == 0))
    throw ConfigError(
        next.what + ".statistics", std::to_string(options.number("statistics")),
        "statistics cannot be turned on or off while the VM runs",
        settings_.statistics.count() == 0 ? "ask for them before the start" : "give 1 or more seconds");
  {
    const std::lock_guard lock(hinting_mutex_);
    acknowledge_ = next.acknowledge;
  }
  {
    const std::lock_guard lock(statistics_mutex_);
    if (interval_ != next.statistics && events_ != nullptr && place_of_[statistics_queue])
      timer_.set(next.statistics);
    interval_ = next.statistics;
  }
  const std::uint32_t pages = pages_of(next.target);
  if (target_.exchange(pages) != pages) config_changed();
}

void BalloonDevice::request(std::string_view verb) {
  if (verb != start_hinting && verb != stop_hinting) return VirtioDevice::request(verb);
  if (!settings_.hinting)
    throw ConfigError(settings_.what, std::string(verb), "the device has no hinting",
                      "give it hinting=on before the start");
  if ((driver_features_ & feature_hinting) == 0)
    throw ConfigError(settings_.what, std::string(verb), "the guest has no driver that does that",
                      "wait for the guest's start");
  {
    const std::lock_guard lock(hinting_mutex_);
    if (verb == start_hinting)
      host_command_ = last_round_ = std::max(last_round_ + 1, first_hinting_round);
    else
      host_command_ = hinting_done;
  }
  config_changed();
}

void BalloonDevice::fields(StateVisitor& visitor) {
  visitor.number("target", target_, pages_of(memory_.size()));
  visitor.number("actual", actual_);
  visitor.number("poison", poison_);
  visitor.number("host-command", host_command_);
  visitor.number("last-round", last_round_);
  visitor.flag("guest-spoke", guest_spoke_);
  visitor.number("guest-command", guest_command_);
  visitor.bytes("statistics", std::as_writable_bytes(std::span(statistics_)));
  visitor.number("told", told_);
  visitor.flag("forgets", forgets_);
  visitor.flag("untold", untold_);
}

std::vector<virtio::DeviceReport::Own> BalloonDevice::report() const {
  std::vector<virtio::DeviceReport::Own> rows = {{"inflated_pages", counters_.inflated_pages.get()},
                                                 {"deflated_pages", counters_.deflated_pages.get()},
                                                 {"reported_bytes", counters_.reported_bytes.get()},
                                                 {"hinted_bytes", counters_.hinted_bytes.get()},
                                                 {"returned_bytes", counters_.returned_bytes.get()},
                                                 {"statistics_updates", counters_.statistics_updates.get()},
                                                 {"target_pages", target_.load()},
                                                 {"actual_pages", actual_.load()}};
  {
    const std::lock_guard lock(hinting_mutex_);
    if (settings_.hinting) rows.push_back({"host_cmd", host_command_.load()});
    if (guest_spoke_) rows.push_back({"guest_cmd", guest_command_});
  }
  const std::lock_guard lock(statistics_mutex_);
  for (std::size_t tag = 0; tag < statistic_count; ++tag)
    if ((told_ >> tag & 1) != 0) rows.push_back({statistic_names[tag], statistics_[tag]});
  return rows;
}

namespace {

constexpr OptionSpec balloon_options[] = {
    {.key = "target",
     .type = OptionType::size,
     .help = "how much of its memory the guest shall give up",
     .default_value = "0",
     .live = true},
    {.key = "deflate-on-oom",
     .type = OptionType::boolean,
     .help = "the guest may take memory back before it kills a program",
     .default_value = "off"},
    {.key = "statistics",
     .type = OptionType::integer,
     .help = "seconds after which the guest tells of its memory again; 0: never",
     .default_value = "0",
     .maximum = 65535,
     .live = true},
    {.key = "reporting",
     .type = OptionType::boolean,
     .help = "the guest gives free pages back by itself",
     .default_value = "off"},
    {.key = "hinting",
     .type = OptionType::boolean,
     .help = "the guest gives free pages back when it is asked to",
     .default_value = "off"},
    {.key = "hinting-acknowledge",
     .type = OptionType::boolean,
     .help = "the guest has such pages again as soon as it has told of all",
     .default_value = "on",
     .live = true},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  return std::make_unique<BalloonDevice>(settings_of(values), context.memory);
}

}  // namespace

constinit const DeviceKind balloon_kind{
    .name = "balloon",
    .help = "memory that the guest gives back to the host (virtio)",
    .options = balloon_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
