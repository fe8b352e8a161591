"""The computer of a hub with accounts: ``python hub_host.py FILE``, as root in a mount namespace of its own (``unshare --mount``).

FILE is JSON: ``accounts`` as ``[name, uid, home]``, ``reachable`` (folders that every account must be able to enter), ``command``
(what becomes of this process). The accounts are known in here only, and end with the namespace. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def closed_above(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other accounts may not enter."""
    return next((p for p in [*reversed(path.parents), path] if not p.stat().st_mode & 0o001), None)


def open_up(paths: list[Path]) -> None:
    """Lay an empty folder over each closed one, and in it what is needed of it, and nothing else."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        above = closed_above(path)
        if above is not None:
            closed.setdefault(above, []).append(path)
    for above, inside in closed.items():
        aside = Path(tempfile.mkdtemp())
        mount("-t", "tmpfs", "none", str(aside))
        kept = []
        for number, path in enumerate(inside):
            (aside / str(number)).mkdir()
            mount("--bind", str(path), str(aside / str(number)))
            kept.append((aside / str(number), path))
        mount("-t", "tmpfs", "-o", "mode=755", "none", str(above))
        for place, path in kept:
            path.mkdir(parents=True, exist_ok=True)
            mount("--bind", str(place), str(path))
        subprocess.run(["umount", "-R", str(aside)], check=True)
        aside.rmdir()


def accounts(rows: list[tuple[str, int, str]]) -> None:
    passwd = "".join(f"{name}:x:{uid}:{uid}:{name}:{home}:/bin/sh\n" for name, uid, home in rows)
    group = "".join(f"{name}:x:{uid}:\n" for name, uid, _ in rows)
    for file, lines in (("/etc/passwd", passwd), ("/etc/group", group)):
        with tempfile.NamedTemporaryFile("w") as made:
            made.write(Path(file).read_text() + lines)
            made.flush()
            os.chmod(made.name, 0o644)
            mount("--bind", made.name, file)


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    accounts([tuple(row) for row in given["accounts"]])
    open_up([Path(os.path.realpath(p)) for p in given["reachable"]])
    os.execv(given["command"][0], given["command"])


if __name__ == "__main__":
    main()
