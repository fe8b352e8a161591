"""The table (Markdown) and all samples (JSON). Only what was measured has a number; what failed says why."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .contenders import OURS, PEER, PEERS
from .machines import ROOT
from .rows import Results, Row, Samples

PACKAGES = ("jupyter_client", "jupyter_server", "ipykernel", "pyzmq", "tornado", "paramiko")


def environment(repeats: int, quick: bool) -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    sshpyk = [p.name.split("-")[1] for p in (PEERS / "lib").glob("python*/site-packages/sshpyk-*.dist-info")]
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    versions = {name: metadata.version(name) for name in PACKAGES}
    versions |= {
        "Python": platform.python_version(),
        "sshpyk": sshpyk[0].removesuffix(".dist") if sshpyk else "not installed",
    }
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu.group(1) if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"Linux {platform.release()}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "versions": {**versions, "OpenSSH": ssh.partition(",")[0].removeprefix("OpenSSH_")},
        "revision": _revision(),
        "repeats": repeats,
        "quick": quick,
    }


def _revision() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    revision = git("rev-parse", "--short", "HEAD")
    if not revision:
        return "unknown"
    changed = git("status", "--porcelain", "--", "jupyter_dsvm", "benchmarks")
    return f"{revision}, with changes" if changed else revision


def markdown(results: Results, about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(about["versions"].items(), key=str))
    lines = [
        "# Benchmarks",
        "",
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['system']}; "
        f"load average at the start {about['load_average'][0]}. {versions}. jupyter-dsvm at {about['revision']}.",
        "",
        f"Medians of {about['repeats']} repeats in which the contenders took turns, with the smallest and the largest value. "
        "`make bench` measures all of it again. Machine and server are one computer, joined by loopback; "
        "40 ms are added by a TCP relay, half in each direction.",
        "",
    ]
    if about["quick"]:
        lines += ["**A quick run: small numbers, only to see that each row can be measured.**", ""]
    tables: dict[tuple[str, ...], list[Row]] = {}
    for row in results.rows:
        tables.setdefault(row.columns, []).append(row)
    for columns, rows in tables.items():
        names = [f"{name} {about['versions']['sshpyk']}" if name == PEER else name for name in columns]
        ratios = [f"÷ {name}" for name in columns if name != OURS]
        lines += ["| | " + " | ".join([*names, *ratios, "to reach", "reached"]) + " |"]
        lines += ["|---" * (1 + len(names) + len(ratios) + 2) + "|"]
        lines += [_line(results, row, about["quick"]) for row in rows]
        lines.append("")
    lines.pop()
    remarks = list(_remarks(results))
    if remarks:
        lines += ["", *remarks]
    return "\n".join(lines) + "\n"


def _line(results: Results, row: Row, quick: bool) -> str:
    samples, medians = results.samples[row.key], results.medians(row.key)
    cells = [row.title]
    cells += [_cell(row, samples.get(name)) for name in row.columns]
    cells += [_ratio(medians, name) for name in row.columns if name != OURS]
    reached = row.target.reached(medians) if row.target and not quick else None
    cells += [row.target.text if row.target else "", {True: "yes", False: "**no**", None: ""}[reached]]
    return "| " + " | ".join(cells) + " |"


def _cell(row: Row, samples: Samples | None) -> str:
    if samples is None:
        return ""
    if not samples.values:
        return "not available"
    unit = f" {row.unit}" if row.unit else ""
    median = samples.median
    assert median is not None
    text = f"{median:.{row.digits}f}{unit}"
    low, high = (f"{value:.{row.digits}f}" for value in (min(samples.values), max(samples.values)))
    return text if low == high else f"{text} ({low}–{high})"


def _ratio(medians: dict[str, float], other: str) -> str:
    if OURS not in medians or not medians.get(other):
        return ""
    return f"{medians[OURS] / medians[other]:.2f}"


def _remarks(results: Results) -> Sequence[str]:
    found = []
    for row in results.rows:
        for name in row.columns:
            samples = results.samples[row.key].get(name)
            if samples is None:
                continue
            said = list(samples.notes)
            if samples.missing:
                said.append(f"not {'always ' if samples.values else ''}available: {samples.missing}")
            found += [f"- {row.title}, {name}: {text}" for text in said]
    return found


def write(folder: Path, results: Results, about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text(markdown(results, about))
    rows = {
        row.key: {
            "title": row.title,
            "unit": row.unit,
            "target": row.target.text if row.target else None,
            "reached": row.target.reached(results.medians(row.key)) if row.target else None,
            "samples": {
                name: {"values": [float(f"{v:.5g}") for v in s.values], "missing": s.missing, "notes": s.notes}
                for name, s in results.samples[row.key].items()
            },
        }
        for row in results.rows
    }
    (folder / "results.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
