"""``%dsvm`` inside a kernel, on the Jupyter server or on a VM: the standard library and IPython, nothing else.

The proxy sends this file's source as one silent request before the first request of the user (and ``%load_ext
jupyter_dsvm`` loads it as a module). The magic knows no server address and no token: each line goes over the unix
socket that ``JUPYTER_DSVM_SOCKET`` names, which leads to the proxy of this very kernel::

    →  {"line": "attach gpu-vm", "version": 1}
    ←  {"progress": {"text": "Starting gpu-vm …", "live": {…}, "stopped": {…}}}       any number of times
    ←  {"result": {"text": "…", "html": "…", "live": {…}}}   or   {"error": {"code", "message", "advice"}}

    →  {"line": "carry", "version": 1}
    ←  {"result": {"run": {"code": "…", "expression": "…"}, "text": "…"}}     to be run here: the kernel, which is busy
    →  {"line": "carry", "version": 1, "ran": {…}}                            with this, cannot be asked in another way

    →  {"complete": "attach gp", "version": 1}
    ←  {"result": {"matches": ["gpu-vm"]}}

one JSON object per line in each direction. ``live`` is ``{"text", "html"}``, for a front end that can show it in one place
of the cell and renew it there; where there is none such, each ``text`` is a line. ``stopped`` takes its place if nothing more
comes: so no cell is left, or saved, with a picture of something in progress. Interrupting the cell closes the socket,
which cancels what was asked for; ``stopped.say`` says what that comes to.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from contextlib import closing
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

VARIABLE = "JUPYTER_DSVM_SOCKET"
VERSION = 1

COMPLETE_SECONDS = 0.5
"""How long a Tab may take."""
MATCHES_SECONDS = 3.0
"""How long matches are taken to be still so: front ends that complete while somebody types ask often."""
MAX_MATCHES = 1000
MAX_ANSWER = 1024 * 1024
MAX_SENT = 48 * 1024
"""Characters of a list that goes with a line, for which there are 64 KiB."""

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


class Interrupted(KeyboardInterrupt):
    """The cell was interrupted while it waited; still a ``KeyboardInterrupt``, which no ``except Exception`` catches."""

    def _render_traceback_(self) -> List[str]:
        return [str(self)]


def clean(text: object) -> str:
    """Text of the other side without control characters, so that it cannot drive a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(text))


def call(
    line: str,
    path: Optional[str] = None,
    key: str = "line",
    seconds: Optional[float] = None,
    ran: Optional[Dict[str, Any]] = None,
) -> Generator[Dict[str, Any], None, None]:
    """Send one line; yields the replies, the last of which has ``result`` or ``error``. ``seconds``: for all of it. ``ran``: what
    came of the code that answered the same line before."""
    path = path or os.environ.get(VARIABLE)
    if not path:
        raise DSVMError(NO_SOCKET, code="NoSocket")
    if not hasattr(socket, "AF_UNIX"):
        raise DSVMError("%dsvm needs unix sockets, which this Python does not have.", code="NoSocket")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            connection.settimeout(seconds)
            connection.connect(path)
            more = {} if ran is None else {"ran": ran}
            connection.sendall(json.dumps({key: line, "version": VERSION, **more}).encode() + b"\n")
        except OSError as e:
            raise DSVMError(
                f"%dsvm cannot reach the Jupyter server: {e.strerror or e}.",
                "The server may have ended; restart the kernel.",
                "Unreachable",
            ) from None
        for reply in _lines(connection, seconds):
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


def _lines(connection: socket.socket, seconds: Optional[float]) -> Generator[bytes, None, None]:
    """Until the other end hangs up, or the time for all of them is over."""
    if seconds is None:
        with connection.makefile("rb") as replies:
            yield from replies
        return
    deadline, received = time.monotonic() + seconds, b""
    while len(received) < MAX_ANSWER:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = connection.recv(65536)
        except OSError:
            return
        if not data:
            return
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            yield line


def dsvm(line: str) -> None:
    """Run this notebook on a Data Science VM, and bring it back.

    %dsvm                            where this notebook runs, and what there is
    %dsvm list                       what there is to run on
    %dsvm attach NAME [--kernel K]   the following cells run there
    %dsvm detach                     the following cells run on the free tier again
    %dsvm status                     where this notebook runs
    %dsvm start|stop|restart NAME    change a VM
    %dsvm resize NAME SIZE           give a VM another size
    %dsvm signin                     sign in to Azure with a code
    %dsvm help [VERB]                all of this, or more about one; also %dsvm VERB?
    """
    run = _asked(line)
    if run:
        _asked(line, _ran(run))


