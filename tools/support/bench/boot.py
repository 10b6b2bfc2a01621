# SPDX-License-Identifier: Apache-2.0
"""Process start until init ends the machine, with a kernel that runs at full speed here."""

from bench.report import NotMeasured
from bench.timing import Contender, commands, interleave, ratio_figure, samples, timing_table

MEMORY = "256"  # MiB
LIMIT = 15      # seconds for one run
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


def contenders_of(setting):
    kernel = setting.native_kernel()
    initrd = setting.image("exit_init.cpio")
    contenders = [Contender("floor", [setting.image("bench_floor"), "--irqchip", "split", "--memory", MEMORY, kernel,
                                      "--cmdline", COMMAND_LINE, "--initrd", initrd])]
    for transport in ("mmio", "pci"):
        contenders.append(Contender(f"hum, {transport}", [
            setting.hum, "run", "--transport", transport, "--memory", MEMORY + "M", "--console", "none",
            "--kernel", kernel, "--initrd", initrd, "--cmdline", COMMAND_LINE]))
    missing = ""
    try:
        for name, machine, devices in QEMU:
            qemu = setting.qemu_microvm(f"rtc=on,kernel-irqchip=split,{machine}", "-m", MEMORY, *devices,
                                        "-kernel", kernel, "-initrd", initrd, "-append", COMMAND_LINE)
            contenders.append(Contender(name, qemu, status=1))
    except NotMeasured as reason:
        missing = f"\n\nQEMU is not measured: {reason}"
    return contenders, missing


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
            "a serial port.\n\n" + timing_table(contenders, "floor") + missing + "\n\n" + commands(contenders))
    report.section("boot", "Start to init", text, samples(contenders))
    for transport in ("mmio", "pci"):
        ours = f"hum, {transport}"
        for rival in (f"QEMU, {transport}", "QEMU, no device"):
            ratio_figure(report, f"start to init: {ours}, by {rival}", contenders, (ours, rival), 0.85)
        ratio_figure(report, f"start to init: {ours}, by floor", contenders, (ours, "floor"), 1.15)
