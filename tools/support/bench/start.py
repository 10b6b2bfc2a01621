# SPDX-License-Identifier: Apache-2.0
"""Process start to the first guest instruction to exit, with the smallest image."""

from bench.report import NotMeasured, milliseconds
from bench.timing import Contender, commands, fastest, interleave, ratio_figure, samples, timing_table

MEMORY = "128"  # MiB
LIMIT = 20      # seconds for one run


def contenders_of(setting):
    floor = setting.image("bench_floor")
    image = setting.image("exit_now.elf")
    contenders = [Contender("/bin/true", ["/bin/true"])]
    missing = ""
    for irqchip, qemu_irqchip in (("split", "split"), ("kernel", "on")):
        contenders.append(Contender(f"floor, {irqchip}", [floor, "--irqchip", irqchip, "--memory", MEMORY, image]))
        contenders.append(Contender(f"hum, {irqchip}", [
            setting.hum, "run", "--irqchip", irqchip, "--memory", MEMORY + "M", "--console", "none",
            "--kernel", image]))
        try:
            qemu = setting.qemu_microvm(f"acpi=off,rtc=off,isa-serial=off,kernel-irqchip={qemu_irqchip}",
                                        "-m", MEMORY, "-kernel", image)
            contenders.append(Contender(f"QEMU, {irqchip}", qemu, status=1))
        except NotMeasured as reason:
            missing = f"\n\nQEMU is not measured: {reason}"
    return contenders, missing


def measure(setting, report):
    setting.need_kvm()
    contenders, missing = contenders_of(setting)
    runs = setting.runs or 100
    interleave(contenders, runs, LIMIT)
    overhead = contenders[0]
    text = (f"From fork to reaped, `exit_now.elf`, {MEMORY} MiB, {runs} rounds. hum has its usual devices, the others "
            "have none; split and kernel say where the interrupt controllers are. "
            f"{milliseconds(overhead.median())} ms are the system's and this script's own: `/bin/true`.\n\n"
            + timing_table(contenders, "floor, split") + missing + "\n\n" + commands(contenders))
    report.timing("start", "Start to exit", text, contenders, samples(contenders))
    for irqchip in ("split", "kernel"):
        ratio_figure(report, f"start to exit, irqchip {irqchip}: hum by floor", contenders,
                     (f"hum, {irqchip}", f"floor, {irqchip}"), 2)
    rival = fastest(contenders, "QEMU")
    ratio_figure(report, f"start to exit: {rival} by hum, split", contenders, (rival, "hum, split"), 10, at_least=True)
