// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

const char* kernel_option(const char* key) {
  size_t size = 0;
  char* rest = read_file("/proc/cmdline", &size);
  const char* found = NULL;
  char* word = NULL;
  while ((word = strsep(&rest, " \n")) != NULL) {
    size_t length = strlen(key);
    if (strncmp(word, key, length) != 0) continue;
    if (word[length] == '=') found = word + length + 1;
    if (word[length] == '\0') found = "";
  }
  return found;
}

// Tries the types that the kernel knows for disks, or the one that was asked for.
static bool mount_disk(const char* device, const char* folder, unsigned long flags) {
  const char* asked = kernel_option("rootfstype");
  const char* options = kernel_option("rootflags");
  if (asked != NULL) return mount(device, folder, asked, flags, options) == 0;
  size_t size = 0;
  char* rest = read_file("/proc/filesystems", &size);
  char* line = NULL;
  int reason = ENODEV;
  while ((line = strsep(&rest, "\n")) != NULL) {
    if (*line != '\t') continue;  // "nodev NAME"
    if (mount(device, folder, line + 1, flags | MS_SILENT, options) == 0) return true;
    if (errno != EINVAL) reason = errno;
  }
  errno = reason;
  return false;
}

// Frees the memory of the initrd's files: below the folder, on its file system only.
static void remove_contents(int folder, dev_t device) {
  DIR* entries = fdopendir(folder);
  struct dirent* entry = NULL;
  while (entries != NULL && (entry = readdir(entries)) != NULL) {
    const char* name = entry->d_name;
    struct stat status;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || status.st_dev != device) continue;
    if (!S_ISDIR(status.st_mode)) {
      unlinkat(folder, name, 0);
      continue;
    }
    int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner >= 0) remove_contents(inner, device);
    unlinkat(folder, name, AT_REMOVEDIR);
  }
  if (entries != NULL) closedir(entries);
}

static void carry_mount(const char* from, const char* to) {
  mkdir(to, 0755);  // fails if it is there or the disk is read-only
  if (mount(from, to, NULL, MS_MOVE, NULL) != 0) umount2(from, MNT_DETACH);
}

bool root_is_disk = false;

bool switch_to_root_disk(void) {
  const char* device = kernel_option("root");
  if (device == NULL) return false;
  if (*device != '/') fatal("root=%s: only a path such as /dev/vda is understood", device);
  for (const long long end = now() + 10000; access(device, F_OK) != 0;) {
    if (now() > end) fatal("root=%s: no such device after 10 s; is the disk attached?", device);
    wait_a_moment();
  }
  // Of ro and rw the kernel takes the last; whoever gives both gets the safe one.
  const unsigned long flags = kernel_option("ro") != NULL ? MS_RDONLY : 0;
  mkdir("/newroot", 0755);
  if (!mount_disk(device, "/newroot", flags)) {
    fatal("cannot mount root=%s: %s; is it a file system that the kernel knows (rootfstype=)?", device,
          strerror(errno));
  }
  carry_mount("/dev", "/newroot/dev");
  carry_mount("/proc", "/newroot/proc");
  carry_mount("/sys", "/newroot/sys");
  carry_mount("/run", "/newroot/run");
  struct stat status;
  int old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (old_root >= 0 && fstat(old_root, &status) == 0) remove_contents(old_root, status.st_dev);
  if (chdir("/newroot") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
      chdir("/") != 0) {
    fatal("cannot make %s the root: %s", device, strerror(errno));
  }
  root_is_disk = true;
  return true;
}

void release_disks(void) {
  sync();
  size_t size = 0;
  char* mounts = read_file("/proc/self/mounts", &size);
  // "DEVICE FOLDER TYPE ...", the latest mount last: go backwards, line by line.
  while (mounts != NULL && size > 0) {
    mounts[--size] = '\0';
    char* line = strrchr(mounts, '\n');
    line = line != NULL ? line + 1 : mounts;
    size = (size_t)(line - mounts);
    if (*line != '/') continue;
    strsep(&line, " ");
    const char* folder = strsep(&line, " ");
    if (folder != NULL && umount2(folder, 0) != 0) mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL);
  }
}
