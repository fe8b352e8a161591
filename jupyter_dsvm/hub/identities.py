"""What the hub has said of tokens, for a while: at nine o'clock everybody's is asked for, and the hub, which is one process, has
their logins to serve as well.

So not all questions are under way at a time, several about one token are one, and each is asked again after a time of its own
between the half and the whole of ``seconds``: those who came together do not all come back to the hub in the same second. What the
hub has said stays good meanwhile, for ``seconds``, so that nobody who is known waits for a busy hub. On one loop.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Model = Mapping[str, Any]

AT_ONCE = 50
"""With 8, each waits for the hub's next turn of its loop, and on a busy computer two hundred take minutes (measured)."""
MOST = 10_000
"""Tokens that are remembered, those that nobody has included."""


class Identities:
    def __init__(
        self,
        ask: Callable[[str], Awaitable[Model | None]],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``ask`` asks the hub whose a token is; None: nobody's. What it raises, all who wait for that answer get."""
        self._ask, self._seconds, self._clock = ask, seconds, clock
        self._known: dict[str, tuple[float, float, Model | None]] = {}
        """By the token's hash: when to ask again, until when it is good, and what the hub said."""
        self._asked: dict[str, asyncio.Task[Model | None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def of(self, token: str) -> Model | None:
        key = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        again, until, model = self._known.get(key, (0.0, 0.0, None))
        now = self._clock()
        task = self._asked.get(key)
        if task is None and now >= again:
            task = self._asked[key] = asyncio.ensure_future(self._find(key, token))
            task.add_done_callback(functools.partial(self._answered, key))
        if task is None or now < until:
            return model
        # Whoever hangs up takes the answer from nobody else.
        return await asyncio.shield(task)

    def _answered(self, key: str, task: asyncio.Task[Model | None]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # who waits for it has it; while an answer is good, nobody needs another

    async def _find(self, key: str, token: str) -> Model | None:
        async with self._turns:
            model = await self._ask(token)
        now = self._clock()
        if len(self._known) >= MOST:
            self._known = {k: v for k, v in self._known.items() if v[1] > now}
        if len(self._known) < MOST:
            lot = 0.5 + random.random() / 2  # noqa: S311 - no secret
            self._known[key] = (now + lot * self._seconds, now + self._seconds, model)
        return model
