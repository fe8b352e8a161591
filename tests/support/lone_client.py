"""A client of one kernel on a VM in a process of its own, so that a test can stop and kill that.

``python -m support.lone_client`` in ``tests``; stdin has one JSON line ``{target, pins, code}``. Prints a line of JSON per
event: ``{"link": …}``, ``{"text": …}`` for output, ``{"over": true}`` at the end of the cell; then it ends the kernel and itself.
"""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

from jupyter_dsvm.kernels.vmpipe import VMPipe
from jupyter_dsvm.models import LinkState, SSHTarget
from jupyter_dsvm.ssh.hostkeys import HostKeys

from .linked import Kernel


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


class Told(Kernel):
    def link(self, backend: Any, state: LinkState) -> None:
        super().link(backend, state)
        say(link=state.state.value, reason=state.reason)


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    target = SSHTarget(**{**asked["target"], "key_files": tuple(asked["target"]["key_files"])})
    pipe = VMPipe.open(lambda: target, HostKeys(asked["pins"], []))
    try:
        kernel = Told(pipe).ready()
        request, over = kernel.execute(asked["code"]), set[str]()
        while over != {"reply", "idle"}:
            try:
                _, message = kernel.got.get(timeout=1)
            except queue.Empty:
                assert kernel.error is None, kernel.error
                continue
            content = message["content"]
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "stream":
                say(text=content["text"])
            elif message["msg_type"] == "execute_reply":
                over.add("reply")
            elif content.get("execution_state") == "idle":
                over.add("idle")
        say(over=True)
        kernel.end()
    finally:
        pipe.release()
        pipe.close()


if __name__ == "__main__":
    main()
