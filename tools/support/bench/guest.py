# SPDX-License-Identifier: Apache-2.0
"""Guests that take commands over their console: a root file system for them, and machines that run it."""

import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

from bench.report import NotMeasured

TICKS = os.sysconf("SC_CLK_TCK")
START_LIMIT = 30   # seconds until a guest is ready
LIMIT = 60         # seconds for one command
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox stty -F /dev/ttyS0 -echo -onlcr
exec </dev/ttyS0 >/dev/ttyS0 2>&1
cd /tmp
{begin}
echo READY
while read -r words && [ "$words" != end ]; do
  {command} $words
  echo DONE
done
/bin/busybox reboot -f
"""


def make_root(folder, program, command, begin=""):
    """An ext4 image with busybox, a program and the libraries that it needs. The guest begins with a line of shell, and
    runs the command with the words that it gets."""
    busybox, found = shutil.which("busybox"), shutil.which(program)
    if not busybox or not found or not shutil.which("mke2fs"):
        raise NotMeasured(f"there is no {program}, busybox or mke2fs here (group bench of tools/support/packages.sh)")
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp", "usr/bin"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    shutil.copy(found, root / "usr/bin" / program)
    needed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(", needed):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    init = root / "init"
    init.write_text(INIT.format(begin=begin, command=command), encoding="utf-8")
    init.chmod(0o755)
    image = folder / f"{program}.img"
    done = subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, image, "160M"],
                          capture_output=True, text=True, check=False)
    shutil.rmtree(root)
    if done.returncode != 0:
        raise NotMeasured(f"mke2fs: {done.stderr.strip()}")
    return image


def processor_seconds(pid):
    """What all threads of a process used, and of that its guest; io_uring's workers are threads of it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS, int(fields[40]) / TICKS


class Guest:
    """A machine whose init is INIT. Ends with end()."""

    def __init__(self, command):
        self._process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._text = b""
        try:
            self._until(b"READY", START_LIMIT)
        except BaseException:
            self.end()
            raise

    def _until(self, mark, limit):
        """What the guest says until a line with only the mark."""
        end = time.monotonic() + limit
        line = re.compile(rb"^" + mark + rb"\r?\n", re.MULTILINE)
        while not (found := line.search(self._text)):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, end - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not more:
                self._process.kill()
                words = (self._text + self._process.stderr.read()).decode(errors="replace").strip().splitlines()
                raise NotMeasured(f"no {mark.decode()}: {words[-1] if words else 'no output'}")
            self._text += more
        text = self._text[:found.start()]
        self._text = self._text[found.end():]
        return text.decode(errors="replace").replace("\r", "")

    def tell(self, words):
        """What the command says, the processor seconds of the VMM for a second and those of the guest, and the seconds."""
        before, start = processor_seconds(self._process.pid), time.monotonic()
        try:
            self._process.stdin.write((words + "\n").encode())
            self._process.stdin.flush()
        except OSError as error:
            raise NotMeasured(f"the machine has ended: {error}") from None
        text = self._until(b"DONE", LIMIT)
        after, seconds = processor_seconds(self._process.pid), time.monotonic() - start
        guest = (after[1] - before[1]) / seconds
        return text, (after[0] - before[0]) / seconds - guest, guest, seconds

    def end(self):
        if self._process.poll() is None:
            try:
                self._process.stdin.write(b"end\n")
                self._process.stdin.flush()
                self._process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                pipe.close()
            except OSError:
                pass
