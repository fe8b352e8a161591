"""Variables from one real kernel into another, as the gate asks for it."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.carried import Kernel, carry, kernels, pump
from support.kernels import until

Pair = tuple[Kernel, Kernel]


@pytest.fixture(scope="module")
def started() -> Iterator[Pair]:
    with kernels() as (old, new):
        yield old, new


@pytest.fixture
def pair(started: Pair) -> Pair:
    """Two kernels that have nothing."""
    for kernel in started:
        kernel.run("%reset -f")
    return started


def reasons(answer: dict[str, Any]) -> dict[str, str]:
    return {f["name"]: f["reason"] for f in answer["failed"]}


def test_what_belongs_together_stays_together_and_functions_see_the_notebook_they_come_to(pair: Pair):
    old, new = pair
    old.run("x = 5\ndef f(): return x\na = [1]\nb = {'a': a}\n")
    old.run(
        "def counter():\n n = 0\n def inc():\n  nonlocal n\n  n += 1\n  return n\n def get(): return n\n return inc, get"
    )
    old.run("inc, get = counter()\nhow_many = inc()\nloop = []\nloop.append(loop)")
    sent, received = carry(old, new)
    assert (
        set(sent["sent"])
        == set(received["received"])
        == {"x", "f", "a", "b", "counter", "inc", "get", "how_many", "loop"}
    )
    assert sent["failed"] == received["failed"] == []
    assert new.value("[f(), b['a'] is a, a, loop[0] is loop]") == [5, True, [1], True]
    assert new.value("[inc(), get()]") == [2, 2]
    assert new.run("x = 6\nprint(f())") == "6\n"
    assert old.value("[f(), b['a'] is a, get()]") == [5, True, 1]


def test_classes_of_the_notebook_arrive_as_one_class(pair: Pair):
    old, new = pair
    old.run(
        "import abc, dataclasses, enum, functools\n"
        "class Base(abc.ABC):\n @abc.abstractmethod\n def f(self): ...\n"
        "class A(Base):\n def __init__(self, v):\n  super().__init__()\n  self.v = v\n def f(self): return A\n"
        "@dataclasses.dataclass\nclass P:\n x: int\n y: 'A' = None\n"
        "class E(enum.Enum):\n ONE = 1\n"
        "@functools.lru_cache(maxsize=None)\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "a, p, e, other = A(1), P(2), E.ONE, [A(2)]\nfib(5)"
    )
    sent, received = carry(old, new)
    assert sent["failed"] == received["failed"] == []
    assert (
        new.value("[type(a) is A, a.f() is A, type(other[0]) is A, isinstance(a, Base), issubclass(A, Base)]")
        == [True] * 5
    )
    assert new.value("[type(p) is P, p == P(2), e is E.ONE, fib(30), fib.cache_info().maxsize]") == [
        True,
        True,
        True,
        832040,
        None,
    ]


def test_what_cannot_move_stays_with_a_reason_and_the_rest_moves(pair: Pair):
    old, new = pair
    old.run(
        "import threading, sqlite3, socket, os.path as p, asyncio, subprocess, mmap, tempfile\n"
        "import numpy as np, ipywidgets\n"
        "lock, file, conn = threading.Lock(), open('/dev/null'), sqlite3.connect(':memory:')\n"
        "held, gen, sock = {'it': [lock]}, (i for i in range(3)), socket.socket()\n"
        "thread, event = threading.Thread(target=print), threading.Event()\n"
        "widget = ipywidgets.IntSlider()\n"
        "mm = np.memmap(tempfile.TemporaryFile(), shape=(10,))\n"
        "loop, me = asyncio.get_event_loop(), globals()\n"
        "process = subprocess.Popen(['true']); _ = process.wait()\n"
        "y, _mine, __own = 1, 2, 3\n"
    )
    planned = old.ask("plan")
    expected = {
        "lock": "A lock cannot move.",
        "file": "An open file cannot move.",
        "conn": "An open connection cannot move.",
        "held": "Something in it stays: a lock cannot move.",
        "gen": "A generator cannot move: its place in the middle of the code is not known elsewhere.",
        "sock": "An open connection cannot move.",
        "thread": "A running thread cannot move.",
        "event": "A lock cannot move.",
        "widget": "A widget cannot move; run its cell again.",
        "mm": "A memory map cannot move: it is a file of this machine. Open it there.",
        "loop": "What asyncio is running cannot move.",
        "me": "It is the notebook's own namespace.",
        "process": "A handle of another process cannot move.",
    }
    assert {v["name"]: v["reason"] for v in planned["variables"] if not v["moves"]} == expected
    assert [v["name"] for v in planned["variables"] if v["moves"]] == ["y", "_mine", "__own"]
    sent, received = carry(old, new)
    assert reasons(sent) == expected
    assert set(received["received"]) == {"y", "_mine", "__own"}
    assert received["imported"] == sent["imported"]
    assert {"p", "np", "asyncio"} < set(received["imported"])
    assert new.value("[p.join('a', 'b'), y, _mine, __own]") == ["a/b", 1, 2, 3]
    old.run("conn.close(); sock.close(); file.close()")


def executed(kernel: Kernel) -> int:
    content = kernel.client.execute_interactive("", store_history=False, timeout=30)["content"]
    return int(content["execution_count"])


def test_nothing_is_left_in_either_namespace_and_nothing_is_shown(pair: Pair):
    old, new = pair
    mine = "sorted(n for n in globals() if n not in get_ipython().user_ns_hidden and not n.startswith('_i'))"
    old.run("a = [1]")
    before = [kernel.value(mine) for kernel in pair]
    counts = [executed(kernel) for kernel in pair]
    carry(old, new)
    assert [executed(kernel) for kernel in pair] == counts
    assert [kernel.value(mine) for kernel in pair] == [before[0], sorted([*before[1], "a"])]
    assert old.run("print([v for v in Out.values() if 'Answer' in type(v).__name__])") == "[]\n"
    assert old.value("'dsvm' in repr(globals().get('_'))") is False


def test_the_environment_of_a_process_does_not_travel_nor_does_its_shell(pair: Pair):
    old, new = pair
    old.run(
        "import os\nfrom os import environ as e\nos.environ['A_TOKEN'] = 'secret'\nheld = {'e': e}\nip = get_ipython()"
    )
    sent, received = carry(old, new)
    assert reasons(sent) == {"ip": "The kernel's own shell cannot move."}
    assert (received["received"], received["imported"]) == (["held"], ["os", "e"])
    assert new.value("[e is os.environ, held['e'] is e, 'A_TOKEN' in e]") == [True, True, False]
    old.run("del os.environ['A_TOKEN']")


def test_what_libraries_define_is_imported_also_by_the_hundred(pair: Pair):
    old, new = pair
    old.run("from numpy import *\nfrom math import pi as half\nimport logging\nlog = logging.getLogger('a')")
    old.run("import collections\nPoint = collections.namedtuple('Point', 'x y')\np = Point(1, [2])\nq = lambda: p.y")
    sent, received = carry(old, new)
    assert sent["failed"] == received["failed"] == []
    assert len(received["imported"]) > 450
    assert new.value("[float(sin(0)), half, type(p) is Point, q() is p.y, log is logging.getLogger('a')]") == [
        0.0, 3.141592653589793, True, True, True,
    ]  # fmt: skip


def test_only_names_that_are_asked_for(pair: Pair):
    old, new = pair
    old.run("a, b, c = 1, 2, 3")
    sent, received = carry(old, new, ["c", "a", "nothing"])
    assert received["received"] == ["c", "a"]
    assert reasons(sent) == {"nothing": "There is no such variable."}
    assert new.value("'b' in globals()") is False


def test_what_the_new_kernel_has_is_not_overwritten(pair: Pair):
    old, new = pair
    old.run("import json, os.path as p\na, b = 1, 2")
    new.run("import json, os as p\nb = 'mine'")
    sent, received = carry(old, new)
    assert (received["received"], received["imported"]) == (["a"], ["json"])
    taken = dict.fromkeys(("b", "p"), "There is a variable of this name already.")
    assert reasons(received) == reasons(sent) == taken
    assert new.value("[a, b, p.__name__]") == [1, "mine", "os"]


def test_modules_that_are_missing_there_fail_the_names_that_need_them_only(pair: Pair, tmp_path: Path):
    old, new = pair
    (tmp_path / "only_here.py").write_text("class Thing:\n    pass\ndef made(): return Thing()\n")
    old.run(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport only_here\nfrom only_here import made as m")
    old.run("shared = [1]\nthing = {'t': only_here.made(), 's': shared}\nuser = [shared]\ny = 5")
    told = old.ask("plan")
    assert "only_here" in told["modules"]
    assert new.ask("hello", modules=["only_here"])["modules"]["only_here"] is None
    sent, received = carry(old, new)
    missing = dict.fromkeys(("only_here", "m", "thing"), "only_here is not installed there.")
    assert reasons(sent) == reasons(received) == missing
    assert new.value("[shared, user, y]") == [[1], [[1]], 5]
    asked = old.ask("plan", there=new.ask("hello", modules=told["modules"]))
    assert {v["name"]: v["reason"] for v in asked["variables"] if not v["moves"]} == missing


def test_names_that_fail_at_either_end_leave_the_others(pair: Pair):
    old, new = pair
    old.run(
        "class Bad:\n def __getstate__(self): raise ValueError('not now')\n"
        "def boom(): raise RuntimeError('boom')\n"
        "class Later:\n def __reduce__(self): return boom, ()\n"
        "class Deep: pass\n"
        "bad, later, deep = Bad(), [Later()], []\n"
        "for _ in range(100_000): deep = [deep]\n"
        "late = [later, 'x' * 500_000]\nz = 1"
    )
    sent, received = carry(old, new)
    assert reasons(sent) == {
        "bad": "ValueError: not now.",
        "deep": "It is nested too deeply.",
        "later": "RuntimeError: boom.",
        "late": "RuntimeError: boom.",
    }
    assert set(reasons(received)) == {"later", "late"}
    assert new.value("z") == 1
    assert new.run("boom.__name__") == "'boom'"


def test_interrupting_the_sender_ends_it_and_it_keeps_everything(pair: Pair):
    old, new = pair
    old.run("import numpy as np\nbig = np.random.default_rng(0).bytes(50_000_000)\nsmall = 1")
    with pump(rate=2e6) as between:
        sent = old.begin("send", path=between.sender)
        received = new.begin("receive", path=between.receiver)
        until(lambda: between.bytes > 1_000_000)
        os.kill(old.pid, signal.SIGINT)
        assert old.answer(sent)["error"]["code"] == "Interrupted"
        between.hang_up()
        assert new.answer(received)["error"]["code"] == "LinkLost"
    assert old.value("[len(big), small]") == [50_000_000, 1]
    assert new.value("'big' in globals()") is False
    sent, received = carry(old, new, ["small"])
    assert received["received"] == ["small"] or new.value("small") == 1


def test_interrupting_the_receiver_ends_both(pair: Pair):
    old, new = pair
    old.run("import numpy as np\nbig = np.zeros(50_000_000, 'u1')")
    with pump(rate=2e6) as between:
        sent = old.begin("send", path=between.sender, compress=False)
        received = new.begin("receive", path=between.receiver)
        until(lambda: between.bytes > 1_000_000)
        os.kill(new.pid, signal.SIGINT)
        assert new.answer(received)["error"]["code"] == "Interrupted"
        between.hang_up()
        assert old.answer(sent)["error"]["code"] == "LinkLost"
    assert new.value("'big' in globals()") is False


def test_a_link_that_is_cut_is_an_error_at_both_ends(pair: Pair):
    old, new = pair
    old.run("import numpy as np\nbig = np.random.default_rng(0).bytes(20_000_000)")
    sent, received = carry(old, new, cut=5_000_000)
    assert sent["error"]["code"] == received["error"]["code"] == "LinkLost"
    assert new.value("'big' in globals()") is False


def test_a_receiver_that_dies_leaves_the_sender_whole():
    with kernels() as (old, new):
        old.run("big = bytes(30_000_000)\nmore = 1")
        with pump(rate=3e6) as between:
            sent = old.begin("send", path=between.sender)
            new.begin("receive", path=between.receiver)
            until(lambda: between.bytes > 1_000_000)
            os.kill(new.pid, signal.SIGKILL)
            assert old.answer(sent)["error"]["code"] == "LinkLost"
        assert old.value("[len(big), more]") == [30_000_000, 1]


def test_a_slow_way_with_delay_gets_it_deflated_and_a_fast_one_does_not(pair: Pair):
    old, new = pair
    old.run("import numpy as np\nbig = np.arange(4_000_000)")
    with pump(rate=10e6, delay=0.001) as between:
        sent = old.begin("send", path=between.sender, there=new.ask("hello"))
        started = time.monotonic()
        received = new.begin("receive", path=between.receiver)
        assert old.answer(sent)["failed"] == new.answer(received)["failed"] == []
        slow, seconds = between.bytes, time.monotonic() - started
    assert slow < 20_000_000, seconds
    assert new.value("[int(big.sum()), len(big)]") == [7999998000000, 4000000]


def test_saved_and_loaded_again(pair: Pair, tmp_path: Path):
    old, new = pair
    path = tmp_path / "saved" / "one.vars"
    old.run(
        "import numpy as np, threading\na = np.arange(1e6)\nb = {'a': a}\nc, lock = 'text', threading.Lock()\nnoise = a.tobytes()"
    )
    saved = old.ask("save", path=str(path))
    assert set(saved["sent"]) == {"a", "b", "c", "noise"}
    assert reasons(saved) == {"lock": "A lock cannot move."}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["one.vars"]
    new.run("c = 'mine'")
    loaded = new.ask("load", path=str(path), names=["np", "b", "c"])
    assert (loaded["received"], loaded["imported"]) == (["b"], ["np"])
    assert reasons(loaded) == {"c": "There is a variable of this name already."}
    assert new.value("[b['a'].sum(), c, 'a' in globals()]") == [499999500000.0, "mine", False]
    assert new.ask("load", path=str(tmp_path / "none"))["error"]["code"] == "Failed"
    path.write_bytes(path.read_bytes()[:-100])
    assert new.ask("load", path=str(path))["error"]["code"] == "LinkLost"


def test_what_does_not_fit_stays_behind_the_largest_first(pair: Pair, tmp_path: Path):
    old, _ = pair
    old.run("import numpy as np\nbig, small, tiny = np.zeros(10_000_000, 'u1'), np.zeros(1_000_000, 'u1'), 1")
    saved = old.ask("save", path=str(tmp_path / "x"), limit_bytes=2_000_000)
    assert set(saved["sent"]) == {"small", "tiny"}
    assert reasons(saved) == {"big": "There is no room for it."}
    assert (tmp_path / "x").stat().st_size < 2_000_000
    old.run("hidden = [('%d' % i) * 20 for i in range(400_000)]")  # larger than a look at it sees
    saved = old.ask("save", path=str(tmp_path / "x"), names=["tiny", "hidden", "small"], limit_bytes=20_000_000)
    assert reasons(saved) == {"hidden": "There is no room for it."}
    assert set(saved["sent"]) == {"tiny", "small"}
    assert (tmp_path / "x").stat().st_size < 2_000_000


def test_memory_stays_at_the_value_and_16_mib_more(pair: Pair):
    old, new = pair
    old.run(
        "import numpy as np\nbig = np.random.default_rng(0).integers(0, 255, (200, 1_000_000), dtype='u1')\nstrided = big[:, ::2]"
    )
    new.run("import numpy")
    for names, mib in ((["big"], 191), (["strided"], 96)):
        for kernel in pair:
            kernel.forget_peak()
        before = [kernel.peak_mib() for kernel in pair]
        _, received = carry(old, new, names)
        assert (received["received"], received["imported"]) == (names, ["np"])
        sender, receiver = (kernel.peak_mib() - b for kernel, b in zip(pair, before, strict=True))
        assert sender < 16
        assert receiver < mib + 16


def test_a_dry_run_takes_no_longer_than_it_may(pair: Pair):
    old, _ = pair
    old.run("many = [[i] for i in range(3_000_000)]\nfor i in range(1200): globals()[f'v{i}'] = i")
    started = time.monotonic()
    planned = old.ask("plan", seconds=0.2)
    assert time.monotonic() - started < 10
    assert (len(planned["variables"]), planned["more"]) == (1000, 202)  # and the loop's own
    many = planned["variables"][0]
    assert (many["name"], many["bytes"], many["moves"]) == ("many", None, True)


def test_imports_are_made_again_whichever_names_are_asked_for(pair: Pair):
    old, new = pair
    old.run("import math\nfrom collections import OrderedDict as Ordered\na = 1\nb = 2")
    sent, received = carry(old, new, ["b"])
    assert sent["sent"] == received["received"] == ["b"]
    assert sorted(sent["imported"]) == sorted(received["imported"]) == ["Ordered", "math"]
    assert new.value("[math.floor(2.5), list(Ordered(x=1)), b, 'a' in globals()]") == [2, ["x"], 2, False]
