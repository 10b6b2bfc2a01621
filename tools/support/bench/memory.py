# SPDX-License-Identifier: Apache-2.0
"""Private memory of a VM that is idle at a prompt, guest RAM left out."""

import collections
import json
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
    own: int = 0  # KiB


def mappings_of(pid):
    mappings = []
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        header = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s*(.*)$", line)
        if header:
            mappings.append(Mapping(int(header.group(1), 16), int(header.group(2), 16), header.group(3)))
        elif line.startswith("Pss:"):
            mappings[-1].own = int(line.split()[1])
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


def own_parts(pid):
    """KiB of the process's memory by kind of mapping, guest RAM left out; with its children, which share some of it."""
    mappings = mappings_of(pid)
    first, last = guest_ram(mappings)
    counted = mappings[:first] + mappings[last + 1:]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split():
        counted += mappings_of(child)
    parts = collections.Counter()
    for mapping in counted:
        names = {"[heap]": "heap", "[stack]": "stack"}
        parts[names.get(mapping.name, "files" if mapping.name.startswith("/") else "other")] += mapping.own
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
        idle.parts = own_parts(process.pid)
        idle.total.append(sum(idle.parts.values()))
    finally:
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for descriptor in (ours, theirs):
            if descriptor >= 0:
                os.close(descriptor)


def vmm_with_devices(setting, vmm, kernel, root, words):
    """hum-vmm with its API and an interface, a drive and vsock; in a network of its own, where the interface's tap is."""
    drive, config = setting.scratch / "drive", setting.scratch / "config.json"
    drive.write_bytes(bytes(1 << 20))
    config.write_text(json.dumps({
        "machine-config": {"vcpu_count": 1, "mem_size_mib": MEMORY},
        "boot-source": {"kernel_image_path": str(kernel), "initrd_path": str(root), "boot_args": words},
        "drives": [{"drive_id": "d", "path_on_host": str(drive), "is_root_device": False}],
        "network-interfaces": [{"iface_id": "n", "host_dev_name": "tap0"}],
        "vsock": {"guest_cid": 3, "uds_path": str(setting.scratch / "vsock")}}), encoding="utf-8")
    # A run that was killed leaves its sockets.
    start = 'ip tuntap add tap0 mode tap && ip link set tap0 up && rm -f "$1/api" "$1/vsock" && exec "$2" --api-sock "$1/api" --config-file "$3"'
    return Idle("hum-vmm, net, block and vsock, Linux at a shell",
                ["unshare", "--net", "sh", "-c", start, "sh", setting.scratch, vmm, config], SHELL_PROMPT)


def candidates(setting):
    """The contenders, and a list of what there is not."""
    found, missing = [], []
    # Copies, for what another running hum shares with this one would not count.
    hum, vmm = (Path(shutil.copy(setting.hum.with_name(name), setting.scratch)) for name in ("hum", "hum-vmm"))
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
        found.append(vmm_with_devices(setting, vmm, kernel, root, words))
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
    text = (f"Pss of smaps, of the process and its children, {SETTLE} s after the prompt on a terminal, {MEMORY} MiB "
            f"of guest RAM left out, {runs} rounds; where it is: in the last round.\n\n"
            + table(["MiB", "median", "least", "most", *kinds], rows)
            + "".join(f"\n\nNot measured: {reason}" for reason in missing))
    report.section("memory", "Private memory of an idle VM", text,
                   {i.name: {"KiB": i.total, "parts": i.parts, "failure": i.failure} for i in contenders})
    for idle in contenders:
        if idle.name.startswith("hum"):
            value = None if idle.failure else statistics.median(idle.total) / 1024
            report.figure(f"private memory, idle: {idle.name}", value, TARGET, unit=" MiB", note=idle.failure)
