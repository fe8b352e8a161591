"""The functions that a kernel is asked for, and how: ``call('send', '{"path": …}')`` in ``user_expressions``."""

from __future__ import annotations

import importlib.util
import json
import pickle
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Union

from . import files
from .names import Namespace, import_of
from .outgoing import Outgoing
from .pickling import There
from .receiving import Receiving
from .sending import Sending
from .stream import Reader, StreamEnded, StreamError, Writer
from .survey import look_at, roots_of

MAX_LISTED = 1000
MAX_NAME = 200
LIBRARIES = (
    "numpy", "pandas", "pyarrow", "polars", "scipy", "sklearn", "torch", "tensorflow", "jax", "cupy", "xarray",
)  # fmt: skip
"""Whose releases matter, or that are often missing."""
CONNECT_SECONDS = 30.0

Json = Dict[str, Any]


class Answer:
    """A JSON object that IPython shows as exactly that, whatever formatters the user has set."""

    def __init__(self, value: Json) -> None:
        self._text = json.dumps(value, separators=(",", ":"))

    def __repr__(self) -> str:
        return self._text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Dict[str, str]:
        return {"text/plain": self._text}


def call(function: str, arguments: str) -> Answer:
    """``arguments``: a JSON object. Raises nothing."""
    try:
        return Answer(FUNCTIONS[function](**json.loads(arguments)))
    except KeyboardInterrupt:
        return Answer(_error("Interrupted", "It was interrupted."))
    except StreamEnded as e:
        return Answer(_error("LinkLost", str(e)))
    except StreamError as e:
        return Answer(_error("Damaged", str(e)))
    except OSError as e:
        return Answer(_error("Failed", str(e.strerror or e)))
    except BaseException as e:
        return Answer(_error("Failed", f"{type(e).__name__}: {e}"))


def hello(modules: Sequence[str] = ()) -> Json:
    """What this end can do. ``modules``: others that are asked for."""
    found = {name: _version(name) for name in dict.fromkeys([*LIBRARIES, *modules])}
    return {"python": list(sys.version_info[:3]), "pickle": pickle.HIGHEST_PROTOCOL, "modules": found}


def _version(name: str) -> Optional[str]:
    """None where a package is not installed; empty where it does not say its version."""
    module = sys.modules.get(name)
    if module is not None:
        return str(getattr(module, "__version__", ""))[:50]
    try:
        if importlib.util.find_spec(name) is None:
            return None
    except (ImportError, ValueError):
        return None
    try:
        from importlib import metadata

        return metadata.version({"sklearn": "scikit-learn"}.get(name, name))[:50]
    except Exception:
        return ""


def plan(names: Optional[List[str]] = None, there: Optional[Json] = None, seconds: float = 5.0) -> Json:
    """The dry run. ``modules``: packages that would have to be there, for another ``hello``."""
    namespace, end = Namespace.of_shell(), There(there)
    deadline = time.monotonic() + seconds
    missing = [name for name in names or () if not namespace.has(name)]
    wanted = [name for name in (namespace.users() if names is None else names) if namespace.has(name)]
    looks = [look_at(namespace, name, end, deadline) for name in wanted]
    roots_of([look for look in looks if not look.reason])
    listed = [_variable(name, "", None, "There is no such variable.") for name in missing]
    total, modules = 0, set()
    for look in looks:
        look.kept.clear()
        reason = end.problem or look.reason
        modules |= look.modules
        if not reason:
            total += look.bytes or 0
        if reason or look.imported is None:
            listed.append(_variable(look.name, look.type, look.bytes if look.complete else None, reason))
    more = max(0, len(listed) - MAX_LISTED)
    needed = sorted(modules - _everywhere())[:MAX_LISTED]
    return {"variables": listed[:MAX_LISTED], "more": more, "bytes": total, "modules": needed}


def _variable(name: str, kind: str, size: Optional[int], reason: str) -> Json:
    return {"name": name[:MAX_NAME], "type": kind, "bytes": size, "moves": not reason, "reason": reason}


def _everywhere() -> Set[str]:
    """Packages that every kernel has: Python's own, and this one."""
    ours = str(__package__).partition(".")[0]
    return {"__main__", ours, *sys.builtin_module_names, *getattr(sys, "stdlib_module_names", ())}


def send(
    path: str, names: Optional[List[str]] = None, there: Optional[Json] = None, compress: Union[str, bool] = "auto"
) -> Json:
    """``there``: the ``hello`` of the kernel that receives. ``compress``: auto, where that is faster."""
    namespace, end = Namespace.of_shell(), There(there)
    if end.problem:
        return _error("OtherPython", end.problem)
    with _connected(path) as connection:
        out = Outgoing(_raising(connection.sendall), compress)
        try:
            sending = Sending(namespace, end, out, Reader(_raising(connection.recv_into), back=True))
            sending.send(None if names is None else [*names, *_imports(namespace)])
        finally:
            out.close()
    return sending.result.as_json("sent")


def receive(path: str, limit_bytes: Optional[int] = None) -> Json:
    """``limit_bytes``: more than that is not taken, whatever the other end announces."""
    namespace = Namespace.of_shell()
    with _connected(path) as connection:
        back = Writer(_raising(connection.sendall))
        receiving = Receiving(namespace, _raising(connection.recv_into), back, limit=limit_bytes)
        receiving.receive()
    return receiving.result.as_json("received")


def save(path: str, names: Optional[List[str]] = None, limit_bytes: Optional[int] = None) -> Json:
    """Into a file that only this user may read; its folder is made."""
    return files.save(Namespace.of_shell(), path, names, limit_bytes).as_json("sent")


def load(path: str, names: Optional[List[str]] = None) -> Json:
    """Out of it; the file stays. What the notebook has by now under one of the names stays what it is."""
    return files.load(Namespace.of_shell(), path, names).as_json("received")


FUNCTIONS: Dict[str, Callable[..., Json]] = {
    "hello": hello,
    "plan": plan,
    "send": send,
    "receive": receive,
    "save": save,
    "load": load,
}


def _error(code: str, message: str) -> Json:
    return {"error": {"code": code, "message": message[:500]}}


def _imports(namespace: Namespace) -> List[str]:
    """Of a move these come along whichever names are chosen: cells there need them, and nobody chooses among them."""
    return [name for name in namespace.users() if import_of(namespace.names[name]) is not None]


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(path)
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def _raising(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What goes wrong with the connection ends the stream, and is no fault of a variable."""

    def raising(data: Any) -> Any:
        try:
            return function(data)
        except OSError as e:
            raise StreamEnded(f"The connection was lost: {e.strerror or e}.") from None

    return raising
