// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdbool.h>
#include <stddef.h>

// What `hum run` and the guest's first process (init.c) agree on. Read by C and by C++.
//
// The job is the file hum_job_path of the initrd: a sequence of texts, each ended by a zero byte. The first
// is hum_job_magic; each other one is "key=value":
//   argument=TEXT      the command's words in order; none at all: a shell, or the init of the root disk
//   environment=N=V    one variable for the command or the shell, added to PATH, HOME, USER and TERM
//   directory=PATH     where the command starts ("/" if absent; "/root" for a shell)
//   hostname=NAME      ("hum" if absent)
//   terminal=ROWS COLUMNS   the command gets a pseudo terminal of this size as its controlling terminal; of a
//                           shell, the size of the serial console
//   network=MILLISECONDS    Ethernet interfaces get addresses by DHCP; the command or the shell waits so long
//                           for the first of them
// An unknown key is an error. Without a file there is a job with "network=0" alone.
//
// The command's standard streams are virtio-console ports of the names below. hum_port_control speaks in
// lines:
//   to the guest:    winsize ROWS COLUMNS    size of the pseudo terminal
//                    signal NUMBER           to the foreground process group; when the command has ended,
//                                            output that nobody takes is given up: exit code 128 + NUMBER
//                    closed PORT             nobody reads that output: the next write to it gets SIGPIPE
//   from the guest:  ready                   the command has been started
//                    ended                   it has ended; what it has put out is still being passed on
// The host opens its side of a port before the guest does. When it closes a port, the guest's reader sees the
// end of the file and the guest's writer SIGPIPE. Init closes all ports before it writes the exit code.
//
// The exit code is one byte written to hum_exit_port: the command's own, 128 + N for a command ended by
// signal N, hum_exit_not_executable, hum_exit_not_found, or hum_exit_failure (the reason is on the console).

static const char hum_job_path[] = "/hum/job";
static const char hum_job_magic[] = "hum-job 1";
static const char hum_modules_path[] =
    "/hum/modules";  // in load order, a line each: path [virtio device type]

static const char hum_port_stdin[] = "hum.stdin";
static const char hum_port_stdout[] = "hum.stdout";
static const char hum_port_stderr[] = "hum.stderr";  // not used with a terminal
static const char hum_port_control[] = "hum.control";

enum {
  hum_exit_port = 0xf4,
  hum_exit_failure = 125,
  hum_exit_not_executable = 126,
  hum_exit_not_found = 127,
};

// A job as the guest sees it. The texts are inside the bytes that were parsed.
struct hum_job {
  char** arguments;    // ends with a null pointer
  char** environment;  // likewise
  const char* directory;
  const char* hostname;
  bool terminal;
  unsigned short rows;
  unsigned short columns;
  bool network;
  unsigned short network_patience;  // milliseconds
};

#ifdef __cplusplus
extern "C" {
#endif

// Fills *job from the file's bytes, which stay in use. Null, or what is wrong. The two lists are allocated
// and never freed: there is one job in the life of an init.
const char* hum_job_parse(char* bytes, size_t size, struct hum_job* job);

#ifdef __cplusplus
}
#endif
