"""``%dsvm`` inside a kernel, on the Jupyter server or on a VM: the standard library and IPython, nothing else.

The proxy sends this file's source as one silent request before the first request of the user (and ``%load_ext
jupyter_dsvm`` loads it as a module). The magic knows no server address and no token: each line goes over the unix
socket that ``JUPYTER_DSVM_SOCKET`` names, which leads to the proxy of this very kernel::

    →  {"line": "attach gpu-vm", "version": 1}
    ←  {"progress": {"text": "Starting gpu-vm …"}}          any number of times
    ←  {"result": {"text": "…", "html": "…"}}               or {"error": {"code", "message", "advice"}}

one JSON object per line in each direction. Interrupting the cell closes the socket, which cancels what was asked for.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from typing import Any, Dict, Generator, List, Optional

VARIABLE = "JUPYTER_DSVM_SOCKET"
VERSION = 1

NO_SOCKET = (
    "%dsvm is not available in this kernel, because jupyter-dsvm did not start it. In JupyterLab or Notebook, choose "
    "Kernel > Restart Kernel with the jupyter_dsvm server extension enabled; elsewhere (nbclient, papermill, a console) set "
    "JUPYTER_DEFAULT_PROVISIONER_NAME=dsvm-provisioner before the kernel starts. `jupyter dsvm doctor` says what is missing."
)


class DSVMError(Exception):
    """Why a line of ``%dsvm`` failed. IPython shows it as one sentence without a traceback; the cell still fails."""

    def __init__(self, message: str, advice: str = "", code: str = "Error") -> None:
        super().__init__(" ".join(t for t in (message, advice) if t))
        self.message = message
        self.advice = advice
        self.code = code

    def _render_traceback_(self) -> List[str]:
        """IPython's hook: what stands in place of a traceback."""
        return [f"{type(self).__name__}: {self.message}"] + ([self.advice] if self.advice else [])


def clean(text: object) -> str:
    """Text of the other side without control characters, so that it cannot drive a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(text))


def call(line: str, path: Optional[str] = None) -> Generator[Dict[str, Any], None, None]:
    """Send one line; yields the replies, the last of which has ``result`` or ``error``."""
    path = path or os.environ.get(VARIABLE)
    if not path:
        raise DSVMError(NO_SOCKET, code="NoSocket")
    if not hasattr(socket, "AF_UNIX"):
        raise DSVMError("%dsvm needs unix sockets, which this Python does not have.", code="NoSocket")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            connection.connect(path)
            connection.sendall(json.dumps({"line": line, "version": VERSION}).encode() + b"\n")
        except OSError as e:
            raise DSVMError(
                f"%dsvm cannot reach the Jupyter server: {e.strerror or e}.",
                "The server may have ended; restart the kernel.",
                "Unreachable",
            ) from None
        with connection.makefile("rb") as replies:
            for reply in replies:
                try:
                    message = json.loads(reply.decode("utf-8"))
                except ValueError:
                    break
                if not isinstance(message, dict):
                    break
                yield message
                if "progress" not in message:
                    return
        raise DSVMError(
            "%dsvm lost the connection to the Jupyter server before the answer came.",
            "Run %dsvm status to see what happened.",
            "Unreachable",
        )
    finally:
        connection.close()


def dsvm(line: str) -> None:
    """Run this notebook on a Data Science VM, and bring it back.

    %dsvm list                       what there is to run on
    %dsvm attach NAME [--kernel K]   the following cells run there
    %dsvm detach                     the following cells run on the free tier again
    %dsvm status                     where this notebook runs
    %dsvm start|stop|restart NAME    change a VM
    %dsvm resize NAME SIZE           give a VM another size
    %dsvm signin                     sign in to Azure with a code
    %dsvm help                       all of this
    """
    last = ""
    # Closed here, not when it is forgotten: a traceback that is kept would keep the connection, and the call, alive.
    with closing(call(line)) as replies:
        for reply in replies:
            progress = reply.get("progress")
            if isinstance(progress, dict):
                text = clean(progress.get("text") or "")
                if text and text != last:
                    print(text, flush=True)  # noqa: T201  (into the cell)
                last = text
                continue
            error = reply.get("error")
            if isinstance(error, dict):
                raise DSVMError(
                    clean(error.get("message") or "It failed."),
                    clean(error.get("advice") or ""),
                    clean(error.get("code") or "Error"),
                )
            _show(reply.get("result"))


def _show(result: Any) -> None:
    """Rich where the server sent HTML and a front end is there to show it, otherwise plain text."""
    if not isinstance(result, dict):
        return
    text = clean(result.get("text") or "")
    html = result.get("html")
    if isinstance(html, str) and html:
        from IPython.display import display

        display({"text/plain": text, "text/html": html}, raw=True)  # type: ignore[no-untyped-call]
    elif text:
        print(text, flush=True)  # noqa: T201


def load(shell: Any = None) -> bool:
    """Register the magic in ``shell`` or the running IPython; False where there is none. Calling it again is harmless."""
    if shell is None:
        from IPython import get_ipython

        shell = get_ipython()
    if shell is None:
        return False
    shell.register_magic_function(dsvm, magic_kind="line", magic_name="dsvm")
    return True
