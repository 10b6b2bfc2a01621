# SPDX-License-Identifier: Apache-2.0
"""Process start until init with a distribution's kernel; in the lab where KVM here does not run it at full speed."""

import json
import os
import subprocess

from bench.boot import COMMAND_LINE, MEMORY, breakdown, rivals
from bench.report import NotMeasured
from bench.setting import first_line
from bench.timing import Contender, commands, interleave, ratio_figure, samples, timing_table

LIMIT = 120     # seconds for one run
LAB_LIMIT = 900  # seconds for all in the lab


def contenders_of(setting):
    kernel, initrd = setting.stock_kernel(), setting.image("exit_init.cpio")
    contenders = [Contender(f"hum, {transport}", [
        setting.hum, "run", "--transport", transport, "--memory", MEMORY + "M", "--console", "none", "--net", "none",
        "--kernel", kernel, "--initrd", initrd, "--cmdline", COMMAND_LINE]) for transport in ("mmio", "pci")]
    found, missing = rivals(setting, kernel, initrd)
    if setting.kvmtool:
        # It has no exit port: the kernel's panic at the end of init ends it, a little later.
        found.append(Contender("kvmtool", [setting.kvmtool, "run", "--cpus", "1", "--mem", MEMORY, "--kernel", kernel,
                                           "--initrd", initrd, "--params", COMMAND_LINE]))
    return contenders + found, missing


def measure_here(setting, runs):
    contenders, missing = contenders_of(setting)
    interleave(contenders, runs, LIMIT)
    parts = breakdown(setting, [c for c in contenders if c.name.startswith("hum")], LIMIT)
    return contenders, missing, parts


def measure_in_lab(setting, runs):
    """This section of tools/bench once more, inside."""
    setting.image("exit_init.cpio")
    setting.stock_kernel()
    command = [setting.repository / "tools" / "lab", "--scratch", setting.scratch, "--timeout", LAB_LIMIT]
    if "HUM_CACHE" in os.environ:
        command += ["--env", "HUM_CACHE"]
    command += [setting.repository / "tools" / "bench", "stock", "--runs", runs, "--json", "/scratch/stock.json",
                "--build", setting.build]
    done = subprocess.run([str(word) for word in command], cwd=setting.build, stdin=subprocess.DEVNULL,
                          capture_output=True, env=os.environ | {"HUM_BUILD_DIR": str(setting.build)}, check=False)
    try:
        section = json.loads((setting.scratch / "stock.json").read_text(encoding="utf-8"))["sections"]["stock"]
        parts = section.pop("breakdown")
    except (OSError, ValueError, KeyError):
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NotMeasured(f"in the lab: {last}") from None
    contenders = [Contender(name, each["command"], wall=each["wall"], cpu=each["processor"],
                            failure=each.get("failure", "")) for name, each in section.items()]
    return contenders, "", parts


def measure(setting, report):
    runs = setting.runs or 5
    native = first_line([setting.hum, "probe"]) == "native"
    where = "" if native else " in the lab"
    contenders, missing, parts = measure_here(setting, runs) if native else measure_in_lab(setting, runs)
    if all(contender.failure for contender in contenders):
        raise NotMeasured(f"the kernel does not boot: {contenders[0].failure}")
    text = (f"From fork to reaped{where}: the stock kernel, `{COMMAND_LINE}`, an init that ends the machine, "
            f"{MEMORY} MiB, {runs} rounds. QEMU has the devices that hum has, over the same transport.\n\n"
            + timing_table(contenders, "hum, pci") + missing + "\n\n" + parts + "\n\n" + commands(contenders))
    report.timing("stock", "Start to init, stock kernel", text, contenders, samples(contenders) | {"breakdown": parts})
    for transport in ("mmio", "pci"):
        ratio_figure(report, f"stock kernel, start to init: hum by QEMU, {transport}", contenders,
                     (f"hum, {transport}", f"QEMU, {transport}"), 0.5)
