"""Run by a kernel's own Python on a VM (``environments``): which of some modules it would find. Nothing of this package is there.

Stdin, one line of JSON each: the names of the modules, the environment variables of the kernelspec, and a mark. Stdout, after that
mark: one JSON object, name to whether it is there. Finders are asked for top-level names only, which imports nothing of the user's.
It runs on Python 3.8 with the standard library, as ``python -c`` of a line that reads this text.
"""

import sys

# The working directory's own files must not take the place of what is imported here; the kernel does look there.
path = list(sys.path)
sys.path[:] = [p for p in path if p]

import importlib.machinery  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402

names = json.loads(sys.stdin.readline())
variables = json.loads(sys.stdin.readline())
mark = json.loads(sys.stdin.readline())
added = [p for p in str(variables.get("PYTHONPATH") or "").split(os.pathsep) if p]
sys.path[:] = ["", *added, *(p for p in path if p)]

found = {}
for name in names:
    try:
        spec = importlib.util.find_spec(name)
        # A folder without Python in it is a namespace to the import system, and a folder of data to everybody else.
        found[name] = spec is not None and (
            spec.origin is not None
            or any(
                n.endswith((".py", ".so")) or os.path.isdir(os.path.join(p, n))
                for p in (spec.submodule_search_locations or ())
                for n in os.listdir(p)
            )
        )
    except Exception:  # noqa: S112 (nothing is said of it, which counts as unknown)
        continue
sys.stdout.write(mark + json.dumps(found) + "\n")
