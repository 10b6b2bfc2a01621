// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/live_vms.h"

#include <utility>

namespace hum {

void LiveVms::add(std::int64_t id, VmmProcess process) {
  processes_[id] = std::make_unique<Live>(context_, std::move(process), ++last_serial_);
  watch(id);
}

void LiveVms::watch(std::int64_t id) {
  Live& live = *processes_[id];
  live.watch.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                        [this, id, serial = live.serial](const boost::system::error_code& error) {
                          const auto found = processes_.find(id);
                          if (error || found == processes_.end() || found->second->serial != serial)
                            return;  // it was removed
                          // An event of a descriptor that had this number before may come late.
                          if (!found->second->process.ended()) return watch(id);
                          found->second->ended = true;
                          found->second->process.reap();
                          on_end_(id);
                        });
}

VmmProcess* LiveVms::find(std::int64_t id) {
  const auto found = processes_.find(id);
  return found == processes_.end() ? nullptr : &found->second->process;
}

bool LiveVms::has_ended(std::int64_t id) const {
  const auto found = processes_.find(id);
  return found == processes_.end() || found->second->ended;
}

}  // namespace hum
