// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "tools/humd/vmm_process.h"
#include "vmm/base/fd.h"

namespace hum {

// The VMM processes that are known to live, by the VM's number: started by this daemon or adopted. Belongs to
// the logic's thread.
class LiveVms {
 public:
  using Told = std::function<void(std::int64_t)>;

  // on_end: called with the number of a VM whose process has ended; it is still there then. on_told: of one
  // that has told that it is ready, or will not.
  LiveVms(boost::asio::io_context& context, Told on_end, Told on_told = {})
      : context_(context), on_end_(std::move(on_end)), on_told_(std::move(on_told)) {}

  // Watches it until it is removed. There is none of that number yet. ready: a pipe that the process writes
  // to when it is ready.
  void add(std::int64_t id, VmmProcess process, Fd ready = {});
  void remove(std::int64_t id) { processes_.erase(id); }

  // None: no process of that number is known.
  VmmProcess* find(std::int64_t id);
  bool has_ended(std::int64_t id) const;
  // Whether the process has told that it is ready; whether that may still come.
  bool is_ready(std::int64_t id) const;
  bool may_tell(std::int64_t id) const;
  std::size_t size() const { return processes_.size(); }

 private:
  struct Live {
    Live(boost::asio::io_context& context, VmmProcess its_process, std::uint64_t its_serial)
        : process(std::move(its_process)), watch(context, process.fd()), serial(its_serial) {}
    ~Live() { watch.release(); }  // the process's own
    VmmProcess process;
    boost::asio::posix::stream_descriptor watch;
    std::optional<boost::asio::posix::stream_descriptor> ready_pipe;
    std::uint64_t serial;
    bool ended = false;
    bool ready = false;
  };

  void watch(std::int64_t id);
  void watch_pipe(std::int64_t id);
  // Null: it was removed, and there may be another of its number.
  Live* live_of(std::int64_t id, std::uint64_t serial);

  boost::asio::io_context& context_;
  Told on_end_;
  Told on_told_;
  std::map<std::int64_t, std::unique_ptr<Live>> processes_;
  std::uint64_t last_serial_ = 0;
};

}  // namespace hum
