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

    def run(self, command):
        """Returns wall time, processor time and the exit code (negative: the signal that ended it)."""
        words = [str(word) for word in command]
        begin = time.perf_counter()
        self._pid = os.posix_spawn(words[0], words, os.environ, file_actions=self._actions)
        signal.setitimer(signal.ITIMER_REAL, self._limit)
        try:
            _, status, usage = os.wait4(self._pid, 0)
        except BaseException:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        wall = time.perf_counter() - begin
        return wall, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)


def explain(contender, code, limit):
    """Why a contender failed: its last words, or how it ended."""
    if code == -signal.SIGKILL:
        return f"did not end within {limit} s"
    try:
        again = subprocess.run([str(word) for word in contender.command], stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=limit, check=False)
        words = again.stderr.decode(errors="replace").strip().splitlines()
    except (OSError, subprocess.TimeoutExpired):
        words = []
    return f"ended with {code} instead of {contender.status}" + (f": {words[-1]}" if words else "")


def interleave(contenders, runs, limit):
    """Fills in the contenders' samples: each round runs all in a new random order. The first round warms up."""
    order = random.Random(1)
    with Spawner(limit) as spawner:
        for round_number in range(runs + 1):
            for contender in order.sample(contenders, len(contenders)):
                if contender.failure:
                    continue
                wall, cpu, code = spawner.run(contender.command)
                if code != contender.status:
                    contender.failure = explain(contender, code, limit)
                elif round_number > 0:
                    contender.wall.append(wall)
                    contender.cpu.append(cpu)


def timing_table(contenders, baseline):
    """Medians, spread, and ratios of medians to the contender called baseline."""
    base = next((c.median() for c in contenders if c.name == baseline and c.wall and not c.failure), None)
    rows = []
    for contender in contenders:
        if contender.failure or not contender.wall:
            rows.append([contender.name, f"not measured: {contender.failure}"] + [""] * 5)
            continue
        quartiles = statistics.quantiles(contender.wall, n=4) if len(contender.wall) > 1 else contender.wall * 3
        rows.append([contender.name, milliseconds(contender.median()), milliseconds(min(contender.wall)),
                     milliseconds(quartiles[0]), milliseconds(quartiles[2]),
                     milliseconds(statistics.median(contender.cpu)),
                     f"{contender.median() / base:.2f}" if base else "-"])
    return table(["ms", "median", "least", "1st quartile", "3rd quartile", "processor", f"x {baseline}"], rows)


def ratio(contenders, name, to):
    """The ratio of medians and a note with that of the least; raises NotMeasured."""
    by_name = {contender.name: contender for contender in contenders}
    for needed in (name, to):
        if needed not in by_name:
            raise NotMeasured(f"there is no {needed} here")
        if by_name[needed].failure:
            raise NotMeasured(f"{needed} {by_name[needed].failure}")
    above, below = by_name[name], by_name[to]
    return above.median() / below.median(), f"of the least: {min(above.wall) / min(below.wall):.2f}"


def ratio_figure(report, title, contenders, pair, limit, at_least=False):
    """A figure of the table at the end: the first of the pair by the second."""
    try:
        value, note = ratio(contenders, *pair)
    except NotMeasured as reason:
        value, note = None, str(reason)
    report.figure(title, value, limit, unit=" x", at_least=at_least, note=note)


def samples(contenders):
    """For --json."""
    return {c.name: {"command": [str(word) for word in c.command], "wall": c.wall, "processor": c.cpu,
                     **({"failure": c.failure} if c.failure else {})} for c in contenders}


def commands(contenders):
    """The command lines, files by their names alone."""
    def shown(word):
        text = str(word)
        text = text.rsplit("/", 1)[-1] if text.startswith("/") else text
        return f"'{text}'" if " " in text or not text else text
    return "```\n" + "\n".join(f"{c.name}: {' '.join(shown(word) for word in c.command)}" for c in contenders) + "\n```"
