"""The layers of the house, read from the imports: upward only, and nothing heavy where a server or a kernel starts."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jupyter_dsvm

ROOT = Path(jupyter_dsvm.__file__).parent

LAYERS: list[tuple[int, list[str]]] = [
    (0, ["errors", "models", "relay", "sync.entries", "sync.names", "sync.base", "sync.plan", "sync.halts"]),
    (0, ["variables"]),
    (0, ["sync.told", "sync.ordering", "sync.reconcile", "sync.ignore", "sync.arrivals"]),
    (1, ["compute", "ssh", "ownfolder"]),
    (2, ["kernels", "sync"]),
    (
        3,
        [
            "kernels.provisioner",
            "operations",
            "tables",
            "richtext",
            "verbs",
            "filewords",
            "livesteps",
            "allowance",
            "settings",
            "kerneldeaths",
        ],
    ),
    (3, ["libraries", "datafiles", "notebookfacts", "advice", "gpufallback"]),
    (3, ["savedoutputs"]),
    (3, ["modules", "lastran", "idlepolicy", "idlereadings", "idlewords", "temporarydisk"]),
    (3, ["spending_rules", "budgets", "spendledger", "spendwords"]),
    (4, ["idlestops", "idlewatch", "idleasking", "idlesettings", "safetystops", "idle_calls"]),
    (4, ["computes", "denials", "connections", "booting", "accounts", "settling", "metrics"]),
    (4, ["arrivals", "moves", "returns"]),
    (3, ["kernelvariables"]),
    (
        4,
        [
            "carry_calls",
            "carrying",
            "carryends",
            "carryjob",
            "carrypermits",
            "carrywords",
            "savedvariables",
            "savingvariables",
        ],
    ),
    (4, ["spending"]),
    (4, ["changes", "keptchanges", "resuming", "elsewhere", "resizes", "creations", "access"]),
    (4, ["environments", "notebooks", "advising", "workspaces", "space", "travelling", "trips", "keptplaces"]),
    (4, ["notebookfolders", "duesyncs"]),
    (
        4,
        [
            "service",
            "inventory",
            "revisions",
            "machines",
            "calls",
            "statuswords",
            "terminals",
            "offers",
            "questions",
            "completion",
            "filewords",
        ],
    ),
    (5, ["routes", "handlers", "workspace_routes", "outputs_routes", "variables_routes", "websocket", "frames"]),
    (5, ["cli", "access_command", "signin_command", "create_command", "remote_access", "remote_accounts"]),
    (
        5,
        ["demo", "doctor", "install", "advise_command", "idle_command", "idle_routes", "spend_command", "spend_routes"],
    ),
    (5, ["hub", "hub_command"]),
    (6, ["activity", "adoption", "extension", "heap", "outputsaver", "sharedrooms"]),
]
"""A module belongs to the longest name here that is its own or its package's. Within a layer modules may import each other."""

OUTSIDE = {"", "__main__", "emulator"}
"""The package itself, which imports only when asked; ``python -m``; and the stand-in for Azure, used by cli.py only."""


def layer_of(module: str) -> int | None:
    best = max(
        ((len(name), layer) for layer, names in LAYERS for name in names if (module + ".").startswith(name + ".")),
        default=None,
    )
    return best[1] if best else None


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports_of(name: str, path: Path, *, typing: bool) -> set[str]:
    """Modules of this package (without its name) that ``path`` imports anywhere, also inside functions; those under
    ``if TYPE_CHECKING`` only with ``typing``."""
    tree = tree_of(path)
    skipped = set()
    if not typing:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                skipped |= {id(n) for child in node.body for n in ast.walk(child)}
    known = modules()
    package = name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        targets = []
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                targets = [".".join([*base, *(node.module or "").split(".")]).strip(".")]
            elif (node.module or "").split(".")[0] == "jupyter_dsvm":
                targets = [node.module[len("jupyter_dsvm") :].strip(".")]
            # ``from . import loader`` imports a module, ``from .loader import x`` a name of one.
            targets = [
                f"{t}.{a.name}".strip(".") if f"{t}.{a.name}".strip(".") in known else t
                for t in targets
                for a in node.names
            ]
        elif isinstance(node, ast.Import):
            targets = [a.name[len("jupyter_dsvm.") :] for a in node.names if a.name.startswith("jupyter_dsvm.")]
        found |= set(targets)
    return found - {name}


