# SPDX-License-Identifier: Apache-2.0
"""A root file system with a shell, as the cpio archive (newc) that Linux unpacks."""

import shutil
import stat
from pathlib import Path

from bench.report import NotMeasured

INIT = """#!/bin/busybox sh
exec /bin/busybox env PS1='{prompt}' PATH=/bin /bin/busybox setsid /bin/busybox cttyhack /bin/busybox sh
"""


def entry(name, mode, content=b"", device=(0, 0)):
    data = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(data), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + data
    return pad(head) + pad(content)


def pad(data):
    return data + b"\0" * (-len(data) % 4)


def small_root(prompt):
    path = shutil.which("busybox")
    program = Path(path).read_bytes() if path else b""
    if not program or b"/ld-linux" in program[:4096]:
        raise NotMeasured("there is no static busybox (package busybox-static)")
    folder = stat.S_IFDIR | 0o755
    executable = stat.S_IFREG | 0o755
    return b"".join([
        entry("dev", folder), entry("bin", folder), entry("proc", folder), entry("sys", folder),
        entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        entry("dev/ttyS0", stat.S_IFCHR | 0o600, device=(4, 64)),
        entry("bin/busybox", executable, program),
        entry("init", executable, INIT.format(prompt=prompt).encode()),
        entry("TRAILER!!!", 0),
    ])
