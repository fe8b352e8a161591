"""A spare: a kernel made of one is as one that was started, it is never in the way, and nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.relay.process import start_time
from jupyter_dsvm.relay.wire import Type
from support.emulated import attached, configured, emulator, ours
from support.kernels import Notebook
from support.on_vm import kernel_pids
from support.relay_end import KernelEnd, Machine, PipeEnd, machine, until
from support.relay_vm import IPYKERNEL, PATIENCE, ready, say, shut_down, started, way

__all__ = ["configured", "emulator", "way"]

HASTE = "from relay import runner, spare; runner.SETTLE = spare.SETTLE = 0.3; spare.LOOK_INTERVAL = 0.2; runner.SPARE_LIMIT = 3"
"""In the pipe, and so in its relays: nobody works with these kernels."""


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with which ipykernel does not read the descriptors 1 and 2
    with tempfile.TemporaryDirectory(prefix="vm", dir="/tmp") as folder, machine(Path(folder), before=HASTE) as it:
        yield it


def start(way: PipeEnd, argv: list[str] = IPYKERNEL, *, spare: bool = True, **more: Any) -> KernelEnd:
    kernel = started(way, argv, spare=spare, **more)
    assert kernel.happened(Type.STARTED), kernel.told
    return kernel


def of_spare(kernel: KernelEnd) -> bool:
    return bool(kernel.happened(Type.STARTED)[-1]["spare"])


def pid(kernel: KernelEnd) -> int:
    return int(kernel.happened(Type.STARTED)[-1]["pid"])


def spares(vm: Machine) -> Path:
    return vm.home / ".local/share/jupyter-dsvm/spares"


def waiting(way: PipeEnd, vm: Machine) -> dict[str, Any]:
    """What is parked, once it is: the record of the spare, and where."""
    found: dict[str, Any] = {}

    def parked() -> bool:
        for record in spares(vm).glob("*/spare.json"):
            value = json.loads(record.read_text() or "{}")
            if value:
                found.update(value, folder=record.parent)
        return bool(found)

    way.wait(parked, PATIENCE, "no spare was made")
    return found


PROBE = """
import ctypes, json, os, resource, signal, stat, sys, threading, time, locale, random, gc, warnings, logging
import __main__
def status(name):
    return [l.split(None, 1)[1].strip() for l in open('/proc/self/status') if l.startswith(name + ':')][0]
deathsig = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(deathsig), 0, 0, 0)
def links():
    found = {}
    for fd in os.listdir('/proc/self/fd'):
        try:
            target = os.readlink('/proc/self/fd/' + fd)
        except OSError:
            continue
        if '/.ipython/' not in target:
            found[fd] = target.partition(':')[0] if ':' in target else target
    return found
def environ():
    return sorted(e for e in open('/proc/self/environ', 'rb').read().decode().split(chr(0)))
