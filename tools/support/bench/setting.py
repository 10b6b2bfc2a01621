# SPDX-License-Identifier: Apache-2.0
"""Where programs, images and kernels are, and on what machine."""

import datetime
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from bench.report import NotMeasured


def first_line(command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.strip().splitlines() or [""])[0]


def find_build(repository, asked):
    if asked:
        candidates = [asked]
    else:
        here = Path.cwd()
        candidates = [folder for folder in (here, *here.parents) if (folder / "CMakeCache.txt").exists()]
        if "HUM_BUILD_DIR" in os.environ:
            candidates.append(Path(os.environ["HUM_BUILD_DIR"]))
        candidates += [repository / "build", repository / "build" / "release"]
    for folder in candidates:
        if (folder / "bin" / "hum").exists():
            return folder.resolve()
    raise NotMeasured(f"there is no bin/hum in {', '.join(map(str, candidates))}: build it, or name the build folder "
                      "with --build")


class Setting:
    """Throws NotMeasured where there is nothing to measure at all. scratch and runtime are folders that go at the end, the latter in memory as /run is."""

    def __init__(self, repository, options, scratch, runtime):
        self.repository = repository
        self.scratch = scratch
        self.runtime = runtime
        self.build = find_build(repository, options.build)
        self.hum = self.build / "bin" / "hum"
        self.runs = options.runs
        self.points = options.points
        self.qemu = shutil.which("qemu-system-x86_64")
        self.kvmtool = shutil.which("lkvm") or shutil.which("kvmtool")
        self._native_given = options.native_kernel
        self._native = None

    def image(self, name):
        path = self.build / "guest-tests" / name
        if not path.exists():
            raise NotMeasured(f"{path.name} is not built in guest-tests of the build folder")
        return path

    def need_kvm(self):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise NotMeasured("there is no /dev/kvm here that may be used")

    def stock_kernel(self):
        """The distribution's kernel that hum run takes by itself."""
        line = first_line([self.hum, "kernel", "list"])
        path = line.split()[-1] if line else ""
        if not path:
            raise NotMeasured("there is no stock kernel: hum kernel get fetches one")
        return path

    def native_kernel(self):
        """An unpacked kernel that may run at full speed under the KVM here; whether it does, its boot tells."""
        if self._native:
            return self._native
        path = self._native_given or self.repository.parent / "shared" / "guests" / "vmlinux-native.zst"
        if not path.exists():
            raise NotMeasured(f"there is no {path.name} (--native-kernel)")
        self._native = path.resolve()
        if path.suffix == ".zst":
            self._native = self.scratch / path.stem
            done = subprocess.run(["zstd", "-dqf", str(path), "-o", str(self._native)], check=False)
            if done.returncode != 0:
                raise NotMeasured(f"zstd cannot unpack {path.name}")
        return self._native

    def qemu_microvm(self, machine, *more):
        """The command line for a microvm that has only what is asked for."""
        if not self.qemu:
            raise NotMeasured("there is no qemu-system-x86_64 here")
        return [self.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-M", f"microvm,accel=kvm,pit=off,pic=off,auto-kernel-cmdline=off,{machine}",
                "-cpu", "host,arch-capabilities=off", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *more]

    def describe(self, words):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = re.search(r"model name\s*: (.*)", file.read())
        with open("/proc/meminfo", encoding="utf-8") as file:
            memory = int(file.readline().split()[1]) // 1024
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "command": shlex.join(["tools/bench", *words]),
            "processor": f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} of them, {memory} MiB",
            "kernel": f"Linux {platform.release()}",
            "KVM": self._kvm_kind(),
            "transparent huge pages": self._huge_pages(),
            "hum": self._hum_version(),
            "QEMU": first_line([self.qemu, "--version"]) if self.qemu else "none",
            "kvmtool": first_line([self.kvmtool, "version"]) if self.kvmtool else "none",
            "load at the start": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        }

    def _kvm_kind(self):
        if not Path("/dev/kvm").exists():
            return "none"
        modules = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if Path("/sys/module", name).exists()]
        kernel_code = first_line([self.hum, "probe"])
        return " ".join(modules or ["kind unknown"]) + (f", kernel code {kernel_code}" if kernel_code else "")

    @staticmethod
    def _huge_pages():
        try:
            text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="utf-8")
        except OSError:
            return "none"
        return re.search(r"\[(\w+)\]", text).group(1)

    def _hum_version(self):
        cache = (self.build / "CMakeCache.txt")
        text = cache.read_text(encoding="utf-8") if cache.exists() else ""
        kind = re.search(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", text, re.MULTILINE)
        size = self.hum.stat().st_size // 1024
        return f"{first_line([self.hum, '--version'])}, {kind.group(1) if kind else 'unknown'} build, {size} KiB"
