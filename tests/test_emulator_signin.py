"""Signing in to the whole emulator, configured by its own files: what `jupyter dsvm emulator --sign-in` gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.emulator import STANDARD, ControlError, Emulator
from jupyter_dsvm.emulator.directory import ADA, AZURE_CLI_APP
from jupyter_dsvm.models import SignInState
from jupyter_dsvm.service import DSVMService, load_service
from support.fakes import FakeConnections


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = [m for m in STANDARD if not m.has_ssh]  # nothing to boot
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines, sign_in=True) as running:
        yield running


@pytest.fixture
def service(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[DSVMService]:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(emulator.config_dir))
    emulator.set_entra(interval=1, at_code=None, at_refresh=None)
    made = load_service()
    made.connections.close()
    made.connections = FakeConnections()
    yield made
    made.close()


def names(service: DSVMService) -> list[str]:
    return [c.name for c in service.computes(refresh=True).computes if c.id.startswith("azure:")]


def test_from_nobody_to_the_list_and_back(emulator: Emulator, service: DSVMService):
    assert names(service) == []
    asked = service.accounts.begin()
    assert asked.url is not None
    assert asked.url.startswith(emulator.entra)
    emulator.enter_code(asked.code or "")
    done = service.accounts.wait(asked.id or "", Cancel())
    assert (done.state, done.account) == (SignInState.SIGNED_IN, ADA)
    listed = names(service)
    assert listed
    emulator.revoke_sign_ins()
    assert names(service) == listed  # as they were known
    problem = service.computes().problems[0]
    assert "jupyter dsvm signin" in problem.advice
    # The token was refused, so it was renewed, which was refused as well.
    assert names(service) == listed
    assert service.accounts.status().state is SignInState.FAILED
    assert service.accounts.status().account == ADA
    service.accounts.sign_out()


def test_a_code_can_be_refused_for_a_reason(emulator: Emulator, service: DSVMService):
    with pytest.raises(ControlError, match="did not work"):
        emulator.enter_code("NOCODE")
    with pytest.raises(ControlError):
        emulator.set_entra(at_refresh=1)
    asked = service.accounts.begin()
    emulator.enter_code(asked.code or "", refuse=53003)
    done = service.accounts.wait(asked.id or "", Cancel())
    assert done.error is not None
    assert done.error.code == "AADSTS53003"


def test_who_signed_in_may_use_azure_and_not_the_emulator(emulator: Emulator, service: DSVMService):
    import urllib.error
    import urllib.request

    asked = service.accounts.begin()
    emulator.enter_code(asked.code or "")
    service.accounts.wait(asked.id or "", Cancel())
    (provider,) = [p for p in service.known.providers if p.prefix == "azure:"]
    token, _ = provider.sign_in.token((f"{emulator.arm}/.default",))

    def ask(path: str) -> int:
        request = urllib.request.Request(emulator.arm + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert ask("/subscriptions?api-version=2022-12-01") == 200
    assert ask("/control/state") == 401
    logged = Path(emulator.traffic_file).read_text()
    assert token not in logged


def test_the_configuration_names_public_options_only(emulator: Emulator):
    settings = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())["AzureCompute"]
    assert (settings["token_file"], settings["authority"]) == ("", emulator.entra)
    # Any user of the computer knows the Azure CLI's, and could sign in with it.
    assert settings["client_id"] not in ("", AZURE_CLI_APP)
    assert "BEGIN CERTIFICATE" in Path(settings["authority_ca_file"]).read_text()
    assert "PRIVATE" not in Path(settings["authority_ca_file"]).read_text()
