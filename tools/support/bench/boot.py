# SPDX-License-Identifier: Apache-2.0
"""Process start until init ends the machine, with a kernel that runs at full speed here."""

import json
import statistics

from bench.report import NotMeasured, milliseconds, table
from bench.timing import Contender, Spawner, commands, interleave, ratio_figure, samples, timing_table

MEMORY = "256"  # MiB
LIMIT = 15      # seconds for one run
BREAKDOWN_RUNS = 5
COMMAND_LINE = "panic=-1 noreplace-smp quiet"

# hum's devices, over each transport; and the least that boots, where no device could have an interrupt. Without the clock
# a kernel waits seconds for it.
RANDOM = ("-object", "rng-random,id=random,filename=/dev/urandom")
QEMU = [
    ("QEMU, mmio", "acpi=on,isa-serial=on", ("-serial", "null", *RANDOM, "-device", "virtio-rng-device,rng=random")),
    ("QEMU, pci", "acpi=on,isa-serial=on,pcie=on",
     ("-serial", "null", *RANDOM, "-device", "virtio-rng-pci-non-transitional,rng=random")),
    ("QEMU, no device", "acpi=off,isa-serial=off", ()),
]


def rivals(setting, kernel, initrd):
    """QEMU in its several ways with this kernel, and what to say where there is none."""
    try:
        return [Contender(name, setting.qemu_microvm(f"rtc=on,kernel-irqchip=split,{machine}", "-m", MEMORY, *devices,
                                                     "-kernel", kernel, "-initrd", initrd, "-append", COMMAND_LINE),
                          status=1) for name, machine, devices in QEMU], ""
    except NotMeasured as reason:
        return [], f"\n\nQEMU is not measured: {reason}"


def contenders_of(setting):
    kernel = setting.native_kernel()
    initrd = setting.image("exit_init.cpio")
    contenders = [Contender("floor", [setting.image("bench_floor"), "--irqchip", "split", "--memory", MEMORY, kernel,
                                      "--cmdline", COMMAND_LINE, "--initrd", initrd])]
    for transport in ("mmio", "pci"):
        contenders.append(Contender(f"hum, {transport}", [
            setting.hum, "run", "--transport", transport, "--memory", MEMORY + "M", "--console", "none",
            "--net", "none", "--kernel", kernel, "--initrd", initrd, "--cmdline", COMMAND_LINE]))
    found, missing = rivals(setting, kernel, initrd)
    return contenders + found, missing


def breakdown(setting, contenders, limit):
    """Where the time goes: the VMM before and after the guest, the kernel until init, and hum's own init with a command."""
    rows = []
    path = setting.scratch / "breakdown.json"
    with Spawner(limit) as spawner:
        for contender in contenders:
            outside, guest, command = [], [], []
            at = contender.command.index("--initrd")
            with_command = contender.command[:at] + contender.command[at + 2:] + ["--", "true"]
            for _ in range(BREAKDOWN_RUNS):
                wall, _, _ = spawner.run([*contender.command, "--record", path])
                guest.append(json.loads(path.read_text(encoding="utf-8"))["duration_seconds"])
                outside.append(wall - guest[-1])
                wall, _, code = spawner.run(with_command)
                if code == 0:
                    command.append(wall)
            init = statistics.median(command) - statistics.median(outside) - statistics.median(guest) if command else None
            rows.append([contender.name, milliseconds(statistics.median(outside)), milliseconds(statistics.median(guest)),
                         milliseconds(init) if init else "-"])
    return table(["ms", "VMM", "kernel until init", "hum's init with a command"], rows)


def measure(setting, report):
    setting.need_kvm()
    contenders, missing = contenders_of(setting)
    runs = setting.runs or 20
    interleave(contenders, runs, LIMIT)
    if all(contender.failure for contender in contenders):
        raise NotMeasured(f"{setting.native_kernel().name} does not boot here: {contenders[0].failure}")
    text = (f"From fork to reaped: `{setting.native_kernel().name}`, `{COMMAND_LINE}`, an init that ends the machine, "
            f"{MEMORY} MiB, {runs} rounds. All have the interrupt controllers split. hum has its usual devices, with "
            "virtio-rng over MMIO or PCI, and QEMU the same; the floor and QEMU without a device have neither ACPI nor "
            "a serial port.\n\n" + timing_table(contenders, "floor") + missing + "\n\n"
            + breakdown(setting, [c for c in contenders if c.name.startswith("hum")], LIMIT)
            + "\n\n" + commands(contenders))
    report.timing("boot", "Start to init", text, contenders, samples(contenders))
    for transport in ("mmio", "pci"):
        ours = f"hum, {transport}"
        for rival in (f"QEMU, {transport}", "QEMU, no device"):
            ratio_figure(report, f"start to init: {ours}, by {rival}", contenders, (ours, rival), 0.85)
        ratio_figure(report, f"start to init: {ours}, by floor", contenders, (ours, "floor"), 1.15)
