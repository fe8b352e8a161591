"""Whose tokens are, asked of the hub: few at a time, each once, and not all again in the same second."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from jupyter_dsvm.hub.identities import AT_ONCE, Identities, Model

PEOPLE = [f"token-{number}" for number in range(200)]


class Hub:
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.busy = self.most = 0
        self.error: Exception | None = None

    async def ask(self, token: str) -> Model | None:
        self.asked[token] += 1
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        if self.error is not None:
            raise self.error
        return {"name": token.removeprefix("token-")} if token in PEOPLE else None


async def test_a_class_that_comes_at_once_asks_for_each_token_once_and_few_at_a_time():
    hub, now = Hub(), [0.0]
    identities = Identities(hub.ask, 60, clock=lambda: now[0])
    found = await asyncio.gather(*(identities.of(token) for token in PEOPLE * 3))
    assert [model["name"] for model in found if model] == [str(number) for number in range(200)] * 3
    assert set(hub.asked.values()) == {1}
    assert hub.most == AT_ONCE


async def test_an_answer_is_good_for_a_time_of_its_own_and_never_longer_than_it_may_be():
    hub, now = Hub(), [0.0]
    identities = Identities(hub.ask, 60, clock=lambda: now[0])
    await asyncio.gather(*(identities.of(token) for token in PEOPLE))
    renewed = []
    for second in range(1, 61):
        now[0] = float(second)
        before = hub.asked.total()
        await asyncio.gather(*(identities.of(token) for token in PEOPLE))
        renewed.append(hub.asked.total() - before)
    assert sum(renewed[:29]) == 0
    assert max(renewed) < len(PEOPLE) / 4
    now[0] += 60
    before = hub.asked.total()
    assert await identities.of(PEOPLE[0])
    assert hub.asked.total() == before + 1


async def test_who_is_nobody_is_remembered_and_an_error_is_not():
    hub = Hub()
    identities = Identities(hub.ask, 60)
    assert await identities.of("stolen") is None
    assert await identities.of("stolen") is None
    assert hub.asked["stolen"] == 1
    hub.error = OSError("the hub is away")
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await identities.of(PEOPLE[0])
    hub.error = None
    assert await identities.of(PEOPLE[0]) == {"name": "0"}


async def test_who_hangs_up_takes_the_answer_from_nobody_else():
    hub = Hub()
    identities = Identities(hub.ask, 60)
    first = asyncio.ensure_future(identities.of(PEOPLE[0]))
    second = asyncio.ensure_future(identities.of(PEOPLE[0]))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {"name": "0"}
    assert hub.asked[PEOPLE[0]] == 1
