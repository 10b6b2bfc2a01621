// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace CLI {
class App;
}

namespace hum {

// `hum probe`: can this host run a distribution's kernel? Prints "native" (exit code 0), "emulated" (1: KVM
// emulates supervisor code) or "none" (2: no usable KVM, the reason on standard error).
void add_probe_command(CLI::App& app, int& exit_code);

}  // namespace hum
