// SPDX-License-Identifier: Apache-2.0
#include "devices/serial.h"

#include <algorithm>
#include <span>
#include <utility>

namespace hum {
namespace {

constexpr std::uint16_t port = 0x3f8;
constexpr std::uint16_t port_count = 8;
constexpr std::uint32_t gsi = 4;

// Registers and bits by their names in the PC16550D data sheet, section 8.
enum Offset : std::uint64_t {
  data = 0,
  interrupt_enable = 1,
  interrupt_id = 2,  // FIFO control when written
  line_control = 3,
  modem_control = 4,
  line_status = 5,
  modem_status = 6,
  scratch = 7,
};

constexpr std::uint8_t ier_received = 0x01;
constexpr std::uint8_t ier_transmitter = 0x02;
constexpr std::uint8_t ier_line = 0x04;
constexpr std::uint8_t ier_modem = 0x08;
constexpr std::uint8_t ier_mask = 0x0f;

constexpr std::uint8_t iir_modem = 0x00;
constexpr std::uint8_t iir_none = 0x01;
constexpr std::uint8_t iir_transmitter = 0x02;
constexpr std::uint8_t iir_received = 0x04;
constexpr std::uint8_t iir_line = 0x06;
constexpr std::uint8_t iir_timeout = 0x0c;
constexpr std::uint8_t iir_fifos = 0xc0;

constexpr std::uint8_t fcr_enable = 0x01;
constexpr std::uint8_t fcr_clear_receiver = 0x02;
constexpr std::uint8_t fcr_trigger_mask = 0xc0;

constexpr std::uint8_t lcr_divisor_latch = 0x80;

constexpr std::uint8_t mcr_dtr = 0x01;
constexpr std::uint8_t mcr_rts = 0x02;
constexpr std::uint8_t mcr_out1 = 0x04;
constexpr std::uint8_t mcr_out2 = 0x08;
constexpr std::uint8_t mcr_loopback = 0x10;
constexpr std::uint8_t mcr_mask = 0x1f;

constexpr std::uint8_t lsr_data_ready = 0x01;
constexpr std::uint8_t lsr_overrun = 0x02;
constexpr std::uint8_t lsr_transmitter_empty = 0x60;  // holding register and shift register

constexpr std::uint8_t msr_deltas = 0x0f;
constexpr std::uint8_t msr_cts = 0x10;
constexpr std::uint8_t msr_dsr = 0x20;
constexpr std::uint8_t msr_ri = 0x40;
constexpr std::uint8_t msr_dcd = 0x80;

// What can interrupt, highest priority first; each is a bit of conditions().
struct Source {
  unsigned condition;
  std::uint8_t enable;
  std::uint8_t id;
};
constexpr unsigned line_condition = 1 << 0;
constexpr unsigned received_condition = 1 << 1;
constexpr unsigned timeout_condition = 1 << 2;
constexpr unsigned transmitter_condition = 1 << 3;
constexpr unsigned modem_condition = 1 << 4;
constexpr unsigned all_conditions = 2 * modem_condition - 1;
constexpr std::array sources{
    Source{line_condition, ier_line, iir_line},
    Source{received_condition, ier_received, iir_received},
    Source{timeout_condition, ier_received, iir_timeout},
    Source{transmitter_condition, ier_transmitter, iir_transmitter},
    Source{modem_condition, ier_modem, iir_modem},
};

}  // namespace

Serial::Serial(DeviceContext& context, const TokenBucketLimit& output)
    : ByteRegisters(port_count),
      console_(context.console),
      pin_(context.irqs.pin(gsi)),
      limited_(output.size != 0),
      output_limit_(output),
      mapping_(context.ports.map("serial", port, port_count, *this)) {
  const auto input_ready = [this] {
    const std::lock_guard lock(mutex());
    refill();
  };
  console_.on_input(input_ready);
  input_ready();  // what came before there was a device
}

Serial::~Serial() {
  console_.on_input({});
}

acpi::Aml Serial::acpi_node() const {
  using namespace acpi;
  return device("COM1", {
                            name("_HID", eisa_id("PNP0501")),
                            name("_UID", integer(1)),
                            name("_CRS", resources({io_port(port, port_count), interrupt_edge(gsi)})),
                        });
}

void Serial::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex());
  const std::uint8_t fifo_control = visitor.number("fifo-control", fifo_control_);
  const bool fifos = (fifo_control & fcr_enable) != 0;
  visitor.require((fifo_control & ~(fifos ? fcr_enable | fcr_trigger_mask : 0)) == 0, "fifo-control",
                  "has bits that do not exist");
  visitor.bytes("received", received_);
  visitor.number("first", first_, received_.size() - 1);
  visitor.number("received-count", received_count_, fifos ? received_.size() : 1);
  visitor.bytes("divisor", std::as_writable_bytes(std::span(divisor_)));
  visitor.number("interrupt-enable", interrupt_enable_, ier_mask);
  visitor.number("line-control", line_control_);
  visitor.number("modem-control", modem_control_, mcr_mask);
  visitor.number("scratch", scratch_);
  visitor.number("modem-deltas", modem_deltas_, msr_deltas);
  visitor.flag("overrun", overrun_);
  visitor.flag("transmitter-emptied", transmitter_emptied_);
  visitor.number("signalled", signalled_, all_conditions);
}

