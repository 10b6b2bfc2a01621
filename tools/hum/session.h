// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "tools/hum/stdio_console.h"
#include "tools/hum/terminal.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/machine/vm.h"

namespace hum {

// What the program's own descriptors are to a VM that runs in the foreground.
struct SessionOptions {
  enum class Console : std::uint8_t { stdio, none, file };
  Console console = Console::stdio;
  std::string console_file;            // with Console::file
  int control_fd = -1;                 // our end of the guest's hum.control port; -1: no command runs
  std::map<int, std::string> outputs;  // where the command's output goes, with the names of its ports
  bool command_on_terminal = false;    // the command's input and output are this terminal
  unsigned stop_timeout = 10;          // seconds between the power button and the kill
  unsigned timeout = 0;                // seconds until the VM is ended; 0: never
};

// Runs one VM in the foreground, from start to end: terminal, console, signals, time-outs. SIGTERM and SIGHUP
// press the power button and end the VM after the time-out; SIGINT does the same, or goes to the command.
// Once the VM has ended, what it had put out is delivered however slow its readers are, until a signal, the
// time-out or Ctrl-A x gives that up. Where a device wants a pause, the VM is paused and goes on by itself
// when what failed succeeds. The calling thread is the VM's owner and has the session's signals blocked
// (block_session_signals).
class Session {
 public:
  // Throws ConfigError (console file), HostError.
  Session(Vm& vm, SessionOptions options);
  // Waits for no reader, if run was left by an exception.
  ~Session() { give_up_.signal(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Returns the exit code for the program.
  int run();

 private:
  void open_console();
  void on_signal();
  void stop_gently(int signal);
  void end_now(EndCause cause, const std::string& detail);
  void on_pause_wanted();
  void try_again();
  void deliver_output();
  void hear_command();
  void heed(const std::string& line);
  void watch_output(int fd, const std::string& port);
  void tell_command(const std::string& line);
  void send_window_size();
  void arm(const Timer& timer, unsigned seconds, std::function<void()> action);

  Vm& vm_;
  SessionOptions options_;
  EventLoop loop_;
  Fd signals_;
  Timer stop_timer_;
  Timer timeout_timer_;
  Timer retry_timer_;
  Fd console_file_;
  std::optional<RawTerminal> terminal_;
  std::optional<ConsoleOutput> output_;
  std::optional<StandardInput> input_;
  enum class Command : std::uint8_t { none, runs, ended };
  Command command_ = Command::none;  // what is known of it
  std::string heard_;                // from it: the beginning of a line
  bool stopping_ = false;            // a signal has asked the guest to stop
  bool pause_told_ = false;          // the user knows of the pause, but not yet of its end
  std::optional<int> exit_code_;     // where we ended the VM or gave up its output
  EventFd give_up_;
  std::optional<IoThread> end_thread_;  // since the VM's end: waits for the readers of its output
};

// Blocks the signals that a session serves, before any thread starts.
void block_session_signals();

}  // namespace hum
