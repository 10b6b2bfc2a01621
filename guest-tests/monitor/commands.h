// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "guest-tests/runtime/text.h"

namespace guest {

// Notes the time the monitor was started, for uptime.
void begin_uptime();

// Carries out one line. An empty one does nothing.
void run_command(Text line);

}  // namespace guest