std::uint8_t Serial::read_register(std::uint64_t offset) {
  if (divisor_latch() && offset < divisor_.size()) return divisor_[offset];
  switch (offset) {
    case data:
      return read_receiver();
    case interrupt_enable:
      return interrupt_enable_;
    case interrupt_id:
      return read_interrupt_id();
    case line_control:
      return line_control_;
    case modem_control:
      return modem_control_;
    case line_status:
      return read_line_status();
    case modem_status:
      return read_modem_status();
    default:
      return scratch_;
  }
}

void Serial::write_register(std::uint64_t offset, std::uint8_t value) {
  if (divisor_latch() && offset < divisor_.size()) {
    divisor_[offset] = value;
    return;
  }
  switch (offset) {
    case data:
      return transmit(value);
    case interrupt_enable:
      return write_interrupt_enable(value);
    case interrupt_id:
      return write_fifo_control(value);
    case line_control:
      line_control_ = value;
      return;
    case modem_control:
      return write_modem_control(value);
    case scratch:
      scratch_ = value;
      return;
    default:  // the status registers
      return;
  }
}

std::uint8_t Serial::read_receiver() {
  if (received_count_ == 0) return 0;
  const auto value = std::to_integer<std::uint8_t>(received_[first_]);
  first_ = (first_ + 1) % received_.size();
  --received_count_;
  // The pin falls before it rises for what comes next.
  update_pin();
  if (received_count_ == 0) refill();
  return value;
}

std::uint8_t Serial::read_interrupt_id() {
  const std::uint8_t fifos = (fifo_control_ & fcr_enable) != 0 ? iir_fifos : 0;
  const unsigned pending = conditions();
  for (const Source& source : sources) {
    if ((pending & source.condition) == 0) continue;
    // Only this condition ends by being told.
    if (source.condition == transmitter_condition) {
      transmitter_emptied_ = false;
      update_pin();
    }
    return source.id | fifos;
  }
  return iir_none | fifos;
}

std::uint8_t Serial::read_line_status() {
  const bool overrun = std::exchange(overrun_, false);
  update_pin();
  return static_cast<std::uint8_t>(lsr_transmitter_empty | (overrun ? lsr_overrun : 0) |
                                   (received_count_ != 0 ? lsr_data_ready : 0));
}

std::uint8_t Serial::read_modem_status() {
  const std::uint8_t deltas = std::exchange(modem_deltas_, std::uint8_t{0});
  update_pin();
  return modem_lines() | deltas;
}

void Serial::transmit(std::uint8_t value) {
  const std::byte byte{value};
  if (!loopback()) {
    send(byte);
  } else if (received_count_ < receiver_capacity()) {
    received_[(first_ + received_count_++) % received_.size()] = byte;
  } else {
    overrun_ = true;
  }
  transmitter_emptied_ = true;
  update_pin();
}

void Serial::send(std::byte byte) {
  if (limited_) {
    if (output_limit_.wait(TokenBucket::Clock::now()) != TokenBucket::Clock::duration::zero())
      return console_.drop(1);
    output_limit_.take(1);
  }
  console_.write({&byte, 1});
}

