"""Starts that wait for their turn, on many threads: what those who wait are told, and what those whose turn has come do."""

from __future__ import annotations

import random
import re
import threading
import time

from jupyter_dsvm.hub.starts import Starts
from jupyter_dsvm.models import OperationState
from jupyter_dsvm.operations import OperationStore, Running

MANY = 60


def test_a_place_never_goes_back_and_is_told_to_nobody_whose_turn_has_come():
    chance = random.Random(20268)
    operations, starts = OperationStore(), Starts(4)
    said: dict[str, list[str]] = {}
    begun = []
    for _ in range(MANY):
        running = operations.begin("start", compute="vm", steps=[("ask", "Ask")])
        texts = said.setdefault(running.id, [])

        def slowly(text: str, texts: list[str] = texts, pause: float = chance.uniform(0, 0.003)) -> None:
            time.sleep(pause)
            texts.append(text)

        running.listeners.append(slowly)
        begun.append(running)

    def work(running: Running) -> None:
        running.step("ask", "Begun")
        time.sleep(chance.uniform(0, 0.003))
        running.done()

    callers = [threading.Thread(target=starts.begin, args=[r, lambda r=r: work(r)]) for r in begun]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(running.finished.result(60).state is OperationState.DONE for running in begun)
    starts.leave()
    starts.close()
    waited = 0
    for texts in said.values():
        assert texts[-1] == "Begun"
        places = [int(found[1]) for text in texts if (found := re.search(r"place (\d+)", text))]
        assert places == sorted(places, reverse=True)
        waited += bool(places)
    assert waited > MANY / 2
    assert starts.waiting == 0
