"""The kernels that this machine offers. Run by the attach pipe in a process of its own, since it may import and search.

Where jupyter_client would look, asked of jupyter_core where the running Python has it, since that knows the machine's own
ways; and in any case where kernelspecs lie by convention, those of the ``jupyter`` on PATH included: the loader's Python need
not be the one that people install kernels for. (jupyter_client itself takes eight times as long to import, and an attach waits.)
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, Dict, Iterator, List, Optional

MAX_SPEC = 256 * 1024
MAX_SPECS = 200


def list_kernelspecs() -> List[Dict[str, Any]]:
    """One entry for each name: name, argv, display_name, language, env, interrupt_mode, resource_dir, metadata.

    ``argv[0]`` is a program that exists: a bare ``python`` becomes the Python that the kernelspec belongs to, and a
    kernelspec whose program is not there is left out. ``{connection_file}`` and ``{resource_dir}`` are still in argv.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for name, folder in _folders():
        if name in found or len(found) >= MAX_SPECS:
            continue
        spec = read_kernelspec(name, folder)
        if spec is not None:
            found[name] = spec
    return [found[name] for name in sorted(found)]


def read_kernelspec(name: str, folder: str) -> Optional[Dict[str, Any]]:
    """The kernelspec in ``folder``; None where there is none that could be started."""
    try:
        with open(os.path.join(folder, "kernel.json"), encoding="utf-8") as f:
            value = json.loads(f.read(MAX_SPEC))
        argv = [str(a) for a in value["argv"]]
        env = {str(k): str(v) for k, v in (value.get("env") or {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    program = _program(argv[0], folder) if argv else None
    if program is None:
        return None
    metadata = value.get("metadata")
    return {
        "name": name,
        "argv": [program, *argv[1:]],
        "display_name": str(value.get("display_name") or name),
        "language": str(value.get("language") or ""),
        "env": env,
        "interrupt_mode": "message" if value.get("interrupt_mode") == "message" else "signal",
        "resource_dir": folder,
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _folders() -> Iterator[tuple[str, str]]:
    """(name, folder), what comes first counts."""
    for parent in dict.fromkeys(_parents()):
        try:
            names = sorted(os.listdir(parent))
        except OSError:
            continue
        for name in names:
            yield name.lower(), os.path.join(parent, name)


def _parents() -> Iterator[str]:
    """Jupyter's data paths, as in jupyter_core.paths: this user's first, then each environment's, then the system's."""
    try:
        from jupyter_core.paths import jupyter_path

        yield from jupyter_path("kernels")
    except Exception:  # noqa: S110 (an incomplete Jupyter in the loader's Python; what follows does without)
        pass
    yield os.path.join(os.path.expanduser(os.environ.get("IPYTHONDIR") or "~/.ipython"), "kernels")
    for folder in os.environ.get("JUPYTER_PATH", "").split(os.pathsep):
        if folder:
            yield os.path.join(folder, "kernels")
    data = os.environ.get("JUPYTER_DATA_DIR") or os.path.join(
        os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "jupyter"
    )
    yield os.path.join(data, "kernels")
    for prefix in [sys.prefix, *_prefix_of_jupyter(), "/usr/local", "/usr"]:
        yield os.path.join(prefix, "share", "jupyter", "kernels")


def _prefix_of_jupyter() -> Iterator[str]:
    """The environment of the ``jupyter`` on PATH, by its place and, where that is a link, by where it leads."""
    path = shutil.which("jupyter")
    if path is not None:
        for program in dict.fromkeys((path, os.path.realpath(path))):
            yield os.path.dirname(os.path.dirname(program))


def _program(program: str, folder: str) -> Optional[str]:
    """``argv[0]`` as a path; None where there is no such program."""
    if os.path.basename(program) == program and program.startswith("python"):
        # <prefix>/share/jupyter/kernels/<name> belongs to the Python of <prefix>; a user's own kernelspec to ours.
        prefix = os.path.normpath(os.path.join(folder, "..", "..", "..", ".."))
        beside = [os.path.join(prefix, "bin", name) for name in (program, "python3", "python")]
        owner = next((p for p in beside if os.access(p, os.X_OK)), None)
        under_prefix = os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(folder)))) == "share"
        return owner if owner is not None and under_prefix else sys.executable
    if os.path.isabs(program):
        return program if os.access(program, os.X_OK) and os.path.isfile(program) else None
    return shutil.which(program)


def main() -> None:
    """Print them as one line of JSON."""
    sys.stdout.write(json.dumps(list_kernelspecs()) + "\n")


if __name__ == "__main__":
    main()
