"""What a spare runs: ipykernel's imports, then a wait until it is told which kernel to be. Run by the kernel's Python, as a file.

Its parent (``holder``) writes this file where the spare is parked. It imports nothing of the relay: the kernel's Python is
another. Descriptor 3 leads to the parent, a JSON object on a line each way:

* from here ``{"ready": true}``, once the imports are done;
* then, once, ``{"argv", "script", "cwd", "env", "log", "umask"}``: the whole command that an ordinary start would have run, where
  in it the script is, the variables that are this kernel's own (null: not set), the file for what it prints;
* from here ``{"taken": true}``, or ``{"refused": why}`` and the end.

After "taken" it runs the script that the command names, as Python would have. What Python had fixed at its own start is set right
before: arguments (also those that ``ps`` shows, whose length is therefore the same), ``sys.path[0]``, working folder, output.
Where a file that it has loaded has been replaced since (another ipykernel has been installed), it refuses.
"""

import importlib
import json
import os
import socket
import sys
import time
import types
from typing import Any, Dict, List, Tuple

CONTROL = 3

MODULES = (
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "faulthandler",
    "pdb",
    "runpy",
    "sqlite3",
    "tornado.gen",
    "tornado.platform.asyncio",
    "tornado.queues",
)
"""What ipykernel has loaded when it answers its first request (7.4), and nothing else; the rest comes along with these."""

LIMIT = 1024 * 1024
"""Bytes that the parent may say."""


def load() -> None:
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            if name == MODULES[0]:
                raise  # without that it is no kernel


def loaded_from() -> Dict[str, Any]:
    """What decides what a new Python would load: the loaded modules' files, and what else of their names lies on the path."""
    found = {}  # type: Dict[str, Any]
    modules = list(sys.modules.items())
    for name, module in modules:
        if name == "__main__":
            continue  # this file, whose folder is gone by then
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            found[path] = identity(path)
    for path in (os.path.realpath(sys.executable), os.path.join(sys.prefix, "pyvenv.cfg")):
        found[path] = identity(path)
    names = {name.partition(".")[0] for name, _ in modules}
    folders = [path for path in sys.path if path]
    site = sys.modules.get("site")
    if getattr(site, "ENABLE_USER_SITE", False):
        folders.append(str(getattr(site, "USER_SITE", "")))
    for folder in folders:
        try:
            entries = os.listdir(folder)
        except OSError:
            found[folder] = None
            continue
        found[folder] = sorted(e for e in entries if e.partition(".")[0] in names)
        for entry in entries:
            if entry.endswith(".pth"):
                path = os.path.join(folder, entry)
                found[path] = identity(path)
    return found


def identity(path: str) -> Any:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s.st_mtime_ns, s.st_size, s.st_ino


def show(argv: List[str], env: Dict[str, Any]) -> None:
    """Let ``ps`` show these arguments, and ``/proc/<pid>/environ`` these variables where their values are as long as before.

    ``OSError`` where that cannot be: then this is no spare for that command.
    """
    with open("/proc/self/stat", "rb") as f:
        fields = f.read().rpartition(b")")[2].split()
    arguments, arguments_end, variables, variables_end = (int(field) for field in fields[45:49])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(arguments)
        shown = memory.read(arguments_end - arguments)
        # The program keeps its name: where it was a wrapper's, as pyenv has them, an ordinary start would show what it ran.
        wanted = b"\0".join([shown.partition(b"\0")[0], *map(os.fsencode, argv[1:]), b""])
        if len(wanted) != len(shown):
            raise OSError("the arguments are of another length")
        memory.seek(arguments)
        memory.write(wanted)
        memory.seek(variables)
        at = variables
        for entry in memory.read(variables_end - variables).split(b"\0"):
            name = os.fsdecode(entry.partition(b"=")[0])
            new = b"%s=%s" % (os.fsencode(name), os.fsencode(env.get(name) or ""))
            if env.get(name) is not None and len(new) == len(entry):
                memory.seek(at)
                memory.write(new)
            at += len(entry) + 1


def wait(control: socket.socket) -> Dict[str, Any]:
    said = b""
    while not said.endswith(b"\n"):
        piece = control.recv(65536)
        if not piece or len(said) > LIMIT:
            os._exit(0)  # nobody wants it
        said += piece
    value = json.loads(said.decode("ascii"))
    assert isinstance(value, dict)
    return value


def say(control: socket.socket, **value: Any) -> None:
    control.sendall(json.dumps(value).encode("ascii") + b"\n")


def become(kernel: Dict[str, Any]) -> Tuple[types.CodeType, Dict[str, Any]]:
    """Be the process that an ordinary start would have made; the script to run, and the namespace for it."""
    argv, at = kernel["argv"], kernel["script"]
    script = argv[at]
    with open(script, "rb") as f:
        code = compile(f.read(), script, "exec", dont_inherit=True)
    show(argv, kernel["env"])
    for name, value in kernel["env"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.umask(kernel["umask"])
    os.chdir(kernel["cwd"])
    time.tzset()
    sys.argv[:] = argv[at:]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = argv
    if script_folder:
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    importlib.invalidate_caches()
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=__builtins__, __annotations__={}, __cached__=None)
    main.__loader__ = __loader__  # type: ignore[name-defined]
    sys.modules["__main__"] = main
    log = os.open(kernel["log"], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return code, main.__dict__


def park() -> Tuple[types.CodeType, Dict[str, Any]]:
    with socket.socket(fileno=CONTROL) as control:
        load()
        with open("/proc/self/cmdline", "rb") as f:
            show([os.fsdecode(arg) for arg in f.read().split(b"\0")[:-1]], {})  # where that is not allowed, better now
        before = loaded_from()
        say(control, ready=True)
        kernel = wait(control)
        try:
            if loaded_from() != before:
                raise OSError("what it has loaded has been replaced since")
            script = become(kernel)
        except Exception as e:
            say(control, refused=f"{type(e).__name__}: {e}")
            os._exit(0)
        say(control, taken=True)
        return script


if __name__ == "__main__":
    # Neither the folder of this file nor any working folder, as with ipykernel_launcher.
    script_folder = bool(sys.path) and sys.path[0] == os.path.dirname(os.path.realpath(__file__))
    if script_folder:
        del sys.path[0]
    exec(*park())  # noqa: S102 (the kernel's own start script)
