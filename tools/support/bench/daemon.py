# SPDX-License-Identifier: Apache-2.0
"""humd: what it adds to a start, starts by several clients, a large store, a restart with many VMs, and libvirt beside it."""

import http.client
import json
import os
import random
import selectors
import signal
import socket
import sqlite3
import statistics
import subprocess
import threading
import time
from pathlib import Path

from bench.libvirt import Libvirt
from bench.report import NotMeasured, duration, table

RECORDS = 100_000
LIVE = 1_000
LIVES = 100      # beside libvirt
CLIENTS = 8
STARTS = 200     # in one round
MEMORY = 16      # MiB of a VM that is started
PATIENCE = 60    # seconds


class Connection(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)

    def call(self, method, target, body=None):
        self.request(method, target, None if body is None else json.dumps(body))
        answer = self.getresponse()
        text = answer.read()
        if answer.status not in (200, 202):
            raise OSError(f"{method} {target}: {answer.status} {text[:300].decode(errors='replace')}")
        return text


class Daemon:
    """A humd with folders of its own; its VMs end with it."""

    def __init__(self, setting, name, program):
        self.state, self.run = setting.scratch / name, setting.runtime / name
        for folder in (self.state, self.run):
            folder.mkdir(mode=0o700)
        self.socket = self.run / "humd.sock"
        self.command = [setting.hum.with_name("humd"), "--state", self.state, "--run", self.run,
                        "--vmm", program, "--memory-share", "10000", "--cpu-share", "100000"]
        self.process = None

    def start(self):
        """Returns the seconds until it answers."""
        begin = time.perf_counter()
        self.process = subprocess.Popen([str(word) for word in self.command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.connection().call("GET", "/v1/version")
                return time.perf_counter() - begin
            except (ConnectionRefusedError, FileNotFoundError):
                if self.process.poll() is not None or time.perf_counter() - begin > PATIENCE:
                    raise NotMeasured("humd does not start") from None
                time.sleep(0.0005)

    def connection(self):
        return Connection(self.socket)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def private_memory(self):
        """Bytes that are the process's alone."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise NotMeasured("there is no RssAnon in /proc")

    def end(self):
        """With all its VMs."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        client = self.connection()
        while vms := json.loads(client.call("GET", "/v1/vms?state=running&limit=1000"))["vms"]:
            for vm in vms:
                client.call("POST", f"/v1/vms/{vm['name']}/kill?wait_s=10")
        self.process.terminate()
        self.process.wait()


def spec(setting, name):
    return {"name": name, "kernel": str(setting.image("hang.elf")), "cmdline": "", "memory_mib": MEMORY}


def in_threads(count, work):
    """Seconds that work(number) of all of them takes."""
    failures = []

    def run(number):
        try:
            work(number)
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise NotMeasured(str(failures[0]))
    return time.perf_counter() - begin


class Directly:
    """Spawns the VMM as the daemon does, and asks it until its VM runs."""

    def __init__(self, setting):
        self.program = str(setting.hum.with_name("hum-vmm"))
        self.state, self.run = setting.scratch / "directly", setting.runtime / "directly"
        for folder in (self.state, self.run):
            folder.mkdir()
        self.config = self.run / "config.json"
        self.config.write_text(json.dumps({
            "boot-source": {"kernel_image_path": str(setting.image("hang.elf")), "boot_args": ""},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": MEMORY}}), encoding="utf-8")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in range(3)]
        self.pids = []

    def start(self, number):
        place = self.run / str(number)
        place.mkdir()
        self.pids.append(os.posix_spawn(self.program, [
            self.program, "--api-sock", str(place / "api"), "--id", f"vm-{number}", "--config-file", str(self.config),
            "--record", str(place / "record"), "--console-log", str(self.state / f"{number}.log"), "--enable-pci"], {},
            file_actions=self.actions))
        while True:
            try:
                client = Connection(place / "api")
                if json.loads(client.call("GET", "/hum/v1/vm"))["state"] != "not-started":
                    client.close()
                    return
            except (ConnectionRefusedError, FileNotFoundError):
                pass
            time.sleep(0.001)

    def end(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        self.pids = []


def until_exec(daemon, client, name, number):
    """Seconds from the request until the lock is there that the VMM inherits, right before it is spawned."""
    lock = daemon.run / "vms" / str(number) / "lock"
    path = str(lock)
    begin = time.perf_counter()
    client.request("POST", f"/v1/vms/{name}/start")
    while not os.path.exists(path):
        if time.perf_counter() - begin > PATIENCE:
            raise NotMeasured(f"{name} is not started")
    seconds = time.perf_counter() - begin
    client.getresponse().read()
    return seconds


def one_by_one(start, names):
    seconds = []
    for name in names:
        begin = time.perf_counter()
        start(name)
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure_starts(setting, report):
    setting.need_kvm()
    rounds = setting.runs or 3
    directly = Directly(setting)
    daemon = Daemon(setting, "starts", setting.hum.with_name("hum-vmm"))
    daemon.start()
    client = daemon.connection()
    added = {"directly": [], "humd": []}
    rates = {"directly": [], "humd": []}
    try:
        for turn in range(rounds):
            names = [f"vm{turn}x{number}" for number in range(2 * STARTS)]
            for name in names:
                client.call("POST", "/v1/vms?wait_s=10", spec(setting, name))
            singles, many = names[:STARTS], names[STARTS:]
            numbers = [turn * 2 * STARTS + number for number in range(2 * STARTS)]
            turns = ["directly", "humd"]
            random.shuffle(turns)
            for contender in turns:
                if contender == "directly":
                    added[contender] += one_by_one(directly.start, numbers[:STARTS])
                    seconds = in_threads(CLIENTS, lambda k: [directly.start(n) for n in numbers[STARTS + k::CLIENTS]])
                    directly.end()
                else:
                    added[contender] += one_by_one(lambda name: client.call("POST", f"/v1/vms/{name}/start?wait_s=10"),
                                                   singles)

                    def work(k, waiting=many):
                        own = daemon.connection()
                        for name in waiting[k::CLIENTS]:
                            own.call("POST", f"/v1/vms/{name}/start?wait_s=10")

                    seconds = in_threads(CLIENTS, work)
                    # Their files stay: an ext4 without a journal looks at each one that went in the last minute
                    # for each that is made.
                    for name in names:
                        client.call("POST", f"/v1/vms/{name}/kill?wait_s=10")
                rates[contender].append(STARTS / seconds)
    finally:
        directly.end()
        daemon.end()
    names = [f"exec{number}" for number in range(100)]
    try:
        daemon.start()
        client = daemon.connection()
        execs = []
        for name in names:
            made = json.loads(client.call("POST", "/v1/vms?wait_s=10", spec(setting, name)))
            execs.append(until_exec(daemon, client, name, made["object_id"]))
            client.call("GET", f"/v1/vms/{name}/wait?for=running&timeout_s=10")
    finally:
        daemon.end()
    rows = [[name, duration(statistics.median(added[name])), f"{statistics.median(rates[name]):.0f}"] for name in added]
    report.section("daemon starts", "humd: starts", f"`hang.elf`, {MEMORY} MiB, {rounds} rounds of {STARTS} one after the "
                   f"other and {STARTS} by {CLIENTS} clients, until the VM runs; directly: the same program with the same "
                   "options, spawned and asked by this script.\n\n"
                   + table(["", "one start until it runs, median", f"starts per second, {CLIENTS} clients"], rows)
                   + "\n\nFrom the request until the VMM is spawned: median " + duration(statistics.median(execs)) + ".",
                   {"seconds": added, "rates": rates, "exec": execs})
    report.figure("from the request until the VMM is spawned, median", statistics.median(execs) * 1e3, 1, unit=" ms")
    report.figure(f"starts per second with {CLIENTS} clients, humd by directly",
                  statistics.median(rates["humd"]) / statistics.median(rates["directly"]), 0.8, at_least=True)


def fill(store, count):
    """Copies of the one VM that there is, as nobody wants to wait for so many requests."""
    with sqlite3.connect(store) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(vm)") if row[1] != "id"]
        row = dict(zip(columns, database.execute(f"SELECT {', '.join(columns)} FROM vm").fetchone()))
        text = row["spec"]

        def rows():
            for number in range(1, count):
                name = f"vm{number:06d}x"
                yield [name if key == "name" else text.replace("vm000000x", name) if key == "spec" else row[key]
                       for key in columns]

        database.executemany(f"INSERT INTO vm ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows())
    database.close()


def get_by_many(daemon, clients, rate, requests):
    """Seconds of each request, sorted: so many a second come at random from clients that have none under way."""
    idle = []
    with selectors.DefaultSelector() as answers:
        for _ in range(clients):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(daemon.socket))
            answers.register(connection, selectors.EVENT_READ)
            idle.append(connection)
        seconds = []
        sent = {}
        due = time.perf_counter()
        try:
            while len(seconds) < requests:
                if time.perf_counter() >= due and idle:
                    connection = idle.pop(random.randrange(len(idle)))
                    name = f"vm{random.randrange(RECORDS):06d}x"
                    sent[connection] = time.perf_counter()
                    connection.sendall(f"GET /v1/vms/{name} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                    due += random.expovariate(rate)
                for key, _ in answers.select(max(0, due - time.perf_counter())):
                    connection = key.fileobj
                    now = time.perf_counter()
                    if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                        raise NotMeasured("a get was refused")
                    seconds.append(now - sent.pop(connection))
                    idle.append(connection)
        finally:
            for connection in [*idle, *sent]:
                connection.close()
    return sorted(seconds)


def measure_records(setting, report):
    daemon = Daemon(setting, "records", setting.hum.with_name("hum-vmm"))
    daemon.start()
    client = daemon.connection()
    client.call("POST", "/v1/vms?wait_s=10", spec(setting, "vm000000x"))
    before = daemon.private_memory()
    daemon.kill()
    fill(daemon.state / "humd.db", RECORDS)
    ready = daemon.start()
    client = daemon.connection()
    try:
        lists = []
        for page in range(50):
            begin = time.perf_counter()
            client.call("GET", f"/v1/vms?limit=1000&after=vm{page * 1000:06d}x")
            lists.append(time.perf_counter() - begin)
        gets = get_by_many(daemon, 100, 1000, 10_000)
        after = daemon.private_memory()
    finally:
        daemon.end()
    late = gets[int(len(gets) * 0.99)]
    rows = [["start of the daemon", duration(ready)], ["list of 1,000, median of 50", duration(statistics.median(lists))],
            ["get, 100 clients, 1,000 a second: median", duration(statistics.median(gets))],
            ["the same: 99th percentile", duration(late)],
            ["private memory more than with one record", f"{(after - before) / 2**20:.1f} MiB"]]
    report.section("daemon records", f"humd: {RECORDS:,} VMs in the store", table(["", ""], rows),
                   {"list": lists, "get": gets, "memory": [before, after]})
    report.figure("list of 1,000, median", statistics.median(lists) * 1e3, 10, unit=" ms")
    report.figure("get, 100 clients, 1,000 a second: 99th percentile", late * 1e3, 1, unit=" ms")
    report.figure("private memory for each record", (after - before) / RECORDS, 1024, unit=" bytes")


def measure_restart(setting, report):
    program = setting.build / "tools" / "humd" / "hum_fake_vmm"
    if not program.exists():
        raise NotMeasured("hum_fake_vmm is not built in tools/humd of the build folder")
    daemon = Daemon(setting, "restart", program)
    daemon.start()
    try:
        def work(k):
            own = daemon.connection()
            for number in range(k, LIVE, CLIENTS):
                own.call("POST", "/v1/vms?start=true&wait_s=20", spec(setting, f"vm{number}x"))

        in_threads(CLIENTS, work)
        seconds = []
        for _ in range(setting.runs or 5):
            daemon.kill()
            seconds.append(daemon.start())
            text = daemon.connection().call("GET", "/v1/metrics").decode()
            if f"humd_vmm_processes {LIVE}\n" not in text:
                raise NotMeasured("not all VMs were adopted")
    finally:
        daemon.end()
    report.section("daemon restart", f"humd: restart with {LIVE:,} VMs that run", "Simulated VMM processes; from exec until the "
                   "API answers, when all are adopted: " + ", ".join(duration(each) for each in seconds) + ".",
                   {"seconds": seconds})
    report.figure(f"all of {LIVE:,} adopted, the latest", max(seconds) * 1e3, 1000, unit=" ms")


class Managed:
    """VMs of humd over one connection, as Libvirt has them."""

    def __init__(self, setting, daemon):
        self.setting = setting
        self.client = daemon.connection()

    def create(self, name):
        self.client.call("POST", "/v1/vms?wait_s=10", spec(self.setting, name))

    def start(self, name):
        self.client.call("POST", f"/v1/vms/{name}/start?wait_s=10")

    def stop(self, name):
        self.client.call("POST", f"/v1/vms/{name}/kill?wait_s=10")

    def remove(self, name):
        self.client.call("DELETE", f"/v1/vms/{name}?wait_s=10")


def measure_beside_libvirt(setting, report):
    setting.need_kvm()
    rival = Libvirt(setting.scratch / "libvirt", setting.image("hang.elf"), MEMORY)
    daemon = Daemon(setting, "beside-libvirt", setting.hum.with_name("hum-vmm"))
    daemon.start()
    steps = ("create", "start", "stop", "remove")
    seconds = {name: {step: [] for step in steps} for name in ("libvirt", "humd")}
    try:
        contenders = {"libvirt": rival, "humd": Managed(setting, daemon)}
        for turn in range(setting.runs or 3):
            names = [f"vm{turn}x{number}" for number in range(LIVES)]
            for contender in random.sample(sorted(contenders), 2):
                for step in steps:
                    act = getattr(contenders[contender], step)
                    seconds[contender][step].append(sum(one_by_one(act, names)))
    finally:
        rival.end()
        daemon.end()
    medians = {name: {step: statistics.median(seconds[name][step]) for step in steps} for name in seconds}
    rows = [[step, *(duration(medians[name][step]) for name in seconds),
             f"{medians['libvirt'][step] / medians['humd'][step]:.1f}"] for step in steps]
    whole = {name: sum(medians[name].values()) for name in medians}
    rows.append(["all four", *(duration(whole[name]) for name in seconds), f"{whole['libvirt'] / whole['humd']:.1f}"])
    report.section("daemon beside libvirt", f"humd: {LIVES} VMs beside libvirt",
                   f"`hang.elf`, {MEMORY} MiB; libvirt with QEMU microvm, define, start, destroy, undefine by one connection of "
                   f"virsh; humd: create, start, kill, delete by one connection. Each step for all {LIVES}, one after the other.\n\n"
                   + table(["", *seconds, "libvirt by humd"], rows), {"seconds": seconds})
    report.figure(f"the life of {LIVES} VMs, libvirt by humd", whole["libvirt"] / whole["humd"], 10, at_least=True)


def measure(setting, report):
    for part in (measure_starts, measure_records, measure_restart, measure_beside_libvirt):
        try:
            part(setting, report)
        except (NotMeasured, OSError, sqlite3.Error) as error:
            report.not_measured("daemon", f"{part.__name__}: {error}")
