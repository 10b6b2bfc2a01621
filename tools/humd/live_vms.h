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

namespace hum {

// The VMM processes that are known to live, by the VM's number: started by this daemon or adopted. Belongs to
// the logic's thread.
class LiveVms {
 public:
  // on_end: called with the number of a VM whose process has ended; it is still there then.
  LiveVms(boost::asio::io_context& context, std::function<void(std::int64_t)> on_end)
      : context_(context), on_end_(std::move(on_end)) {}

  // Watches it until it is removed. There is none of that number yet.
  void add(std::int64_t id, VmmProcess process);
  void remove(std::int64_t id) { processes_.erase(id); }

  // None: no process of that number is known.
  VmmProcess* find(std::int64_t id);
  bool has_ended(std::int64_t id) const;
  std::size_t size() const { return processes_.size(); }

 private:
  struct Live {
    Live(boost::asio::io_context& context, VmmProcess its_process, std::uint64_t its_serial)
        : process(std::move(its_process)), watch(context, process.fd()), serial(its_serial) {}
    ~Live() { watch.release(); }  // the process's own
    VmmProcess process;
    boost::asio::posix::stream_descriptor watch;
    std::uint64_t serial;
    bool ended = false;
  };

  void watch(std::int64_t id);

  boost::asio::io_context& context_;
  std::function<void(std::int64_t)> on_end_;
  std::map<std::int64_t, std::unique_ptr<Live>> processes_;
  std::uint64_t last_serial_ = 0;
};

}  // namespace hum
