"""What is asked of a machine over its pipe by who can wait for the answer, and which kernelspecs it listed last.

Part of ``kernels.vmpipe.VMPipe``. Called on worker threads; the answers come on the I/O thread. The machine is not trusted.
"""

from __future__ import annotations

import re
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from ..errors import ProtocolError, RelayError

if TYPE_CHECKING:
    from .vmpipe import VMPipe

KERNELSPEC_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
"""What jupyter_client takes for one; a machine may say anything."""


class PipeQuestions:
    def __init__(self, pipe: VMPipe) -> None:
        self._pipe = pipe
        self._kernelspecs: list[dict[str, Any]] | None = None
        self._ahead: Future[Any] | None = None

    def ask_ahead(self) -> Future[Any]:
        """For the answer to the question for the kernelspecs that goes along with the first connect."""
        self._ahead = Future()
        return self._ahead

    def kernelspecs(self, timeout: float, known: bool) -> list[dict[str, Any]]:
        """The kernelspecs of the machine, as ``relay.kernelspecs`` lists them. Blocks. Raises ``RelayError``.

        ``known``: what an earlier call was told will do, and is asked for anew behind the caller's back. Listing takes the
        machine a third of a second and the way there a round trip, which an attach need not wait for.
        """
        if known and self._kernelspecs is not None:
            self._pipe.call("kernelspecs").add_done_callback(self._listed)
            return self._kernelspecs
        asked, self._ahead = self._ahead, None
        specs: list[dict[str, Any]] = self.answer("kernelspecs", list, timeout, asked if known else None)
        self._take(specs)
        return specs

    @property
    def known_kernelspecs(self) -> list[str]:
        names = [spec.get("name") for spec in self._kernelspecs or () if isinstance(spec, dict)]
        return [name for name in names if isinstance(name, str) and KERNELSPEC_NAME.fullmatch(name)]

    def _listed(self, answer: Future[Any]) -> None:
        if not answer.cancelled() and answer.exception() is None and isinstance(answer.result(), list):
            self._take(answer.result())

    def _take(self, specs: list[dict[str, Any]]) -> None:
        before, self._kernelspecs = self._kernelspecs, specs
        if before is not None and before != specs:
            self._pipe.on_listed()

    def answer(self, operation: str, kind: type, timeout: float, asked: Future[Any] | None = None) -> Any:
        """``asked``: where that question is on its way already. Blocks. Raises ``RelayError``."""
        name = self._pipe.name
        try:
            value = (asked or self._pipe.call(operation)).result(timeout)
        except FutureTimeout:
            raise RelayError(
                f"{name} did not answer the question for its {operation} within {timeout:g} s.",
                advice="Try again; it may be busy.",
                code="Timeout",
            ) from None
        if not isinstance(value, kind):
            raise ProtocolError(f"{name} answered the question for its {operation} with something else.")
        return value
