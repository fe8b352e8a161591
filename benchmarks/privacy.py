"""Whether another account of the machine can read what a kernel puts out.

A process of the account ``nobody`` subscribes to whatever TCP port the kernel's process listens on, and to whatever unix socket it
has bound, while the kernel prints a secret. Reading takes no key: messages are signed, not encrypted. Needs root.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from functools import partial

from .bench import Bench
from .contenders import LOCAL, OURS, PEER, Contender, Ours, SSHPyk, local
from .direct import DirectClient, Parts
from .holder import Holder
from .processes import listening_ports, unix_sockets
from .rows import Row, at_most
from .spares import spare_settings

ROWS = (Row("readable", "another account of the machine reads outputs (1: yes)", "", at_most(0, "no"), 0),)

SPY = """
import os, pwd, sys, time, zmq
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
context = zmq.Context()
sub = context.socket(zmq.SUB)
sub.subscribe(b"")
for url in sys.argv[2:]:
    sub.connect(url)
print("ready", flush=True)
end = time.monotonic() + 4
while (left := end - time.monotonic()) > 0:
    if sub.poll(left * 1000) and any(sys.argv[1].encode() in part for part in sub.recv_multipart()):
        print("seen")
        break
context.destroy(linger=0)
"""


def measure(bench: Bench) -> None:
    contenders: dict[str, tuple[Contender, str]] = {
        "local": (local(bench.folder / "l"), LOCAL),
        "sshpyk": (SSHPyk(bench.folder / "s-near", bench.vm, bench.near), PEER),
        "ours": (Ours(bench.folder / "o0-near", bench.vm, bench.near, **spare_settings(False)), OURS),
    }
    bench.rounds(
        {name: partial(_turn, bench, contender, column) for name, (contender, column) in contenders.items()},
        {name: [("readable", column)] for name, (_, column) in contenders.items()},
        1,
    )


def _turn(bench: Bench, contender: Contender, column: str) -> None:
    if os.geteuid() != 0:
        raise PermissionError("needs root, to become another account")
    bench.vm.home.chmod(0o755)  # as homes are; what is under it protects itself
    with Holder(contender) as holder, DirectClient(holder.launch().connection) as client:
        text: list[str] = []

        def output(kind: str, parts: Parts) -> None:
            if kind == "stream":
                text.append(json.loads(parts[3].bytes)["text"])

        client.run("import os; print(os.getpid())", output)
        kernel = int("".join(text))
        urls = [f"tcp://127.0.0.1:{port}" for port in listening_ports(kernel)]
        urls += [f"ipc://{path}" for path in unix_sockets(kernel)]
        secret = secrets.token_hex(16)
        spy = subprocess.Popen(
            [sys.executable, "-c", SPY, secret, *urls],
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        assert spy.stdout is not None
        assert spy.stdout.readline() == "ready\n"
        client.run(f"import time\nfor _ in range(20): print({secret!r}, flush=True); time.sleep(0.1)")
        seen = "seen" in spy.communicate(timeout=20)[0]
        bench.results.add("readable", column, float(seen))
