"""Azure's own specification as the judge of what the emulator said: ``../shared/tools/arm-judge`` over a traffic file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

JUDGE = Path(__file__).resolve().parents[3] / "shared/tools/arm-judge/judge.cjs"

# This copy of the specification calls vmSize read only; Azure documents the PATCH that changes it.
KNOWN = "request: READONLY_PROPERTY_NOT_ALLOWED_IN_REQUEST /properties/hardwareProfile/vmSize"


def assert_fits(traffic: Path, at_least: int) -> None:
    """Every exchange fits, and that many were judged. Skips the test where the judge, node or oav is not there."""
    modules = os.environ.get("OAV_NODE_MODULES", "")
    node = shutil.which("node")
    if not JUDGE.exists() or not node or not Path(modules, "oav").is_dir():
        pytest.skip("needs ../shared/tools/arm-judge, node, and oav in the folder named by OAV_NODE_MODULES")
    done = subprocess.run(
        [node, str(JUDGE), str(traffic)],
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=110,
    )
    complaints = [line for line in done.stdout.splitlines() if line.startswith("  ") and KNOWN not in line]
    assert not complaints, done.stdout
    judged = re.search(r"(\d+) judged", done.stdout)
    assert judged is not None, done.stderr
    assert int(judged[1]) >= at_least
