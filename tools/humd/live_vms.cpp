// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/live_vms.h"

#include <unistd.h>

#include <utility>

namespace hum {

using boost::asio::posix::stream_descriptor;

void LiveVms::add(std::int64_t id, VmmProcess process, Fd ready) {
  auto& live = processes_[id] = std::make_unique<Live>(context_, std::move(process), ++last_serial_);
  watch(id);
  if (!ready) return;
  live->ready_pipe.emplace(context_, ready.release());
  watch_pipe(id);
}

LiveVms::Live* LiveVms::live_of(std::int64_t id, std::uint64_t serial) {
  const auto found = processes_.find(id);
  return found == processes_.end() || found->second->serial != serial ? nullptr : found->second.get();
}

void LiveVms::watch(std::int64_t id) {
  Live& of_id = *processes_[id];
  of_id.watch.async_wait(stream_descriptor::wait_read, [this, id, serial = of_id.serial](const auto& error) {
    Live* const live = live_of(id, serial);
    if (error || live == nullptr) return;
    // An event of a descriptor that had this number before may come late.
    if (!live->process.ended()) return watch(id);
    live->ended = true;
    live->process.reap();
    on_end_(id);
  });
}

void LiveVms::watch_pipe(std::int64_t id) {
  Live& of_id = *processes_[id];
  of_id.ready_pipe->async_wait(stream_descriptor::wait_read,
                               [this, id, serial = of_id.serial](const auto& error) {
                                 Live* const live = live_of(id, serial);
                                 if (error || live == nullptr) return;
                                 char word = 0;
                                 live->ready = ::read(live->ready_pipe->native_handle(), &word, 1) == 1;
                                 live->ready_pipe.reset();
                                 on_told_(id);
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

bool LiveVms::may_tell(std::int64_t id) const {
  const auto found = processes_.find(id);
  return found != processes_.end() && found->second->ready_pipe.has_value();
}

bool LiveVms::is_ready(std::int64_t id) const {
  const auto found = processes_.find(id);
  return found != processes_.end() && found->second->ready;
}

}  // namespace hum
