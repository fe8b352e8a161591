"""A small kernel with the habits of others: ``python fake_kernel.py CONNECTION_FILE HABIT``.

======== ===========================================================================================
colon    its ipc sockets are named ``ip:port``, as IRkernel's are; it sends no welcome
tcp      it knows TCP only, and sits there when it is told to do ipc
refuses  the same, but ends with exit code 3 then
R        it speaks R
mute     it comes up and never answers
dies     it ends at once with exit code 7
flood    on a shutdown request it puts out 2,000 messages and ends at once
stubborn it ignores SIGTERM and shutdown requests
======== ===========================================================================================

It answers ``kernel_info_request`` and ``execute_request`` (with what it is), and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.session import Session

PORTS = ("shell_port", "control_port", "stdin_port", "hb_port", "iopub_port")


def main(connection_file: str, habit: str) -> None:
    if habit == "dies":
        os._exit(7)
    config = json.loads(Path(connection_file).read_text())
    if config["transport"] == "ipc" and habit in ("tcp", "refuses"):
        time.sleep(60 if habit == "tcp" else 0)
        os._exit(3)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a kernel that runs nothing is not stopped by an interrupt
    if habit == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    separator = ":" if config["transport"] == "tcp" or habit == "colon" else "-"
    context = zmq.Context()
    sockets: dict[str, Any] = {}
    for name in PORTS:
        sockets[name] = s = context.socket(zmq.PUB if name == "iopub_port" else zmq.ROUTER)
        s.sndhwm = 0
        s.linger = 2000
        s.bind(f"{config['transport']}://{config['ip']}{separator}{config[name]}")
    session = Session(key=config["key"].encode(), signature_scheme=config["signature_scheme"])
    language = "R" if habit == "R" else "fake"
    poller = zmq.Poller()
    for name in ("shell_port", "control_port"):
        poller.register(sockets[name], zmq.POLLIN)
    while habit != "mute":
        for s, _event in poller.poll():
            idents, message = session.recv(s, zmq.NOBLOCK)
            answer(session, s, sockets["iopub_port"], idents, message, language, config)
            if message["msg_type"] == "shutdown_request" and habit != "stubborn":
                if habit == "flood":
                    for n in range(2000):
                        session.send(
                            sockets["iopub_port"], "stream", {"name": "stdout", "text": f"{n}\n"}, parent=message
                        )
                context.destroy()
                os._exit(0)
    time.sleep(60)


def answer(
    session: Session, s: Any, iopub: Any, idents: Any, message: Any, language: str, config: dict[str, Any]
) -> None:
    def publish(kind: str, content: dict[str, Any]) -> None:
        session.send(iopub, kind, content, parent=message)

    publish("status", {"execution_state": "busy"})
    content: dict[str, Any] = {"status": "ok"}
    if message["msg_type"] == "kernel_info_request":
        content.update(language_info={"name": language}, protocol_version="5.4", implementation="fake", banner="")
    elif message["msg_type"] == "execute_request":
        content["execution_count"] = 1
        publish("stream", {"name": "stdout", "text": f"{language} over {config['transport']}"})
    session.send(s, message["msg_type"].replace("_request", "_reply"), content, parent=message, ident=idents)
    publish("status", {"execution_state": "idle"})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
