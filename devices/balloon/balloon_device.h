// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/balloon/balloon_wire.h"
#include "devices/queue_service.h"
#include "vmm/base/counter.h"
#include "vmm/base/fd.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// A memory balloon (virtio 1.2, 5.5): the guest gives up as much memory as the target says, or tells of free
// pages, and the host gets it back. Served by a thread of its own, since giving much back takes long. What
// the guest says of its memory is in the device's report.
class BalloonDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string what = "balloon";             // in errors
    std::uint64_t target = 0;                 // bytes, whole pages
    std::chrono::milliseconds statistics{0};  // from one to the next; 0: none
    bool deflate_on_oom = false;
    bool reporting = false;
    bool hinting = false;
    bool acknowledge = true;  // the guest has its hinted pages back as soon as it has hinted all
  };

  // What the guest tells of its memory, by the tag that it tells it with: names in the report, which has
  // those that the guest has told.
  static constexpr std::array<std::string_view, 16> statistic_names = {
      "swap_in",       "swap_out",         "major_faults", "minor_faults",        "free_memory",
      "total_memory",  "available_memory", "disk_caches",  "hugetlb_allocations", "hugetlb_failures",
      "oom_kill",      "alloc_stall",      "async_scan",   "direct_scan",         "async_reclaim",
      "direct_reclaim"};

  // memory outlives the device. Throws ConfigError (a target of no whole pages, or larger than the memory),
  // HostError.
  BalloonDevice(const Settings& settings, const GuestMemory& memory);
  ~BalloonDevice() override { deactivate(); }

  std::uint32_t type() const override { return 5; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void write_config(std::uint32_t offset, std::span<const std::byte> data) override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void apply(const OptionValues& options) override;
  // start-hinting: the guest is to tell once of all its free pages. stop-hinting: it has those back that it
  // has told of.
  void request(std::string_view verb) override;
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  struct Counters {
    Counter inflated_pages;
    Counter deflated_pages;
    Counter reported_bytes;
    Counter hinted_bytes;
    Counter returned_bytes;  // to the host
    Counter statistics_updates;
  };
  static constexpr std::size_t statistic_count = statistic_names.size();

  balloon_wire::ConfigSpace config() const;
  void check(const Settings& settings) const;
  void config_changed();

  // All below by the service's thread, but assign_queues.
  void assign_queues(std::uint64_t features, const std::vector<virtio::ActiveQueue>& queues);
  void serve(std::uint16_t index);
  void inflate(std::uint16_t index);
  void deflate(std::uint16_t index);
  void take_hints(std::uint16_t index);
  void take_reports(std::uint16_t index);
  void serve_statistics(std::uint16_t index, bool ask_anew);
  void ask_for_statistics();
  bool give_back(const virtio::DescriptorChain& numbers);
  void give_back(std::span<le32> numbers);
  bool give_back_hinted(const iovec& part);
  void take_hinting_command(std::uint32_t command);
  void take_statistics(const virtio::DescriptorChain& chain);

  const Settings settings_;  // those that change are kept below
  const GuestMemory& memory_;
  std::array<std::uint16_t, balloon_wire::queue_count> queue_sizes_;
  std::atomic<std::uint32_t> target_;
  std::atomic<std::uint32_t> actual_ = 0;
  std::atomic<std::uint32_t> poison_ = 0;
  std::atomic<std::uint32_t> host_command_ = balloon_wire::hinting_stop;
  std::uint64_t driver_features_ = 0;
  bool forgets_ = false;  // with the next driver, what the last one has told
  bool untold_ = false;   // the driver has not yet been told of a change of the configuration
  virtio::DeviceEvents* events_ = nullptr;  // while there is a service
  Counters counters_;

  // Pages are given back with it held, so that none goes any more once the guest may have them again.
  mutable std::mutex hinting_mutex_;  // guards changes of host_command_, and:
  bool acknowledge_;
  bool guest_spoke_ = false;  // there is a
  std::uint32_t guest_command_ = balloon_wire::hinting_stop;
  std::uint32_t last_round_ = balloon_wire::hinting_done;

  mutable std::mutex statistics_mutex_;  // guards:
  Timer timer_;
  std::chrono::milliseconds interval_;
  std::array<std::uint64_t, statistic_count> statistics_{};
  std::uint16_t told_ = 0;  // a bit for each statistic

  std::array<std::optional<std::uint16_t>, balloon_wire::queue_count> place_of_;  // of the queues, by purpose
  std::unique_ptr<QueueService> service_;
};

extern const DeviceKind balloon_kind;

}  // namespace hum
