"""Run by a kernel's own Python on a VM (``environments``): whether its libraries can use the GPU there. Nothing of this package is
there.

Stdin, one line of JSON each: names of libraries, the environment variables of the kernelspec, and a mark. Stdout, after that mark:
one JSON object: ``driver``, the version that nvidia-smi says, or "" where there is none or it fails, and null where it does not
answer; and ``builds``, for each library that is there and of which it can be told, ``["cuda", "cpu" or "bare", its version]``.
``bare`` is a build for CUDA whose CUDA libraries are not there: TensorFlow's wheel goes on with the CPU then.
No library is imported: that takes seconds and memory. Each says in a file or in its metadata what it was built for.
It runs on Python 3.8 with the standard library, as ``python -c`` of a line that reads this text.
"""

from __future__ import annotations

import sys

# The working directory's own files must not take the place of what is imported here.
path = list(sys.path)
sys.path[:] = [p for p in path if p]

import ast  # noqa: E402
import glob  # noqa: E402
import importlib.metadata  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
from typing import Any  # noqa: E402

DRIVER_SECONDS = 10.0
MOST_BYTES = 1024 * 1024
PLACES = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib", "/opt/bin")


def driver() -> str | None:
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    program = shutil.which("nvidia-smi", path=search)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--query-gpu=driver_version", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DRIVER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError:
        return ""
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    return lines[0].strip() if done.returncode == 0 else ""


def values_in(module: str, file: str) -> dict[Any, Any] | None:
    """What a library's own file gives names and keys, as far as it is written out; None where there is no such file."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        return None
    file = os.path.join(os.path.dirname(spec.origin), file)
    if not os.path.isfile(file) or os.path.getsize(file) > MOST_BYTES:
        return None
    with open(file, encoding="utf-8", errors="replace") as f:
        tree = ast.parse(f.read())
    found: dict[Any, Any] = {}
    for node in ast.walk(tree):
        pairs: list[tuple[Any, Any]] = []
        if isinstance(node, ast.Assign):
            pairs = [(t.id, node.value) for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs = [(node.target.id, node.value)]
        elif isinstance(node, ast.Dict):
            both = zip(node.keys, node.values)  # noqa: B905 (Python 3.8 has no strict)
            pairs = [(k.value, v) for k, v in both if isinstance(k, ast.Constant)]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
            pairs = [(node.elts[0].value, node.elts[1])]
        for name, value in pairs:
            if isinstance(value, ast.Constant):
                found[name] = value.value
    return found


def has_cudnn(installed: dict[str, str]) -> bool:
    """As a wheel of its own, in the environment, where the system's loader looks, or where CUDA itself was installed."""
    if any(name.startswith("nvidia-cudnn-cu") for name in installed):
        return True
    folders = [os.path.join(sys.prefix, "lib"), "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/opt/conda/lib"]
    folders += glob.glob("/usr/local/cuda*/lib64") + glob.glob("/usr/local/cuda*/targets/*/lib")
    for paths in (os.environ.get("LD_LIBRARY_PATH"), variables.get("LD_LIBRARY_PATH")):
        folders += [p for p in str(paths or "").split(os.pathsep) if p]
    if any(glob.glob(os.path.join(glob.escape(folder), "libcudnn.so*")) for folder in folders):
        return True
    program = shutil.which("ldconfig", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/sbin", "/usr/sbin"]))
    if program is None:
        return True  # nobody knows
    done = subprocess.run(
        [program, "-p"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=DRIVER_SECONDS,
        check=False,
    )
    return done.returncode != 0 or b"libcudnn.so" in done.stdout


def packages() -> dict[str, str]:
    """Name to version of what is installed."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
    return found


def torch(installed: dict[str, str]) -> list[str] | None:
    said = values_in("torch", "version.py")
    if said is None or "cuda" not in said:
        return None
    built = "cuda" if said["cuda"] or said.get("hip") else "cpu"
    return [built, str(said.get("__version__") or installed.get("torch", ""))]


def tensorflow(installed: dict[str, str]) -> list[str] | None:
    only = installed.get("tensorflow-cpu") or installed.get("intel-tensorflow")
    if only and "tensorflow" not in installed:
        return ["cpu", only]
    said = values_in("tensorflow", os.path.join("python", "platform", "build_info.py"))
    if said is None or "is_cuda_build" not in said:
        return None
    built = "cuda" if said["is_cuda_build"] or said.get("is_rocm_build") else "cpu"
    if said["is_cuda_build"] and not has_cudnn(installed):
        built = "bare"
    return [built, installed.get("tensorflow", "")]


def jax(installed: dict[str, str]) -> list[str] | None:
    if "jaxlib" not in installed:
        return None
    plugins = any(n.startswith(("jax-cuda", "jax-rocm")) and n.endswith("-plugin") for n in installed)
    built = "cuda" if plugins or "cuda" in installed["jaxlib"] else "cpu"
    return [built, installed["jaxlib"]]


def xgboost(installed: dict[str, str]) -> list[str] | None:
    only = installed.get("xgboost-cpu")
    return ["cpu", only] if only and "xgboost" not in installed else None


KNOWN = {"torch": torch, "tensorflow": tensorflow, "jax": jax, "xgboost": xgboost}

names = json.loads(sys.stdin.readline())
variables = json.loads(sys.stdin.readline())
mark = json.loads(sys.stdin.readline())
sys.path[:0] = [p for p in str(variables.get("PYTHONPATH") or "").split(os.pathsep) if p]

builds = {}
try:
    installed = packages()
except Exception:  # somebody's broken metadata
    installed = {}
for name in names:
    try:
        built = KNOWN[name](installed)
    except Exception:  # noqa: S112 (nothing is said of it, which counts as unknown)
        continue
    if built is not None:
        builds[name] = built
sys.stdout.write(mark + json.dumps({"driver": driver(), "builds": builds}) + "\n")
