# SPDX-License-Identifier: Apache-2.0
"""Timing of processes from fork to reaped, contenders interleaved."""

import gc
import os
import random
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field

from bench.report import NotMeasured, milliseconds, table


@dataclass
class Contender:
    """A command line that is timed; status is the exit code of success."""
    name: str
    command: list
    status: int = 0
    wall: list = field(default_factory=list)  # seconds
    cpu: list = field(default_factory=list)   # seconds of processor time, the guest's included
    failure: str = ""

    def median(self):
        return statistics.median(self.wall)

    def meanwhile(self, begin):
        """What is done while the process runs, which was started then (time.perf_counter)."""


class Spawner:
    """Runs one process at a time and nothing between the two looks at the clock that need not be there."""

    def __init__(self, limit):
        self._limit = limit
        self._pid = 0
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._actions = [(os.POSIX_SPAWN_DUP2, self._null, fd) for fd in range(3)]

    def __enter__(self):
        self._old = signal.signal(signal.SIGALRM, lambda *_: os.kill(self._pid, signal.SIGKILL))
        gc.disable()
        return self

    def __exit__(self, *_):
        gc.enable()
        signal.signal(signal.SIGALRM, self._old)
        os.close(self._null)

    def run(self, command, meanwhile=None):
        """Returns wall time, processor time and the exit code (negative: the signal that ended it)."""
        words = [str(word) for word in command]
        begin = time.perf_counter()
        self._pid = os.posix_spawn(words[0], words, os.environ, file_actions=self._actions)
        signal.setitimer(signal.ITIMER_REAL, self._limit)
        try:
            if meanwhile:
                meanwhile(begin)
            _, status, usage = os.wait4(self._pid, 0)
        except BaseException:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        wall = time.perf_counter() - begin
        return wall, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)


def warm_up(contender, limit):
    """One run that does not count and tells whether the contender works."""
    begin = time.perf_counter()
    with subprocess.Popen([str(word) for word in contender.command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as done:
        try:
            contender.meanwhile(begin)
            _, said = done.communicate(timeout=limit)
        except (subprocess.TimeoutExpired, OSError) as error:
            done.kill()
            late = isinstance(error, subprocess.TimeoutExpired)
            contender.failure = f"did not end within {limit} s" if late else str(error)
            return
    # QEMU's code for its own failures is also that of a guest which ends with 0: what it says tells them apart.
    words = [line for line in said.decode(errors="replace").strip().splitlines() if "warning:" not in line]
    if done.returncode != contender.status or (words and contender.status != 0):
        contender.failure = f"ended with {done.returncode}" + (f": {words[-1]}" if words else "")


def interleave(contenders, runs, limit):
    """Fills in the contenders' samples: each round runs all in a new random order. A round before that warms up."""
    for contender in contenders:
        warm_up(contender, limit)
    order = random.Random(1)
    with Spawner(limit) as spawner:
        for _ in range(runs):
            for contender in order.sample(contenders, len(contenders)):
                if contender.failure:
                    continue
                wall, cpu, code = spawner.run(contender.command, contender.meanwhile)
                if code != contender.status:
                    contender.failure = f"ended with {code} once"
                contender.wall.append(wall)
                contender.cpu.append(cpu)


def quartiles_of(values):
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def timing_table(contenders, baseline):
    """Medians, spread, and ratios of medians to the contender called baseline."""
    base = next((c.median() for c in contenders if c.name == baseline and not c.failure), None)
    rows = []
    failures = ""
    for contender in contenders:
        if contender.failure:
            failures += f"\n\nNot measured: {contender.name} {contender.failure}"
            continue
        quartiles = quartiles_of(contender.wall)
        rows.append([contender.name, milliseconds(contender.median()), milliseconds(min(contender.wall)),
                     milliseconds(quartiles[0]), milliseconds(quartiles[2]),
                     milliseconds(statistics.median(contender.cpu)),
                     f"{contender.median() / base:.2f}" if base else "-"])
    header = ["ms", "median", "least", "1st quartile", "3rd quartile", "processor", f"x {baseline}"]
    return table(header, rows) + failures


def ratio(contenders, name, to):
    """The ratio of medians and a note with that of the least; raises NotMeasured."""
    by_name = {contender.name: contender for contender in contenders}
    for needed in (name, to):
        if needed not in by_name or by_name[needed].failure:
            raise NotMeasured(f"no {needed}")
    above, below = by_name[name], by_name[to]
    return above.median() / below.median(), f"of the least: {min(above.wall) / min(below.wall):.2f}"


def ratio_figure(report, title, contenders, pair, limit, at_least=False):
    """A figure of the table at the end: the first of the pair by the second."""
    try:
        value, note = ratio(contenders, *pair)
    except NotMeasured as reason:
        value, note = None, str(reason)
    report.figure(title, value, limit, unit=" x", at_least=at_least, note=note)


def fastest(contenders, kind):
    """The name of the contender with the least median among those whose names begin with kind."""
    measured = [c for c in contenders if c.name.startswith(kind) and not c.failure]
    return min(measured, key=Contender.median).name if measured else kind


def shown(word):
    """A word of a command line, of a file's path only the name."""
    text = str(word)
    return text.rsplit("/", 1)[-1] if text.startswith("/") else text


def samples(contenders):
    """For --json."""
    return {c.name: {"command": [shown(word) for word in c.command], "wall": [round(each, 9) for each in c.wall],
                     "processor": [round(each, 9) for each in c.cpu], **({"failure": c.failure} if c.failure else {})}
            for c in contenders}


def commands(contenders):
    """The command lines."""
    def quoted(word):
        text = shown(word)
        return f"'{text}'" if " " in text or not text else text
    return "```\n" + "\n".join(f"{c.name}: {' '.join(quoted(word) for word in c.command)}" for c in contenders) + "\n```"
