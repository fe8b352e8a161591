"""Variables into bytes and out of them again, in this process."""

from __future__ import annotations

import io
from typing import Any

from jupyter_dsvm.variables.names import Namespace
from jupyter_dsvm.variables.outgoing import Outgoing
from jupyter_dsvm.variables.pickling import There
from jupyter_dsvm.variables.receiving import Receiving
from jupyter_dsvm.variables.sending import Result, Sending
from jupyter_dsvm.variables.stream import StreamError


def stream_of(names: dict[str, Any], compress: str | bool = False, there: dict[str, Any] | None = None) -> bytes:
    """All of a namespace; raises where a name cannot be sent."""
    stream = io.BytesIO()
    out = Outgoing(stream.write, compress)
    sending = Sending(Namespace(names), There(there), out)
    sending.send(None)
    out.close()
    assert sending.result.failed == {}
    return stream.getvalue()


def received(stream: bytes, into: dict[str, Any] | None = None) -> tuple[dict[str, Any], Result, Exception | None]:
    names: dict[str, Any] = {} if into is None else into
    receiving = Receiving(Namespace(names), io.BytesIO(stream).readinto)
    try:
        receiving.receive()
    except StreamError as e:
        return names, receiving.result, e
    return names, receiving.result, None
