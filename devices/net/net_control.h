// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "devices/net/mac_address.h"
#include "devices/net/net_path.h"
#include "vmm/base/counter.h"
#include "vmm/base/state.h"
#include "vmm/virtio/virt_queue.h"

namespace hum {

// What the driver of an interface has set by commands of its control queue (virtio 1.2, 5.1.6.5), until a
// reset. All calls are one at a time, but those of mac and the announcement's, which any thread may make.
class NetControl {
 public:
  // path outlives this.
  NetControl(NetPath& path, const MacAddress& own);

  // A driver with these features begins, or goes on after a pause: tells the path what is set. Throws
  // HostError.
  void begin(std::uint64_t driver_features);
  // The driver is gone.
  void reset();

  // Carries out a command and writes its answer; returns the bytes written.
  std::uint32_t obey(const virtio::DescriptorChain& command);

  MacAddress mac() const;
  const MacAddress& own() const { return own_; }  // what mac is after a reset
  // The driver shall tell the network where it is (5.1.6.5.4): wanted until it says that it has, or never
  // where it cannot.
  bool wants_announcement() const { return announce_; }
  void want_announcement();

  // Commands that were answered with an error.
  std::uint64_t errors() const { return errors_.get(); }

  void fields(StateVisitor& visitor);

 private:
  class Data;

  // The driver's receive filter. It may have more addresses than there is room for: all are let through then.
  struct Filter {
    ReceiveRules rules;
    bool unicast_full = false;
    bool multicast_full = false;
  };

  bool carry_out(Data data);
  bool set_receive_mode(std::uint8_t mode, Data& data);
  bool set_mac(std::uint8_t command, Data& data);
  bool set_pairs(Data& data);
  bool set_offloads(Data& data);
  void set_filter(Filter filter);
  void show_filter();
  bool has(std::uint64_t feature) const { return (features_ & feature) == feature; }

  NetPath& path_;
  MacAddress own_;  // after a reset
  std::atomic<std::uint64_t> features_ = 0;
  mutable std::mutex mutex_;  // guards filter_ against mac
  Filter filter_;
  std::uint16_t pairs_ = 1;
  std::uint64_t offloads_off_ = 0;  // of those that were negotiated
  std::atomic<bool> announce_ = false;
  Counter errors_;
};

}  // namespace hum
