// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/monitor/line_editor.h"

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/layout.h"

namespace guest {
namespace {

constexpr unsigned ring_size = 256;

// Filled by the interrupt handler, emptied by next_character; what does not fit is lost.
constinit char ring[ring_size]{};
constinit volatile unsigned received = 0;
constinit unsigned taken = 0;

constinit char line[200]{};

// The interrupt is an edge: everything must be taken, or no further one comes.
void receive() {
  while (input_available()) {
    const char c = take_input();
    if (received - taken == ring_size) continue;
    ring[received % ring_size] = c;
    received = received + 1;
  }
}

char next_character() {
  while (received == taken) wait_for_interrupt();
  return ring[taken++ % ring_size];
}

void erase(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) print("\b \b");
}

}  // namespace

void begin_input() {
  constexpr std::uint16_t interrupt_enable = serial_port + 1;
  constexpr std::uint16_t modem_control = serial_port + 4;
  constexpr std::uint8_t vector = 33;
  constexpr std::uint8_t received_data = 1;
  disable_interrupts();
  set_interrupt_handler(vector, receive);
  route_pin(serial_pin, vector);
  out8(modem_control, 0x0b);  // out2 lets the interrupt through
  out8(interrupt_enable, received_data);
  receive();
}

Text read_line() {
  constexpr char control_u = 0x15;
  constexpr char escape = 0x1b;
  constexpr char rubout = 0x7f;
  std::size_t size = 0;
  while (true) {
    const char c = next_character();
    if (c == '\r' || c == '\n') {
      print("\n");
      return {line, size};
    }
    if ((c == '\b' || c == rubout) && size > 0) {
      erase(1);
      --size;
    } else if (c == control_u) {
      erase(size);
      size = 0;
    } else if (c == escape) {
      // An arrow key: ESC [ letter.
      if (next_character() == '[') next_character();
    } else if (c >= ' ' && c < rubout && size < sizeof(line)) {
      put(c);
      line[size++] = c;
    }
  }
}

}  // namespace guest
