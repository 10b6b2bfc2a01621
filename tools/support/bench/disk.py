# SPDX-License-Identifier: Apache-2.0
"""Disks: fio in a guest of hum and of QEMU beside fio on the host, and the requests of an image at CPL 3."""

import mmap
import os
import random
import re
import statistics
import subprocess
import time
from dataclasses import dataclass, field

from bench.devices import FIGURE
from bench.fio import Guest, Host, Sample, make_root, thread_seconds
from bench.report import NotMeasured, microseconds, table
from bench.timing import Contender, quartiles_of, samples

SIZE = 1024      # MiB of the disk
MEMORY = "256"   # MiB
SECONDS = 1      # of a job
LIMIT = 90       # seconds for one image
COMMAND_LINE = "console=ttyS0 panic=-1 quiet noreplace-smp root=/dev/vda ro init=/init"
SMALL = [("randread", "4k"), ("randwrite", "4k")]
LARGE = [("read", "128k"), ("write", "128k")]
DEPTHS = (1, 32, 128)
POLL = 50        # microseconds
OURS, THEIRS, HOST = "hum", "QEMU", "host"
REQUESTS = {1: 15000, 32: 60000, 128: 60000}


@dataclass
class Setup:
    """A way to give a guest the disk: contenders that differ in nothing else, and the jobs that they get."""
    key: str
    title: str
    jobs: list
    direct: bool = True
    queues: int = 1
    poll: int = 0
    file_format: str = "raw"
    depths: tuple = DEPTHS
    found: dict = field(default_factory=dict)    # by point and contender: samples
    failures: dict = field(default_factory=dict)

    def points(self, wanted):
        every = [f"{kind} {size}, depth {depth}" for kind, size in self.jobs for depth in self.depths]
        return [point for point in every if wanted.search(f"{self.title}: {point}")]


SETUPS = [
    Setup("disk-direct", "O_DIRECT, 1 queue", SMALL + LARGE),
    Setup("disk-cached", "page cache, 1 queue", SMALL + LARGE, direct=False),
    Setup("disk-direct-2", "O_DIRECT, 2 queues", SMALL, queues=2, depths=(32, 128)),
    Setup("disk-cached-2", "page cache, 2 queues", SMALL, direct=False, queues=2, depths=(32, 128)),
    Setup("disk-poll", f"O_DIRECT, 1 queue, polling for up to {POLL} us", SMALL, poll=POLL),
    Setup("disk-qcow2", "O_DIRECT, 1 queue, qcow2", SMALL, file_format="qcow2", depths=(1, 32)),
]


def fill(path):
    """Random data in every block of a file that takes direct I/O."""
    piece = random.Random(1).randbytes(16 << 20)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, SIZE << 20)
        for _ in range(SIZE >> 4):
            file.write(piece)
        os.fsync(file.fileno())
    try:
        number = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            os.readv(number, [mmap.mmap(-1, 4096)])
        finally:
            os.close(number)
    except OSError:
        raise NotMeasured(f"{path.parent} has no direct I/O: set TMPDIR to a folder on a disk") from None


def convert(setting, source, target):
    done = subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, target], capture_output=True, check=False)
    if done.returncode != 0:
        raise NotMeasured("qemu-img cannot make a qcow2 image")
    return target


def our_command(setting, setup, root, disk):
    options = (f"{disk},format={setup.file_format},cache={'direct' if setup.direct else 'writeback'},id=disk,"
               f"queues={setup.queues},iothreads={setup.queues},poll-us={setup.poll}")
    return [setting.hum, "run", "--memory", MEMORY + "M", "--cpus", setup.queues, "--console", "stdio", "--no-rng",
            "--net", "none", "--kernel", setting.native_kernel(), "--cmdline", COMMAND_LINE + " reboot=panic_warm",
            "--disk", f"{root},readonly=on", "--disk", options]


def their_command(setting, setup, root, disk):
    """Over PCI, as hum; MMIO is slower."""
    cache = "none" if setup.direct else "writeback"
    return setting.qemu_microvm(
        "acpi=on,rtc=on,isa-serial=on,pcie=on,kernel-irqchip=split", "-m", MEMORY, "-smp", setup.queues, "-serial", "stdio",
        "-kernel", setting.native_kernel(), "-append", COMMAND_LINE + " reboot=t",
        "-object", "iothread,id=thread", "-drive", f"if=none,id=root,file={root},format=raw,readonly=on,file.locking=off",
        "-device", "virtio-blk-pci-non-transitional,drive=root",
        "-drive", f"if=none,id=disk,file={disk},format={setup.file_format},aio=io_uring,cache={cache},file.locking=off",
        "-device", f"virtio-blk-pci-non-transitional,drive=disk,iothread=thread,num-queues={setup.queues}")


