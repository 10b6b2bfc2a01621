// SPDX-License-Identifier: Apache-2.0
// The guest's end of the scenario "vmm", over AF_VSOCK.
//   vsock_peer echo PORT          sends back what comes on each connection
//   vsock_peer check PORT COUNT   COUNT connections to the host, open at once: is sent back what goes there?
#include <linux/vm_sockets.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { piece_size = 4096, pieces = 16 };

static bool write_all(int to, const unsigned char* bytes, size_t size) {
  while (size > 0) {
    ssize_t count = write(to, bytes, size);
    if (count <= 0) return false;
    bytes += count;
    size -= (size_t)count;
  }
  return true;
}

static bool read_all(int from, unsigned char* bytes, size_t size) {
  while (size > 0) {
    ssize_t count = read(from, bytes, size);
    if (count <= 0) return false;
    bytes += count;
    size -= (size_t)count;
  }
  return true;
}

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static void echo(unsigned port) {
  struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
  int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (struct sockaddr*)&here, sizeof here) != 0 ||
      listen(listener, 128) != 0) {
    fail("listen");
  }
  printf("the guest listens\n");
  fflush(stdout);
  int connection = -1;
  while ((connection = accept(listener, NULL, NULL)) >= 0) {
    if (fork() == 0) {
      unsigned char bytes[piece_size];
      ssize_t count = 0;
      while ((count = read(connection, bytes, sizeof bytes)) > 0 &&
             write_all(connection, bytes, (size_t)count)) {
      }
      _exit(0);
    }
    close(connection);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
  fail("accept");
}

// What each connection sends is its own.
static bool is_sent_back(int connection, unsigned number) {
  unsigned char sent[piece_size];
  unsigned char got[piece_size];
  for (unsigned piece = 0; piece < pieces; ++piece) {
    for (size_t i = 0; i < sizeof sent; ++i) sent[i] = (unsigned char)(i * 7 + piece * 31 + number * 131);
    if (!write_all(connection, sent, sizeof sent) || !read_all(connection, got, sizeof got)) return false;
    if (memcmp(sent, got, sizeof sent) != 0) return false;
  }
  return true;
}

static void check(unsigned port, unsigned count) {
  int connected[2];  // a byte from each child
  int go[2];         // ends when all are connected
  if (pipe(connected) != 0 || pipe(go) != 0) fail("pipe");
  for (unsigned number = 0; number < count; ++number) {
    if (fork() != 0) continue;
    close(go[1]);
    struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_HOST};
    int connection = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr*)&host, sizeof host) != 0) fail("connect");
    unsigned char byte = 0;
    if (!write_all(connected[1], &byte, 1)) fail("pipe");
    (void)!read(go[0], &byte, 1);
    exit(is_sent_back(connection, number) ? 0 : 1);
  }
  close(connected[1]);
  unsigned open_at_once = 0;
  unsigned char byte = 0;
  while (open_at_once < count && read(connected[0], &byte, 1) == 1) ++open_at_once;
  close(go[1]);
  unsigned good = 0;
  int status = 0;
  while (wait(&status) > 0) good += status == 0;
  printf("to the host: %u connections at once, %u echoed\n", open_at_once, good);
  fflush(stdout);
}

int main(int count, char** arguments) {
  if (count == 3 && strcmp(arguments[1], "echo") == 0) {
    echo((unsigned)strtoul(arguments[2], NULL, 10));
  } else if (count == 4 && strcmp(arguments[1], "check") == 0) {
    check((unsigned)strtoul(arguments[2], NULL, 10), (unsigned)strtoul(arguments[3], NULL, 10));
  } else {
    fprintf(stderr, "vsock_peer echo PORT | check PORT COUNT\n");
    return 2;
  }
  return 0;
}
