"""What a sync carries out over one connection to a VM, either way: asked for in order, without waiting, and told as answers come.

``sending.Changes`` and ``receiving.Fetches`` are the two kinds. What has no answer when the connection is lost stays in ``todo``,
and is asked for again over the next one (``sync.remote``).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Cancelled, ChangedMeanwhile, SecretRefused, SyncError
from ..relay.fileframes import Code
from ..relay.wire import Frame
from . import arrivals
from .filechannel import FileChannel
from .plan import Action, Outcome

if TYPE_CHECKING:
    from .local import LocalFolder
    from .remote import RemoteFolder

Tell = Callable[[Outcome], None]
Moved = Callable[[int], None]
"""Told how many bytes of files went over the way since the last time; many times a second."""


@dataclass(eq=False)
class Carrying(ABC):
    folder: RemoteFolder
    channel: FileChannel
    here: LocalFolder
    todo: dict[int, Action]
    """By their order; each is taken out when it is told."""
    tell: Tell
    moved: Moved
    cancel: threading.Event

    def run(self) -> None:
        """Blocks until all is told. Raises ``Cancelled``, ``Unreachable``, ``SyncError``, ``ProtocolError``."""
        for key, action in list(self.todo.items()):
            if self.cancel.is_set():
                raise Cancelled("Copying files was cancelled.", advice="What was copied stays; the next sync goes on.")
            self._start(key, action)
            self._listen(wait=False)
        while self._unanswered:
            self._listen(wait=True)

    def _listen(self, wait: bool) -> None:
        for each in self.folder.answers(self.channel, self.cancel, wait):
            self._heard(each)

    @property
    @abstractmethod
    def _unanswered(self) -> Collection[int]:
        """The numbers of requests that have no answer yet."""

    @abstractmethod
    def _start(self, key: int, action: Action) -> None:
        """Ask for it; or do it, where nothing needs to be asked."""

    @abstractmethod
    def _heard(self, each: Frame) -> None: ...

    def _failed_there(self, action: Action, answer: Frame) -> None:
        failed = arrivals.failure(answer.body)
        self.folder.changed_meanwhile += failed.code == Code.CHANGED
        self.tell(Outcome(action, False, problem=arrivals.sentence(action.path, self.folder.name, failed)))

    def _failed_here(self, action: Action, error: SyncError) -> None:
        self.folder.changed_meanwhile += isinstance(error, ChangedMeanwhile)
        self.tell(Outcome(action, False, problem=error.message, secret=isinstance(error, SecretRefused)))
