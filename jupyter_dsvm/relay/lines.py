"""JSON objects, a line each, over a unix socket that never blocks: between a relay, a spare's holder and the spare."""

from __future__ import annotations

import json
import socket
from typing import Any, Dict, List

LIMIT = 1024 * 1024
"""Bytes of one line. Longer ones nobody here says: it has a command and a few variables in it."""


class Lines:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.open = True
        """False once the other end has hung up or said what it should not; ``read`` may have had something before that."""
        self._rest = b""

    def fileno(self) -> int:
        return self.connection.fileno()

    def read(self) -> List[Dict[str, Any]]:
        """What has come since, possibly nothing."""
        while self.open and len(self._rest) <= LIMIT:
            try:
                piece = self.connection.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            self._rest += piece
            self.open = bool(piece)
        *whole, self._rest = self._rest.split(b"\n")
        if len(self._rest) > LIMIT:
            self.open = False
        found = []
        for line in whole:
            try:
                value = json.loads(line.decode("ascii"))
            except ValueError:
                value = None
            if not isinstance(value, dict):
                self.open = False
                break
            found.append(value)
        return found

    def say(self, **value: Any) -> bool:
        """Whether it went out. It waits for no room: who does not read what little is said here is stuck."""
        data = json.dumps(value).encode("ascii") + b"\n"
        try:
            return self.open and self.connection.send(data, socket.MSG_NOSIGNAL) == len(data)
        except OSError:
            return False

    def close(self) -> None:
        self.open = False
        self.connection.close()
