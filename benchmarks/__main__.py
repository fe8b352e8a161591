"""``python -m benchmarks``: measure, and write benchmarks/RESULTS.md and benchmarks/results.json.

A run of some groups only, or a quick one, goes to standard output unless ``--output`` says where to write it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from . import (
    browser,
    carry,
    hub_crowd,
    hub_memory,
    imports,
    launch,
    loss,
    memory,
    outputs,
    privacy,
    queued,
    report,
    roundtrip,
    sync,
    throughput,
)
from .bench import Bench
from .machines import machine, way

GROUPS = {
    "launch": launch,
    "roundtrip": roundtrip,
    "throughput": throughput,
    "queued": queued,
    "browser": browser,
    "memory": memory,
    "hub": hub_memory,
    "crowd": hub_crowd,
    "imports": imports,
    "privacy": privacy,
    "loss": loss,
    "sync": sync,
    "outputs": outputs,
    "carry": carry,
}

ROUND_TRIP = 0.04


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", default=",".join(GROUPS), help="groups of rows, separated by commas (%(default)s)")
    parser.add_argument("--repeats", type=int, help="how often the contenders take turns (5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--output", type=Path, help="the folder to write to (this one, for a whole run)")
    options = parser.parse_args(arguments)
    groups = [name.strip() for name in options.rows.split(",")]
    if unknown := set(groups) - set(GROUPS):
        parser.error(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    repeats = options.repeats or (1 if options.quick else 5)
    whole = set(groups) == set(GROUPS) and not options.quick
    output = options.output or (Path(__file__).parent if whole else None)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that whatever was started is ended
    about = report.environment(repeats, options.quick)
    with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with machine(folder / "vm") as vm, way(vm, "near") as near, way(vm, "far", ROUND_TRIP) as far:
            bench = Bench(folder, vm, near, far, repeats, options.quick)
            for group in groups:
                bench.results.declare(GROUPS[group].ROWS)
            for group in groups:
                bench.say(f"== {group}")
                GROUPS[group].measure(bench)
                if output is not None:
                    report.write(output, bench.results, about)
    print(report.markdown(bench.results, about))


if __name__ == "__main__":
    main()
