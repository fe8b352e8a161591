"""A kernel's own words about its variables: what it is asked (``relay.variables``, put in on demand), read with care.

What a kernel answers is not trusted, since it may be on a VM, or have run code that changes what it says: every number and text is
cut to bounds here, and nothing of it is a path or code for this server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from .compute.provider import Cancel
from .errors import Cancelled, DSVMError, KernelStartError, printable
from .models import Variable

MAX_NAMES = 1000
MAX_NAME = 256
MAX_TEXT = 400
MAX_BYTES = 1 << 50
POLL_SECONDS = 0.1

PUT_IN_SECONDS = 20.0
"""For the code to get into a kernel, on a machine that has slept."""
PLAN_SECONDS = 5.0
"""That a kernel may look at its variables, which is what it is told; and that it may be late by."""


class VariablesError(DSVMError):
    """The kernel could not do what it was asked for; what it said is in the message."""

    code = "Variables"
    status = 409


@dataclass(frozen=True)
class Failed:
    name: str
    reason: str


@dataclass(frozen=True)
class Moved:
    """What became of variables: sent, received, saved or loaded."""

    names: tuple[str, ...]
    failed: tuple[Failed, ...]
    bytes: int
    count: int
    """Of all that did, which may be more than ``names``."""


@dataclass(frozen=True)
class Planned:
    variables: tuple[Variable, ...]
    more: int
    bytes: int
    """At least, of those that move."""

    @property
    def size(self) -> int | None:
        """Of those that move; None where some had no time to be counted."""
        whole = not self.more and all(v.bytes is not None for v in self.variables if v.moves)
        return self.bytes if whole else None


@dataclass(frozen=True)
class Hello:
    """What one end can do: opaque here, and for the other kernel only."""

    python: tuple[int, ...]
    raw: dict[str, Any] = field(default_factory=dict)


class VariablesIn:
    """The kernel on one side of a proxy. ``begin_…`` return at once, the others block; all raise ``VariablesError``,
    ``KernelStartError`` where it ended, or ``Cancelled``."""

    def __init__(self, proxy: Any, side: int = 0) -> None:
        """``side`` 0: the notebook's kernel, which must be idle (``Asking.ask``)."""
        self._proxy = proxy
        self._side = side

    def begin(self, function: str, **arguments: Any) -> Future[dict[str, Any]]:
        from .kernels.variables_source import EXPRESSION, call, source  # late: of use only to who carries

        expressions = {EXPRESSION: call(function, **arguments)}
        asked: Future[dict[str, Any]] = self._proxy.asking.ask(source(), expressions, self._side)
        return asked

    def plan(
        self,
        names: Sequence[str] | None,
        there: Hello | None,
        seconds: float = PLAN_SECONDS,
        cancel: Cancel | None = None,
    ) -> Planned:
        said = wait(self.begin_plan(names, there, seconds), PUT_IN_SECONDS + 2 * seconds, cancel)
        return planned_of(said)

    def begin_plan(self, names: Sequence[str] | None, there: Hello | None, seconds: float) -> Future[dict[str, Any]]:
        raw = None if there is None else there.raw
        return self.begin("plan", names=_list(names), there=raw, seconds=seconds)

    def begin_send(self, path: str, names: Sequence[str] | None, there: Hello) -> Future[dict[str, Any]]:
        return self.begin("send", path=path, names=_list(names), there=there.raw, compress="auto")

    def begin_receive(self, path: str) -> Future[dict[str, Any]]:
        return self.begin("receive", path=path)

    def begin_save(self, path: str, limit_bytes: int) -> Future[dict[str, Any]]:
        return self.begin("save", path=path, names=None, limit_bytes=limit_bytes)

    def begin_load(self, path: str, names: Sequence[str] | None) -> Future[dict[str, Any]]:
        return self.begin("load", path=path, names=_list(names))


def wait(asked: Future[dict[str, Any]], seconds: float, cancel: Cancel | None = None) -> dict[str, Any]:
    """For the answer of a kernel, as ``read`` gives it. Blocks."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return read(asked.result(timeout=POLL_SECONDS))
        except FutureTimeout:
            if asked.done():
                raise
        if cancel is not None and cancel.is_set():
            raise Cancelled("It was cancelled.")
        if time.monotonic() > deadline:
            raise KernelStartError(
                f"The kernel did not answer within {seconds:.0f} s when it was asked about its variables.",
                advice="Try again; if it stays so, restart the kernel.",
                code="KernelTimeout",
            )


def read(content: dict[str, Any]) -> dict[str, Any]:
    """The content of an ``execute_reply`` as the function's answer. Raises ``VariablesError``."""
    from .kernels.variables_source import parse

    return worded(parse(content))


def worded(said: Any) -> dict[str, Any]:
    """An answer as it is, with its error raised: ``VariablesError``."""
    if not isinstance(said, dict):
        said = {"error": {}}
    error = said.get("error")
    if error is None:
        return dict(said)
    error = error if isinstance(error, Mapping) else {}
    message = printable(str(error.get("message") or "it did not say why"), MAX_TEXT).rstrip(".")
    code = str(error.get("code") or "")
    raise VariablesError(
        f"The kernel could not do it: {message}.", code=code if code.isalnum() and len(code) < 50 else None
    )


def hello_of(said: Mapping[str, Any]) -> Hello:
    python = said.get("python")
    version = tuple(n for n in python if isinstance(n, int))[:3] if isinstance(python, list) else ()
    modules = said.get("modules")
    kept = {
        str(k)[:100]: v[:100] if isinstance(v, str) else None
        for k, v in (list(modules.items())[:200] if isinstance(modules, dict) else ())
    }
    pickle = said.get("pickle")
    return Hello(
        version,
        {"python": list(version), "pickle": pickle if isinstance(pickle, int) and pickle < 100 else 4, "modules": kept},
    )


def planned_of(said: Mapping[str, Any]) -> Planned:
    rows = said.get("variables")
    variables = tuple(
        Variable(
            _name(r.get("name")), _text(r.get("type"), 200), _size(r.get("bytes")), bool(r.get("moves")), _reason(r)
        )
        for r in (rows if isinstance(rows, list) else ())[:MAX_NAMES]
        if isinstance(r, dict)
    )
    return Planned(variables, _count(said.get("more")), _count(said.get("bytes")))


def moved_of(said: Mapping[str, Any], done: str) -> Moved:
    """``done``: ``sent`` or ``received``."""
    names = said.get(done)
    names = names if isinstance(names, list) else []
    failed = said.get("failed")
    return Moved(
        tuple(_name(n) for n in names[:MAX_NAMES]),
        tuple(
            Failed(_name(f.get("name")), _text(f.get("reason")))
            for f in (failed if isinstance(failed, list) else ())[:MAX_NAMES]
            if isinstance(f, dict)
        ),
        _count(said.get("bytes")),
        max(len(names), _count(said.get("count"))),
    )


def _list(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else [n[:MAX_NAME] for n in list(names)[:MAX_NAMES]]


def _name(value: Any) -> str:
    return _text(value, MAX_NAME) or "?"


def _reason(row: Mapping[str, Any]) -> str:
    return "" if row.get("moves") else _text(row.get("reason")) or "It cannot move."


def _text(value: Any, limit: int = MAX_TEXT) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(value if value is not None else ""))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _size(value: Any) -> int | None:
    return min(value, MAX_BYTES) if type(value) is int and value >= 0 else None


def _count(value: Any) -> int:
    return _size(value) or 0
