"""What is known about computes: what counts as gone, and what a name that is not found says."""

from __future__ import annotations

import pytest

from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.errors import Cancelled, ComputeError, ComputeNotRunning, DSVMError, Forbidden, UnknownCompute
from jupyter_dsvm.models import PowerState
from support.fakes import FakeCompute, FakeFree, dsvm


class Cloud(FakeCompute):
    """``get`` fails with ``error`` where one is set."""

    error: DSVMError | None = None

    def get(self, compute_id):
        if self.error is not None:
            raise self.error
        return super().get(compute_id)


def computes(power: PowerState = PowerState.RUNNING, error: DSVMError | None = None) -> Computes:
    cloud = Cloud(dsvm("gpu-vm", power))
    cloud.error = error
    return Computes(lambda: [FakeFree(), cloud], lambda _: None)


@pytest.mark.parametrize("code", ["ResourceNotFound", "NotFound", "ResourceGroupNotFound", "Replaced"])
def test_a_machine_that_was_deleted_is_gone(code: str):
    error = UnknownCompute("It is not in Azure any more.", code=code)
    assert computes(error=error).is_gone("azure:gpu-vm-id") is error


@pytest.mark.parametrize(
    "error",
    [
        UnknownCompute("No Data Science VM has that id."),  # the list lacked it: a role that was taken away does that
        Forbidden("The account may not do that."),
        ComputeError("No answer.", code="Unreachable"),
    ],
)
def test_no_answer_is_not_gone(error: DSVMError):
    assert computes(error=error).is_gone("azure:gpu-vm-id") is None


@pytest.mark.parametrize("power", list(PowerState))
def test_only_a_machine_that_is_off_is_gone(power: PowerState):
    gone = computes(power).is_gone("azure:gpu-vm-id")
    if power in (PowerState.STOPPED, PowerState.DEALLOCATED):
        assert isinstance(gone, ComputeNotRunning)
        assert power.value in gone.message
        assert "%dsvm" not in gone.advice  # no kernel is left that could run it
    else:
        assert gone is None


def test_a_name_that_is_not_found_says_what_could_not_be_listed():
    cloud = Cloud()
    known = Computes(lambda: [FakeFree(), cloud], lambda _: None)
    with pytest.raises(UnknownCompute) as plain:
        known.find("gpu-vm")
    assert "could be listed" not in plain.value.message
    cloud.list_error = ComputeError("Azure did not answer.", advice="Sign in.")
    with pytest.raises(UnknownCompute) as e:
        known.find("gpu-vm")
    assert (
        e.value.message == "There is no compute called 'gpu-vm'. Not everything could be listed: Azure did not answer."
    )
    assert e.value.advice.endswith("Sign in.")


def test_what_was_cancelled_before_its_turn_is_not_asked_for():
    """As who has joined another's start: where both are cancelled, neither may ask for it."""
    cloud, cancel = FakeCompute(dsvm("gpu-vm", PowerState.DEALLOCATED)), Cancel()
    known = Computes(lambda: [FakeFree(), cloud], lambda _: None)
    cancel.set()
    with pytest.raises(Cancelled):
        known.change_power("start", "azure:gpu-vm-id", lambda text, fraction: None, cancel)
    assert not [asked for asked in cloud.asked if asked.startswith("start")]
    assert not known.is_changing("azure:gpu-vm-id")