def _asked(line: str, ran: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """Send it and show what comes. Gives what is to be run here first, if that is the answer."""
    shown = _Live() if _renews_outputs() else _Lines()
    stopped: Dict[str, Any] = {}
    try:
        # Closed here, not when it is forgotten: a traceback that is kept would keep the connection, and the call, alive.
        with closing(call(line, ran=ran)) as replies:
            for reply in replies:
                progress = reply.get("progress")
                if isinstance(progress, dict):
                    stopped = _dict(progress.get("stopped"))
                    shown.progress(progress)
                    continue
                stopped = {}
                error = reply.get("error")
                if isinstance(error, dict):
                    raise DSVMError(
                        clean(error.get("message") or "It failed."),
                        clean(error.get("advice") or ""),
                        clean(error.get("code") or "Error"),
                    )
                result = _dict(reply.get("result"))
                if ran is None and _dict(result.get("run")):
                    return _dict(result.get("run"))
                shown.result(result)
    except KeyboardInterrupt:
        shown.stopped(stopped)
        say = stopped.get("say")
        raise Interrupted(clean(say) if say else f"Interrupted: %dsvm {line.strip()} was not waited for.") from None
    except DSVMError:
        shown.stopped(stopped)
        raise
    return {}


def _ran(run: Dict[str, Any]) -> Dict[str, Any]:
    """Code of the server's, whose answer is JSON: it looks at the user's variables, or loads some. It leaves no name of its own."""
    namespace: Dict[str, Any] = {}
    exec(str(run.get("code")), namespace)  # noqa: S102  (it is the server that has put this magic here, too)
    value = _dict(json.loads(repr(eval(str(run.get("expression")), namespace))))  # noqa: S307
    rows = value.get("variables")
    if isinstance(rows, list):
        fit, left = [], MAX_SENT
        for row in rows:
            left -= len(json.dumps(row)) + 2
            if left < 0:
                break
            fit.append(row)
        value = {**value, "variables": fit, "more": value.get("more", 0) + len(rows) - len(fit)}
    return value


def _dict(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _bundle(value: Dict[str, Any]) -> Dict[str, str]:
    """For ``display``: rich where there is HTML, and plain text in any case."""
    bundle = {"text/plain": clean(value.get("text") or "")}
    if isinstance(value.get("html"), str) and value["html"]:
        bundle["text/html"] = value["html"]
    return bundle


class _Lines:
    """What a cell shows where nothing can be renewed: a line for each new sentence."""

    def __init__(self) -> None:
        self._last = ""

    def progress(self, progress: Dict[str, Any]) -> None:
        text = clean(progress.get("text") or "")
        if text and text != self._last:
            print(text, flush=True)  # noqa: T201  (into the cell)
        self._last = text

    def result(self, result: Dict[str, Any]) -> None:
        bundle = _bundle(result)
        if "text/html" in bundle:
            from IPython.display import display

            display(bundle, raw=True)  # type: ignore[no-untyped-call]
        elif bundle["text/plain"]:
            print(bundle["text/plain"], flush=True)  # noqa: T201

    def stopped(self, stopped: Dict[str, Any]) -> None:
        pass


class _Live(_Lines):
    """One output of the cell, renewed in place; the last is what is saved."""

    def __init__(self) -> None:
        super().__init__()
        self._id = ""

    def progress(self, progress: Dict[str, Any]) -> None:
        live = _dict(progress.get("live"))
        if live:
            self._show(live)
        else:
            super().progress(progress)

    def result(self, result: Dict[str, Any]) -> None:
        if self._id:
            self._show(_dict(result.get("live")) or result)
        else:
            super().result(result)

    def stopped(self, stopped: Dict[str, Any]) -> None:
        if self._id and stopped:
            self._show(stopped)

    def _show(self, value: Dict[str, Any]) -> None:
        from IPython.display import display, update_display

        if self._id:
            update_display(_bundle(value), display_id=self._id, raw=True)  # type: ignore[no-untyped-call]
        else:
            self._id = uuid.uuid4().hex
            display(_bundle(value), display_id=self._id, raw=True)  # type: ignore[no-untyped-call]


def _shell() -> Any:
    from IPython import get_ipython

    return get_ipython()


def _renews_outputs() -> bool:
    """Whether a notebook is there to show an output anew. Pages of notebooks say which cell they run; consoles, which print what
    they are sent and ignore what is to take its place, do not, nor do programs that run a notebook without a page."""
    shell = _shell()
    get_parent = getattr(shell, "get_parent", None)
    if shell is None or not hasattr(shell, "kernel"):
        return False
    try:
        parent = get_parent() if get_parent is not None else shell.parent_header
        metadata = parent.get("metadata") or {}
        return bool(metadata.get("cellId"))
    except Exception:
        return False


# Completion, and help with a question mark


def complete(line: str) -> List[str]:
    """Words for the place of the cursor; ``line`` is what precedes it, without ``%dsvm``. None without a quick answer."""
    remembered = _matches.get(line)
    now = time.monotonic()
    if remembered is not None and now - remembered[0] < MATCHES_SECONDS:
        return remembered[1]
    found: List[str] = []
    try:
        with closing(call(line, key="complete", seconds=COMPLETE_SECONDS)) as replies:
            for reply in replies:
                matches = _dict(reply.get("result")).get("matches")
                if isinstance(matches, list):
                    found = [clean(m) for m in matches[:MAX_MATCHES] if isinstance(m, str)]
                    _matches.clear()
                    _matches[line] = (now, found)
                    break
    except DSVMError:
        pass
    return found


_matches: Dict[str, Tuple[float, List[str]]] = {}

CALLED = re.compile(r"\s*%?dsvm\s(.*)", re.DOTALL)
ASKED = re.compile(r"(\s*)%dsvm\b([^?#'\"]*?)\?{1,2}\s*$")
NAME = "jupyter_dsvm"


def _preceding(text: str) -> Optional[str]:
    """What of a line follows ``%dsvm``; None where it is no line of it."""
    found = CALLED.match(text.rpartition("\n")[2])
    return found.group(1) if found is not None else None


class _Nothing(List[Any]):
    """No completions, of which IPython believes that they are some: it asks others where a matcher has none."""

    def __len__(self) -> int:
        return 1


def _matcher(context: Any) -> Any:
    """IPython 8.6 and later. Other matchers, which would offer files and names of Python, are not asked."""
    from IPython.core.completer import SimpleCompletion

    line = _preceding(context.text_until_cursor)
    if line is None:
        return {"completions": []}
    return {
        "completions": [SimpleCompletion(text=m, type="magic") for m in complete(line)] or _Nothing(),
        "suppress": True,
        "ordered": True,
    }


def _hook(_shell: Any, event: Any) -> List[str]:
    """IPython 7 to 8.5, which offer files as well."""
    line = _preceding(getattr(event, "text_until_cursor", event.line))
    return complete(line) if line is not None else []


def _explain(lines: List[str]) -> List[str]:
    """``%dsvm attach?`` in a cell's last line, of which IPython would make a question after a variable ``attach``."""
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].strip():
            found = ASKED.match(lines[at])
            if found is not None:
                asked = f"{found.group(1)}%dsvm help {found.group(2).strip().partition(' ')[0]}"
                return [*lines[:at], asked.rstrip() + "\n", *lines[at + 1 :]]
            break
    return lines


def _join(shell: Any) -> None:
    """Tab and the question mark, once for each shell; a shell that has no place for them does without."""
    before = getattr(shell, "_jupyter_dsvm", None)
    if before is not None:  # loaded again, as after a change of the package: the new functions take the place
        before.update(matcher=_matcher, hook=_hook, explain=_explain)
        return
    current: Dict[str, Callable[..., Any]] = {"matcher": _matcher, "hook": _hook, "explain": _explain}
    shell._jupyter_dsvm = current

    def explain(lines: List[str]) -> List[str]:
        explained: List[str] = current["explain"](lines)
        return explained

    shell.input_transformers_cleanup.append(explain)
    try:
        from IPython.core.completer import context_matcher
    except ImportError:
        shell.set_hook("complete_command", lambda *args: current["hook"](*args), str_key="%dsvm")
        return

    @context_matcher(identifier=NAME, priority=100)  # type: ignore[untyped-decorator]
    def matcher(context: Any) -> Any:
        return current["matcher"](context)

    shell.Completer.custom_matchers.append(matcher)


def load(shell: Any = None) -> bool:
    """Register the magic in ``shell`` or the running IPython; False where there is none. Calling it again is harmless."""
    if shell is None:
        shell = _shell()
    if shell is None:
        return False
    shell.register_magic_function(dsvm, magic_kind="line", magic_name="dsvm")
    try:
        _join(shell)
    except Exception:  # noqa: S110
        pass  # an IPython that is unlike any known one completes nothing; the magic itself is there
    return True
