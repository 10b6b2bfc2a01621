# SPDX-License-Identifier: Apache-2.0
"""Many small images, one after the other and several at a time: what hum test adds to each."""

import json
import os
import statistics

from bench.report import milliseconds, table
from bench.timing import Contender, Spawner, commands, interleave, quartiles_of, samples

IMAGES = 200
LIMIT = 120  # seconds for one run of them all
OWN_RUNS = 20
REPEATED = f'i=0; while [ $i -lt {IMAGES} ]; do "$0" "$@" || exit; i=$((i+1)); done'


def contenders_of(setting, jobs):
    image = setting.image("exit_now.elf")
    one = [setting.hum, "run", "--console", "none", "--kernel", image]
    return [Contender("floor, in a shell's loop", ["/bin/sh", "-c", REPEATED, setting.image("bench_floor"), image]),
            Contender("hum run, in a shell's loop", ["/bin/sh", "-c", REPEATED, *one])] + [
                Contender(f"hum test, jobs {count}", [setting.hum, "test", image, "--repeat", IMAGES, "-q", "--jobs", count])
                for count in jobs], one


def own_time(setting, command):
    """The median of the guest's own time, from the vCPU's start to the guest's end: seconds."""
    path = setting.scratch / "own.json"
    times = []
    with Spawner(LIMIT) as spawner:
        for _ in range(OWN_RUNS):
            spawner.run([*command, "--record", path])
            times.append(json.loads(path.read_text(encoding="utf-8"))["duration_seconds"])
    return statistics.median(times)


def measure(setting, report):
    setting.need_kvm()
    jobs = sorted({1, os.cpu_count()})
    contenders, one = contenders_of(setting, jobs)
    runs = setting.runs or 10
    interleave(contenders, runs, LIMIT)
    for contender in contenders:
        contender.wall = [wall / IMAGES for wall in contender.wall]
        contender.cpu = [cpu / IMAGES for cpu in contender.cpu]
    own = own_time(setting, one)
    rows = []
    failures = ""
    for contender in contenders:
        if contender.failure:
            failures += f"\n\nNot measured: {contender.name} {contender.failure}"
            continue
        first, median, third = quartiles_of(contender.wall)
        rows.append([contender.name, milliseconds(median), milliseconds(min(contender.wall)), milliseconds(first),
                     milliseconds(third), milliseconds(statistics.median(contender.cpu)), f"{1 / median:.0f}"])
    text = (f"{IMAGES} runs of `exit_now.elf`, start to end, {runs} rounds; times are those of one image. The guest itself "
            f"takes {milliseconds(own)} ms of that (hum's record, median of {OWN_RUNS}).\n\n"
            + table(["ms for each image", "median", "least", "1st quartile", "3rd quartile", "processor", "images a second"],
                    rows)
            + failures + "\n\n" + commands(contenders))
    report.timing("suite", "A suite of small images, for each image", text, contenders,
                  samples(contenders) | {"images": IMAGES, "own": own})
    for contender, count in zip(contenders[-len(jobs):], jobs):
        each = None if contender.failure else contender.median() * count
        report.figure(f"{contender.name}: images a second and processor", each and 1 / each, 20, at_least=True,
                      note=contender.failure)
        report.figure(f"{contender.name}: beside the image's own time", each and (each - own) * 1000, 10, unit=" ms",
                      note=contender.failure)
