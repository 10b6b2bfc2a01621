// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// Bytes under way from one descriptor to another, both non-blocking and owned. `to` is -1 once it has ended;
// `from` is -1 once nothing more comes while the rest is being written.
struct channel {
  int from;
  int to;
  bool to_terminal;  // the end of the input is a character there
  size_t budget;     // bytes that may still be read
  size_t start;
  size_t end;
  char bytes[32 * 1024];  // a port takes no more at once
};

enum { input, output, errors, channel_count };

static struct channel channels[channel_count] = {{.from = -1, .to = -1, .budget = SIZE_MAX},
                                                 {.from = -1, .to = -1, .budget = SIZE_MAX},
                                                 {.from = -1, .to = -1, .budget = SIZE_MAX}};
static int control_port = -1;
static int terminal = -1;  // the pseudo terminal's master, with a terminal
static pid_t child = -1;   // -1 again when it has ended
static int exit_code = hum_exit_failure;
static int failed_start =
    -1;  // the child writes here if it cannot run the command; a successful exec closes it

// --- Ports ---

static bool find_port(const char* name, char* device, size_t size) {
  static const char folder[] = "/sys/class/virtio-ports";
  const size_t length = strlen(name);
  DIR* ports = opendir(folder);
  if (ports == NULL) return false;
  bool found = false;
  struct dirent* entry = NULL;
  while (!found && (entry = readdir(ports)) != NULL) {
    char path[320];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/%s/name", folder, entry->d_name);
    char* text = read_file(path, &count);
    found = text != NULL && count == length + 1 && memcmp(text, name, length) == 0;
    free(text);
    if (found) snprintf(device, size, "/dev/%s", entry->d_name);
  }
  closedir(ports);
  return found;
}

static bool host_connected(int port) {
  struct pollfd status = {.fd = port};
  return poll(&status, 1, 0) == 0 || (status.revents & POLLHUP) == 0;
}

