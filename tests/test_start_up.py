"""What a Jupyter server that starts with the extension has loaded: nothing of a cloud, and nothing for SSH."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.served import OTHERS, JupyterServer

CLOUD = {"azure", "msal", "msal_extensions", "paramiko", "cryptography", "asyncssh", "isodate"}

LOOKS = '''
"""Says what this server has loaded."""
import json, sys
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join

class Modules(JupyterHandler):
    def get(self):
        self.finish(json.dumps(sorted(sys.modules)))

def _jupyter_server_extension_points():
    return [{"module": "loaded_here"}]

def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [(url_path_join(app.base_url, "loaded"), Modules)])
'''


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    """With all of the extension's defaults: Azure too."""
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "loaded_here.py").write_text(LOOKS)
    path = os.pathsep.join(filter(None, [str(tmp_path / "looks"), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config"
    (config / "jupyter_server_config.d").mkdir(parents=True)
    enabled = {"ServerApp": {"jpserver_extensions": {"loaded_here": True}}}
    (config / "jupyter_server_config.d" / "loaded_here.json").write_text(json.dumps(enabled))
    with JupyterServer(tmp_path / "notebooks", config, OTHERS) as running:
        yield running


def loaded(server: JupyterServer) -> set[str]:
    modules = set(server.rest("GET", "loaded"))
    assert {"jupyter_dsvm.extension", "jupyter_dsvm.service"} <= modules
    return {name.partition(".")[0] for name in modules} & CLOUD


def test_a_server_that_starts_has_loaded_nothing_of_a_cloud(server: JupyterServer) -> None:
    assert loaded(server) == set()
    # Nor has one that a page was opened on and that runs a notebook here.
    assert server.rest("GET", "jupyter-dsvm/kernels")["kernels"] == []
    assert server.rest("GET", "jupyter-dsvm/operations")["operations"] == []
    kernel = server.rest("POST", "api/kernels", {"name": "python3"}, 201)
    assert [k["id"] for k in server.rest("GET", "jupyter-dsvm/kernels")["kernels"]] == [kernel["id"]]
    assert loaded(server) == set()


def test_the_look_itself_sees_azure_once_it_is_used(server: JupyterServer) -> None:
    """The list of computes is what a cloud's library is loaded for."""
    answer = server.rest("GET", "jupyter-dsvm/computes")
    assert "free" in json.dumps([c["id"] for c in answer["computes"]])
    assert "azure" in loaded(server)
