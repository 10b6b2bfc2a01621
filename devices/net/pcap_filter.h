// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "devices/net/frame_filter.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

namespace hum {

// Writes what crosses an interface, both directions, to a file that tcpdump, tshark and Wireshark read. Lets
// every frame pass, so it belongs at the end of the chain. Frames are written as they cross: one that is
// still to be segmented (GSO) is one, and checksums may be missing.
//
// Threads add to a buffer under a lock, which a thread of this filter's own writes out, at most a second
// late and at the end. The data path never waits for the file: what a slow one (a pipe) has no time for is
// missing, which the log says at the end; at a full disk the capture ends with one warning.
class PcapFilter final : public FrameFilter {
 public:
  struct Settings {
    std::string what = "net.pcap";  // in errors
    std::string path;
    std::size_t buffer_bytes = 4 << 20;  // of two buffers each
    std::chrono::milliseconds latest{1000};
  };

  // A file that is there is emptied (a link is followed), a new one is the user's alone; a pipe must have its
  // reader. log outlives the filter. Throws ConfigError, HostError.
  PcapFilter(const Settings& settings, const Log& log);
  ~PcapFilter() override;
  PcapFilter(const PcapFilter&) = delete;
  PcapFilter& operator=(const PcapFilter&) = delete;

  bool idle() const override { return !capturing_.load(std::memory_order_relaxed); }
  Answer decide(Direction direction, const Frame& frame) override;

 private:
  void add(const Frame& frame);
  void run();
  void write_out();
  bool wait_for_room() const;
  void give_up(int error, std::size_t written);

  const std::string name_;  // of option and file, in messages
  const Log& log_;
  const std::size_t buffer_bytes_;
  const std::chrono::milliseconds latest_;
  Fd file_;
  EventFd wake_;
  std::atomic<bool> capturing_ = true;
  std::atomic<bool> ending_ = false;
  std::mutex mutex_;                // guards the three below
  std::vector<std::byte> filling_;  // whole records, at most buffer_bytes_
  bool asked_ = false;              // the writer, to come before its time
  std::uint64_t missing_ = 0;       // frames
  std::vector<std::byte> writing_;  // the thread's own
  std::thread thread_;              // last: ends before what it uses
};

}  // namespace hum
