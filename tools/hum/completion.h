// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace hum {

// A completion script for a shell ("bash", "zsh" or "fish"), made from the declared subcommands and options.
// Throws ConfigError for another shell.
std::string completion_script(const CLI::App& app, std::string_view shell);

}  // namespace hum
