// SPDX-License-Identifier: Apache-2.0
#include "devices/keyboard.h"

#include <utility>

namespace hum {
namespace {

constexpr std::uint16_t data_port = 0x60;
constexpr std::uint16_t status_port = 0x64;
constexpr std::uint32_t gsi = 1;

constexpr std::uint8_t status_output_full = 0x01;
constexpr std::uint8_t status_system = 0x04;
constexpr std::uint8_t status_command = 0x08;
constexpr std::uint8_t status_unlocked = 0x10;

// The controller's command byte.
constexpr std::uint8_t mode_interrupt = 0x01;
constexpr std::uint8_t mode_system = 0x04;
constexpr std::uint8_t mode_keyboard_off = 0x10;
constexpr std::uint8_t mode_no_mouse = 0x20;
constexpr std::uint8_t mode_translate = 0x40;  // into scan code set 1
constexpr std::uint8_t mode_at_start = mode_interrupt | mode_system | mode_no_mouse | mode_translate;

enum ControllerCommand : std::uint8_t {
  read_mode = 0x20,
  write_mode = 0x60,
  test_mouse = 0xa9,
  test_self = 0xaa,
  test_keyboard = 0xab,
  keyboard_off = 0xad,
  keyboard_on = 0xae,
  read_input_port = 0xc0,
  read_output_port = 0xd0,
  write_output_port = 0xd1,
  loop_keyboard = 0xd2,
  loop_mouse = 0xd3,
  write_mouse = 0xd4,
  pulse = 0xf0,  // of the output port's lines whose bits are 0
};
constexpr std::uint8_t pulse_mask = 0xf0;
constexpr std::uint8_t line_no_reset = 0x01;
constexpr std::uint8_t line_a20 = 0x02;
constexpr std::uint8_t input_port_unlocked = 0x80;
constexpr std::uint8_t self_test_passed = 0x55;
constexpr std::uint8_t keyboard_test_passed = 0x00;
constexpr std::uint8_t no_mouse_there = 0xff;

enum KeyboardCommand : std::uint8_t {
  set_leds = 0xed,
  echo = 0xee,
  scan_code_set = 0xf0,
  identify = 0xf2,
  set_rate = 0xf3,
  enable = 0xf4,
  disable = 0xf5,
  set_defaults = 0xf6,
  reset_keyboard = 0xff,
};
constexpr std::uint8_t keyboard_acknowledge = 0xfa;
constexpr std::uint8_t keyboard_refuse = 0xfe;
constexpr std::uint8_t keyboard_test_good = 0xaa;
constexpr std::uint8_t only_set = 2;

// What the keyboard sends, and what the controller makes of it where it translates.
struct Code {
  std::uint8_t plain;
  std::uint8_t translated;
};
constexpr Code identity = {0x83, 0x41};
constexpr Code set_number = {only_set, 0x41};

constexpr std::uint8_t ctrl_alt_del_plain[] = {0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0,
                                               0x71, 0xf0, 0x11, 0xf0, 0x14};
constexpr std::uint8_t ctrl_alt_del_translated[] = {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d};

}  // namespace

void Keyboard::Port::read(std::uint64_t, std::span<std::byte> data) {
  const std::lock_guard lock(keyboard_.mutex_);
  data.front() = std::byte{(keyboard_.*read_)()};
}

void Keyboard::Port::write(std::uint64_t, std::span<const std::byte> data) {
  const std::lock_guard lock(keyboard_.mutex_);
  (keyboard_.*write_)(std::to_integer<std::uint8_t>(data.front()));
}

Keyboard::Keyboard(DeviceContext& context)
    : control_(context.control),
      pin_(context.irqs.pin(gsi)),
      mode_(mode_at_start),
      data_mapping_(context.ports.map("keyboard", data_port, 1, data_)),
      status_mapping_(context.ports.map("keyboard", status_port, 1, status_)) {}

acpi::Aml Keyboard::acpi_node() const {
  using namespace acpi;
  return device(
      "KBD",
      {
          name("_HID", eisa_id("PNP0303")),
          name("_CRS", resources({io_port(data_port, 1), io_port(status_port, 1), interrupt_edge(gsi)})),
      });
}

// All keys or none: a guest that does not read what was typed before gets no half of them.
bool Keyboard::press_ctrl_alt_del() {
  const std::lock_guard lock(mutex_);
  const std::span<const std::uint8_t> codes = (mode_ & mode_translate) != 0
                                                  ? std::span<const std::uint8_t>(ctrl_alt_del_translated)
                                                  : std::span<const std::uint8_t>(ctrl_alt_del_plain);
  if (!scanning_ || sent_.size() - sent_count_ < codes.size()) return false;
  for (const std::uint8_t code : codes) send(code);
  return true;
}

bool Keyboard::has_output() const {
  return has_reply_ || (sent_count_ != 0 && (mode_ & mode_keyboard_off) == 0);
}

// The pin is an edge: it is raised anew for each byte that can be read.
void Keyboard::update_pin() {
  const bool now = has_output() && (mode_ & mode_interrupt) != 0;
  if (now && !signalled_) pin_.trigger();
  signalled_ = now;
}

void Keyboard::reply(std::uint8_t value) {
  reply_ = value;
  has_reply_ = true;
  update_pin();
}

void Keyboard::send(std::uint8_t value) {
  if (sent_count_ == sent_.size()) return;
  sent_[(first_ + sent_count_++) % sent_.size()] = std::byte{value};
  update_pin();
}

// The system bit stands for a machine that has passed its own tests. The input buffer is never full: what is
// written is taken at once.
std::uint8_t Keyboard::read_status() {
  return static_cast<std::uint8_t>(status_unlocked | (mode_ & mode_system ? status_system : 0) |
                                   (last_was_command_ ? status_command : 0) |
                                   (has_output() ? status_output_full : 0));
}

std::uint8_t Keyboard::read_data() {
  std::uint8_t value = reply_;
  if (!has_reply_ && has_output()) {
    value = std::to_integer<std::uint8_t>(sent_[first_]);
    first_ = (first_ + 1) % sent_.size();
    --sent_count_;
  }
  has_reply_ = false;
  signalled_ = false;
  update_pin();
  return value;
}

void Keyboard::write_command(std::uint8_t value) {
  last_was_command_ = true;
  controller_command_ = 0;
  switch (value) {
    case read_mode:
      return reply(mode_);
    case write_mode:
    case write_output_port:
    case loop_keyboard:
    case loop_mouse:
    case write_mouse:
      controller_command_ = value;
      return;
    case test_self:
      return reply(self_test_passed);
    case test_keyboard:
      return reply(keyboard_test_passed);
    case test_mouse:
      return reply(no_mouse_there);
    case keyboard_off:
      mode_ |= mode_keyboard_off;
      return update_pin();
    case keyboard_on:
      mode_ &= static_cast<std::uint8_t>(~mode_keyboard_off);
      return update_pin();
    case read_input_port:
      return reply(input_port_unlocked);
    case read_output_port:
      return reply(line_no_reset | line_a20);
    default:
      if ((value & pulse_mask) == pulse && (value & line_no_reset) == 0) control_.reset();
  }
}

void Keyboard::write_data(std::uint8_t value) {
  last_was_command_ = false;
  switch (std::exchange(controller_command_, std::uint8_t{0})) {
    case write_mode:
      mode_ = value | mode_no_mouse;
      return update_pin();
    case write_output_port:
      if ((value & line_no_reset) == 0) control_.reset();
      return;
    case loop_keyboard:
    case loop_mouse:
      return reply(value);
    case write_mouse:  // nobody hears it
      return;
    default:
      mode_ &= static_cast<std::uint8_t>(~mode_keyboard_off);  // or the answer would not arrive
      return write_keyboard(value);
  }
}

void Keyboard::write_keyboard(std::uint8_t value) {
  const auto code = [&](Code of) { return (mode_ & mode_translate) != 0 ? of.translated : of.plain; };
  switch (std::exchange(keyboard_command_, std::uint8_t{0})) {
    case set_leds:
    case set_rate:
      return send(keyboard_acknowledge);
    case scan_code_set:
      if (value != 0 && value != only_set) return send(keyboard_refuse);
      send(keyboard_acknowledge);
      if (value == 0) send(code(set_number));
      return;
    default:
      break;
  }
  switch (value) {
    case set_leds:
    case set_rate:
    case scan_code_set:
      keyboard_command_ = value;
      return send(keyboard_acknowledge);
    case echo:
      return send(echo);
    case identify:
      send(keyboard_acknowledge);
      send(0xab);
      return send(code(identity));
    case enable:
    case disable:
    case set_defaults:
    case reset_keyboard:
      sent_count_ = 0;
      scanning_ = value != disable;
      send(keyboard_acknowledge);
      if (value == reset_keyboard) send(keyboard_test_good);
      return;
    default:
      return send(keyboard_refuse);
  }
}

void Keyboard::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex_);
  visitor.number("mode", mode_);
  visitor.number("controller-command", controller_command_);
  visitor.number("keyboard-command", keyboard_command_);
  visitor.flag("last-was-command", last_was_command_);
  visitor.flag("scanning", scanning_);
  visitor.flag("has-reply", has_reply_);
  visitor.number("reply", reply_);
  visitor.bytes("sent", sent_);
  visitor.number("first", first_, sent_.size() - 1);
  visitor.number("sent-count", sent_count_, sent_.size());
  visitor.flag("signalled", signalled_);
}

namespace {

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<Keyboard>(context);
}

}  // namespace

constinit const DeviceKind keyboard_kind{
    .name = "keyboard",
    .help = "a keyboard and its controller at ports 0x60 and 0x64, for Ctrl-Alt-Del; in place of i8042",
    .options = {},
    .create = make,
};

}  // namespace hum