void Serial::write_interrupt_enable(std::uint8_t value) {
  // Enabling the transmitter's interrupt while it is empty, as it always is, raises it.
  if ((value & ~interrupt_enable_ & ier_transmitter) != 0) transmitter_emptied_ = true;
  interrupt_enable_ = value & ier_mask;
  update_pin();
}

void Serial::write_fifo_control(std::uint8_t value) {
  // Without the enable bit no other bit is taken; a change of mode empties the FIFO.
  if ((value & fcr_enable) == 0) value = 0;
  if (((value ^ fifo_control_) & fcr_enable) != 0 || (value & fcr_clear_receiver) != 0) received_count_ = 0;
  fifo_control_ = value & (fcr_enable | fcr_trigger_mask);
  update_pin();
  if (received_count_ == 0) refill();
}

void Serial::write_modem_control(std::uint8_t value) {
  const std::uint8_t before = modem_lines();
  modem_control_ = value & mcr_mask;
  const std::uint8_t changed = before ^ modem_lines();
  // The ring indicator tells only of its end; the other three of any change.
  modem_deltas_ |= (changed & (msr_cts | msr_dsr | msr_dcd | (before & msr_ri))) >> 4;
  update_pin();
  refill();
}

bool Serial::divisor_latch() const {
  return (line_control_ & lcr_divisor_latch) != 0;
}

bool Serial::loopback() const {
  return (modem_control_ & mcr_loopback) != 0;
}

std::size_t Serial::receiver_capacity() const {
  return (fifo_control_ & fcr_enable) != 0 ? received_.size() : 1;
}

void Serial::refill() {
  if (loopback()) return;
  std::array<std::byte, 16> input;
  const std::size_t room = receiver_capacity() - received_count_;
  const std::size_t count = console_.take_input(std::span(input).first(room));
  for (std::size_t i = 0; i < count; ++i)
    received_[(first_ + received_count_++) % received_.size()] = input[i];
  update_pin();
}

std::uint8_t Serial::modem_lines() const {
  if (!loopback()) return msr_cts | msr_dsr | msr_dcd;
  const auto wire = [&](std::uint8_t out, std::uint8_t in) {
    return (modem_control_ & out) != 0 ? in : std::uint8_t{0};
  };
  return wire(mcr_rts, msr_cts) | wire(mcr_dtr, msr_dsr) | wire(mcr_out1, msr_ri) | wire(mcr_out2, msr_dcd);
}

// The conditions that are both there and enabled. No clock runs here, so the timeout of a character that
// waits below the FIFO's trigger level is over at once.
unsigned Serial::conditions() const {
  static constexpr std::array<std::size_t, 4> trigger_levels{1, 4, 8, 14};
  unsigned there = 0;
  if (overrun_) there |= line_condition;
  if (received_count_ >= trigger_levels[fifo_control_ >> 6]) {
    there |= received_condition;
  } else if (received_count_ != 0) {
    there |= timeout_condition;
  }
  if (transmitter_emptied_) there |= transmitter_condition;
  if (modem_deltas_ != 0) there |= modem_condition;
  unsigned enabled = 0;
  for (const Source& source : sources)
    if ((interrupt_enable_ & source.enable) != 0) enabled |= source.condition;
  return there & enabled;
}

// The pin is an edge: it is raised anew whenever what it stands for has changed and is not nothing, so a
// driver that serves one condition for each interrupt gets one for the next. OUT2, which gates the pin on a
// PC, is not looked at.
void Serial::update_pin() {
  const unsigned now = conditions();
  if (now != 0 && now != signalled_) pin_.trigger();
  signalled_ = now;
}

namespace {

constexpr OptionSpec serial_options[] = {
    {.key = "bandwidth",
     .type = OptionType::limit,
     .help = "the most bytes of output; what is more is dropped: SIZE[/MILLISECONDS][+BURST], like 10K",
     .default_value = "off"},
};

std::unique_ptr<PlatformDevice> make(const OptionValues& options, DeviceContext& context) {
  return std::make_unique<Serial>(context, options.limit("bandwidth"));
}

}  // namespace

constinit const DeviceKind serial_kind{
    .name = "serial",
    .help = "a 16550A serial port at 0x3f8, connected to the machine's console",
    .options = serial_options,
    .create = make,
};

}  // namespace hum
