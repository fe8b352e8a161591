"""The functions that a kernel is asked for, and how: ``call('send', '{"path": …}')`` in ``user_expressions``."""

from __future__ import annotations

import importlib.util
import json
import pickle
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from . import files
from .names import Namespace
from .outgoing import Outgoing
from .pickling import There
from .receiving import Receiving
from .sending import Sending
from .stream import Reader, StreamEnded, StreamError, Writer
from .survey import look_at

MAX_LISTED = 1000
MAX_NAME = 200
LIBRARIES = (
    "numpy",
    "pandas",
    "pyarrow",
    "polars",
    "scipy",
    "sklearn",
    "torch",
    "tensorflow",
    "jax",
    "cupy",
    "xarray",
    "cloudpickle",
)
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
    """``arguments``: a JSON object."""
    try:
        return Answer(FUNCTIONS[function](**json.loads(arguments)))
    except KeyboardInterrupt:
        return Answer(_error("Interrupted", "It was interrupted."))
    except BaseException as e:
        return Answer(_error("Failed", f"{type(e).__name__}: {e}"[:500]))


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
    """The dry run. ``modules``: packages that would have to be there."""
    namespace = Namespace.of_shell()
    deadline = time.monotonic() + seconds
    end = There(there)
    listed: List[Json] = []
    more = total = 0
    modules = set()
    for name in namespace.users() if names is None else names:
        if not namespace.has(name):
            listed.append(_variable(name, "", None, False, "There is no such variable."))
            continue
        look = look_at(namespace, name, end, deadline)
        look.kept.clear()
        reason = end.problem or look.reason
        modules |= look.modules
        if not reason:
            total += look.bytes or 0
        if look.imported is not None and not reason:
            continue
        if len(listed) < MAX_LISTED:
            listed.append(_variable(name, look.type, look.bytes if look.complete else None, not reason, reason))
        else:
            more += 1
    ours = sorted(m for m in modules if m not in _builtin_modules())
    return {"variables": listed, "more": more, "bytes": total, "modules": ours[:MAX_LISTED]}


def _variable(name: str, kind: str, size: Optional[int], moves: bool, reason: str) -> Json:
    return {"name": name[:MAX_NAME], "type": kind, "bytes": size, "moves": moves, "reason": reason}


def _builtin_modules() -> Any:
    return {
        "__main__",
        str(__package__).partition(".")[0],
        *sys.builtin_module_names,
        *getattr(sys, "stdlib_module_names", ()),
    }


def send(
    path: str, names: Optional[List[str]] = None, there: Optional[Json] = None, compress: Union[str, bool] = "auto"
) -> Json:
    namespace, end = Namespace.of_shell(), There(there)
    if end.problem:
        return _error("OtherPython", end.problem)
    with _connected(path) as connection:
        out = Outgoing(_raising(connection.sendall), compress)
        sending = Sending(namespace, end, out, Reader(_raising(connection.recv_into), back=True))
        return _ended(lambda: sending.send(names), lambda: sending.result.as_json("sent"), out.close)


def receive(path: str, limit_bytes: Optional[int] = None) -> Json:
    namespace = Namespace.of_shell()
    with _connected(path) as connection:
        receiving = Receiving(
            namespace, _raising(connection.recv_into), Writer(_raising(connection.sendall)), limit=limit_bytes
        )
        return _ended(receiving.receive, lambda: receiving.result.as_json("received"))


def save(path: str, names: Optional[List[str]] = None, limit_bytes: Optional[int] = None) -> Json:
    return _ended(lambda: None, lambda: files.save(Namespace.of_shell(), path, names, limit_bytes).as_json("sent"))


def load(path: str, names: Optional[List[str]] = None) -> Json:
    return _ended(lambda: None, lambda: files.load(Namespace.of_shell(), path, names).as_json("received"))


FUNCTIONS: Dict[str, Callable[..., Json]] = {
    "hello": hello,
    "plan": plan,
    "send": send,
    "receive": receive,
    "save": save,
    "load": load,
}


def _ended(work: Callable[[], Any], result: Callable[[], Json], close: Callable[[], None] = lambda: None) -> Json:
    """What came of it, with what had been done by the time that it failed."""
    error: Json = {}
    try:
        work()
        return result()
    except KeyboardInterrupt:
        error = _error("Interrupted", "It was interrupted.")
    except StreamEnded as e:
        error = _error("LinkLost", str(e))
    except StreamError as e:
        error = _error("Damaged", str(e))
    except OSError as e:
        error = _error("Failed", f"{e.strerror or e}"[:500])
    finally:
        close()
    return error


def _error(code: str, message: str) -> Json:
    return {"error": {"code": code, "message": message}}


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
