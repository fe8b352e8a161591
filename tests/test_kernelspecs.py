"""Choosing the kernel on a VM, and what is sent and written for it."""

from __future__ import annotations

import pytest

from jupyter_dsvm.errors import KernelStartError, LanguageMismatch
from jupyter_dsvm.kernels.kernelspecs import choose, installed_name, installed_spec, parse_specs, start_spec
from support.fakes import IR, PYTHON3

OTHER = {**PYTHON3, "name": "azureml", "display_name": "Python 3.10 - AzureML"}


def pick(listing, **options):
    return choose(parse_specs(listing), machine="gpu-vm", **{"language": "python", **options}).name


def test_the_same_name_comes_first_then_the_language():
    assert pick([IR, OTHER, PYTHON3], local_name="azureml") == "azureml"
    assert pick([IR, OTHER, PYTHON3], local_name="my-env") == "python3"
    assert pick([IR, OTHER], local_name="python3") == "azureml"
    assert pick([IR, PYTHON3], local_name="xr", language="r") == "ir"


def test_a_name_of_another_language_is_no_match():
    assert pick([{**IR, "name": "python3"}, OTHER], local_name="python3") == "azureml"


def test_a_named_kernel_is_taken_by_name_or_display_name():
    assert pick([IR, OTHER, PYTHON3], wanted="azureml") == "azureml"
    assert pick([IR, OTHER, PYTHON3], wanted="python 3.10 - azureml") == "azureml"


def test_what_cannot_be_chosen_says_what_there_is():
    with pytest.raises(KernelStartError, match="no kernel named 'azurml'") as e:
        pick([IR, OTHER], wanted="azurml")
    assert "azureml" in e.value.advice
    with pytest.raises(LanguageMismatch, match="speaks R") as mismatch:
        pick([IR, OTHER], wanted="ir")
    assert "azureml" in mismatch.value.advice
    assert "ir (R)" not in mismatch.value.advice
    with pytest.raises(KernelStartError, match="no python kernel"):
        pick([IR])
    with pytest.raises(KernelStartError, match="It has no kernels"):
        pick([])


def test_the_first_of_the_list_is_what_an_attach_without_a_name_takes():
    specs = parse_specs([IR, OTHER, PYTHON3])
    assert [s.name for s in specs] == ["python3", "azureml", "ir"]
    assert choose(specs, machine="m", language="python").name == specs[0].name


def test_what_a_hostile_machine_lists_is_checked():
    bad = [
        None,
        7,
        {"name": 3, "argv": ["x"]},
        {"name": "a", "argv": "x"},
        {"name": "a", "argv": []},
        {"name": "a", "argv": ["x"] * 1000},
        {"name": "n" * 10_000, "argv": ["x"]},
    ]
    assert parse_specs(bad) == []
    assert parse_specs({"python3": {}}) == []
    assert len(parse_specs([{**PYTHON3, "name": f"k{i}"} for i in range(5000)])) <= 500
    (odd,) = parse_specs([{**PYTHON3, "display_name": "a\x1b[31m<b>", "env": {"A": 1, "B": "2"}, "metadata": 5}])
    assert "\x1b" not in odd.display_name
    assert odd.env == {"B": "2"}
    assert odd.metadata == {}


def test_start_carries_the_listed_environment_and_nothing_else():
    (spec,) = parse_specs([{**PYTHON3, "env": {"TZ": "UTC"}}])
    start = start_spec(
        spec,
        kernel_id="k",
        key=b"secret",
        signature_scheme="hmac-sha256",
        session="s",
        env={"TZ": "CET", "LANG": "de_DE.UTF-8"},
    )
    assert start["env"] == {"TZ": "UTC", "LANG": "de_DE.UTF-8"}  # the kernelspec's own wins
    assert start["key"] == "secret"
    assert "secret" not in " ".join(start["argv"])


def test_the_installed_kernelspec_names_compute_and_kernel():
    spec = parse_specs([PYTHON3])[0]
    content = installed_spec("azure:1", "gpu-vm", spec)
    assert content["display_name"] == "Python 3 on gpu-vm"
    assert content["language"] == "python"
    assert content["metadata"]["debugger"] is True
    assert content["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "dsvm-provisioner",
        "config": {"compute": "azure:1", "kernelspec": "python3"},
    }
    assert installed_name("GPU VM", "Py 3!") == "dsvm-gpu-vm-py-3"
