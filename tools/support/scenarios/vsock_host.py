#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The host's end of the scenario "vmm": the Unix sockets of a VM's vsock device.

vsock_host.py echo PATH               sends back what comes on each connection to PATH
vsock_host.py check PATH PORT COUNT   COUNT connections to the guest's port, open at once: is sent back what goes there?
"""

import os
import socket
import sys
import threading

LIMIT = 120  # seconds
PIECE = 4096
PIECES = 16


def read_exactly(connection, size):
    got = b""
    while len(got) < size:
        piece = connection.recv(size - len(got))
        if not piece:
            raise OSError("the connection has ended")
        got += piece
    return got


def echo(path):
    def serve(connection):
        with connection:
            while piece := connection.recv(PIECE):
                connection.sendall(piece)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def check(path, port, count):
    all_open = threading.Barrier(count, timeout=LIMIT)
    good = []

    def talk():
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            connection.connect(path)
            connection.sendall(f"CONNECT {port}\n".encode())
            answer = b""
            while not answer.endswith(b"\n"):
                answer += read_exactly(connection, 1)
            if not answer.startswith(b"OK "):
                raise OSError(f"the answer is {answer!r}")
            all_open.wait()
            for _ in range(PIECES):
                sent = os.urandom(PIECE)
                connection.sendall(sent)
                if read_exactly(connection, PIECE) != sent:
                    raise OSError("something else came back")
            good.append(True)

    talks = [threading.Thread(target=talk) for _ in range(count)]
    for each in talks:
        each.start()
    for each in talks:
        each.join()
    print(f"to the guest: {count} connections at once, {len(good)} echoed")


if sys.argv[1] == "echo":
    echo(sys.argv[2])
else:
    check(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
