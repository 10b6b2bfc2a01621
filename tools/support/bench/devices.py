# SPDX-License-Identifier: Apache-2.0
"""What exits, interrupts, memory, disk requests and frames cost a guest: images that measure it themselves, at CPL 3."""

import random
import re
import subprocess
from dataclasses import dataclass, field

from bench.report import NotMeasured, microseconds, table
from bench.timing import Contender, commands, quartiles_of, ratio_figure, samples

MEMORY = "128"   # MiB
DISK = "disk.img"
DISK_SIZE = 64   # MiB
LIMIT = 60       # seconds for one image
NOTIFIED = "0xd0000050"  # where the floor has an ioeventfd
FIGURE = re.compile(r"^(\w+) (\d+) (ns|cycles)$", re.MULTILINE)
DISK_FIGURE = "block_read_"
NET_FIGURE = "net_loop_"
VMMS = ["floor", "hum, mmio", "hum, pci", "QEMU, mmio", "QEMU, polling"]


@dataclass
class Run:
    """One image in one VMM, again and again, in a folder: what it prints, in seconds."""
    vmm: str
    command: list
    status: int = 0
    seconds: dict = field(default_factory=dict)
    failure: str = ""

    def again(self, folder):
        try:
            done = subprocess.run([str(word) for word in self.command], cwd=folder, stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            self.failure = f"did not end within {LIMIT} s"
            return
        text = done.stdout.decode(errors="replace").replace("\r", "")
        if done.returncode != self.status or not text.endswith("PASS\n"):
            last = (text + done.stderr.decode(errors="replace")).strip().splitlines() or [""]
            self.failure = f"ended with {done.returncode}: {last[-1]}"
            return
        for name, value, unit in FIGURE.findall(text):
            if unit == "ns":
                self.seconds.setdefault(name, []).append(int(value) / 1e9)
            else:
                self.failure = "there is no clock of KVM's, so the image does not know the counter's rate"


def images_of(setting, *names):
    return [setting.image(f"{name}.elf") for name in names]


def our_runs(setting):
    exits = images_of(setting, "port_exit", "mmio_exit", "memory_touch", "interrupt_latency")
    notification, interrupts, reads, frames = images_of(setting, "ioeventfd_exit", "interrupt_latency", "block_requests",
                                                        "net_frames_loop")
    floor = [setting.image("bench_floor"), "--memory", MEMORY, "--console"]
    runs = [Run("floor", [*floor, image]) for image in exits]
    runs.append(Run("floor", [*floor, "--ioeventfd", NOTIFIED, "--cmdline", f"address={NOTIFIED}", notification]))
    for transport, images in (("mmio", [*exits, notification]), ("pci", [interrupts, notification])):
        hum = [setting.hum, "run", "--memory", MEMORY + "M", "--transport", transport, "--cmdline", f"transport={transport}"]
        runs += [Run(f"hum, {transport}", [*hum, "--kernel", image]) for image in images]
        runs.append(Run(f"hum, {transport}", [*hum, "--kernel", reads, "--disk", f"{DISK},readonly=on"]))
        runs.append(Run(f"hum, {transport}", [*hum, "--kernel", frames, "--device", "net,loopback"]))
    return runs


def qemu_runs(setting):
    """Over MMIO alone: its firmware gives PCI devices no addresses. 0xfeb00e00 is the last window, used first."""
    qemu = setting.qemu_microvm("acpi=on,ioapic2=off,rtc=off,isa-serial=on,kernel-irqchip=split", "-m", MEMORY,
                                "-serial", "stdio", "-global", "virtio-mmio.force-legacy=false",
                                "-append", "transport=mmio virtio_mmio=0xfeb00e00")
    entropy = ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-device,rng=random"]
    runs = [Run("QEMU, mmio", [*qemu, *entropy, "-kernel", image], status=1)
            for image in images_of(setting, "port_exit", "mmio_exit", "memory_touch", "interrupt_latency", "ioeventfd_exit")]
    reads, = images_of(setting, "block_requests")
    for vmm, polling in (("QEMU, mmio", ",poll-max-ns=0"), ("QEMU, polling", "")):
        runs.append(Run(vmm, [*qemu, "-kernel", reads, "-object", f"iothread,id=thread{polling}",
                              "-drive", f"if=none,id=disk,file={DISK},format=raw,readonly=on,aio=io_uring",
                              "-device", "virtio-blk-device,drive=disk,iothread=thread"], status=1))
    return runs


def interleave(runs, rounds, folder):
    """Each round runs all in a new random order. A round before that warms up."""
    order = random.Random(1)
    for number in range(rounds + 1):
        for run in order.sample(runs, len(runs)):
            if not run.failure:
                run.again(folder)
        if number == 0:
            for run in runs:
                run.seconds.clear()


def by_figure(runs):
    """A contender for each figure of each VMM, in the order of the tables."""
    found = {}
    for run in runs:
        for name, seconds in run.seconds.items():
            if not run.failure:
                found[name, run.vmm] = Contender(f"{run.vmm}: {name}", run.command, run.status, wall=seconds)
    names = list(dict.fromkeys(name for name, _ in found))
    return names, {key: found[key] for key in sorted(found, key=lambda key: (names.index(key[0]), VMMS.index(key[1])))}


def figures_table(names, found):
    def cell(contender):
        if contender is None:
            return "-"
        first, median, third = map(microseconds, quartiles_of(contender.wall))
        return f"{median} ({first} to {third})"

    def ratio(name, above, below):
        pair = found.get((name, above)), found.get((name, below))
        return f"{pair[0].median() / pair[1].median():.2f}" if all(pair) else "-"

    vmms = [vmm for vmm in VMMS if any((name, vmm) in found for name in names)]
    pairs = [pair for pair in (("hum, mmio", "floor"), ("QEMU, mmio", "hum, mmio")) if set(pair) <= set(vmms)]
    rows = [[f"`{name}`"] + [cell(found.get((name, vmm))) for vmm in vmms] + [ratio(name, *pair) for pair in pairs]
            for name in names]
    return table(["us, median (quartiles)", *vmms, *(f"{above} by {below}" for above, below in pairs)], rows)


def section(report, name, title, text, contenders):
    one_of_each = {contender.name.split(":")[0]: contender for contender in reversed(contenders)}
    shown = [Contender(vmm, one_of_each[vmm].command) for vmm in VMMS if vmm in one_of_each]
    report.timing(name, title, text + "\n\n" + commands(shown), contenders, samples(contenders))


def measure(setting, report):
    setting.need_kvm()
    runs = our_runs(setting)
    missing = ""
    try:
        runs += qemu_runs(setting)
    except NotMeasured as reason:
        missing = f"\n\nQEMU is not measured: {reason}"
    (setting.scratch / DISK).write_bytes(random.Random(1).randbytes(DISK_SIZE << 20))
    rounds = setting.runs or 15
    interleave(runs, rounds, setting.scratch)
    names, found = by_figure(runs)
    if not found:
        raise NotMeasured(f"no image runs here: {runs[0].failure}")
    failures = missing + "".join(f"\n\nNot measured: {run.vmm} {run.failure}" for run in runs if run.failure)
    disk_names = [name for name in names if name.startswith(DISK_FIGURE)]
    net_names = [name for name in names if name.startswith(NET_FIGURE)]
    for key, title, wanted, text in (
            ("devices", "Exits, interrupts and memory", [name for name in names if name not in disk_names + net_names],
             f"The images of guest-tests/bench, {rounds} rounds, {MEMORY} MiB, interrupt controllers split; each sample is what "
             "an image prints, the best of its own rounds. Nobody reads the floor's ioeventfd."),
            ("disk", "Reads of 4 KiB, for each", disk_names,
             f"`block_requests.elf`: 1, 4, 16 and 64 reads in flight from a file of {DISK_SIZE} MiB in the page cache. QEMU "
             "has an I/O thread and io_uring; that thread polls the queue before it sleeps only where the column says so."),
            ("network", "Frames of 60 bytes that come back, for each", net_names,
             "`net_frames_loop.elf`: 1, 4, 16 and 64 frames on their way through an interface whose host's end is a loopback: the "
             "device alone, without the host's network. QEMU has no such end.")):
        contenders = [contender for (name, _), contender in found.items() if name in wanted]
        if contenders:
            section(report, key, title, text + "\n\n" + figures_table(wanted, found) + failures, contenders)
    ratio_figure(report, "port exit: hum by floor", list(found.values()), ("hum, mmio: port_exit", "floor: port_exit"), 1.2)
