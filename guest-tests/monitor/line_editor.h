// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "guest-tests/runtime/text.h"

namespace guest {

// Receives from the serial port by interrupt from here on.
void begin_input();

// Reads one line, with backspace and Ctrl-U, echoing. Sleeps while there is no input. The text is valid until
// the next call.
Text read_line();

}  // namespace guest
