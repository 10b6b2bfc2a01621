# SPDX-License-Identifier: Apache-2.0
"""Networks: iperf3 and ping between a guest and the host, for hum and QEMU, beside a veth pair of the host."""

import json
import os
import random
import re
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass, field

from bench.guest import Guest, make_root
from bench.report import NotMeasured, microseconds, table
from bench.timing import Contender, quartiles_of, samples

MEMORY = "256"  # MiB
SECONDS = 2     # of a job
PINGS = 2000
COMMAND_LINE = "console=ttyS0 panic=-1 quiet noreplace-smp root=/dev/vda ro init=/init"
OURS, THEIRS, HOST = "hum", "QEMU", "host"
BEGIN = """/bin/busybox ip link set lo up
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in
    net=*) /bin/busybox ip addr add "${word#net=}" dev eth0 && /bin/busybox ip link set eth0 up ;;
    gateway=*) /bin/busybox ip route add default via "${word#gateway=}" ;;
  esac
done"""
# Of the guest or the other end of the pair, and the end that the host has.
PLACES = {OURS: ("10.98.0.2", "10.98.0.1", "hum0"), THEIRS: ("10.98.1.2", "10.98.1.1", "qemu0"),
          HOST: ("10.98.2.2", "10.98.2.1", "veth0")}
TCP = {f"{streams} {'streams' if streams > 1 else 'stream'} {way}": f"-P {streams} {more}"
       for streams in (1, 4) for way, more in (("to the host", ""), ("to the guest", "-R"))}
UDP = {f"64-byte frames {way}": f"-u -b 0 -l 18 {more}" for way, more in (("to the host", ""), ("to the guest", "-R"))}
PING = {"round trip": ""}


@dataclass
class Section:
    """Contenders that differ in nothing else, and the points that they are measured at."""
    key: str
    title: str
    points: dict
    what: str       # that a time is of
    rate: str       # of a column
    scale: float    # from things a second to that
    unit: float     # things that a CPU second is told for
    user: bool = False
    found: dict = field(default_factory=dict)     # by point and contender: (things a second, VMM's CPU seconds for one)
    failures: dict = field(default_factory=dict)


SECTIONS = [
    Section("net-tcp", "TCP over a tap", TCP, "Time for a gigabyte", "Gbit/s", 8e-9, 1e9),
    Section("net-udp", "UDP over a tap", UDP, "Time for a frame", "frames/s", 1, 1e6),
    Section("net-ping", "Round trips over a tap", PING, "Time for a round trip", "round trips/s", 1, 1e6),
    Section("net-user", "TCP over passt", TCP, "Time for a gigabyte", "Gbit/s", 8e-9, 1e9, user=True),
]


