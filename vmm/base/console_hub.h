// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/counter.h"
#include "vmm/base/state.h"

namespace hum {

// The machine's console between the guest's serial port and everybody who looks at it: a ring with the last
// output, any number of readers, one source of input. Every function from any thread. Output never waits for
// a reader: readers are called in order with each piece, and must not block for long.
class ConsoleHub {
 public:
  using Reader = std::function<void(std::span<const std::byte>)>;
  using InputReady = std::function<void()>;

  // scrollback: bytes of output kept.
  explicit ConsoleHub(std::size_t scrollback = 64 * 1024) : capacity_(scrollback) {}

  // A reader's place; ends it when destroyed (no call is under way after that).
  class Subscription {
   public:
    Subscription() = default;
    Subscription(Subscription&& other) noexcept;
    Subscription& operator=(Subscription&& other) noexcept;
    ~Subscription();

   private:
    friend class ConsoleHub;
    ConsoleHub* hub_ = nullptr;
    std::list<Reader>::iterator reader_;
  };

  // Calls reader with what the ring holds (if replay) and then with every further piece of output. The reader
  // must not call the hub.
  [[nodiscard]] Subscription subscribe(Reader reader, bool replay = true);

  // The guest's output.
  void write(std::span<const std::byte> output);

  // Input for the guest; kept until the device takes it (bounded: false if there is no room now).
  bool send(std::span<const std::byte> input);
  // The device's side of the input: takes at most to.size() bytes.
  std::size_t take_input(std::span<std::byte> to);
  // Called, from the sender's thread, whenever input has become available. One device at a time; an empty
  // function ends it (no call is under way after that).
  void on_input(InputReady ready);

  // Bytes that have passed since the hub was made.
  struct Traffic {
    std::uint64_t output = 0;
    std::uint64_t input = 0;    // that the device has taken
    std::uint64_t dropped = 0;  // output that went nowhere
  };
  Traffic traffic() const { return {output_.get(), input_taken_.get(), dropped_.get()}; }
  // The guest has written something that its device did not pass on, being over its limit. One device.
  void drop(std::size_t bytes) { dropped_.add(bytes); }

  // The input that the device has not yet taken. While no device runs.
  void fields(StateVisitor& visitor);

  // The last lines of output, for the end record: at most `lines`, without control characters other than tab.
  std::vector<std::string> last_lines(std::size_t lines) const;

 private:
  static constexpr std::size_t input_capacity = 4096;

  mutable std::mutex mutex_;  // guards ring and readers; held while readers are called
  std::size_t capacity_;
  std::vector<std::byte> ring_;  // grows up to capacity_, then wraps at start_
  std::size_t start_ = 0;
  std::list<Reader> readers_;
  Counter output_;       // counted with mutex_ held
  Counter input_taken_;  // counted with input_mutex_ held
  Counter dropped_;
  std::mutex input_mutex_;  // guards input_
  std::vector<std::byte> input_;
  std::mutex input_ready_mutex_;  // guards input_ready_; held while it is called
  InputReady input_ready_;
};

}  // namespace hum
