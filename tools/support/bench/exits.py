# SPDX-License-Identifier: Apache-2.0
"""User-space exits until a stock kernel runs init's first instruction, counted in the lab."""

import json
import os
import subprocess

from bench.report import NotMeasured, table
from bench.setting import first_line

LIMIT_MMIO = 300
LIMIT_PER_FUNCTION = 250
FUNCTIONS = 2  # over PCI: the host bridge and the entropy device that hum run adds
LIMIT = 400    # seconds for both boots

SCRIPT = """
for transport in mmio pci; do
  timeout -k 5 150 bin/hum run --transport $transport --net none --initrd guest-tests/exit_init.cpio --console none \
    --record /scratch/$transport.json || echo "over $transport hum ended with $?" >&2
done
"""


def boot_both(setting):
    """The records of one boot over MMIO and one over PCI."""
    setting.image("exit_init.cpio")
    if not first_line([setting.hum, "kernel", "list"]):
        raise NotMeasured("there is no stock kernel: hum kernel get fetches one")
    command = [setting.repository / "tools" / "lab", "--scratch", setting.scratch, "--timeout", LIMIT]
    if "HUM_CACHE" in os.environ:
        command += ["--env", "HUM_CACHE"]
    command += ["sh", "-c", SCRIPT]
    done = subprocess.run([str(word) for word in command], cwd=setting.build, stdin=subprocess.DEVNULL,
                          capture_output=True, env=os.environ | {"HUM_BUILD_DIR": str(setting.build)}, check=False)
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    records = {}
    for transport in ("mmio", "pci"):
        path = setting.scratch / f"{transport}.json"
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if record.get("cause") != "debug-exit":
            cause = record.get("cause", "no record")
            raise NotMeasured(f"over {transport} the kernel did not get to init: {cause} {last}")
        records[transport] = record
    return records


def count(record):
    """Exits by reason, accesses by window, those to no window, and the exits without the serial port's."""
    reasons = dict(record["exits"])
    windows = {name: window["reads"] + window["writes"] for name, window in record["windows"].items()}
    total = sum(reasons.values())
    accesses = total - reasons.get("interrupted", 0) - reasons.get("other", 0) + record["collected_writes"]
    windows["nothing there"] = accesses - sum(windows.values())
    return reasons, windows, total - windows.get("serial", 0)


def measure(setting, report):
    records = boot_both(setting)
    counted = {transport: count(record) for transport, record in records.items()}
    tables = []
    for index, title in ((0, "reason"), (1, "window")):
        names = sorted(set().union(*(numbers[index] for numbers in counted.values())))
        rows = [[name] + [numbers[index].get(name, "") for numbers in counted.values()] for name in names]
        if index == 1:
            rows = [row for row in rows if any(row[1:])]
            rows.append(["collected, no exit of their own"] +
                        [-record["collected_writes"] for record in records.values()])
            rows.append(["**exits, serial left out**"] + [f"**{numbers[2]}**" for numbers in counted.values()])
        tables.append(table([title, "MMIO", "PCI"], rows))
    digest = records["mmio"]["kernel"]["digest"][:19]
    text = (f"A stock kernel ({digest}...) in the lab, from its entry until init, which writes to the exit port at "
            "once; hum's usual devices. Console output is set aside: all accesses to the serial port.\n\n"
            f"Limits: {LIMIT_MMIO} over MMIO, {LIMIT_MMIO} + {LIMIT_PER_FUNCTION} for each of {FUNCTIONS} functions "
            "over PCI (host bridge, virtio-rng).\n\n" + "\n\n".join(tables))
    report.section("exits", "Exits until init", text,
                   {t: {"exits": record["exits"], "windows": record["windows"]} for t, record in records.items()})
    report.figure("exits until init over MMIO", counted["mmio"][2], LIMIT_MMIO)
    report.figure("exits until init over PCI", counted["pci"][2], LIMIT_MMIO + FUNCTIONS * LIMIT_PER_FUNCTION)
