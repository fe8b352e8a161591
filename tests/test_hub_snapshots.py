"""How often a broker asks the cloud does not depend on how many people ask the broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from jupyter_dsvm.compute.provider import Listing
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.hub.snapshots import Snapshots
from jupyter_dsvm.models import Compute, ComputeKind, PowerState

COUNT = 300


class Cloud:
    """Counts what it is asked; while ``open`` is cleared a list takes as long as that."""

    prefix = "azure:"

    def __init__(self) -> None:
        self.lists = self.looks = 0
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()

    def _row(self, compute_id: str) -> Compute:
        return Compute(compute_id, compute_id, ComputeKind.DSVM, PowerState.RUNNING)

    def list(self) -> Listing:
        self.lists += 1
        self.asked.set()
        assert self.open.wait(20)
        return Listing(tuple(self._row(f"azure:{number}") for number in range(COUNT)), ())

    def get(self, compute_id: str) -> Compute:
        self.looks += 1
        return self._row(compute_id)

    def close(self) -> None:
        """Nothing is held open."""


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def snapshots(cloud: Cloud, now: list[float]) -> Iterator[Snapshots]:
    computes = Computes(lambda: [cloud], lambda compute_id: None)  # type: ignore[list-item]
    yield Snapshots(computes, 15.0, 3.0, 120, clock=lambda: now[0])
    computes.close()


@pytest.mark.parametrize("people", [1, 50, 200])
def test_a_minute_of_lists_is_four_of_them_for_any_number_of_people(
    snapshots: Snapshots, cloud: Cloud, now: list[float], people: int
):
    for _ in range(60):
        for _ in range(people):
            assert len(snapshots.all().computes) == COUNT
        now[0] += 1
    assert cloud.lists == 4


def test_looks_at_single_machines_are_bounded_all_together(snapshots: Snapshots, cloud: Cloud, now: list[float]):
    snapshots.all()
    for _ in range(10):  # everybody at a machine of their own, every six seconds
        for number in range(COUNT):
            assert snapshots.one(f"azure:{number}").power_state is PowerState.RUNNING
        now[0] += 6
    assert cloud.looks == 120
    assert cloud.lists <= 5
    now[0] += 60
    for number in range(COUNT):
        snapshots.one(f"azure:{number}")
    assert cloud.looks == 240


def test_one_machine_is_looked_at_every_few_seconds(snapshots: Snapshots, cloud: Cloud, now: list[float]):
    snapshots.all()
    for _ in range(60):
        snapshots.one("azure:1")
        now[0] += 1
    assert cloud.looks == 20


def test_nobody_waits_for_a_list_that_somebody_else_has_asked_for(snapshots: Snapshots, cloud: Cloud, now: list[float]):
    snapshots.all()
    now[0] += 20
    cloud.open.clear()
    cloud.asked.clear()
    first = threading.Thread(target=snapshots.all)
    first.start()
    try:
        assert cloud.asked.wait(10)
        assert len(snapshots.all().computes) == COUNT  # as last heard, at once
        assert cloud.lists == 2
    finally:
        cloud.open.set()
        first.join()
