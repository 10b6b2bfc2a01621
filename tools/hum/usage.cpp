// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/usage.h"

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace hum {
namespace {

// "run, kernel or devices"
std::string commands_of(const CLI::App& app) {
  const auto all = app.get_subcommands([](const CLI::App* /*any*/) { return true; });
  std::string names;
  for (std::size_t i = 0; i < all.size(); ++i)
    names += (i == 0 ? "" : i + 1 == all.size() ? " or " : ", ") + all[i]->get_name();
  return names;
}

bool takes_commands(const CLI::App& app) {
  return app.get_require_subcommand_min() > 0;
}

ConfigError not_understood(const CLI::App& app, const std::string& word, const std::string& help) {
  if (word.starts_with('-')) {
    const std::size_t equals = word.find('=');
    return {word.substr(0, equals), equals == std::string::npos ? "" : word.substr(equals + 1),
            "there is no such option", help};
  }
  if (takes_commands(app))
    return {"command", word, "there is no such command", "give " + commands_of(app) + "; " + help};
  if (app.get_name() == "run")
    return {"argument", word, "not accepted",
            "a command for the guest stands behind --, as in: hum run -- " + word + "; " + help};
  return {"argument", word, "not accepted", help};
}

}  // namespace

ConfigError usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* at = &app;
  std::string help = "see '" + app.get_name();
  // A command that falls through leaves to those above it what it does not know.
  std::vector<std::string> words = app.remaining();
  while (!at->get_subcommands().empty() &&
         (words.empty() || at->get_subcommands().front()->get_fallthrough())) {
    at = at->get_subcommands().front();
    if (words.empty()) words = at->remaining();
    help += " " + at->get_name();
  }
  help += " --help'";
  if (!words.empty()) return not_understood(*at, words.front(), help);
  if (takes_commands(*at) && at->get_subcommands().empty())
    return {"command", "", "none is given", "give " + commands_of(*at) + "; " + help};

  const std::string message = error.what();
  for (const CLI::Option* const option : at->get_options()) {
    const std::string name = option->get_name();
    const bool missing = option->get_required() && option->count() == 0;
    const bool without_value = error.get_name() == "ArgumentMismatch" && message.starts_with(name + ":");
    if (missing || without_value)
      return {name, "", "no value is given (" + option->get_description() + ")", help};
  }
  // "--option: what is wrong", or "Could not convert: --option = value"
  const std::size_t colon = message.find(": ");
  if (colon == std::string::npos) return {"command line", "", message, help};
  const std::string rest = message.substr(colon + 2);
  const std::size_t equals = rest.find(" = ");
  if (error.get_name() == "ConversionError" && equals != std::string::npos)
    return {rest.substr(0, equals), rest.substr(equals + 3), "not accepted", help};
  return {message.substr(0, colon), "", rest, help};
}

}  // namespace hum
