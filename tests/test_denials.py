"""What a refusal teaches of a machine: which actions this account may not do, until the account changes or it works."""

from __future__ import annotations

import pytest

from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.denials import ACTIONS, Denials
from jupyter_dsvm.errors import Forbidden, OperationRefused
from jupyter_dsvm.models import PowerState
from support.fakes import FakeCompute, FakeFree, dsvm

DENIED = Forbidden("Could not do it. The account lacks the permission.", code="AuthorizationFailed")
GPU = "azure:gpu-vm-id"


class Park:
    def __init__(self) -> None:
        self.cloud = FakeCompute(dsvm("gpu-vm", PowerState.DEALLOCATED), dsvm("cpu-vm"))
        self.told: list[str | None] = []
        self.known = Computes(lambda: [FakeFree(), self.cloud], self.told.append)

    def do(self, kind: str, error: Exception | None = None) -> None:
        self.cloud.refuse = error
        if kind == "resize":
            self.known.resize(GPU, "standard_d4ds_v5", lambda text, fraction: None, Cancel())
        else:
            self.known.change_power(kind, GPU, lambda text, fraction: None, Cancel())

    def refused(self, kind: str, error: Exception = DENIED) -> None:
        with pytest.raises(type(error)):
            self.do(kind, error)

    def shown(self, name: str = "gpu-vm") -> tuple[str, ...]:
        return next(c.not_allowed for c in self.known.snapshot().computes if c.name == name)


@pytest.mark.parametrize("kind", ["start", "stop"])
def test_a_refusal_for_want_of_a_role_is_shown_with_that_machine_alone(kind: str):
    park = Park()
    assert park.shown() == ()
    park.refused(kind)
    assert park.shown() == (kind,)
    assert park.shown("cpu-vm") == ()
    row = park.known.known(GPU)
    assert row is not None
    assert row.to_json()["not_allowed"] == [kind]
    assert GPU in park.told


def test_it_outlives_a_refresh_and_goes_when_the_account_changes():
    park = Park()
    park.refused("start")
    park.known.snapshot(refresh=True)
    assert park.shown() == ("start",)
    park.told.clear()
    park.known.account_changed()
    assert park.shown() == ()
    assert park.told == [None]
    park.told.clear()
    park.known.account_changed()
    assert park.told == []  # nothing to say


def test_it_goes_when_the_same_works_after_all():
    park = Park()
    park.refused("start")
    park.refused("stop")
    assert park.shown() == ("start", "stop")
    park.do("start")
    assert park.shown() == ("stop",)


@pytest.mark.parametrize(
    "error",
    [
        OperationRefused("No capacity.", code="AllocationFailed"),
        Forbidden("With what it is linked to.", code="LinkedAuthorizationFailed"),
        Forbidden("A firewall said so.", code="Forbidden"),
    ],
)
def test_other_refusals_teach_nothing_lasting(error: Exception):
    park = Park()
    park.refused("start", error)
    assert park.shown() == ()


def test_a_restart_is_nothing_that_a_row_tells_of():
    park = Park()
    park.refused("restart")
    assert park.shown() == ()


def test_the_answer_to_an_earlier_account_says_nothing_of_this_one():
    denials = Denials()
    account = denials.account
    denials.account_changed()
    denials.ended(account, "start", GPU, DENIED)
    assert denials.of(GPU) == ()
    denials.ended(denials.account, "resize", GPU, DENIED)
    denials.ended(account, "resize", GPU, None)
    assert denials.of(GPU) == ("resize",)


def test_they_are_told_in_one_order():
    denials = Denials()
    for action in reversed(ACTIONS):
        denials.ended(denials.account, action, GPU, DENIED)
    assert denials.of(GPU) == ACTIONS