def machines(setting, setup, root, disk):
    """All run at the same time and wait for jobs; who has none costs next to nothing."""
    ours, theirs = disk(OURS), disk(THEIRS)  # before somebody has them locked
    starts = {HOST: lambda: Host(setting.scratch / "disk.img", setup.direct)}
    if setup.file_format == "qcow2":
        raw = Setup("", "", [])
        starts["hum, raw"] = lambda: Guest(our_command(setting, raw, root, setting.scratch / "disk.img"))
    starts[OURS] = lambda: Guest(our_command(setting, setup, root, ours))
    starts[THEIRS] = lambda: Guest(their_command(setting, setup, root, theirs))
    running = {}
    for name, start in starts.items():
        if name in setup.failures:
            continue
        try:
            running[name] = start()
        except NotMeasured as reason:
            setup.failures[name] = str(reason)
    return running


def one_round(setting, setup, order, root, disk, points):
    running = machines(setting, setup, root, disk)
    try:
        for point in points:
            kind, size, _, depth = point.replace(",", "").split()
            job = f"--rw={kind} --bs={size} --iodepth={depth} --size={SIZE}M --runtime={SECONDS}s"
            for name in order.sample(list(running), len(running)):
                try:
                    setup.found.setdefault((point, name), []).append(running[name].run(job))
                except NotMeasured as reason:
                    setup.failures[name] = str(reason)
                    running.pop(name).end()
    finally:
        for machine in running.values():
            machine.end()


def of(setup, point, name, what=lambda sample: sample.operations):
    found = setup.found.get((point, name))
    return statistics.median(what(sample) for sample in found) if found else None


def per_processor_second(sample):
    return sample.operations / sample.processor if sample.processor else 0


def quotient(above, below):
    return above / below if above and below else None


def shown(value):
    return "-" if value is None else f"{value:.2f}"


def results_table(setup, points):
    rows = []
    for point in points:
        for name in dict.fromkeys(name for _, name in setup.found):
            found = setup.found.get((point, name))
            if not found:
                continue
            first, median, third = quartiles_of([sample.operations for sample in found])
            latencies = [microseconds(of(setup, point, name, lambda s, key=key: getattr(s, key)))
                         for key in ("p50", "p99", "p999")]
            processor, guest, efficiency = "-", "-", "-"
            if name != HOST:
                processor = f"{of(setup, point, name, lambda s: s.processor):.2f}"
                guest = f"{of(setup, point, name, lambda s: s.guest):.2f}"
                efficiency = f"{of(setup, point, name, per_processor_second):.0f}"
            rows.append([point, name, f"{median:.0f} ({first:.0f} to {third:.0f})",
                         f"{of(setup, point, name, lambda s: s.bytes) / 1e6:.0f}", *latencies, processor, guest, efficiency,
                         *(shown(quotient(median, of(setup, point, other))) for other in (THEIRS, HOST))])
    return table(["", "", "operations/s, median (quartiles)", "MB/s", "p50, us", "p99, us", "p99.9, us", "VMM's CPU s/s",
                  "guest's CPU s/s", "operations per CPU s", "x QEMU", "x host"], rows)


def worst(report, title, ratios, limit):
    """A figure of the least ratio and the point that has it."""
    known = {point: ratio for point, ratio in ratios.items() if ratio is not None}
    if not known:
        return report.figure(title, None, limit, unit=" x", at_least=True, note="nothing to compare with")
    point = min(known, key=known.get)
    met = sum(ratio >= limit for ratio in known.values())
    return report.figure(title, known[point], limit, unit=" x", at_least=True,
                         note=f"the least: {point}; {met} of {len(known)} points meet it")


def tell(report, setup, points, rounds):
    contenders = [Contender(f"{name}: {point}", [], wall=[1 / sample.operations for sample in found])
                  for (point, name), found in setup.found.items()]
    failures = "".join(f"\n\nNot measured: {name}: {reason}" for name, reason in setup.failures.items())
    if not contenders:
        return report.not_measured(setup.key, failures.strip())
    report.timing(setup.key, f"Time for an operation, fio: {setup.title}",
                  f"{rounds} rounds of {SECONDS} s.\n\n" + results_table(setup, points) + failures, contenders,
                  samples(contenders))
    def goal(point):
        theirs, host = of(setup, point, THEIRS), of(setup, point, HOST)
        return min(1.2 * theirs, 0.95 * host) if theirs and host else None
    worst(report, f"fio, {setup.title}: hum by the smaller of 1.2 x QEMU and 0.95 x host",
          {point: quotient(of(setup, point, OURS), goal(point)) for point in points}, 1.0)
    worst(report, f"fio, {setup.title}: operations per CPU second of the VMM, hum by QEMU",
          {point: quotient(of(setup, point, OURS, per_processor_second), of(setup, point, THEIRS, per_processor_second))
           for point in points}, 1.5)
    if setup.file_format == "qcow2":
        worst(report, "fio: hum, qcow2 by raw",
              {point: quotient(of(setup, point, OURS), of(setup, point, "hum, raw")) for point in points}, 0.9)
    return None


