# SPDX-License-Identifier: Apache-2.0
"""Private memory of a VM that is idle at a prompt, guest RAM left out."""

import collections
import os
import re
import select
import shutil
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


@dataclass
class Mapping:
    begin: int
    end: int
    name: str
    private: int = 0  # KiB


def mappings_of(pid):
    mappings = []
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        header = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s*(.*)$", line)
        if header:
            mappings.append(Mapping(int(header.group(1), 16), int(header.group(2), 16), header.group(3)))
        elif line.startswith(("Private_Clean:", "Private_Dirty:")):
            mappings[-1].private += int(line.split()[1])
    return mappings


def guest_ram(mappings):
    """First and last of the neighbours that have guest RAM's size together: advice to the kernel splits it."""
    for first, mapping in enumerate(mappings):
        end = mapping.begin
        for last in range(first, len(mappings)):
            if mappings[last].begin != end or end - mapping.begin > MEMORY << 20:
                break
            end = mappings[last].end
            if end - mapping.begin == MEMORY << 20:
                return first, last
    raise NotMeasured("the mapping of guest RAM is not recognised")


def private_parts(pid):
    """KiB of private memory by kind of mapping, guest RAM left out."""
    mappings = mappings_of(pid)
    first, last = guest_ram(mappings)
    parts = collections.Counter()
    for mapping in mappings[:first] + mappings[last + 1:]:
        own = {"[heap]": "heap", "[stack]": "stack"}
        kind = own.get(mapping.name, "files" if mapping.name.startswith("/") else "other")
        parts[kind] += mapping.private
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
        idle.parts = private_parts(process.pid)
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
    # A copy, for what another running hum shares with this one would not count.
    hum = setting.scratch / "hum"
    shutil.copy(setting.hum, hum)
    # An empty store makes hum run boot its monitor.
    empty = {"HUM_CACHE": str(setting.scratch / "empty")}
    found.append(Idle("hum, monitor", [hum, "run", "--memory", f"{MEMORY}M"], "> ", empty))
    qemu = ["-m", MEMORY, "-serial", "stdio"]
    machine = "acpi=on,rtc=on,isa-serial=on,kernel-irqchip=split"
    try:
        monitor = setting.image("monitor.elf")
        found.append(Idle("QEMU, monitor", setting.qemu_microvm(machine, *qemu, "-kernel", monitor), "> "))
    except NotMeasured as reason:
        missing.append(f"QEMU, monitor: {reason}")
    try:
        kernel = setting.native_kernel()
        root = setting.scratch / "root.cpio"
        root.write_bytes(small_root(SHELL_PROMPT))
        words = "console=ttyS0 quiet panic=-1"
        found.append(Idle("hum, Linux at a shell", [hum, "run", "--memory", f"{MEMORY}M", "--net", "none",
                                                    "--kernel", kernel, "--initrd", root, "--cmdline", words],
                          SHELL_PROMPT))
        qemu += ["-kernel", kernel, "-initrd", root, "-append", words]
        found.append(Idle("QEMU, Linux at a shell", setting.qemu_microvm(machine, *qemu), SHELL_PROMPT))
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
    text = (f"Private_Clean + Private_Dirty of smaps, {SETTLE} s after the prompt on a terminal, {MEMORY} MiB "
            f"of guest RAM left out, {runs} rounds; where it is: in the last round.\n\n"
            + table(["MiB", "median", "least", "most", *kinds], rows)
            + "".join(f"\n\nNot measured: {reason}" for reason in missing))
    report.section("memory", "Private memory of an idle VM", text,
                   {i.name: {"KiB": i.total, "parts": i.parts, "failure": i.failure} for i in contenders})
    for idle in contenders:
        if idle.name.startswith("hum"):
            value = None if idle.failure else statistics.median(idle.total) / 1024
            report.figure(f"private memory, idle: {idle.name}", value, TARGET, unit=" MiB", note=idle.failure)
