// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/usage.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "tools/hum/run_command.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

// What `hum WORDS...` answers; empty if it is understood.
std::string answer_to(std::vector<std::string> words) {
  CLI::App app("", "hum");
  app.require_subcommand(1);
  app.fallthrough(false);
  RunOptions options;
  add_run_options(*app.add_subcommand("run", ""), options);
  CLI::App& kernel = *app.add_subcommand("kernel", "");
  kernel.require_subcommand(1);
  std::string flavour;
  kernel.add_subcommand("get", "")->add_option("--flavour", flavour)->check(CLI::IsMember({"cloud"}));
  CLI::App& vm = *app.add_subcommand("vm", "");
  vm.require_subcommand(1);
  vm.fallthrough();
  vm.add_flag("--no-start");
  vm.add_subcommand("ls", "");
  std::string shell;
  app.add_subcommand("completion", "")->add_option("shell", shell, "bash or zsh")->required();
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error).what();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("an unknown option is named, and where the known ones are explained") {
  CHECK(answer_to({"run", "--bogus"}) == "--bogus: there is no such option; see 'hum run --help'");
  CHECK(answer_to({"run", "--bogus=3"}) == "--bogus '3': there is no such option; see 'hum run --help'");
  CHECK(answer_to({"run", "-X"}) == "-X: there is no such option; see 'hum run --help'");
  CHECK(answer_to({"--bogus", "run"}) == "--bogus: there is no such option; see 'hum --help'");
}

TEST_CASE("an unknown or missing command is answered with those there are") {
  CHECK(answer_to({"bogus"}) ==
        "command 'bogus': there is no such command; give run, kernel, vm or completion; see 'hum --help'");
  CHECK(answer_to({}) == "command: none is given; give run, kernel, vm or completion; see 'hum --help'");
  CHECK(answer_to({"vm", "bogus"}) ==
        "command 'bogus': there is no such command; give ls; see 'hum vm --help'");
  CHECK(answer_to({"vm", "ls", "--bogus"}) == "--bogus: there is no such option; see 'hum vm ls --help'");
  CHECK(answer_to({"vm", "ls", "bogus"}) == "argument 'bogus': not accepted; see 'hum vm ls --help'");
  CHECK(answer_to({"vm", "ls", "--no-start"}).empty());
  CHECK(answer_to({"kernel"}) == "command: none is given; give get; see 'hum kernel --help'");
}

TEST_CASE("a guest's command without -- is told where it stands") {
  const std::string answer = answer_to({"run", "uname", "-a"});
  CHECK(contains(answer, "argument 'uname': not accepted"));
  CHECK(contains(answer, "hum run -- uname"));
}

TEST_CASE("a missing value and a wrong one are told with what is accepted") {
  const std::string disk = answer_to({"run", "--disk"});
  CHECK(contains(disk, "--disk: no value is given (a disk: PATH"));
  CHECK(contains(disk, "see 'hum run --help'"));
  CHECK(answer_to({"completion"}) == "shell: no value is given (bash or zsh); see 'hum completion --help'");
  CHECK(answer_to({"run", "--timeout", "1h"}) ==
        "timeout '1h': not accepted; give a whole number from 0 to 31622400");
  CHECK(answer_to({"run", "--no-rng=x"}) == "--no-rng 'x': not accepted; see 'hum run --help'");
  CHECK(contains(answer_to({"kernel", "get", "--flavour", "x"}), "--flavour: x not in"));
}

TEST_CASE("what is well said has no answer") {
  CHECK(answer_to({"run", "--timeout", "0", "--stop-timeout", "31622400"}).empty());
}

}  // namespace hum
