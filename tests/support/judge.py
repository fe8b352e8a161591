"""Azure's own specification as the judge of what emulator and production code said to each other.

Every emulator that a test starts writes its traffic. ``kept`` (for conftest, around a whole run) gathers it in the folder
that ``DSVM_TESTS_TRAFFIC`` names, without what was said twice; ``make`` then runs this file over it::

    python tests/support/judge.py --modules NODE_MODULES [--whole] FOLDER...

``../shared/tools/arm-judge`` is the judge, with Azure's validator ``oav`` out of ``NODE_MODULES`` (``tests/judge/``).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

JUDGE = Path(__file__).resolve().parents[3] / "shared/tools/arm-judge/judge.cjs"

FOLDER = "DSVM_TESTS_TRAFFIC"
"""The environment variable that names where traffic is gathered; without it none is."""

PASSED_OVER = (
    re.compile(r"request: READONLY_PROPERTY_NOT_ALLOWED_IN_REQUEST /properties/hardwareProfile/vmSize "),
    re.compile(r"OBJECT_ADDITIONAL_PROPERTIES \S*/properties/storageProfile/diskControllerType "),
)
"""The only complaints that are passed over, for the judge's copy of the specification is wrong or too old there.

The copy is oav's test data, and in that somebody has put ``"readOnly": true`` at ``HardwareProfile.vmSize``. Azure's published
specification of that very version has no such line (azure-rest-api-specs at 87bc40c1: ComputeRP/stable/2021-11-01/compute.json);
by the copy no VM could ever be given a size, while the real recordings send ``vmSize`` in a PUT and are answered 201.

``diskControllerType`` came into ``StorageProfile`` after 2021-11-01; the versions that we ask for have it."""

EXPECTED = {
    "GET virtualMachines",
    "GET virtualMachines/VM",
    "GET virtualMachines/VM/instanceView",
    "GET virtualMachines/VM/vmSizes",
    "PATCH virtualMachines/VM",
    "POST virtualMachines/VM/start",
    "POST virtualMachines/VM/deallocate",
    "POST virtualMachines/VM/powerOff",
    "POST virtualMachines/VM/restart",
}
"""What a whole run has said at the least; otherwise traffic was lost on the way and there is no verdict."""

LIMIT = 300.0
"""Seconds for the judge; it takes about one, and two milliseconds for an exchange."""

_VOLATILE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # ids
    r"|[0-9a-f]{32,}"  # a disk's name has the VM's id in it
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(?:Z|[+-]\d\d:\d\d)"  # times
    r"|127\.\d+\.\d+\.\d+(?::\d+)?",  # addresses
    re.IGNORECASE,
)
_KIND = re.compile(r"/microsoft\.compute/(virtualmachines)(?:/[^/]+)?(/[^/?]+)?", re.IGNORECASE)

Json = dict[str, Any]


class NoVerdict(Exception):
    """The judge could not judge; the message says why."""


def sameness(exchange: Json) -> str:
    """Equal for exchanges that the judge cannot tell apart: only their ids, times and addresses differ."""
    request, response = exchange["request"], exchange["response"]
    headers = {name.lower(): value for name, value in (response.get("headers") or {}).items()}
    what = [request["method"], request["url"], request.get("body"), response["status"], response.get("body")]
    what += [sorted(headers), headers.get("content-type")]
    return hashlib.sha256(_VOLATILE.sub("*", json.dumps(what)).encode()).hexdigest()


def different(exchanges: Iterable[Json]) -> list[Json]:
    """The first of each kind of ``sameness``."""
    found: dict[str, Json] = {}
    for exchange in exchanges:
        found.setdefault(sameness(exchange), exchange)
    return list(found.values())


def kind(exchange: Json) -> str | None:
    """As in ``EXPECTED``; None for what the judge passes over."""
    request = exchange["request"]
    match = _KIND.search(request["url"].partition("?")[0])
    if match is None:
        return None
    one = request["url"].partition("?")[0][match.start(1) :].count("/") > 0
    return f"{request['method']} virtualMachines" + ("/VM" if one else "") + (match[2] or "")


def read(file: Path) -> list[Json]:
    """The exchanges in a traffic file; the last line may be cut off where its emulator was killed."""
    lines = file.read_text("utf-8").split("\n") if file.exists() else [""]
    return [json.loads(line) for line in lines[:-1] if line]


def keep(traffic: Path, folder: Path) -> None:
    """Copy a traffic file's different exchanges to ``folder``, for this emulator alone."""
    exchanges = different(read(traffic))
    if exchanges:
        descriptor, _ = tempfile.mkstemp(suffix=".jsonl", dir=folder)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(exchange) + "\n" for exchange in exchanges)


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[None]:
    """Meanwhile the traffic of every emulator is gathered in ``folder`` when the emulator has ended."""
    if folder is None:
        yield
        return
    from jupyter_dsvm.emulator import Emulator

    stop = Emulator.stop

    def stop_and_keep(emulator: Emulator) -> None:
        stop(emulator)
        keep(emulator.traffic_file, folder)

    folder.mkdir(parents=True, exist_ok=True)
    Emulator.stop = stop_and_keep  # type: ignore[method-assign]
    try:
        yield
    finally:
        Emulator.stop = stop  # type: ignore[method-assign]


