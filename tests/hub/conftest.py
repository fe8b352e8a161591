"""A class: two students and a teacher on one hub, and one emulated Azure for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.machines import STANDARD
from support.hub import Hub, Person, accounts_possible, homes, set_up

pytest.importorskip("jupyterhub")

LIMITS = """
c.Spawner.mem_limit = "3G"
c.Spawner.cpu_limit = 1.5
"""

ACCOUNTS = {"ada": "azureuser", "bob": "visitor", "teacher": "azureuser"}
"""Who is who on the VMs, where these have accounts of their own."""


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=STANDARD) as running:
        yield running


@pytest.fixture(scope="session")
def people(emulator: Emulator) -> Iterator[list[Person]]:
    own = emulator.vm("cpu-vm")["user"] == "azureuser"
    with homes({"ada": False, "bob": False, "teacher": True}, accounts_possible()) as made:
        for person in made:
            set_up(emulator, person, AzureCompute={"ssh_user": ACCOUNTS[person.name]} if own else None)
        yield made


@pytest.fixture(scope="session")
def hub(people: list[Person], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Everybody's server runs. The hub is not at the root of its address, as none is in a class."""
    folder = tmp_path_factory.mktemp("class") / "hub"
    with Hub(folder, people, base="/class/", accounts=accounts_possible(), extra=LIMITS) as running:
        running.spawn_all(running.people)
        yield running


@pytest.fixture
def kernels(hub: Hub) -> Iterator[None]:
    """Whatever is left running on anybody's own server ends with the test."""
    yield
    for name in hub.people:
        hub.as_user(name).end_kernels()
