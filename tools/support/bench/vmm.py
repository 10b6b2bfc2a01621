# SPDX-License-Identifier: Apache-2.0
"""hum-vmm: from fork to reaped with the smallest image, by its API and by a config file, and the calls of its API."""

import json
import shutil
import socket
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import duration, table
from bench.timing import Contender, commands, interleave, ratio_figure, samples, timing_table

MEMORY = 128  # MiB
LIMIT = 20    # seconds for one run


@dataclass
class ByApi(Contender):
    """A hum-vmm that is told by its API what to do; keeps how long each step took, in seconds."""
    path: str = ""
    calls: list = field(default_factory=list)  # method, path, body
    steps: dict = field(default_factory=dict)
    configuring: list = field(default_factory=list)  # seconds until it is told to start the VM

    def meanwhile(self, begin):
        started = begin
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT)
            while client.connect_ex(self.path) != 0:
                if time.perf_counter() - begin > LIMIT:
                    raise OSError("there is no API")
                time.sleep(50e-6)
            self.steps.setdefault("ready, as a client sees it", []).append(time.perf_counter() - begin)
            for method, path, body in self.calls:
                begin = time.perf_counter()
                if path == "/actions":
                    self.configuring.append(begin - started)
                client.sendall((f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                                + body).encode())
                answer = client.recv(4096)
                # The image ends its VM, and the process, before the answer or after it.
                if path != "/actions" and b" 204 " not in answer:
                    raise OSError(f"{method} {path}: {answer.decode(errors='replace').splitlines()[0]}")
                self.steps.setdefault(f"{method} {path}", []).append(time.perf_counter() - begin)


def contenders_of(setting):
    image = setting.image("exit_now.elf")
    # Copies, as an installation makes them: the linker's own files lie in the page cache in single pages, which
    # takes longer to map.
    floor, hum, program = (Path(shutil.copy(each, setting.scratch)) for each in (
        setting.image("bench_floor"), setting.hum, setting.hum.with_name("hum-vmm")))
    drive = setting.scratch / "drive"
    drive.write_bytes(b"")
    machine = {"vcpu_count": 1, "mem_size_mib": MEMORY}
    source = {"kernel_image_path": str(image), "boot_args": ""}
    config = setting.scratch / "config.json"
    config.write_text(json.dumps({"machine-config": machine, "boot-source": source, "drives": []}), encoding="utf-8")
    api = setting.scratch / "api"
    by_api = ByApi("hum-vmm, API", [program, "--api-sock", api], path=str(api), calls=[
        ("PUT", "/machine-config", json.dumps(machine)), ("PUT", "/boot-source", json.dumps(source)),
        ("PUT", "/actions", '{"action_type": "InstanceStart"}')])
    drive_call = json.dumps({"drive_id": "d", "path_on_host": str(drive), "is_root_device": False})
    with_drive = ByApi("hum-vmm, API, a drive", by_api.command, path=str(api),
                       calls=[*by_api.calls[:2], ("PUT", "/drives/d", drive_call), by_api.calls[2]])
    return [Contender("/bin/true", ["/bin/true"]),
            Contender("floor", [floor, "--irqchip", "split", "--memory", str(MEMORY), image]),
            Contender("hum run", [hum, "run", "--memory", f"{MEMORY}M", "--console", "none", "--kernel", image]),
            Contender("hum-vmm, config file", [program, "--no-api", "--config-file", config]), by_api, with_drive]


def step_table(contenders):
    rows = []
    for contender in contenders:
        for step, values in contender.steps.items():
            rows.append([contender.name, step, duration(statistics.median(values)), duration(min(values)),
                         duration(max(values))])
    return table(["", "step", "median", "least", "most"], rows)


def measure(setting, report):
    setting.need_kvm()
    contenders = contenders_of(setting)
    runs = setting.runs or 100
    interleave(contenders, runs, LIMIT)
    by_api = [contender for contender in contenders if isinstance(contender, ByApi)]
    text = (f"From fork to reaped, `exit_now.elf`, {MEMORY} MiB, {runs} rounds; the API's client is this script, on a second "
            "processor.\n\n" + timing_table(contenders, "floor") + "\n\n" + step_table(by_api) + "\n\n" + commands(contenders))
    data = samples(contenders)
    for contender in by_api:
        data[contender.name]["steps"] = contender.steps
    report.timing("vmm", "hum-vmm: start to exit", text, contenders, data)
    ratio_figure(report, "VMs one after the other, rate by the floor's: config file", contenders,
                 ("floor", "hum-vmm, config file"), 0.7, at_least=True)
    ratio_figure(report, "VMs one after the other, rate by the floor's: API", contenders, ("floor", "hum-vmm, API"), 0.5,
                 at_least=True)
    ours = {contender.name: contender for contender in contenders}
    if by_api[0].wall and ours["hum run"].wall:
        report.figure("InstanceStart until reaped, by hum run from fork to reaped",
                      (by_api[0].median() - statistics.median(by_api[0].configuring)) / ours["hum run"].median(), 1.2, unit=" x")
    for contender in by_api[1:]:
        for step, values in contender.steps.items():
            if step.startswith("PUT") and step != "PUT /actions":
                report.figure(f"{step}, median", statistics.median(values) * 1e3, 0.5, unit=" ms")
        ready = contender.steps.get("ready, as a client sees it")
        if ready:
            report.figure("API ready after the start, median", statistics.median(ready) * 1e3, 5, unit=" ms")