class Spaces:
    """Two network namespaces with a veth pair between them; the first one has the taps, and a default route."""

    def __init__(self):
        self.names = [f"hum-bench-{os.getpid()}-{number}" for number in (0, 1)]
        self._made = []

    def run(self, *words):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotMeasured(f"{' '.join(map(str, words))}: {done.stderr.strip()}")

    def __enter__(self):
        if os.geteuid() != 0:
            raise NotMeasured("network namespaces and taps need root")
        try:
            for name in self.names:
                self.run("ip", "netns", "add", name)
                self._made.append(name)
                self.run("ip", "-n", name, "link", "set", "lo", "up")
            first, second = self.names
            self.run("ip", "-n", first, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", second)
            self.run("ip", "-n", second, "addr", "add", PLACES[HOST][0] + "/24", "dev", "veth0")
            self.run("ip", "-n", second, "link", "set", "veth0", "up")
            for name, (_, host, device) in PLACES.items():
                if name != HOST:
                    self.run("ip", "-n", first, "tuntap", "add", device, "mode", "tap")
                self.run("ip", "-n", first, "addr", "add", host + "/24", "dev", device)
                self.run("ip", "-n", first, "link", "set", device, "up")
            self.run("ip", "-n", first, "route", "add", "default", "via", PLACES[HOST][0])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def within(self, number):
        return ["nsenter", f"--net=/run/netns/{self.names[number]}"]


def machine_options(section, place):
    guest, host, _ = PLACES[place]
    if section.user:  # the guest has the host's own address, and its way out
        guest, host = PLACES[HOST][1], PLACES[HOST][0]
    return f"{COMMAND_LINE} net={guest}/24 gateway={host}"


def our_command(setting, spaces, section, root):
    net = "user" if section.user else f"tap={PLACES[OURS][2]}"
    return [*spaces.within(0), setting.hum, "run", "--memory", MEMORY + "M", "--console", "stdio", "--no-rng", "--kernel",
            setting.native_kernel(), "--cmdline", machine_options(section, OURS) + " reboot=panic_warm",
            "--disk", f"{root},readonly=on", "--net", net]


def their_command(setting, spaces, section, root):
    net = f"tap,id=net,ifname={PLACES[THEIRS][2]},script=no,downscript=no,vhost=off"
    if section.user:
        net = f"stream,id=net,server=off,addr.type=unix,addr.path={setting.scratch / 'passt'}"
    command = setting.qemu_microvm(
        "acpi=on,rtc=on,isa-serial=on,pcie=on,kernel-irqchip=split", "-m", MEMORY, "-smp", "1", "-serial", "stdio",
        "-kernel", setting.native_kernel(), "-append", machine_options(section, THEIRS) + " reboot=t",
        "-drive", f"if=none,id=root,file={root},format=raw,readonly=on,file.locking=off",
        "-device", "virtio-blk-pci-non-transitional,drive=root",
        "-netdev", net, "-device", "virtio-net-pci-non-transitional,netdev=net,romfile=")
    return [*spaces.within(0), *command]


def parse(text):
    """Things a second, of iperf3's JSON: bytes received, or for UDP frames."""
    try:
        found = json.loads(text)
        end = found["end"]
        if "sum_received" in end and "sum" not in end:
            return end["sum_received"]["bits_per_second"] / 8
        return (end["sum"]["packets"] - end["sum"]["lost_packets"]) / end["sum"]["seconds"]
    except ValueError:
        raise NotMeasured(f"iperf3 says: {(text.strip().splitlines() or ['nothing'])[-1]}") from None
    except KeyError:
        raise NotMeasured(f"iperf3 says: {found.get('error', 'nothing')}") from None


class Server:
    """iperf3 for one job."""

    def __init__(self, words, address):
        self._process = subprocess.Popen([*words, "iperf3", "-s", "-1", "--forceflush", "-B", address],
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in self._process.stdout:
            if b"listening" in line:
                return
        self._process.wait()
        raise NotMeasured(f"iperf3 does not listen at {address}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.communicate()


def iperf(point_words, address):
    return f"-J -i 0 -t {SECONDS} -c {address} {point_words}"


def ping(spaces, address):
    done = subprocess.run([*spaces.within(0), "ping", "-q", "-f", "-c", str(PINGS), address], capture_output=True, text=True,
                          check=False)
    found = re.search(r"= [0-9.]+/([0-9.]+)/", done.stdout)
    if not found:
        raise NotMeasured(f"ping says: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    return 1000 / float(found.group(1))


def measure_point(spaces, section, point, name, machine):
    guest, host, _ = PLACES[name]
    words = section.points[point]
    if section.points is PING:
        return ping(spaces, guest), 0
    if name == HOST:
        # From the other namespace's side, which has the guest's part.
        with Server(spaces.within(0), host):
            done = subprocess.run([*spaces.within(1), "iperf3", *iperf(words, host).split()], capture_output=True, text=True,
                                  check=False)
        return parse(done.stdout), 0
    address, number = (PLACES[HOST][0], 1) if section.user else (host, 0)
    with Server(spaces.within(number), address):
        text, processor, _, seconds = machine.tell(iperf(words, address))
    rate = parse(text)
    return rate, processor * seconds / (rate * SECONDS)


def passt(setting, spaces):
    """For QEMU: as hum starts its own, but for a socket with a name."""
    if not shutil.which("passt"):
        raise NotMeasured("there is no passt (package passt)")
    process = subprocess.Popen([*spaces.within(0), "passt", "--foreground", "--quiet", "--no-map-gw", "-t", "none", "-u", "none",
                                "--one-off", "--runas", "0", "--socket", str(setting.scratch / "passt")],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        if (setting.scratch / "passt").exists():
            return process
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise NotMeasured("passt does not start here")


def one_round(setting, spaces, section, order, root, points):
    running, helpers = {HOST: None}, []
    starts = {OURS: our_command, THEIRS: their_command}
    try:
        for name, command in starts.items():
            if name in section.failures:
                continue
            try:
                if name == THEIRS and section.user:
                    helpers.append(passt(setting, spaces))
                running[name] = Guest(command(setting, spaces, section, root))
            except NotMeasured as reason:
                section.failures[name] = str(reason)
        for point in points:
            for name in order.sample(list(running), len(running)):
                try:
                    section.found.setdefault((point, name), []).append(
                        measure_point(spaces, section, point, name, running[name]))
                except NotMeasured as reason:
                    section.failures[f"{name}, {point}"] = str(reason)
    finally:
        for machine in running.values():
            if machine:
                machine.end()
        for helper in helpers:
            helper.kill()
            helper.wait()
        (setting.scratch / "passt").unlink(missing_ok=True)


def of(section, point, name, number=0):
    found = section.found.get((point, name))
    return statistics.median(each[number] for each in found) if found else None


def quotient(above, below):
    return above / below if above and below else None


def results_table(section, points):
    rows = []
    for point in points:
        for name in PLACES:
            found = section.found.get((point, name))
            if not found:
                continue
            first, median, third = quartiles_of([rate * section.scale for rate, _ in found])
            digits = 0 if median > 100 else 2
            processor, each = of(section, point, name, 1), "-"
            if processor:
                each = f"{processor * section.unit:.2f}"
            ratios = [quotient(of(section, point, name), of(section, point, other)) for other in (THEIRS, HOST)]
            rows.append([point, name, f"{median:.{digits}f} ({first:.{digits}f} to {third:.{digits}f})",
                         microseconds(1 / of(section, point, name)) if section.unit == 1e6 else "-", each,
                         *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    return table(["", "", f"{section.rate}, median (quartiles)", "us for one",
                  "VMM's CPU s for a " + ("gigabyte" if section.unit == 1e9 else "million"), "x QEMU", "x host"], rows)


def tell(report, section, points, rounds):
    contenders = [Contender(f"{name}: {point}", [], wall=[section.unit ** (section.unit == 1e9) / rate for rate, _ in found])
                  for (point, name), found in section.found.items()]
    failures = "".join(f"\n\nNot measured: {name}: {reason}" for name, reason in section.failures.items())
    if not contenders:
        return report.not_measured(section.key, failures.strip())
    report.timing(section.key, f"{section.what}: {section.title}", f"{rounds} rounds.\n\n" + results_table(section, points) +
                  failures, contenders, samples(contenders))
    limit = {"net-tcp": 1.3, "net-udp": 1.2}.get(section.key, 1.0)
    for point in points:
        ours = of(section, point, OURS)
        report.figure(f"{section.title}, {point}: hum by QEMU", quotient(ours, of(section, point, THEIRS)), limit, unit=" x",
                      at_least=True)
        if section.key == "net-tcp":
            report.figure(f"{section.title}, {point}: hum by the host's veth pair", quotient(ours, of(section, point, HOST)),
                          0.7, unit=" x", at_least=True)
    return None


def measure(setting, report):
    setting.need_kvm()
    for program in ("iperf3", "ip", "nsenter", "ping"):
        if not shutil.which(program):
            raise NotMeasured(f"there is no {program} here (group bench of tools/support/packages.sh)")
    wanted = re.compile(setting.points or "")
    rounds = setting.runs or 3
    order = random.Random(1)
    root = make_root(setting.scratch, "iperf3", "/usr/bin/iperf3", BEGIN)
    with Spaces() as spaces:
        for section in SECTIONS:
            points = [point for point in section.points if wanted.search(f"{section.title}: {point}")]
            if not points:
                continue
            for _ in range(rounds):
                one_round(setting, spaces, section, order, root, points)
            tell(report, section, points, rounds)
