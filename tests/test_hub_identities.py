"""Whose tokens are, asked of the hub: not all at a time, each once, and not all again in the same second."""

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
        self.answers = asyncio.Event()
        self.answers.set()

    async def settled(self) -> None:
        """What was asked in the background has been answered."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def ask(self, token: str) -> Model | None:
        self.asked[token] += 1
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        await self.answers.wait()
        self.busy -= 1
        if self.error is not None:
            raise self.error
        return {"name": token.removeprefix("token-")} if token in PEOPLE else None


async def test_a_class_that_comes_at_once_asks_for_each_token_once_and_not_all_at_a_time():
    hub, now = Hub(), [0.0]
    identities = Identities(hub.ask, 60, clock=lambda: now[0])
    found = await asyncio.gather(*(identities.of(token) for token in PEOPLE * 3))
    assert [model["name"] for model in found if model] == [str(number) for number in range(200)] * 3
    assert set(hub.asked.values()) == {1}
    assert hub.most == AT_ONCE


async def test_each_is_asked_again_after_a_time_of_its_own_and_never_longer_than_it_may_be():
    hub, now = Hub(), [0.0]
    identities = Identities(hub.ask, 60, clock=lambda: now[0])
    await asyncio.gather(*(identities.of(token) for token in PEOPLE))
    renewed = []
    for second in range(1, 61):
        now[0] = float(second)
        before = hub.asked.total()
        await asyncio.gather(*(identities.of(token) for token in PEOPLE))
        await hub.settled()
        renewed.append(hub.asked.total() - before)
    assert sum(renewed[:29]) == 0
    assert max(renewed) < len(PEOPLE) / 4
    now[0] += 60
    before = hub.asked.total()
    assert await identities.of(PEOPLE[0])
    assert hub.asked.total() == before + 1


async def test_who_is_known_waits_for_no_busy_hub_until_the_answer_is_too_old():
    hub, now = Hub(), [0.0]
    identities = Identities(hub.ask, 60, clock=lambda: now[0])
    for token in PEOPLE:
        await identities.of(token)
    hub.answers.clear()
    now[0] = 59.0
    for token in PEOPLE:
        assert await asyncio.wait_for(identities.of(token), 1)
    await hub.settled()
    assert hub.busy > 0
    now[0] = 60.0
    late = asyncio.ensure_future(identities.of(PEOPLE[0]))
    await hub.settled()
    assert not late.done()
    hub.answers.set()
    assert await late == {"name": "0"}
    assert hub.asked[PEOPLE[0]] == 2


async def test_an_error_of_the_hub_is_nobodys_while_its_answer_is_good():
    hub, now = Hub(), [0.0]
    identities = Identities(hub.ask, 60, clock=lambda: now[0])
    assert await identities.of(PEOPLE[0])
    hub.error = OSError("the hub is away")
    now[0] = 59.9
    assert await identities.of(PEOPLE[0])
    await hub.settled()
    now[0] = 60.0
    with pytest.raises(OSError, match="away"):
        await identities.of(PEOPLE[0])


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
