// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "vmm/acpi/aml.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/interrupts.h"
#include "vmm/bus/register_window.h"
#include "vmm/virtio/virtio_core.h"

namespace hum::virtio {

// A virtio device behind a window of registers at a fixed address (virtio 1.2, 4.2.2; version 2 only), with
// one edge-triggered pin.
class MmioTransport final : public Transport, private RegisterWindow, private VirtioCore::Port {
 public:
  static constexpr std::uint64_t window_bytes = 0x200;

  // Takes a pin and maps the window at base. name is the device's in messages and in the decoder's counts.
  // Throws ConfigError when all pins are taken.
  MmioTransport(const TransportContext& context, std::unique_ptr<VirtioDevice> device, std::string name,
                std::uint32_t base, IrqPins& irqs);

  void apply(const OptionValues& options) override;
  void request(std::string_view verb) override;
  void flush(int give_up_fd) override;
  void stop() override;
  DeviceReport report() const override { return core_.report(); }
  bool in_use() override;
  void pause() override;
  void resume() override;
  void fields(StateVisitor& visitor) override;

  std::uint32_t base() const { return base_; }
  std::uint32_t pin() const { return pin_; }

  // The node for \_SB; number tells it from others of its kind (0 to 255).
  acpi::Aml acpi_node(unsigned number) const;

 private:
  void read(std::uint64_t offset, std::span<std::byte> data) override;
  void write(std::uint64_t offset, std::span<const std::byte> data) override;
  std::uint32_t read_register(std::uint64_t offset) const;
  void write_register(std::uint64_t offset, std::uint32_t value);

  void interrupt_queue(std::uint16_t queue) override;
  void interrupt_config() override;
  std::optional<KickAddress> kick_address(std::uint16_t queue) const override;

  const std::uint32_t base_;
  const std::uint32_t pin_;
  Interrupt& interrupt_;
  std::atomic<std::uint32_t> interrupt_status_ = 0;
  std::mutex mutex_;  // guards all below
  std::uint32_t offered_word_ = 0;
  std::uint32_t driver_word_ = 0;
  std::uint32_t selected_queue_ = 0;
  VirtioCore core_;
  AddressDecoder::Mapping mapping_;
};

}  // namespace hum::virtio