def verdict(exchanges: Iterable[Json], modules: Path) -> tuple[int, list[str]]:
    """How many exchanges were judged, and the complaints: ``METHOD path -> status: complaint``.

    Raises ``NoVerdict``.
    """
    node = shutil.which("node")
    if node is None or not (modules / "oav").is_dir():
        raise NoVerdict(f"Node.js or oav is missing (looked for oav in {modules}).")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "traffic.jsonl")
        file.write_text("".join(json.dumps(exchange) + "\n" for exchange in exchanges), encoding="utf-8")
        environment = {**os.environ, "NODE_PATH": str(modules)}
        command = [node, str(JUDGE), str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    judged = re.search(r"^(\d+) judged", done.stdout, re.MULTILINE)
    if judged is None or done.returncode not in (0, 1):
        raise NoVerdict(f"The judge failed: {done.stdout}{done.stderr}")
    complaints, about = [], ""
    for line in done.stdout.splitlines():
        if not line.startswith("  "):
            about = line
        elif not any(known.search(line) for known in PASSED_OVER):
            complaints.append(f"{about}: {line.strip()}")
    return int(judged[1]), complaints


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 when nothing was found, or where there is no judge."""
    parse = argparse.ArgumentParser(description="Let Azure's specification judge the traffic of a test run.")
    parse.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="where traffic was gathered")
    parse.add_argument("--modules", type=Path, required=True, help="the node_modules with oav")
    parse.add_argument("--whole", action="store_true", help="all tests have run: what is expected must be there")
    asked = parse.parse_args(arguments)
    if not JUDGE.exists():
        sys.stdout.write(f"   (skipped: there is no judge at {JUDGE})\n")
        return 0
    files = [file for folder in asked.folders for file in sorted(folder.glob("*.jsonl"))]
    exchanges = different(exchange for file in files for exchange in read(file))
    kinds = Counter(filter(None, map(kind, exchanges)))
    missing = EXPECTED - set(kinds)
    if asked.whole and missing:
        sys.stderr.write(f"Traffic was lost: nothing of {', '.join(sorted(missing))} in {len(files)} files.\n")
        return 1
    if not kinds:
        sys.stdout.write("   (nothing to judge: no test has asked for a virtual machine)\n")
        return 0
    try:
        judged, complaints = verdict(exchanges, asked.modules)
    except (NoVerdict, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for complaint, times in Counter(complaints).most_common():
        sys.stderr.write(f"{complaint}{f' ({times} times)' if times > 1 else ''}\n")
    sys.stdout.write(
        f"   {judged} of {len(exchanges)} different exchanges of {len(files)} emulators judged, "
        f"{len(complaints)} complaints\n"
    )
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
