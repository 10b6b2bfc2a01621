# SPDX-License-Identifier: Apache-2.0
"""Process start until init ends the machine, with a kernel that runs at full speed here."""

from bench.report import NotMeasured
from bench.timing import Contender, commands, fastest, interleave, ratio_figure, samples, timing_table

MEMORY = "256"  # MiB
LIMIT = 15      # seconds for one run
COMMAND_LINE = "quiet panic=-1"


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
        # Without the clock a kernel waits seconds for it. ACPI is what gives devices their interrupts; without it is
        # quicker and of less use.
        for acpi in ("on", "off"):
            qemu = setting.qemu_microvm(f"acpi={acpi},rtc=on,isa-serial=off,kernel-irqchip=split", "-m", MEMORY,
                                        "-kernel", kernel, "-initrd", initrd, "-append", COMMAND_LINE)
            contenders.append(Contender(f"QEMU, acpi {acpi}", qemu, status=1))
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
            "virtio-rng over MMIO or PCI; the floor has neither ACPI nor devices, QEMU has no virtio device and no "
            "serial port.\n\n" + timing_table(contenders, "floor") + missing + "\n\n" + commands(contenders))
    report.section("boot", "Start to init", text, samples(contenders))
    rival = fastest(contenders, "QEMU")
    for transport in ("mmio", "pci"):
        ours = f"hum, {transport}"
        ratio_figure(report, f"start to init, {transport}: hum by {rival}", contenders, (ours, rival), 0.85)
        ratio_figure(report, f"start to init, {transport}: hum by floor", contenders, (ours, "floor"), 1.15)
