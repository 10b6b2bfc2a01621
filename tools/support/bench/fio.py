# SPDX-License-Identifier: Apache-2.0
"""fio on the host and in guests."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench import guest
from bench.report import NotMeasured

ENGINE = "--ioengine=io_uring --time_based --norandommap --ramp_time=200ms"
TERSE = ["--name=point", "--output-format=terse", "--terse-version=3"]


def make_root(folder):
    return guest.make_root(folder, "fio", "/usr/bin/fio --filename=/dev/vdb")


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
                              capture_output=True, text=True, timeout=guest.LIMIT, check=False)
        return parse(done.stdout + done.stderr)

    def end(self):
        pass


class Guest(guest.Guest):
    """A machine that runs fio on its second disk."""

    def run(self, job):
        text, processor, own, _ = self.tell(" ".join([*TERSE, *ENGINE.split(), "--direct=1", *job.split()]))
        sample = parse(text)
        sample.processor, sample.guest = processor, own
        return sample
