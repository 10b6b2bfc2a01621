// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "devices/byte_registers.h"
#include "vmm/base/token_bucket.h"
#include "vmm/device/device.h"

namespace hum {

// A 16550A UART at COM1, ports 0x3f8 to 0x3ff and pin 4, between the guest and the machine's console. It
// sends in no time, so its transmitter is always empty, and it takes input from the console only as far as
// its FIFO has room, so input is never lost to an overrun. What is over the limit of output is dropped, and
// the guest never waits for it. vCPU threads and the console's input side.
class Serial : public PlatformDevice, private ByteRegisters {
 public:
  // output: the most bytes of output.
  explicit Serial(DeviceContext& context, const TokenBucketLimit& output = {});
  ~Serial() override;

  acpi::Aml acpi_node() const override;
  void fields(StateVisitor& visitor) override;

 private:
  // All below with the mutex held.
  std::uint8_t read_register(std::uint64_t offset) override;
  void write_register(std::uint64_t offset, std::uint8_t value) override;

  std::uint8_t read_receiver();
  std::uint8_t read_interrupt_id();
  std::uint8_t read_line_status();
  std::uint8_t read_modem_status();
  void transmit(std::uint8_t value);
  void send(std::byte byte);
  void write_interrupt_enable(std::uint8_t value);
  void write_fifo_control(std::uint8_t value);
  void write_modem_control(std::uint8_t value);

  bool divisor_latch() const;
  bool loopback() const;
  std::size_t receiver_capacity() const;
  void refill();
  std::uint8_t modem_lines() const;
  unsigned conditions() const;
  void update_pin();

  ConsoleHub& console_;
  Interrupt& pin_;
  bool limited_;
  TokenBucket output_limit_;
  std::array<std::byte, 16> received_{};  // from first_ on, received_count_ bytes, wrapping
  std::size_t first_ = 0;
  std::size_t received_count_ = 0;
  std::array<std::uint8_t, 2> divisor_{};
  std::uint8_t interrupt_enable_ = 0;
  std::uint8_t fifo_control_ = 0;
  std::uint8_t line_control_ = 0;
  std::uint8_t modem_control_ = 0;
  std::uint8_t scratch_ = 0;
  std::uint8_t modem_deltas_ = 0;
  bool overrun_ = false;
  bool transmitter_emptied_ = false;  // since the guest last asked what interrupts
  unsigned signalled_ = 0;            // the conditions that the pin was last raised for
  AddressDecoder::Mapping mapping_;
};

extern const DeviceKind serial_kind;

}  // namespace hum
