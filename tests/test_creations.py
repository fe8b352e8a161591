"""New machines through the service: one operation each, one at a time per name, and what the command line shows beforehand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jupyter_dsvm import create_command
from jupyter_dsvm.cli import _parser
from jupyter_dsvm.compute.creating import NewCompute
from jupyter_dsvm.errors import NotAllowed, OperationRefused
from jupyter_dsvm.models import OperationState, Price, Size, SizeOffer
from jupyter_dsvm.service import DSVMService
from support.fakes import FakeConnections, FakeFree, FakeMaker, FakeRegistry, dsvm

WANTED = NewCompute("new-vm", "westeurope", "Standard_D2ds_v5")


@pytest.fixture
def maker() -> FakeMaker:
    return FakeMaker(dsvm("cpu-vm"))


@pytest.fixture
def service(maker: FakeMaker) -> Iterator[DSVMService]:
    made = DSVMService(lambda: [FakeFree(), maker], registry=FakeRegistry(), connections=FakeConnections())
    yield made
    made.close()


def ended(service: DSVMService, operation_id: str) -> OperationState:
    return service.operations_store.get(operation_id).finished.result(10).state


def test_a_new_machine_is_in_the_list_when_its_operation_ends(service: DSVMService, maker: FakeMaker):
    maker.gate.clear()
    operation = service.create(WANTED)
    assert operation.compute is None
    maker.gate.set()
    assert ended(service, operation.id) is OperationState.DONE
    done = service.operation(operation.id)
    assert done.compute == "azure:new-vm-id"
    assert done.notice.startswith("new-vm runs, for a price that is not known until it is stopped.")
    assert "Its disk, and its public address if it has one, cost extra" in done.notice
    assert service.known.known("azure:new-vm-id") is not None
    # What a later server would go on with.
    assert NewCompute.from_json(service.operations_store.get(operation.id).arguments) == WANTED


def test_one_of_a_name_at_a_time(service: DSVMService, maker: FakeMaker):
    maker.gate.clear()
    first = service.create(WANTED)
    with pytest.raises(OperationRefused) as caught:
        service.create(NewCompute("NEW-vm", "westeurope", "Standard_D2ds_v5"))
    assert caught.value.code == "ChangeUnderWay"
    other = service.create(NewCompute("other-vm", "westeurope", "Standard_D2ds_v5"))
    maker.gate.set()
    assert ended(service, first.id) is OperationState.DONE
    assert ended(service, other.id) is OperationState.DONE
    assert ended(service, service.create(WANTED).id) is OperationState.DONE  # the name is free again


def test_a_refusal_ends_it_and_frees_the_name(service: DSVMService, maker: FakeMaker):
    maker.refuse = OperationRefused("No.", code="QuotaExceeded")
    operation = service.create(WANTED)
    assert ended(service, operation.id) is OperationState.FAILED
    error = service.operation(operation.id).error
    assert error is not None
    assert error.code == "QuotaExceeded"
    maker.refuse = None
    assert ended(service, service.create(WANTED).id) is OperationState.DONE


def test_cancelled_and_gone_on_with(service: DSVMService, maker: FakeMaker):
    maker.gate.clear()
    operation = service.create(WANTED)
    while "create azure:new-vm-id" not in maker.asked:
        time.sleep(0.01)
    service.cancel(operation.id)
    assert ended(service, operation.id) is OperationState.CANCELLED
    maker.gate.set()
    running = service.operations_store.begin("create", steps=[("create", "Create new-vm")], arguments=WANTED.to_json())
    running.memo.note(stage="deploying")
    service.changes.resume(running)
    assert running.value.state is OperationState.DONE
    assert running.value.compute == "azure:new-vm-id"
    assert maker.memo is running.memo


def test_one_for_which_nothing_was_asked_is_not_gone_on_with(service: DSVMService, maker: FakeMaker):
    running = service.operations_store.begin("create", steps=[("create", "Create new-vm")], arguments=WANTED.to_json())
    with pytest.raises(OperationRefused) as caught:
        service.changes.resume(running)
    assert caught.value.code == "Interrupted"
    assert "create azure:new-vm-id" not in maker.asked


def test_without_a_cloud_nothing_can_be_made():
    service = DSVMService(lambda: [FakeFree()], registry=FakeRegistry(), connections=FakeConnections())
    try:
        assert service.creation(None, None).allowed is False
        with pytest.raises(NotAllowed):
            service.create(WANTED)
    finally:
        service.close()


# -- the command line -----------------------------------------------------------------------------------------------------


def parsed(*words: str) -> NewCompute:
    return create_command.wanted(_parser().parse_args(["create", *words]))


def test_words_and_what_they_mean():
    words = ["new-vm", "--size", "S", "--location", "L"]
    assert parsed(*words) == NewCompute("new-vm", "L", "S")
    assert parsed(*words, "--private", "--group", "g", "--disk", "64") == NewCompute(
        "new-vm", "L", "S", resource_group="g", private=True, disk_gib=64
    )
    assert parsed(*words, "--from", "203.0.113.7").source_address == "203.0.113.7"
    for wrong in (["new-vm"], [*words, "--private", "--from", "x"], [*words, "--disk", "big"]):
        with pytest.raises(SystemExit) as caught:
            parsed(*wrong)
        assert caught.value.code == 2


def test_what_is_shown_before_it_is_asked(service: DSVMService):
    said: list[str] = []
    assert create_command.agreed(service, WANTED, False, said.append, lambda: "Yes\n")
    assert not create_command.agreed(service, WANTED, False, said.append, lambda: "\n")
    text = "\n".join(said)
    assert "new-vm: Standard_D2ds_v5 (2 CPU · 8 GB) in westeurope" in text
    assert "~$0.10/h (an estimate), from now until it is stopped. Its disk costs extra." in text
    assert "In Research, resource group lab" in text


def test_what_is_known_of_a_size_is_shown(service: DSVMService):
    offer = SizeOffer(
        Size("Standard_NV6", 6, 56, 1, "M60"), Price(1.0, "USD", "x"), warnings=("The GPU cannot be used.",)
    )
    lines = create_command.described(WANTED, service.creation("westeurope", None), offer)
    assert lines[-1] == "The GPU cannot be used."
    lines = create_command.described(
        NewCompute("a", "l", "S", private=True), service.creation("westeurope", None), None
    )
    assert "no public address" in "\n".join(lines)
    hub = replace(service.creation("westeurope", None), private_only=True)
    assert "no public address" in "\n".join(create_command.described(WANTED, hub, None))
    assert "Its price is not known" in "\n".join(lines)
