// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/exit_codes.h"

namespace hum {

int exit_code_of(const EndRecord& record) {
  switch (record.cause) {
    case EndCause::debug_exit: {
      // An exit status has 8 bits; a failure stays a failure when its low bits are zero.
      const std::uint32_t code = record.guest_exit_code.value_or(0);
      return code != 0 && (code & 0xff) == 0 ? 1 : static_cast<int>(code & 0xff);
    }
    case EndCause::power_off:
    case EndCause::reboot:
    case EndCause::killed:
    case EndCause::running:
      return exit_ok;
    case EndCause::panic:
      return exit_panic;
    case EndCause::triple_fault:
      return exit_triple_fault;
    case EndCause::internal_error:
      return exit_kvm_error;
    case EndCause::signal:
      return exit_signal;
    case EndCause::host_error:
      return exit_host_error;
  }
  return exit_host_error;
}

}  // namespace hum
