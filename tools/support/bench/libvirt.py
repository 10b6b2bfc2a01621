# SPDX-License-Identifier: Apache-2.0
"""libvirt, beside humd: the life of many VMs, each step one after the other."""

import os
import select
import shutil
import subprocess

from bench.report import NotMeasured

PATIENCE = 60  # seconds

# In name spaces of its own, so that the host's libvirt, its files and its networks are not touched, and all
# of it ends with this process.
SETUP = r"""
mount --make-rprivate /
for folder in /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /run; do
  mkdir -p "$folder" && mount -t tmpfs tmpfs "$folder" || exit
done
mkdir -p /etc/libvirt/qemu /var/lib/libvirt/qemu /var/log/libvirt/qemu /var/cache/libvirt/qemu /run/libvirt
printf '%s\n' 'stdio_handler = "file"' 'security_driver = "none"' 'user = "root"' 'group = "root"' \
  'dynamic_ownership = 0' 'remember_owner = 0' 'cgroup_controllers = []' 'namespaces = []' >/etc/libvirt/qemu.conf
echo 'auth_unix_rw = "none"' >/etc/libvirt/libvirtd.conf
libvirtd >/var/log/libvirt/libvirtd.log 2>&1 &
for ((i = 0; i < 100; i++)); do
  virsh -q -c qemu:///system version >/dev/null 2>&1 && break
  sleep 0.1
done
virsh -q -c qemu:///system  # no exec: this shell reaps what QEMU's daemons leave behind
exit
"""

DOMAIN = """<domain type='kvm'>
<name>{name}</name><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='microvm'>hvm</type><kernel>{kernel}</kernel></os>
<devices>
<emulator>{emulator}</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<serial type='file'><source path='/var/log/libvirt/{name}'/><target type='isa-serial' port='0'/></serial>
</devices>
</domain>
"""


class Libvirt:
    """One connection to a libvirtd of our own; VMs of QEMU's microvm."""

    def __init__(self, folder, kernel, memory):
        emulator = shutil.which("qemu-system-x86_64")
        if os.geteuid() != 0 or not shutil.which("libvirtd") or not shutil.which("virsh") or not emulator:
            raise NotMeasured("libvirt is measured for root, with the packages libvirt-daemon-system and libvirt-clients")
        self.files = folder
        self.files.mkdir()
        self.of = {"memory": memory, "kernel": kernel, "emulator": emulator}
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", SETUP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        self.command("version")

    def command(self, words):
        # The answer ends with a mark that what is echoed has not; there is no end of a line behind it.
        self.process.stdin.write(f"{words}\necho 'hum-''end'\n".encode())
        text = b""
        while b"hum-end" not in text:
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                raise NotMeasured(f"virsh {words}: no answer")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                break
            text += piece
        if b"error:" in text or b"hum-end" not in text:
            raise NotMeasured(f"virsh {words}: {text.decode(errors='replace').strip()[:300]}")

    def create(self, name):
        path = self.files / name
        path.write_text(DOMAIN.format(name=name, **self.of), encoding="utf-8")
        self.command(f"define {path}")

    def start(self, name):
        self.command(f"start {name}")

    def stop(self, name):
        self.command(f"destroy {name}")

    def remove(self, name):
        self.command(f"undefine {name}")

    def end(self):
        self.process.kill()
        self.process.communicate()