// Names and the host's side of ports arrive some time after the driver. patience: milliseconds until a port
// that the host has not opened counts as one that it has closed.
static int open_port(const char* name, int patience) {
  char device[300];
  long long end = now() + 10000;
  while (!find_port(name, device, sizeof device)) {
    if (now() > end) fatal("no virtio-console port named '%s' after 10 s", name);
    wait_a_moment();
  }
  int port = -1;
  // The name may be there before the node.
  while ((port = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0) {
    if (now() > end) fatal("cannot open the port '%s' (%s): %s", name, device, strerror(errno));
    wait_a_moment();
  }
  end = now() + patience;
  while (!host_connected(port) && now() < end) wait_a_moment();
  return port;
}

// --- Channels ---

static void close_descriptor(int* descriptor) {
  if (*descriptor >= 0) close(*descriptor);
  *descriptor = -1;
}

static void end_channel(struct channel* channel) {
  close_descriptor(&channel->from);
  close_descriptor(&channel->to);
  channel->start = channel->end = 0;
}

static bool is_temporary(int reason) {
  return reason == EAGAIN || reason == EINTR;
}

// Reads into the empty buffer. From a command that has ended nothing comes later.
static void fill(struct channel* channel) {
  const size_t most = channel->budget < sizeof channel->bytes ? channel->budget : sizeof channel->bytes;
  ssize_t count = read(channel->from, channel->bytes, most);
  if (count < 0 && is_temporary(errno) && child > 0) return;
  channel->start = 0;
  channel->end = count > 0 ? (size_t)count : 0;
  channel->budget -= channel->end;
  if (count > 0 && channel->budget > 0) return;
  close_descriptor(&channel->from);
  if (count <= 0 && channel->to_terminal) {
    channel->bytes[0] = 4;  // VEOF of a new terminal
    channel->end = 1;
  }
}

static void empty(struct channel* channel) {
  ssize_t count = 0;
  while (channel->start < channel->end &&
         (count = write(channel->to, channel->bytes + channel->start, channel->end - channel->start)) > 0) {
    channel->start += (size_t)count;
  }
  const bool done = channel->start == channel->end;
  if ((done && channel->from < 0) || (!done && count < 0 && !is_temporary(errno))) end_channel(channel);
}

// Two entries: where the channel reads, and where it writes (watched always, for its end).
static void ask(const struct channel* channel, struct pollfd polled[2]) {
  const bool full = channel->start < channel->end;
  polled[0] = (struct pollfd){.fd = full ? -1 : channel->from, .events = POLLIN};
  polled[1] = (struct pollfd){.fd = channel->to, .events = full ? POLLOUT : 0};
}

static void serve(struct channel* channel, const struct pollfd polled[2]) {
  if ((polled[1].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    end_channel(channel);
    return;
  }
  if (polled[0].revents != 0) fill(channel);
  if (channel->to >= 0 && (polled[0].revents != 0 || polled[1].revents != 0)) empty(channel);
}

// Moves what a command that has ended has left, as far as it is taken at once.
static void finish_channel(struct channel* channel) {
  while (channel->from >= 0 && channel->start == channel->end) {
    fill(channel);
    empty(channel);
  }
}

// --- Control lines ---

static void deliver(int number) {
  if (child > 0) {
    pid_t group = terminal >= 0 ? tcgetpgrp(terminal) : child;
    kill(-(group > 0 ? group : child), number);
  } else {
    exit_code = 128 + number;
    for (int i = 0; i < channel_count; ++i) end_channel(&channels[i]);
  }
}

static void obey(const char* line) {
  unsigned short rows = 0;
  unsigned short columns = 0;
  int number = 0;
  if (sscanf(line, "winsize %hu %hu", &rows, &columns) == 2) {
    const struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (terminal >= 0) ioctl(terminal, TIOCSWINSZ, &size);
  } else if (sscanf(line, "signal %d", &number) == 1) {
    deliver(number);
  } else if (strncmp(line, "closed ", strlen("closed ")) == 0) {
    const char* port = line + strlen("closed ");
    if (strcmp(port, hum_port_stdout) == 0) end_channel(&channels[output]);
    if (strcmp(port, hum_port_stderr) == 0) end_channel(&channels[errors]);
  }
}

static void read_control(void) {
  static char text[256];
  static size_t used = 0;
  ssize_t count = read(control_port, text + used, sizeof text - 1 - used);
  if (count == 0 || (count < 0 && !is_temporary(errno))) close_descriptor(&control_port);
  if (count <= 0) return;
  used += (size_t)count;
  text[used] = '\0';
  char* line = text;
  for (char* end = NULL; (end = strchr(line, '\n')) != NULL; line = end + 1) {
    *end = '\0';
    obey(line);
  }
  used = (size_t)(text + used - line);
  memmove(text, line, used);
  if (used == sizeof text - 1) used = 0;  // no line is that long
}

// --- Processes ---

// Takes over every process that has ended; true if the command was among them.
static bool reap(void) {
  bool ended = false;
  int status = 0;
  pid_t process = 0;
  while ((process = waitpid(-1, &status, WNOHANG)) > 0) {
    if (process != child) continue;
    exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    child = -1;
    ended = true;
  }
  return ended;
}

// In the child: there will be no command, for the reason in errno.
noreturn static void give_up(int code, const char* tried, const char* name) {
  dprintf(STDERR_FILENO, "hum: cannot %s '%s': %s\n", tried, name, strerror(errno));
  (void)!write(failed_start, "", 1);
  _exit(code);
}

// In the child: becomes the program, with the streams as 0 to 2, in a session of its own.
noreturn static void become(const char* file, char* const* arguments, const char* folder,
                            const int streams[3], bool controlling) {
  setsid();
  for (int i = 0; i < 3; ++i) dup2(streams[i], i);
  if (controlling) ioctl(STDIN_FILENO, TIOCSCTTY, 1);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  if (chdir(folder) != 0) give_up(hum_exit_failure, "enter the folder", folder);
  execvp(file, arguments);
  const bool absent = errno == ENOENT || errno == ENOTDIR;
  give_up(absent ? hum_exit_not_found : hum_exit_not_executable, "run", file);
}

static int valid(int descriptor, const char* what) {
  if (descriptor < 0) fatal("cannot make %s: %s", what, strerror(errno));
  return descriptor;
}

static int watch_children(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  return valid(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), "a signalfd");
}

// The child's end of a new pipe; init's end, non-blocking, goes to *own.
static int make_pipe(bool child_reads, int* own) {
  int ends[2] = {-1, -1};
  valid(pipe2(ends, O_CLOEXEC), "a pipe");
  *own = ends[child_reads ? 1 : 0];
  fcntl(*own, F_SETFL, O_NONBLOCK);
  return ends[child_reads ? 0 : 1];
}

// The child's side of a new pseudo terminal; init's side goes to `terminal`.
static int make_terminal(const struct hum_job* job) {
  const int unlocked = 0;
  const struct winsize size = {.ws_row = job->rows, .ws_col = job->columns};
  terminal = valid(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), "a terminal");
  ioctl(terminal, TIOCSPTLCK, &unlocked);
  ioctl(terminal, TIOCSWINSZ, &size);
  return valid(ioctl(terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), "a terminal");
}

