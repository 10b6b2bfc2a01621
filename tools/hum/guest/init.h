// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdnoreturn.h>

#include "tools/hum/guest/job.h"

// What the parts of the guest's first process share. One thread; nothing is freed, since finish ends the
// machine.

// Ends every other process, writes disks out, hands the code to the exit port and powers off. (init.c)
noreturn void finish(int code);

// Says on the console what went wrong and finishes with hum_exit_failure. (init.c)
__attribute__((format(printf, 1, 2))) noreturn void fatal(const char* format, ...);

// Milliseconds since the kernel started. (init.c)
long long now(void);

// Sleeps a millisecond: the step of everything that waits for a device. (init.c)
void wait_a_moment(void);

// The whole of a file and its size, with a zero byte behind; null if it cannot be read. (init.c)
char* read_file(const char* path, size_t* size);

// The value of "key=" on the kernel's command line (the last one), or null. `ro` and the like: key without
// "=", the answer is then the empty text. (root.c)
const char* kernel_option(const char* key);

// Makes the disk named by root= the root, if one is named; true if so. (root.c)
bool switch_to_root_disk(void);
extern bool root_is_disk;  // what it has answered

// Switches an interface on. (init.c)
void raise_interface(const char* name);

// Begins to get every Ethernet interface an address; await_network waits so many milliseconds at most until
// one has got it. (network.c)
void start_network(void);
void await_network(int patience);

// Unmounts disks, or makes them read-only where they are in use: their file systems are clean afterwards.
// (root.c)
void release_disks(void);

// Runs the job's command on the ports and answers its exit code. (command.c)
int run_command(const struct hum_job* job);

// Runs a shell on the console and answers its exit code. (command.c)
int run_shell(const struct hum_job* job);
