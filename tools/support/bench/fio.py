# SPDX-License-Identifier: Apache-2.0
"""fio on the host and in guests: a root file system that runs it, and machines that take its jobs over their console."""

import os
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.report import NotMeasured

ENGINE = "--ioengine=io_uring --time_based --norandommap --ramp_time=200ms"
TERSE = ["--name=point", "--output-format=terse", "--terse-version=3"]
TICKS = os.sysconf("SC_CLK_TCK")
START_LIMIT = 30   # seconds until a guest is ready
POINT_LIMIT = 60   # seconds for one job
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox stty -F /dev/ttyS0 -echo -onlcr
exec </dev/ttyS0 >/dev/ttyS0 2>&1
cd /tmp
echo READY
while read -r words && [ "$words" != end ]; do
  /usr/bin/fio --filename=/dev/vdb $words
  echo DONE
done
/bin/busybox reboot -f
"""


def make_root(folder):
    """An ext4 image with busybox, fio and the libraries that it needs."""
    busybox, fio = shutil.which("busybox"), shutil.which("fio")
    if not busybox or not fio or not shutil.which("mke2fs"):
        raise NotMeasured("there is no fio, busybox or mke2fs here (packages fio, busybox-static, e2fsprogs)")
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp", "usr/bin"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    shutil.copy(fio, root / "usr/bin/fio")
    needed = subprocess.run(["ldd", fio], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(", needed):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    init = root / "init"
    init.write_text(INIT, encoding="utf-8")
    init.chmod(0o755)
    image = folder / "root.img"
    done = subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, image, "160M"],
                          capture_output=True, text=True, check=False)
    shutil.rmtree(root)
    if done.returncode != 0:
        raise NotMeasured(f"mke2fs: {done.stderr.strip()}")
    return image


@dataclass
class Sample:
    """Of one job: operations and bytes for a second, latencies in seconds, processor seconds for a second of the job."""
    operations: float
    bytes: float
    p50: float
    p99: float
    p999: float
    processor: float = 0  # of the VMM, the guest's own left out
    guest: float = 0


def parse(text):
    """Of a terse report, version 3: reads from field 5 on, writes from field 46 on."""
    line = next((line for line in text.splitlines() if line.startswith("3;")), None)
    if line is None:
        raise NotMeasured(f"fio says: {(text.strip().splitlines() or ['nothing'])[-1]}")
    fields = line.split(";")
    at = 0 if float(fields[7]) > 0 else 41
    percentiles = dict(field.split("%=") for field in fields[17 + at:37 + at])
    micro = [int(percentiles[key]) / 1e6 for key in ("50.000000", "99.000000", "99.900000")]
    return Sample(float(fields[7 + at]), float(fields[6 + at]) * 1024, *micro)


def processor_seconds(pid):
    """What all threads of a process used, and of that its guest; io_uring's workers are threads of it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS, int(fields[40]) / TICKS


def thread_seconds(pid):
    """What each thread of a process used, by its number and name."""
    used = {}
    for folder in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name = (folder / "comm").read_text(encoding="utf-8").strip()
            used[folder.name, name] = int((folder / "schedstat").read_text(encoding="utf-8").split()[0]) / 1e9
        except (OSError, IndexError):
            continue  # it has ended
    return used


class Host:
    """fio on the host, on the file itself."""

    def __init__(self, path, direct):
        self._words = ["fio", f"--filename={path}", f"--direct={int(direct)}", *TERSE]

    def run(self, job):
        done = subprocess.run([*self._words, *ENGINE.split(), *job.split()], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=POINT_LIMIT, check=False)
        return parse(done.stdout + done.stderr)

    def end(self):
        pass


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

    def run(self, job):
        before, start = processor_seconds(self._process.pid), time.monotonic()
        words = [*TERSE, *ENGINE.split(), "--direct=1", *job.split()]
        self._process.stdin.write((" ".join(words) + "\n").encode())
        self._process.stdin.flush()
        sample = parse(self._until(b"DONE", POINT_LIMIT))
        after, seconds = processor_seconds(self._process.pid), time.monotonic() - start
        sample.guest = (after[1] - before[1]) / seconds
        sample.processor = (after[0] - before[0]) / seconds - sample.guest
        return sample

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
