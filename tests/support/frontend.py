"""What a front end sends: headers and contents, and the v1 format of the kernel's websocket. The benchmarks use it, too."""

from __future__ import annotations

import json
import uuid
from typing import Any

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

Message = dict[str, Any]

V1 = "v1.kernel.websocket.jupyter.org"
"""The websocket's subprotocol that JupyterLab asks for."""


def cell(code: str, **options: Any) -> dict[str, Any]:
    """The content of an ``execute_request``, as JupyterLab fills it."""
    return {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
        **options,
    }


def request(kind: str, content: dict[str, Any], session: str, **header: Any) -> Message:
    """A message with a new id, from a front end with that session."""
    return {
        "header": {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "username": "",
            "session": session,
            "date": "2026-01-01T00:00:00.000000Z",
            "version": "5.4",
            **header,
        },
        "parent_header": {},
        "metadata": {},
        "content": content,
    }


def to_v1(message: Message, channel: str | None, buffers: list[bytes] | None = None) -> bytes:
    parts = [json.dumps(message[part]).encode() for part in ("header", "parent_header", "metadata", "content")]
    data: bytes = serialize_msg_to_ws_v1([*parts, *(buffers or [])], channel)  # type: ignore[no-untyped-call]
    return data


def from_v1(data: bytes) -> Message:
    channel, parts = deserialize_msg_from_ws_v1(data)  # type: ignore[no-untyped-call]
    header, parent, metadata, content = map(json.loads, parts[:4])
    return {
        "channel": channel,
        "header": header,
        "msg_type": header["msg_type"],
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "buffers": parts[4:],
    }
