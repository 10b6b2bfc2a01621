// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "tools/http/api_stream.h"
#include "tools/hum/stdio_console.h"
#include "vmm/base/console_hub.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"

namespace hum {

// What stands in a console's output where a reader has missed so many bytes.
std::string console_gap(std::uint64_t lost);

// A VM's console for clients of the API: any number of readers, who begin with what the console still has,
// and one writer at a time. Nobody of them makes the guest wait: a reader who is slow is told how much it has
// missed. The maker, open, end and the destructor belong to one thread; the streams go whenever their
// connections do, but before the service.
class ConsoleService {
 public:
  static constexpr std::size_t most_waiting = 256 * 1024;  // bytes, for a client

  // hub outlives the service.
  explicit ConsoleService(ConsoleHub& hub) : hub_(hub) {}
  ~ConsoleService();
  ConsoleService(const ConsoleService&) = delete;
  ConsoleService& operator=(const ConsoleService&) = delete;

  // Null: it would write, and another one does. Throws HostError.
  std::shared_ptr<ApiStream> open(bool writes);
  // The guest writes no more.
  void end();

 private:
  class Stream;

  void open_input();

  ConsoleHub& hub_;
  bool ended_ = false;
  std::mutex mutex_;  // guards the two below
  std::set<Stream*> streams_;
  bool has_writer_ = false;
  // From the first writer on. What is written goes through a pipe: the guest may make the console wait, and
  // neither the server nor the VM's thread waits with it.
  Fd input_end_;
  Fd written_end_;
  std::optional<IoThread> thread_;
  std::optional<ConsoleInput> input_;
};

}  // namespace hum
