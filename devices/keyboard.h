// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/bus/register_window.h"
#include "vmm/device/device.h"

namespace hum {

// The PC's keyboard controller (Intel 8042) at ports 0x60 and 0x64 and pin 1, with a keyboard that speaks
// scan code set 2 and no mouse. The machine's thread types Ctrl-Alt-Del, vCPU threads do the rest.
class Keyboard : public PlatformDevice {
 public:
  explicit Keyboard(DeviceContext& context);

  acpi::Aml acpi_node() const override;
  void declare(acpi::FixedHardware& fixed) const override { fixed.i8042 = true; }
  void fields(StateVisitor& visitor) override;
  bool press_ctrl_alt_del() override;

 private:
  // One of the two ports; both have the keyboard's mutex.
  class Port final : public RegisterWindow {
   public:
    using Read = std::uint8_t (Keyboard::*)();
    using Write = void (Keyboard::*)(std::uint8_t value);
    Port(Keyboard& keyboard, Read reader, Write writer)
        : keyboard_(keyboard), read_(reader), write_(writer) {}
    void read(std::uint64_t offset, std::span<std::byte> data) override;
    void write(std::uint64_t offset, std::span<const std::byte> data) override;

   private:
    Keyboard& keyboard_;
    Read read_;
    Write write_;
  };

  // All below with the mutex held.
  std::uint8_t read_data();
  std::uint8_t read_status();
  void write_data(std::uint8_t value);
  void write_command(std::uint8_t value);
  void write_keyboard(std::uint8_t value);

  void reply(std::uint8_t value);
  void send(std::uint8_t value);
  bool has_output() const;
  void update_pin();

  MachineControl& control_;
  Interrupt& pin_;
  std::mutex mutex_;  // guards all below
  std::uint8_t mode_;
  std::uint8_t controller_command_ = 0;  // the one that waits for its data, or 0
  std::uint8_t keyboard_command_ = 0;    // the same of the keyboard
  bool last_was_command_ = false;
  bool scanning_ = true;  // keys are sent
  bool has_reply_ = false;
  std::uint8_t reply_ = 0;            // the controller's own, which comes before what the keyboard has sent
  std::array<std::byte, 16> sent_{};  // from first_ on, sent_count_ bytes, wrapping
  std::size_t first_ = 0;
  std::size_t sent_count_ = 0;
  bool signalled_ = false;  // the pin was raised for the byte that can be read now
  Port data_{*this, &Keyboard::read_data, &Keyboard::write_data};
  Port status_{*this, &Keyboard::read_status, &Keyboard::write_command};
  AddressDecoder::Mapping data_mapping_;
  AddressDecoder::Mapping status_mapping_;
};

extern const DeviceKind keyboard_kind;

}  // namespace hum
