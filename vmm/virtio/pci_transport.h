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
#include <vector>

#include "vmm/bus/interrupts.h"
#include "vmm/bus/register_window.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci_function.h"
#include "vmm/virtio/virtio_core.h"

namespace hum::virtio {

// A virtio device as a PCI function (virtio 1.2, 4.1; modern only): one BAR with a page for each structure,
// MSI-X with a vector for each queue and one for configuration changes. Its configuration space is under the
// bus's mutex, its BAR under its own, which may be taken after the bus's.
class PciTransport final : public Transport,
                           public pci::PciFunction,
                           private RegisterWindow,
                           private VirtioCore::Port {
 public:
  // name is the device's in messages and in the decoder's counts. Throws HostError where the host has no
  // more interrupt routes. Destroyed before the bus's decoders and msi.
  PciTransport(const TransportContext& context, std::unique_ptr<VirtioDevice> device, const std::string& name,
               MsiController& msi);

  void apply(const OptionValues& options) override;
  void request(std::string_view verb) override;
  void flush(int give_up_fd) override;
  void stop() override;
  DeviceReport report() const override { return core_.report(); }
  bool in_use() override;
  void pause() override;
  void resume() override;
  void fields(StateVisitor& visitor) override;

  void read_config(std::uint32_t offset, std::span<std::byte> data) override;
  void write_config(std::uint32_t offset, std::span<const std::byte> data) override;

 private:
  struct CommonConfig;

  void bar_moved(unsigned index, std::optional<std::uint64_t> address) override;

  // The BAR.
  void read(std::uint64_t offset, std::span<std::byte> data) override;
  void write(std::uint64_t offset, std::span<const std::byte> data) override;
  CommonConfig common_config() const;
  void write_common(std::uint64_t offset, std::span<const std::byte> data);
  std::uint16_t checked_vector(std::uint16_t vector) const;

  // The window into the BAR that the capability VIRTIO_PCI_CAP_PCI_CFG describes (4.1.4.9).
  struct Peek {
    std::uint32_t offset;
    std::uint32_t bytes;
  };
  std::optional<Peek> peek(std::uint32_t offset, std::size_t size) const;

  void interrupt_queue(std::uint16_t queue) override;
  void interrupt_config() override;
  int interrupt_fd(std::uint16_t queue) const override;
  std::optional<KickAddress> kick_address(std::uint16_t queue) const override;

  pci::Msix msix_;
  std::uint32_t msix_at_ = 0;  // of its capability
  std::uint32_t peek_at_ = 0;
  std::atomic<std::uint8_t> interrupt_status_ = 0;
  std::vector<std::atomic<std::uint16_t>> queue_vectors_;
  std::atomic<std::uint16_t> config_vector_;
  std::mutex mutex_;  // guards all below
  std::optional<std::uint64_t> bar_;
  std::uint32_t offered_word_ = 0;
  std::uint32_t driver_word_ = 0;
  std::uint16_t selected_queue_ = 0;
  VirtioCore core_;
};

}  // namespace hum::virtio