def test_every_module_has_a_layer():
    for name in modules():
        if name.split(".")[0] not in OUTSIDE:
            assert layer_of(name) is not None, f"{name} is in no layer"


def test_imports_point_upward_only():
    for name, path in modules().items():
        if name.split(".")[0] in OUTSIDE:
            continue
        own = layer_of(name)
        for target in imports_of(name, path, typing=False):
            if target in ("", "emulator") or target.startswith("emulator."):
                continue
            other = layer_of(target)
            assert other is not None, f"{name} imports {target}, which is in no layer"
            assert own is not None
            assert other <= own, f"{name} (layer {own}) imports {target} (layer {other})"


def test_only_the_command_line_imports_the_emulator():
    users = {
        name
        for name, path in modules().items()
        if not name.startswith("emulator")
        and any(t == "emulator" or t.startswith("emulator.") for t in imports_of(name, path, typing=True))
    }
    assert users <= {"cli"}


def test_the_relay_knows_nobody():
    for name, path in modules().items():
        if name.startswith("relay"):
            assert {t for t in imports_of(name, path, typing=True) if not t.startswith("relay")} == set(), name


def test_there_are_no_utils():
    assert not [n for n in modules() if n.split(".")[-1] in ("utils", "util", "helpers", "common", "misc")]


def loaded_by(statement: str, before: str = "") -> set[str]:
    """Top-level packages that a fresh Python has after ``statement`` and had not after ``before``."""
    code = f"""
import json, sys
{before}
already = set(sys.modules)
{statement}
print(json.dumps(sorted({{m.partition('.')[0] for m in set(sys.modules) - already}})))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(shown.stdout))


def test_the_provisioner_imports_the_standard_library_pyzmq_and_jupyter_client():
    extra = loaded_by(
        "import jupyter_dsvm.kernels.provisioner",
        "import zmq, zmq.utils.monitor, jupyter_client, jupyter_client.provisioning.local_provisioner, jupyter_client.session",
    )
    assert {m for m in extra if m not in sys.stdlib_module_names} == {"jupyter_dsvm"}


@pytest.mark.parametrize("module", ["jupyter_dsvm.extension", "jupyter_dsvm.routes", "jupyter_dsvm.service"])
def test_a_server_that_starts_loads_nothing_of_a_cloud(module: str):
    extra = loaded_by(f"import {module}", "import jupyter_server.serverapp, jupyter_server.extension.application")
    assert not extra & {"azure", "msal", "paramiko", "cryptography", "asyncssh", "requests"}
    assert {m for m in extra if m not in sys.stdlib_module_names} <= {"jupyter_dsvm", "jupyter_server"}


def test_a_connection_loads_paramiko_alone():
    extra = loaded_by("import jupyter_dsvm.ssh.connection, jupyter_dsvm.ssh.transport")
    assert "paramiko" in extra
    assert not extra & {"invoke", "unittest"}
    # So whoever uses it has to get it from there.
    first = {"ssh.library", "ssh.packets"}
    for name, path in modules().items():
        if name not in first and not name.startswith("emulator"):
            assert "paramiko" not in {target.partition(".")[0] for target in foreign(path)}, name


def test_a_server_that_nobody_asks_loads_nothing_that_judges_notebooks():
    statement = "import jupyter_dsvm.extension, jupyter_dsvm.routes"
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    late = {f"jupyter_dsvm.{name}" for name in ("advice", "libraries", "notebookfacts", "datafiles", "gpufallback")}
    assert not late & set(json.loads(shown.stdout))


def foreign(path: Path) -> set[str]:
    """Modules of others that ``path`` imports at run time, also inside functions."""
    tree = tree_of(path)
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(n) for block in typing for child in block.body for n in ast.walk(child)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return found


def test_a_kernel_that_imports_the_package_gets_no_server():
    assert loaded_by("import jupyter_dsvm") <= {"jupyter_dsvm", *sys.stdlib_module_names}
