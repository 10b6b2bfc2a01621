# SPDX-License-Identifier: Apache-2.0
"""Private memory of a VM that is idle at a prompt, guest RAM left out."""

import collections
import os
import re
import select
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.cpio import small_root
from bench.report import NotMeasured, table

MEMORY = 256   # MiB of the guest
LIMIT = 20     # seconds until the prompt
SETTLE = 1     # seconds of idleness before the measurement
TARGET = 3     # MiB
SHELL_PROMPT = "bench> "


@dataclass
class Idle:
    """A command line whose guest comes to a prompt on the terminal."""
    name: str
    command: list
    prompt: str
    environment: dict = field(default_factory=dict)
    total: list = field(default_factory=list)  # KiB
    parts: collections.Counter = field(default_factory=collections.Counter)
    failure: str = ""


def private_parts(pid, memory_kib):
    """KiB of private memory by mapping, guest RAM (the mappings of that size) left out."""
    parts = collections.Counter()
    ram_found = False
    name, size = "", 0
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        header = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$", line)
        if header:
            name = header.group(1)
            continue
        key, _, value = line.partition(":")
        if key == "Size":
            size = int(value.split()[0])
            ram_found |= size == memory_kib
        elif key in ("Private_Clean", "Private_Dirty") and size != memory_kib:
            kind = name if name.startswith("[") else "files" if name.startswith("/") else "anonymous"
            parts[kind] += int(value.split()[0])
    if not ram_found:
        raise NotMeasured("the mapping of guest RAM is not recognised")
    return parts


def wait_for_prompt(terminal, prompt):
    seen = b""
    deadline = time.monotonic() + LIMIT
    while prompt.encode() not in seen[-64:]:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        try:
            more = os.read(terminal, 4096) if ready else b""
        except OSError:  # the other side is closed
            more = b""
        if not more:
            last = (seen.decode(errors="replace").strip().splitlines() or ["nothing was printed"])[-1]
            raise NotMeasured(f"no prompt: {last}")
        seen += more


def measure_once(idle):
    ours, theirs = os.openpty()
    process = None
    try:
        process = subprocess.Popen([str(word) for word in idle.command], stdin=theirs, stdout=theirs, stderr=theirs,
                                   env=os.environ | idle.environment, start_new_session=True)
        os.close(theirs)
        theirs = -1
        wait_for_prompt(ours, idle.prompt)
        time.sleep(SETTLE)
        idle.parts = private_parts(process.pid, MEMORY * 1024)
        idle.total.append(sum(idle.parts.values()))
    finally:
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for descriptor in (ours, theirs):
            if descriptor >= 0:
                os.close(descriptor)


def candidates(setting):
    """The contenders, and a list of what there is not."""
    found, missing = [], []
    # An empty store makes hum run boot its monitor.
    empty = {"HUM_CACHE": str(setting.scratch / "empty")}
    found.append(Idle("hum, monitor", [setting.hum, "run", "--memory", f"{MEMORY}M"], "> ", empty))
    qemu = ["-m", MEMORY, "-serial", "stdio"]
    machine = "acpi=on,rtc=on,isa-serial=on,kernel-irqchip=split"
    try:
        found.append(Idle("QEMU, monitor", setting.qemu_microvm(machine, *qemu, "-kernel", setting.image("monitor.elf")), "> "))
    except NotMeasured as reason:
        missing.append(f"QEMU, monitor: {reason}")
    try:
        kernel = setting.native_kernel()
        root = setting.scratch / "root.cpio"
        root.write_bytes(small_root(SHELL_PROMPT))
        boot = ["console=ttyS0 quiet panic=-1", "--initrd", root]
        found.append(Idle("hum, Linux at a shell", [setting.hum, "run", "--memory", f"{MEMORY}M", "--kernel", kernel,
                                                    "--cmdline", *boot], SHELL_PROMPT))
        found.append(Idle("QEMU, Linux at a shell", setting.qemu_microvm(machine, *qemu, "-kernel", kernel, "-append", boot[0],
                                                                         "-initrd", root), SHELL_PROMPT))
    except NotMeasured as reason:
        missing.append(f"Linux at a shell: {reason}")
    return found, missing


def measure(setting, report):
    setting.need_kvm()
    contenders, missing = candidates(setting)
    runs = setting.runs or 3
    for _ in range(runs):
        for idle in contenders:
            if idle.failure:
                continue
            try:
                measure_once(idle)
            except NotMeasured as reason:
                idle.failure = str(reason)
    kinds = sorted({kind for idle in contenders for kind in idle.parts})
    rows = []
    for idle in contenders:
        if idle.failure:
            missing.append(f"{idle.name}: {idle.failure}")
            continue
        rows.append([idle.name, f"{statistics.median(idle.total) / 1024:.2f}", f"{min(idle.total) / 1024:.2f}",
                     f"{max(idle.total) / 1024:.2f}"] + [f"{idle.parts[kind] / 1024:.2f}" for kind in kinds])
    text = (f"Private_Clean + Private_Dirty of /proc/PID/smaps in MiB, {SETTLE} s after the prompt on a terminal, {MEMORY} MiB "
            f"of guest RAM left out, {runs} rounds; where it is, of the last round.\n\n"
            + table(["MiB", "median", "least", "most", *kinds], rows)
            + "".join(f"\n\nNot measured: {reason}" for reason in missing))
    report.section("memory", "Private memory of an idle VM", text,
                   {idle.name: {"KiB": idle.total, "parts": idle.parts, "failure": idle.failure} for idle in contenders})
    for idle in contenders:
        if idle.name.startswith("hum"):
            value = None if idle.failure else statistics.median(idle.total) / 1024
            report.figure(f"private memory, idle: {idle.name}", value, TARGET, unit=" MiB", note=idle.failure)