os.write(1, b'said at the descriptor\\n')
print(json.dumps({
    'argv': sys.argv, 'orig_argv': sys.orig_argv, 'path': sys.path, 'flags': repr(sys.flags),
    'cmdline': open('/proc/self/cmdline').read(), 'comm': open('/proc/self/comm').read(),
    'modules': sorted(m for m in sys.modules if not m.startswith('_pytest')),
    'environ': dict(os.environ), 'proc environ': environ(), 'cwd': os.getcwd(), 'umask': status('Umask'),
    'descriptors': sorted(set(links().values())), 'first of its own': links()['3'],
    'stdin': os.readlink('/proc/self/fd/0'), 'input': sys.__stdin__.read(), 'blocked': status('SigBlk'),
    'seekable': [sys.__stdin__.seekable(), sys.__stdout__.seekable()],
    'modes': [stat.S_IFMT(os.fstat(n).st_mode) for n in (0, 1, 2)],
    'ignored': status('SigIgn'), 'caught': status('SigCgt'),
    'handlers': [repr(signal.getsignal(s)).split(' at ')[0] for s in (1, 2, 13, 15)],
    'group': os.getpgrp() == os.getpid(), 'session': os.getsid(0) == os.getpid(),
    'tty': open('/proc/self/stat').read().rpartition(')')[2].split()[4],
    'death signal': deathsig.value, 'nice': os.nice(0), 'oom': open('/proc/self/oom_score_adj').read(),
    'limits': [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith('RLIMIT_')],
    'main': sorted(n for n in vars(__main__) if not n[2:].isdigit()),
    'main name': __main__.__name__, 'main file': getattr(__main__, '__file__', None),
    'sys main': sys.modules['__main__'].__name__,
    'threads': sorted(t.name.rpartition(' ')[2] for t in threading.enumerate()), 'zone': time.tzname, 'locale': locale.getlocale(),
    'encodings': [sys.getfilesystemencoding(), sys.stdout.encoding, sys.__stdout__.encoding, sys.__stdout__.errors],
    'recursion': sys.getrecursionlimit(), 'gc': [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
    'filters': len(warnings.filters), 'handlers of the root logger': len(logging.root.handlers),
    'hooks': [len(sys.meta_path), len(sys.path_hooks), str(sys.excepthook).split(' at ')[0], str(sys.displayhook).split(' at ')[0]],
    'loop': type(__import__('asyncio').get_running_loop()).__name__,
    'random': random.random(), 'hash': hash('x'), 'parent': os.getppid(),
}))
"""

OWN_RANDOM = ("random", "hash", "parent")


def looked_into(way: PipeEnd, vm: Machine, kernel: KernelEnd) -> dict[str, Any]:
    text = say(way, kernel, PROBE)
    # What may differ: the kernel's own folder and number.
    folder = next(f.parent.name for f in vm.kernels.glob("*/relay.json") if kernel.kernel_id in f.read_text())
    for own in (folder, str(pid(kernel)), kernel.messages.session):
        text = text.replace(own, "OWN")
    # What the probe writes to its descriptor takes a way of its own, and may come in between or right behind.
    seen: dict[str, Any] = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    return seen


def test_a_kernel_of_a_spare_is_as_one_that_was_started(way: PipeEnd, vm: Machine) -> None:
    folder = vm.home / "work"
    folder.mkdir()
    (folder / "beside_the_notebook.py").write_text("VALUE = 42")
    # Not to be taken for the module of that name while ipykernel is imported.
    (folder / "tornado.py").write_text("raise ImportError('the wrong tornado')")
    env = {"ONE": "ä", "SSH_CONNECTION": "1.2.3.4 5 6"}
    options: dict[str, Any] = {"cwd": str(folder), "env": env}
    fresh = start(way, **options)
    assert not of_spare(fresh)
    waiting(way, vm)
    # What the user changes is read when the kernel starts, not when the spare was parked.
    startup = Path(say(way, fresh, "print(get_ipython().profile_dir.startup_dir)").strip())
    (startup / "mine.py").write_text("from_startup = 'read'")
    made = start(way, cwd=str(folder), env={**env, "SSH_CONNECTION": "1.2.3.4 5 7"})
    assert of_spare(made)
    assert say(way, made, "import beside_the_notebook as b; print(b.VALUE, from_startup)") == "42 read\n"
    (startup / "mine.py").unlink()
    assert say(way, fresh, "import beside_the_notebook as b; print(b.VALUE)") == "42\n"
    first, second = looked_into(way, vm, fresh), looked_into(way, vm, made)
    assert second["environ"].pop("SSH_CONNECTION") == "1.2.3.4 5 7"
    assert first["environ"].pop("SSH_CONNECTION") == "1.2.3.4 5 6"
    shown = [[e for e in seen["proc environ"] if not e.startswith("SSH_CONNECTION")] for seen in (first, second)]
    assert shown[0] == shown[1]
    del first["proc environ"], second["proc environ"]
    assert {name for name in OWN_RANDOM if first[name] == second[name]} == set()
    for name in OWN_RANDOM:
        del first[name], second[name]
    second["main"].remove("from_startup")
    differ = {n: (first[n], second[n]) for n in first if first[n] != second[n]}
    assert differ == {}
    assert first["death signal"] == signal.SIGKILL
    assert first["stdin"] == "/dev/null"
    way.wait(lambda: "said at the descriptor" in made.text(), PATIENCE)


def test_what_a_kernel_of_a_spare_does_is_told_as_ever(way: PipeEnd, vm: Machine) -> None:
    keeps = start(way)
    waiting(way, vm)
    made = start(way)
    assert of_spare(made)
    request = made.execute("import time\nprint('asleep', flush=True)\ntime.sleep(60)")
    way.wait(lambda: "asleep" in made.text(request))
    made.signal(signal.SIGINT)
    way.wait(lambda: made.done(request), PATIENCE)
    assert made.of("error", request)[0]["content"]["ename"] == "KeyboardInterrupt"
    made.execute("import os, sys; print('last words'); sys.stdout.flush(); os.write(2, b'x'); os._exit(7)")
    way.wait(lambda: made.happened(Type.EXITED), PATIENCE)
    assert made.happened(Type.EXITED)[0]["code"] == 7
    assert say(way, keeps, "print(1)") == "1\n"


def test_a_restart_takes_the_spare_and_another_is_made(way: PipeEnd, vm: Machine) -> None:
    kernel = start(way)
    first = waiting(way, vm)
    say(way, kernel, "x = 1")
    for count in (2, 3):
        kernel.session.send(Type.RESTART, b"")
        way.wait(lambda c=count: len(kernel.happened(Type.STARTED)) == c, PATIENCE)
        ready(way, kernel)
        assert of_spare(kernel)
        assert pid(kernel) == first["pid"]
        assert say(way, kernel, "print('x' in globals())") == "False\n"
        first = waiting(way, vm)
    rows = way.ask("kernels")["result"]
    assert [row["spare"]["pid"] for row in rows] == [first["pid"]]
    assert 20e6 < rows[0]["spare"]["rss"] < 200e6


def test_a_kernel_that_dies_is_started_again_from_the_spare(way: PipeEnd, vm: Machine) -> None:
    kernel = start(way)
    waiting(way, vm)
    os.kill(pid(kernel), signal.SIGKILL)
    way.wait(lambda: kernel.happened(Type.EXITED), PATIENCE)
    kernel.session.send(Type.RESTART, b"")
    way.wait(lambda: len(kernel.happened(Type.STARTED)) == 2, PATIENCE)
    assert of_spare(kernel)
    ready(way, kernel)


def test_another_environment_or_none_wanted_is_an_ordinary_start(way: PipeEnd, vm: Machine) -> None:
    off = start(way, spare=False)
    kernel = start(way)
    there = waiting(way, vm)
    assert not of_spare(start(way, env={"LANG": "C"}))
    assert not of_spare(start(way, [*IPYKERNEL, "--debug"]))
    assert not of_spare(start(way, spare=False))
    assert start_time(there["pid"])
    assert len({row["id"] for row in way.ask("kernels")["result"]}) == 5
    assert not of_spare(off)
    assert not of_spare(kernel)


@pytest.mark.parametrize("broken", ["killed", "hung", "holder killed", "holder hung", "replaced", "no folder"])
def test_a_broken_spare_costs_no_more_than_a_moment(way: PipeEnd, vm: Machine, broken: str) -> None:
    modules = vm.home / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text("HERE = 1")
    options: dict[str, Any] = {"env": {"PYTHONPATH": str(modules)}}
    start(way, **options)
    there = waiting(way, vm)
    if broken == "replaced":
        (modules / "sitecustomize.py").write_text("HERE = 'newer'")
    elif broken == "no folder":
        for path in there["folder"].iterdir():
            path.unlink()
        there["folder"].rmdir()
    else:
        victim = there["holder" if "holder" in broken else "pid"]
        os.kill(victim, signal.SIGSTOP if "hung" in broken else signal.SIGKILL)
    kernel = start(way, **options)
    assert not of_spare(kernel)
    assert say(way, kernel, "import sitecustomize; print(sitecustomize.HERE)").strip() in ("1", "newer")
    os.kill(there["holder"], signal.SIGCONT) if broken == "holder hung" else None
    until(lambda: not start_time(there["pid"]) or broken == "no folder", PATIENCE)
    if broken == "no folder":
        return
    again = waiting(way, vm)
    assert again["pid"] != there["pid"]
    assert of_spare(start(way, **options))


@pytest.mark.parametrize("fails", ["os._exit(3)", "time.sleep(60)"])
def test_a_spare_that_fails_as_a_kernel_is_replaced_by_an_ordinary_start(way: PipeEnd, vm: Machine, fails: str) -> None:
    kernel = start(way)
    config = Path(say(way, kernel, "print(get_ipython().profile_dir.location)").strip()) / "ipython_kernel_config.py"
    there = waiting(way, vm)
    once = vm.home / "once"
    once.touch()
    config.write_text(
        f"import os, time\nif os.path.exists({str(once)!r}):\n    os.unlink({str(once)!r})\n    {fails}\n"
    )
    kernel = start(way)
    assert not of_spare(kernel)
    assert not once.exists()
    assert not kernel.happened(Type.EXITED)
    assert kernel.happened(Type.STARTED)[0]["run"] == 1
    assert not start_time(there["pid"])
    assert say(way, kernel, "print(1)") == "1\n"


def test_a_shutdown_before_the_spare_has_answered_ends_it(way: PipeEnd, vm: Machine) -> None:
    first = start(way)
    there = waiting(way, vm)
    os.kill(there["pid"], signal.SIGSTOP)
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    kernel.start(IPYKERNEL, spare=True)
    shut_down(way, kernel)
    assert not kernel.happened(Type.STARTED)
    ends(vm, there["pid"], there["holder"])
    shut_down(way, first)
    way.cut()
    vm.wait_empty(PATIENCE)


def ends(vm: Machine, *processes: int) -> None:
    until(lambda: not any(map(start_time, processes)), PATIENCE, lambda: f"still running: {vm.processes()}")


def test_nothing_is_left_after_the_last_kernel(way: PipeEnd, vm: Machine) -> None:
    first = start(way)
    there = waiting(way, vm)
    second = start(way)
    assert of_spare(second)
    third = waiting(way, vm)
    shut_down(way, first)
    assert start_time(third["pid"])
    assert say(way, second, "print(2)") == "2\n"
    shut_down(way, second)
    way.cut()
    vm.wait_empty(PATIENCE)
    assert list(spares(vm).iterdir()) == []
    assert list(vm.kernels.iterdir()) == []
    assert there["pid"] == pid(second)


def relay_of(vm: Machine, kernel: KernelEnd) -> int:
    records = [json.loads(f.read_text()) for f in vm.kernels.glob("*/relay.json")]
    return int(next(r["pid"] for r in records if r["kernel_id"] == kernel.kernel_id))


def test_a_killed_relay_takes_its_kernel_and_its_spare_along(way: PipeEnd, vm: Machine) -> None:
    first = start(way)
    holder = waiting(way, vm)["holder"]
    second = start(way)
    child = int(say(way, second, "import subprocess; print(subprocess.Popen(['sleep', '300']).pid)"))
    there = waiting(way, vm)
    os.kill(relay_of(vm, second), signal.SIGKILL)
    ends(vm, pid(second), child, holder)
    assert start_time(there["pid"])
    os.kill(relay_of(vm, first), signal.SIGKILL)
    way.cut()
    vm.wait_empty(PATIENCE)
    assert list(spares(vm).iterdir()) == []


def test_a_killed_holder_takes_its_kernel_along_and_that_is_told(way: PipeEnd, vm: Machine) -> None:
    start(way)
    holder = waiting(way, vm)["holder"]
    kernel = start(way)
    assert of_spare(kernel)
    os.kill(holder, signal.SIGKILL)
    way.wait(lambda: kernel.happened(Type.EXITED), PATIENCE)
    assert kernel.happened(Type.EXITED)[0]["code"] == -signal.SIGKILL
    ends(vm, pid(kernel))


def test_all_killed_at_once_leaves_no_process_and_the_next_relay_clears_up(way: PipeEnd, vm: Machine) -> None:
    kernel = start(way)
    there = waiting(way, vm)
    relay = relay_of(vm, kernel)
    for victim in (there["holder"], relay):
        os.kill(victim, signal.SIGSTOP)
    for victim in (there["holder"], relay):
        os.kill(victim, signal.SIGKILL)
    ends(vm, pid(kernel), there["pid"], relay, there["holder"])
    assert there["folder"].exists()
    last = start(way, env={"ANOTHER": "kind"})
    assert not there["folder"].exists()
    shut_down(way, last)
    way.cut()
    vm.wait_empty(PATIENCE)


def test_several_relays_make_one_spare(way: PipeEnd, vm: Machine) -> None:
    kernels = [start(way) for _ in range(4)]
    there = waiting(way, vm)
    assert len(list(spares(vm).iterdir())) == 1
    rows = way.ask("kernels")["result"]
    assert [row["spare"]["pid"] for row in rows] == [there["pid"]] * 4
    assert sum("(spare)" in line for line in vm.processes().values()) == 1
    assert not any(of_spare(k) for k in kernels[:1])


# From a notebook


def test_the_second_notebook_on_a_vm_gets_the_spare(configured: Emulator, dsvm_provisioner: None) -> None:
    home = Path(configured.vm("cpu-vm")["home"])
    with Notebook() as first, Notebook() as second:
        attached(first, "cpu-vm")
        (before,) = kernel_pids(configured, "cpu-vm")
        first.until(lambda: list(home.glob(".local/share/jupyter-dsvm/spares/*/spare.json")), PATIENCE)
        attached(second, "cpu-vm")
        (after,) = {*kernel_pids(configured, "cpu-vm")} - {before}
        parent = Path(f"/proc/{after}/stat").read_text().rpartition(")")[2].split()[1]
        assert "holder" in Path(f"/proc/{parent}/cmdline").read_text()
        assert second.run("print(6 * 7)").text == "42\n"
    until(lambda: not ours(configured, "cpu-vm"), PATIENCE, lambda: str(ours(configured, "cpu-vm")))
    assert list(home.glob(".local/share/jupyter-dsvm/spares/*")) == []
