// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/base/errors.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace hum {

// What was wrong with a command line that `app` could not parse, in the words of every other wrong request:
// the option, its value, what is accepted and where it is explained.
ConfigError usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace hum
