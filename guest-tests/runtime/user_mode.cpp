// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/user_mode.h"

#include <cstddef>

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/paging.h"

extern "C" {
extern volatile std::uint64_t task_descriptor[2];
extern const char image_start[];
extern const char user_return[];
[[noreturn]] void enter_user(void (*function)(const void*), const void* context, std::uint64_t stack,
                             std::uint64_t flags);
}

namespace guest {
namespace {

constexpr std::uint16_t task_selector = 0x40;
constexpr std::size_t stack_size = 8192;
alignas(16) constinit std::uint8_t user_stack[stack_size]{};
alignas(16) constinit std::uint8_t kernel_stack[stack_size]{};

// A 64-bit task state segment (Intel SDM volume 3, 9.7): the stack for exceptions at CPL 3, and a map in
// which every port is open. The fields of 64 bits lie on 4-byte boundaries.
struct TaskState {
  std::uint16_t reserved[2];
  std::uint32_t stack_low, stack_high;
  std::uint16_t others[45];
  std::uint16_t port_map;  // its offset
  std::uint8_t ports[8192];
  std::uint8_t end_of_ports;
};
constexpr std::uint16_t port_map_offset = 104;
constexpr std::uint16_t no_port_map = sizeof(TaskState);
static_assert(offsetof(TaskState, ports) == port_map_offset);
constinit TaskState task{};

void load_task() {
  if (task.stack_low != 0) return;  // a task is loaded once: it is busy from then on
  constexpr std::uint64_t available_task = 0x89ull << 40;
  task.end_of_ports = 0xff;
  task.stack_low = static_cast<std::uint32_t>(address_of(kernel_stack) + stack_size);
  const std::uint64_t base = address_of(&task);
  task_descriptor[0] =
      (sizeof(TaskState) - 1) | (base & 0xffffff) << 16 | available_task | (base >> 24) << 56;
  asm volatile("ltr %0" : : "r"(task_selector) : "memory");
}

}  // namespace

Exception catch_user_exception(Ports ports, Interrupts interrupts, void (*function)(const void*),
                               const void* context) {
  load_task();
  task.port_map = ports == Ports::by_map ? port_map_offset : no_port_map;
  map_page_of(address_of(image_start), page::write | page::user);
  const Exception met = exception_in([&] {
    const std::uint64_t stack = address_of(user_stack) + stack_size - 8;
    write(stack, address_of(user_return));
    constexpr std::uint64_t io_privilege = 3 << 12;
    constexpr std::uint64_t interrupt_flag = 1 << 9;
    const std::uint64_t flags = 2 | (ports == Ports::by_privilege ? io_privilege : 0) |
                                (interrupts == Interrupts::on ? interrupt_flag : 0);
    enter_user(function, context, stack, flags);
  });
  return met.rip == address_of(user_return) ? Exception{} : met;
}

}  // namespace guest
