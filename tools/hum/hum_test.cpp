// SPDX-License-Identifier: Apache-2.0
// The parts of the program that need no guest.
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/hum/completion.h"
#include "tools/hum/exit_codes.h"
#include "tools/hum/run_command.h"
#include "tools/hum/stdio_console.h"
#include "tools/hum/terminal.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(const std::vector<std::byte>& data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

bool is_raw(int terminal) {
  termios settings{};
  REQUIRE(::tcgetattr(terminal, &settings) == 0);
  return (settings.c_lflag & ICANON) == 0;
}

}  // namespace

TEST_CASE("what is typed passes through, Ctrl-A x leaves, Ctrl-A Ctrl-A is one Ctrl-A") {
  EscapeFilter filter;
  std::vector<std::byte> out;
  CHECK(filter.filter(bytes("ab\x01\x01"), out) == EscapeFilter::Action::none);
  CHECK(text_of(out) == "ab\x01");
  CHECK(filter.filter(bytes("\x01"), out) == EscapeFilter::Action::none);
  CHECK(filter.filter(bytes("h"), out) == EscapeFilter::Action::help);
  CHECK(filter.filter(bytes("c\x01x"), out) == EscapeFilter::Action::leave);
  CHECK(text_of(out) ==
        "ab\x01"
        "c");
}

TEST_CASE("the guest's exit code is the program's, and a failure never becomes a success") {
  EndRecord record;
  record.cause = EndCause::debug_exit;
  for (const auto& [code, expected] :
       {std::pair(0u, 0), std::pair(7u, 7), std::pair(255u, 255), std::pair(256u, 1), std::pair(257u, 1)}) {
    record.guest_exit_code = code;
    CHECK(exit_code_of(record) == expected);
  }
  record.cause = EndCause::panic;
  CHECK(exit_code_of(record) == exit_panic);
}

TEST_CASE("completion names every subcommand and option, for three shells") {
  CLI::App app("", "hum");
  RunOptions options;
  add_run_options(*app.add_subcommand("run", ""), options);
  for (const char* shell : {"bash", "zsh"}) {
    const std::string script = completion_script(app, shell);
    for (const char* word : {"run", "--kernel", "--memory", "--no-rng", "--net", "--publish"})
      CHECK(script.find(word) != std::string::npos);
  }
  CHECK(completion_script(app, "fish").find("-l kernel") != std::string::npos);
  CHECK_THROWS_AS(completion_script(app, "csh"), ConfigError);
}

TEST_CASE("an empty command line is one, not the default") {
  const auto cmdline_after = [](std::vector<std::string> words) {
    CLI::App app("", "hum");
    RunOptions options;
    add_run_options(*app.add_subcommand("run", ""), options);
    std::reverse(words.begin(), words.end());
    app.parse(words);
    return options.cmdline;
  };
  CHECK(cmdline_after({"run", "--cmdline", ""}) == std::optional<std::string>(""));
  CHECK(cmdline_after({"run", "--cmdline", "a b"}) == std::optional<std::string>("a b"));
  CHECK_FALSE(cmdline_after({"run"}).has_value());
}

TEST_CASE("a raw terminal is restored at the end, and by its watcher if the process is killed") {
  int controller = -1;
  int terminal = -1;
  REQUIRE(::openpty(&controller, &terminal, nullptr, nullptr, nullptr) == 0);
  const Fd controller_owner(controller);
  const Fd terminal_owner(terminal);
  const auto use_terminal = [&](auto&& body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child != 0) return child;
    ::dup2(terminal, 0);
    body();
    ::_exit(0);
  };
  ::waitpid(use_terminal([] {
              const RawTerminal raw(0);
              if (!is_raw(0)) ::_exit(1);
            }),
            nullptr, 0);
  CHECK_FALSE(is_raw(terminal));
  const pid_t killed = use_terminal([] {
    const RawTerminal raw(0);
    ::kill(::getpid(), SIGKILL);
  });
  int status = 0;
  ::waitpid(killed, &status, 0);
  CHECK(WTERMSIG(status) == SIGKILL);
  for (int i = 0; i < 1000 && is_raw(terminal); ++i) ::usleep(1000);
  CHECK_FALSE(is_raw(terminal));
}

}  // namespace hum