// The command has ended: others may hold its output open and go on writing, but what counts is what is there
// now. A terminal does not tell how much that is; it holds less than 128 KiB.
static void expect_no_more(int* its_terminal) {
  (void)!write(control_port, "ended\n", strlen("ended\n"));
  end_channel(&channels[input]);
  if (its_terminal != NULL) close_descriptor(its_terminal);
  for (int i = output; i <= errors; ++i) {
    int held = 128 * 1024;
    if (its_terminal == NULL && ioctl(channels[i].from, FIONREAD, &held) != 0) held = 0;
    channels[i].budget = (size_t)held;
  }
}

int run_command(const struct hum_job* job) {
  // Of an input that the host has closed at once, "open" may not have been seen.
  channels[input].from = open_port(hum_port_stdin, 100);
  channels[output].to = open_port(hum_port_stdout, 10000);
  control_port = open_port(hum_port_control, 10000);
  int streams[3];
  if (job->terminal) {
    streams[0] = streams[1] = streams[2] = make_terminal(job);
    channels[input].to_terminal = true;
    channels[input].to = valid(fcntl(terminal, F_DUPFD_CLOEXEC, 0), "a terminal");
    channels[output].from = valid(fcntl(terminal, F_DUPFD_CLOEXEC, 0), "a terminal");
  } else {
    channels[errors].to = open_port(hum_port_stderr, 10000);
    streams[0] = make_pipe(true, &channels[input].to);
    streams[1] = make_pipe(false, &channels[output].from);
    streams[2] = make_pipe(false, &channels[errors].from);
  }
  const int ended_children = watch_children();
  int start[2] = {-1, -1};
  valid(pipe2(start, O_CLOEXEC), "a pipe");
  failed_start = start[1];
  await_network(job->network_patience);

  child = valid(fork(), "a process");
  if (child == 0) {
    const char* folder = job->directory != NULL ? job->directory : "/";
    become(job->arguments[0], job->arguments, folder, streams, job->terminal);
  }
  close(failed_start);
  char mark = 0;
  if (read(start[0], &mark, 1) == 0) (void)!write(control_port, "ready\n", strlen("ready\n"));
  close(start[0]);
  // The terminal stays open here: it must not hang up while the command lives.
  for (int i = 0; i < 3 && !job->terminal; ++i) close(streams[i]);

  while (child > 0 || channels[output].to >= 0 || channels[errors].to >= 0) {
    struct pollfd polled[2 + 2 * channel_count] = {{.fd = ended_children, .events = POLLIN},
                                                   {.fd = control_port, .events = POLLIN}};
    for (int i = 0; i < channel_count; ++i) ask(&channels[i], polled + 2 + 2 * i);
    poll(polled, sizeof polled / sizeof polled[0], -1);
    for (int i = 0; i < channel_count; ++i) serve(&channels[i], polled + 2 + 2 * i);
    if (polled[1].revents != 0) read_control();
    if (polled[0].revents != 0) {
      struct signalfd_siginfo ignored;
      while (read(ended_children, &ignored, sizeof ignored) > 0) {
      }
      if (reap()) expect_no_more(job->terminal ? &streams[0] : NULL);
    }
    if (child > 0) continue;
    for (int i = output; i <= errors; ++i) finish_channel(&channels[i]);
  }
  close_descriptor(&control_port);
  return exit_code;
}

// The terminal behind /dev/console, which itself cannot control a session.
static const char* console_path(void) {
  static char path[64] = "/dev/ttyS0";
  size_t size = 0;
  char* active = read_file("/sys/class/tty/console/active", &size);
  if (active == NULL || size < 2) return path;
  active[size - 1] = '\0';
  const char* last = strrchr(active, ' ');  // the last one is /dev/console
  snprintf(path, sizeof path, "/dev/%s", last != NULL ? last + 1 : active);
  return path;
}

int run_shell(const struct hum_job* job) {
  const char* path = console_path();
  int console = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (console < 0) fatal("cannot open the console %s: %s", path, strerror(errno));
  const struct winsize size = {.ws_row = job->rows, .ws_col = job->columns};
  if (job->terminal) ioctl(console, TIOCSWINSZ, &size);

  await_network(job->network_patience);
  struct utsname kernel = {.release = ""};
  uname(&kernel);
  dprintf(console, "Linux %s: 'exit CODE' ends the machine with that code.\n", kernel.release);
  child = valid(fork(), "a process");
  if (child == 0) {
    const int streams[3] = {console, console, console};
    char* const login[] = {"-sh", NULL};
    const char* folder = access("/root", X_OK) == 0 ? "/root" : "/";
    become("/bin/sh", login, job->directory != NULL ? job->directory : folder, streams, true);
  }
  int status = 0;
  pid_t process = 0;
  while ((process = waitpid(-1, &status, 0)) != child) {
    if (process < 0 && errno != EINTR) return hum_exit_failure;
  }
  tcdrain(console);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
