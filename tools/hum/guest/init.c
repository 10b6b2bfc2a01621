// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

// First process of a guest started by `hum run`: prepares the system, finds its job (job.h), runs it and ends
// the machine with its exit code.

// Where the kernel has /dev/port it makes the access itself: some hosts refuse a process's own, with SIGSEGV.
static void write_exit_port(int code) {
  const unsigned char byte = (unsigned char)code;
  int ports = open("/dev/port", O_WRONLY | O_CLOEXEC);
  if (ports >= 0 && pwrite(ports, &byte, 1, hum_exit_port) == 1) return;
  if (ioperm(hum_exit_port, 1, 1) == 0) outb(byte, hum_exit_port);
}

noreturn void finish(int code) {
  kill(-1, SIGKILL);
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
  }
  release_disks();
  tcdrain(STDERR_FILENO);
  write_exit_port(code);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

noreturn void fatal(const char* format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  dprintf(STDERR_FILENO, "hum: %s\n", text);
  finish(hum_exit_failure);
}

long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

void wait_a_moment(void) {
  const struct timespec moment = {.tv_nsec = 1000000};
  nanosleep(&moment, NULL);
}

char* read_file(const char* path, size_t* size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return NULL;
  size_t capacity = 4096;
  size_t used = 0;
  char* bytes = malloc(capacity);
  ssize_t count = 0;
  // The files of /proc have no size: read until the end.
  while (bytes != NULL && (count = read(file, bytes + used, capacity - used - 1)) > 0) {
    used += (size_t)count;
    if (capacity - used > 1) continue;
    capacity *= 2;
    bytes = realloc(bytes, capacity);
  }
  close(file);
  if (bytes == NULL || count < 0) return NULL;
  bytes[used] = '\0';
  *size = used;
  return bytes;
}

static void mount_system(const char* type, const char* folder, const char* options) {
  mkdir(folder, 0755);
  if (mount(type, folder, type, MS_NOSUID | (strcmp(type, "devtmpfs") == 0 ? 0 : MS_NODEV), options) != 0 &&
      errno != EBUSY) {
    fatal("cannot mount %s on %s: %s", type, folder, strerror(errno));
  }
}

static void mount_all(void) {
  mount_system("proc", "/proc", NULL);
  mount_system("sysfs", "/sys", NULL);
  mount_system("devtmpfs", "/dev", "mode=755");
  mkdir("/dev/pts", 0755);
  // Terminals are devices: no MS_NODEV.
  if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666") != 0) {
    fatal("cannot mount devpts: %s", strerror(errno));
  }
  mount_system("tmpfs", "/dev/shm", "mode=1777");
  mount_system("tmpfs", "/run", "mode=755");
  mount_system("tmpfs", "/tmp", "mode=1777");
  static const char* const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                         {"/proc/self/fd/0", "/dev/stdin"},
                                         {"/proc/self/fd/1", "/dev/stdout"},
                                         {"/proc/self/fd/2", "/dev/stderr"}};
  for (size_t i = 0; i < sizeof links / sizeof links[0]; ++i) (void)!symlink(links[i][0], links[i][1]);
}

// Drivers of the bus have found its devices when their modules are loaded.
static bool has_virtio_device(unsigned long type) {
  DIR* devices = opendir("/sys/bus/virtio/devices");
  struct dirent* entry = NULL;
  bool found = false;
  while (devices != NULL && !found && (entry = readdir(devices)) != NULL) {
    char path[sizeof entry->d_name + 64];
    snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", entry->d_name);
    size_t size = 0;
    char* text = read_file(path, &size);
    found = text != NULL && strtoul(text, NULL, 16) == type;
    free(text);
  }
  if (devices != NULL) closedir(devices);
  return found;
}

// A kernel may have built in or left out what the list names: a module that does not load is told, not fatal.
static void load_modules(void) {
  size_t size = 0;
  char* list = read_file(hum_modules_path, &size);
  char* rest = list;
  char* path = NULL;
  while (rest != NULL && (path = strsep(&rest, "\n")) != NULL) {
    if (*path == '\0') continue;
    char* type = path;
    strsep(&type, " ");
    if (type != NULL && !has_virtio_device(strtoul(type, NULL, 10))) continue;
    int module = open(path, O_RDONLY | O_CLOEXEC);
    if (module < 0 || (syscall(SYS_finit_module, module, "", 0) != 0 && errno != EEXIST)) {
      int reason = errno;
      int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
      dprintf(log, "<4>hum: module %s: %s\n", path, strerror(reason));
      close(log);
    }
    close(module);
  }
}

void raise_interface(const char* name) {
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_flags = 0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (control >= 0) {
    if (ioctl(control, SIOCGIFFLAGS, &request) == 0) {
      request.ifr_flags |= IFF_UP;
      ioctl(control, SIOCSIFFLAGS, &request);
    }
    close(control);
  }
}

static void set_environment(const struct hum_job* job) {
  const char* terminal = getenv("TERM");
  char* kept = strdup(terminal != NULL ? terminal : "linux");
  // The kernel hands over words of its command line as variables.
  clearenv();
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  setenv("USER", "root", 1);
  setenv("TERM", kept, 1);
  for (char** variable = job->environment; *variable != NULL; ++variable) putenv(*variable);
}

// Returns if the disk has no init that can be started.
static void become_init(void) {
  const char* named = kernel_option("init");
  const char* path = named != NULL ? named : "/sbin/init";
  execl(path, path, (char*)NULL);
  if (named != NULL) fatal("cannot start init=%s: %s", path, strerror(errno));
}

int main(void) {
  if (getpid() != 1) {
    dprintf(STDERR_FILENO, "hum: this is the first process of a guest, not a command\n");
    return hum_exit_failure;
  }
  mount_all();
  load_modules();
  raise_interface("lo");

  size_t size = 0;
  char* bytes = read_file(hum_job_path, &size);
  struct hum_job job;
  const char* problem = hum_job_parse(bytes, size, &job);
  if (problem != NULL) fatal("cannot understand the job in %s: %s", hum_job_path, problem);
  sethostname(job.hostname, strlen(job.hostname));

  const bool disk = switch_to_root_disk();
  set_environment(&job);
  if (disk && *job.arguments == NULL) become_init();
  signal(SIGPIPE, SIG_IGN);
  if (job.network) start_network();
  finish(*job.arguments != NULL ? run_command(&job) : run_shell(&job));
}
