"""What users type for a compute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.naming import resolve, shortest_name, shortest_names
from jupyter_dsvm.errors import AmbiguousCompute, UnknownCompute
from jupyter_dsvm.models import Compute, ComputeKind, PowerState


def vm(name: str, group: str = "lab", subscription: str = "s1") -> Compute:
    return Compute(
        id=f"azure:{subscription}-{group}-{name}".lower(),
        name=name,
        kind=ComputeKind.DSVM,
        power_state=PowerState.RUNNING,
        subscription=subscription,
        resource_group=group,
    )


def host(alias: str) -> Compute:
    return Compute(id=f"host:{alias}", name=alias, kind=ComputeKind.HOST, power_state=PowerState.UNKNOWN)


FREE_TIER = Compute(id="free", name="Free tier", kind=ComputeKind.FREE, power_state=PowerState.RUNNING)
GPU = vm("gpu-vm")
EVERYTHING = [
    FREE_TIER,
    GPU,
    vm("cpu-vm"),
    vm("twin", "lab"),
    vm("twin", "office"),
    vm("twin", "lab", "s2"),
    host("tower"),
]


@pytest.mark.parametrize(
    ("text", "compute_id"),
    [
        ("gpu-vm", GPU.id),
        ("  GPU-VM ", GPU.id),
        ("lab/gpu-vm", GPU.id),
        ("S1/Lab/gpu-vm", GPU.id),
        (GPU.id, GPU.id),
        ("office/twin", "azure:s1-office-twin"),
        ("s2/lab/twin", "azure:s2-lab-twin"),
        ("free", "free"),
        ("free tier", "free"),
        ("tower", "host:tower"),
        ("host:tower", "host:tower"),
    ],
)
def test_finds(text: str, compute_id: str) -> None:
    assert resolve(text, EVERYTHING).id == compute_id


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownCompute) as caught:
        resolve("gpuvm", EVERYTHING)
    assert caught.value.message == "There is no compute called 'gpuvm'."
    assert "Did you mean gpu-vm" in caught.value.advice


def test_the_nearest_name_can_be_typed_as_it_is_shown() -> None:
    with pytest.raises(UnknownCompute) as caught:
        resolve("twinn", EVERYTHING)
    suggestion = caught.value.advice.removeprefix("Did you mean ").removesuffix("?").split(" or ")
    assert all(resolve(name, EVERYTHING).name == "twin" for name in suggestion)


def test_a_name_like_no_other_gets_the_way_to_the_list() -> None:
    with pytest.raises(UnknownCompute, match="%dsvm list"):
        resolve("zzzzzz", EVERYTHING)


def test_no_compute_at_all_says_how_to_get_one() -> None:
    with pytest.raises(UnknownCompute, match="sign in"):
        resolve("gpu-vm", [])


def test_an_ambiguous_name_lists_what_to_type_for_each() -> None:
    with pytest.raises(AmbiguousCompute) as caught:
        resolve("Twin", EVERYTHING)
    assert caught.value.message == "3 computes are called 'Twin'."
    # lab/twin is in two subscriptions, office/twin in one
    assert caught.value.advice == "Write one of: s1/lab/twin, office/twin, s2/lab/twin."


def test_a_host_named_like_a_vm_is_typed_by_its_id() -> None:
    computes = [GPU, host("gpu-vm")]
    with pytest.raises(AmbiguousCompute, match="lab/gpu-vm, host:gpu-vm"):
        resolve("gpu-vm", computes)
    assert resolve("host:gpu-vm", computes) is computes[1]


def test_a_vm_named_free_needs_its_group() -> None:
    computes = [FREE_TIER, vm("free")]
    assert resolve("FREE", computes) is FREE_TIER
    assert shortest_name(computes[1], computes) == "lab/free"


words = st.text("abAB-1", min_size=1, max_size=3)
vms = st.builds(vm, words, words, words)
fleets = st.lists(st.one_of(vms, st.builds(host, words)), max_size=12, unique_by=lambda c: c.id.casefold())


@given(fleets)
def test_every_compute_can_be_typed_by_its_shortest_name(fleet: list[Compute]) -> None:
    computes = [FREE_TIER, *fleet]
    for compute in computes:
        assert resolve(shortest_name(compute, computes).swapcase(), computes) is compute
    assert shortest_names(computes) == [shortest_name(compute, computes) for compute in computes]


@given(fleets, words | st.text(max_size=12))
def test_any_text_gives_a_compute_that_has_that_name_or_an_error_that_helps(fleet: list[Compute], text: str) -> None:
    wanted = text.strip().casefold()
    named = [c for c in fleet if wanted in {c.id.casefold(), c.name.casefold(), c.long_name.casefold()}]
    if len(named) == 1:
        assert resolve(text, fleet) is named[0]
    else:
        with pytest.raises((UnknownCompute, AmbiguousCompute)) as caught:
            resolve(text, fleet)
        assert caught.value.advice
