// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/virtio.h"

namespace guest {

inline constexpr std::uint32_t virtio_net = 1;

// A network interface (virtio 1.2, 5.1): frames of up to two pairs of queues and commands, one at a time. The
// suite's interfaces are loopbacks: what is sent is received.
class VirtioNet {
 public:
  static constexpr std::uint64_t csum = 1ull << 0;
  static constexpr std::uint64_t guest_csum = 1ull << 1;
  static constexpr std::uint64_t ctrl_guest_offloads = 1ull << 2;
  static constexpr std::uint64_t has_mtu = 1ull << 3;
  static constexpr std::uint64_t has_mac = 1ull << 5;
  static constexpr std::uint64_t guest_tso4 = 1ull << 7;
  static constexpr std::uint64_t host_tso4 = 1ull << 11;
  static constexpr std::uint64_t mrg_rxbuf = 1ull << 15;
  static constexpr std::uint64_t has_status = 1ull << 16;
  static constexpr std::uint64_t ctrl_vq = 1ull << 17;
  static constexpr std::uint64_t ctrl_rx = 1ull << 18;
  static constexpr std::uint64_t mq = 1ull << 22;
  static constexpr std::uint64_t ctrl_mac_addr = 1ull << 23;

  // In configuration space.
  static constexpr std::uint32_t status_at = 6;
  static constexpr std::uint32_t pairs_at = 8;
  static constexpr std::uint32_t mtu_at = 10;

  // In front of a frame.
  struct Header {
    static constexpr std::uint8_t needs_csum = 1;
    static constexpr std::uint8_t tcp4 = 1;
    std::uint8_t flags, gso_type;
    std::uint16_t header_bytes, gso_size, csum_start, csum_offset, buffers;
  };
  static constexpr std::uint32_t header_size = 12;

  static constexpr unsigned most_pairs = 2;
  static constexpr std::uint16_t entries = 64;  // of each queue
  static constexpr unsigned most_buffers = 16;  // for receiving, of each pair
  static constexpr std::uint32_t buffer_size = 2048;

  // Commands (5.1.6.5).
  static constexpr std::uint8_t class_rx = 0;
  static constexpr std::uint8_t class_mac = 1;
  static constexpr std::uint8_t class_mq = 4;
  static constexpr std::uint8_t ok = 0;
  static constexpr std::uint8_t error = 1;
  static constexpr std::uint8_t unanswered = 0xff;

  // Finds the interface of the command line's transport and brings it up, with receive buffers of so many
  // bytes; again after a reset. False if there is none or it refuses.
  bool open(const BootInfo& boot, std::uint64_t features = 0, std::uint32_t receive_size = buffer_size);
  bool start(std::uint64_t features = 0, std::uint32_t receive_size = buffer_size);
  // Sets up all but receive buffers and DRIVER_OK.
  bool prepare(std::uint64_t features);
  void offer_buffers(std::uint32_t receive_size);

  // Sends a frame behind `header`. False if it is not given back.
  bool send(const volatile void* frame, std::uint32_t size, unsigned pair = 0);
  // Makes a chain of a transmit queue available, notifies, and waits. False if it is not given back.
  bool send_chain(std::uint16_t head, unsigned pair = 0);

  // The next receive buffer that has come back, in `received`. False if none comes.
  bool receive(unsigned pair = 0);
  // Gives it to the device again.
  void recycle(unsigned pair = 0);

  // Sends a frame of this size whose bytes follow from `seed`, and expects it in one buffer, as it was.
  bool round_trip(std::uint32_t size, std::uint8_t seed, unsigned pair = 0);

  // The answer to a command; `unanswered` if there is none.
  std::uint8_t command(std::uint8_t command_class, std::uint8_t number, const volatile void* data,
                       std::uint32_t size);

  struct Pair {
    VirtioQueue receive;
    VirtioQueue transmit;
    alignas(16) volatile std::uint8_t buffers[most_buffers][buffer_size];
  };
  struct Buffer {
    const volatile std::uint8_t* data;
    std::uint16_t number;
    std::uint32_t size;  // written by the device
    Header header() const { return *reinterpret_cast<const Header*>(const_cast<const std::uint8_t*>(data)); }
    const volatile std::uint8_t* frame() const { return data + header_size; }
  };

  VirtioDevice* device = nullptr;
  unsigned pairs = 1;  // two where MQ was negotiated
  Pair pair[most_pairs]{};
  VirtioQueue control;
  std::uint16_t control_index = 2;
  Header header{};
  Buffer received{};
  volatile std::uint8_t frame[buffer_size]{};  // of round_trip

 private:
  bool wait_used(const VirtioQueue& queue) const;
};

}  // namespace guest