def run_image(setting, setup, point, disk):
    kind, _, _, depth = point.replace(",", "").split()
    command = [setting.hum, "run", "--memory", "128M", "--kernel", setting.image("block_requests.elf"), "--cmdline",
               f"transport=pci random=1 rounds=1 depth={depth} requests={REQUESTS[int(depth)]} "
               f"write={int(kind == 'randwrite')}", "--disk",
               f"{disk},cache={'direct' if setup.direct else 'writeback'},queue-size=512,poll-us={setup.poll}"]
    start, used = time.monotonic(), {}
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as done:
        while done.poll() is None:
            if time.monotonic() > start + LIMIT:
                done.kill()
            used |= thread_seconds(done.pid)
            time.sleep(0.02)
        seconds = time.monotonic() - start
        text = done.stdout.read().decode(errors="replace").replace("\r", "")
    values = [int(value) / 1e9 for _, value, unit in FIGURE.findall(text) if unit == "ns"]
    if done.returncode != 0 or len(values) != 4:
        raise NotMeasured(f"the image ended with {done.returncode}: {(text.strip().splitlines() or [''])[-1]}")
    # The guest spins, in the one thread that has a vCPU.
    guest = sum(value for (_, name), value in used.items() if name.startswith("vcpu"))
    return Sample(1 / values[0], 4096 / values[0], *values[1:], processor=(sum(used.values()) - guest) / seconds,
                  guest=guest / seconds)


def measure_image(setting, report, rounds, wanted, order):
    disk = setting.scratch / "disk.img"
    kinds = {"image": 0, "image, polling": POLL}
    for setup in (Setup("disk-image", "O_DIRECT, image", SMALL), Setup("disk-image-cached", "page cache, image", SMALL,
                                                                       direct=False)):
        points = setup.points(wanted)
        if not points:
            continue
        for _ in range(rounds):
            for point in points:
                for name in order.sample([HOST, *kinds], 3):
                    if name == HOST:
                        kind, size, _, depth = point.replace(",", "").split()
                        sample = Host(disk, setup.direct).run(f"--rw={kind} --bs={size} --iodepth={depth} "
                                                              f"--size={SIZE}M --runtime={SECONDS}s")
                    else:
                        polling = Setup("", "", [], direct=setup.direct, poll=kinds[name])
                        sample = run_image(setting, polling, point, disk)
                    setup.found.setdefault((point, name), []).append(sample)
        contenders = [Contender(f"{name}: {point}", [], wall=[1 / sample.operations for sample in found])
                      for (point, name), found in setup.found.items()]
        report.timing(setup.key, f"Time for an operation, {setup.title}", f"`block_requests.elf` at CPL 3, {rounds} rounds; "
                      f"polling: `poll-us={POLL}`.\n\n" + results_table(setup, points), contenders, samples(contenders))
        for point in points if setup.direct else ():
            deep = not point.endswith("depth 1")
            for name, limit in {"image": 0.95 if deep else 0.65, **({} if deep else {"image, polling": 0.85})}.items():
                cpu = of(setup, point, name, lambda sample: sample.processor)
                report.figure(f"{name}, O_DIRECT, {point}: hum by the host's fio",
                              quotient(of(setup, point, name), of(setup, point, HOST)), limit, unit=" x", at_least=True,
                              note=f"{cpu:.2f} CPU seconds a second beside the guest's")


def measure(setting, report):
    setting.need_kvm()
    wanted = re.compile(setting.points or "")
    rounds = setting.runs or 3
    raw = setting.scratch / "disk.img"
    fill(raw)
    order = random.Random(1)
    measure_image(setting, report, rounds, wanted, order)
    chosen = [(setup, setup.points(wanted)) for setup in SETUPS if setup.points(wanted)]
    if not chosen:
        return
    root = make_root(setting.scratch)
    for setup, points in chosen:
        copies = {}

        def disk(name, setup=setup, copies=copies):
            """Two that write need two qcow2 images: their tables must not change under them."""
            if setup.file_format == "raw":
                return raw
            if name not in copies:
                copies[name] = convert(setting, raw, setting.scratch / f"{name}.qcow2")
            return copies[name]

        for _ in range(rounds):
            one_round(setting, setup, order, root, disk, points)
        tell(report, setup, points, rounds)
        for path in copies.values():
            path.unlink()
