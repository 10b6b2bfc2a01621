// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "vmm/bus/register_window.h"

namespace hum {

// One address space of exits: the ports, or the physical addresses that are not RAM. Any thread may call any
// function. A window may be moved or unmapped from inside an access to another window (a BAR by a write to
// configuration space).
class AddressDecoder {
  struct Entry;

 public:
  // A place in the decoder; unmaps it when destroyed. Destroyed before the decoder and before the window; the
  // owner makes sure that no vCPU is inside the window then (it is stopped, or the device is detached).
  class Mapping {
   public:
    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    ~Mapping() { unmap(); }

    void unmap();
    explicit operator bool() const { return decoder_ != nullptr; }

   private:
    friend class AddressDecoder;
    AddressDecoder* decoder_ = nullptr;
    std::list<Entry>::iterator entry_;
  };

  // How often a window was accessed.
  struct Count {
    std::string name;
    std::uint64_t reads;
    std::uint64_t writes;
  };

  AddressDecoder() = default;
  AddressDecoder(const AddressDecoder&) = delete;
  AddressDecoder& operator=(const AddressDecoder&) = delete;

  // name groups windows in counts(). Where windows overlap (a guest may place a
  // BAR anywhere), the one mapped first answers. The range must not wrap; size is not 0.
  [[nodiscard]] Mapping map(std::string_view name, std::uint64_t base, std::uint64_t size,
                            RegisterWindow& window);

  // False (and data left alone) where nothing is mapped. An access that crosses the end of a window is passed
  // with its full width; the window ignores what it does not know.
  bool read(std::uint64_t address, std::span<std::byte> data);
  bool write(std::uint64_t address, std::span<const std::byte> data);

  // Sums by name since construction, unmapped windows included.
  std::vector<Count> counts() const;

 private:
  struct Tally {
    std::string name;
    std::atomic<std::uint64_t> reads = 0;
    std::atomic<std::uint64_t> writes = 0;
  };
  struct Entry {
    std::uint64_t base;
    std::uint64_t size;
    RegisterWindow* window;
    Tally* tally;
  };

  struct Hit {
    RegisterWindow* window = nullptr;
    std::uint64_t offset = 0;
    Tally* tally = nullptr;
  };
  Hit find(std::uint64_t address) const;

  mutable std::shared_mutex mutex_;  // held for the look-up only, never while a window is called
  std::list<Entry> entries_;
  std::list<Tally> tallies_;
};

}  // namespace hum
