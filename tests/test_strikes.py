"""Before Azure stops a VM, the cell that runs there says so: what is kept on the machine, the rule, and real relays."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.kernels.notes import omitted, strike
from jupyter_dsvm.relay import strikes
from jupyter_dsvm.relay.executing import Executing
from jupyter_dsvm.relay.strikes import LONGEST_TEXT, SETTLED, STEPS, Strike, StrikeError, Strikes, Warner
from jupyter_dsvm.relay.wire import Type, WireError
from support.relay_end import machine, pipe
from support.relay_vm import IPYKERNEL, home, ready, say, shut_down, started, vm, way
from test_old_relays import OldKernelEnd, old_code
from test_vm_activity import message

__all__ = ["home", "old_code", "vm", "way"]

TEXT = "Azure's auto-shutdown stops gpu-vm at 19:00 UTC."
WAIT = "import time\nwhile not globals().get('go'): time.sleep(0.05)"
AT_ONCE = "import relay.strikes as s; s.SETTLED = 0.5; import relay.daemon as d; d.STRIKE_LOOK = 0.1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The machine's: seconds since its start, and which start that was."""
    now: dict[str, Any] = {"up": 1000.0, "boot": "first"}
    monkeypatch.setattr(strikes, "seconds_up", lambda: now["up"])
    monkeypatch.setattr(strikes, "boot_id", lambda: now["boot"])
    return now


# What is kept


def test_a_strike_is_kept_by_the_machines_own_count(tmp_path: Path, clock: dict[str, Any]) -> None:
    it = Strikes(str(tmp_path / "strikes"))
    assert it.read() is None
    assert it.set(3600, TEXT) == Strike(3600.0, TEXT)
    clock["up"] += 600
    assert Strikes(it.folder).read() == Strike(3000.0, TEXT)
    assert it.set(7200.0, "Later.") == Strike(7200.0, "Later.")  # the last word counts
    (file,) = os.listdir(it.folder)
    assert stat.S_IMODE(os.stat(it.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{it.folder}/{file}").st_mode) == 0o600
    clock["up"] += 7200
    assert it.read() is None  # it is over
    it.set(60, TEXT)
    clock.update(up=20.0, boot="second")
    assert it.read() is None  # of another run of the machine
    it.set(60, TEXT)
    assert it.set(None, None) is None
    assert os.listdir(it.folder) == []
    assert it.set(None, None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, TEXT), (49 * 3600, TEXT), (float("nan"), TEXT), ("60", TEXT), (True, TEXT), ([], TEXT),
        (60, ""), (60, None), (60, 5), (60, "two\nlines"), (60, "\x1b[31m"), (60, "x" * (LONGEST_TEXT + 1)),
    ],
)  # fmt: skip
def test_what_is_no_strike(tmp_path: Path, seconds: Any, text: Any) -> None:
    with pytest.raises(StrikeError):
        Strikes(str(tmp_path / "strikes")).set(seconds, text)
    assert os.listdir(tmp_path / "strikes") == []


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_a_file_that_is_none(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("strikes")
    (folder / strikes.NAME).write_bytes(data)
    assert Strikes(str(folder)).read() is None


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "strikes").mkdir(mode=0o755)
    with pytest.raises(OSError, match="only this user"):
        Strikes(str(tmp_path / "strikes")).set(60, TEXT)


# When it is said


def told(warner: Warner, strikes_at: float, times: list[float], cell: str = "a") -> list[tuple[float, int]]:
    found = []
    for now in times:
        left = strikes_at - now
        minutes = warner.due(cell, Strike(left, TEXT) if left > 0 else None, now)
        if minutes is not None:
            found.append((now, minutes))
    return found


def every(seconds: float, upto: float, start: float = 0.0) -> list[float]:
    return [start + seconds * n for n in range(int((upto - start) / seconds))]


def test_it_is_said_fifteen_and_five_minutes_before() -> None:
    assert told(Warner(), 3600.0, every(2.0, 4000.0)) == [(2700.0, 15), (3300.0, 5)]


def test_a_cell_that_begins_late_hears_it_once_it_has_settled() -> None:
    warner = Warner()
    assert told(warner, 3600.0, every(1.0, 3000.0)) == [(2700.0, 15)]
    assert told(warner, 3600.0, every(1.0, 3600.0, 3000.0), "b") == [(3000.0 + SETTLED, 10), (3300.0, 5)]
    assert told(Warner(), 3600.0, every(1.0, 3600.0, 3480.0)) == [(3480.0 + SETTLED, 2)]
    quick = Warner()
    assert [told(quick, 3600.0, every(1.0, 3004.0, 3000.0), str(n)) for n in range(20)] == [[]] * 20


def test_one_that_was_moved_on_is_not_said() -> None:
    warner = Warner()
    for now in every(2.0, 20_000.0):
        strikes_at = now - now % 600 + 3600  # every ten minutes, an hour ahead
        assert warner.due("a", Strike(strikes_at - now, TEXT), now) is None
    assert warner.due("a", None, 20_000.0) is None


def test_the_same_moment_told_anew_is_said_once_and_another_one_again() -> None:
    warner = Warner()
    assert warner.due("a", None, 0.0) is None
    for now, anew, minutes in ((10.0, 0.0, 15), (20.0, 60.0, None), (30.0, -59.0, None), (40.0, 0.0, None)):
        assert warner.due("a", Strike(910.0 + anew - now, TEXT), now) == minutes
    assert warner.due("a", Strike(3600.0, TEXT), 60.0) is None
    assert warner.due("a", Strike(840.0, TEXT), 2820.0) == 14


@given(
    st.floats(100.0, 100_000.0),
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.5, 400.0)), max_size=200),
)
def test_each_step_at_most_once_for_a_cell_and_never_too_early(
    strikes_at: float, steps: list[tuple[str, float]]
) -> None:
    warner, now, said, before = Warner(), 0.0, 0, ""
    for cell, seconds in steps:
        now += seconds
        left = strikes_at - now
        minutes = warner.due(cell, Strike(left, TEXT) if left > 0 else None, now)
        said = 0 if cell != before else said
        before = cell
        if minutes is not None:
            said += 1
            assert 0 < left <= STEPS[0]
            assert abs(minutes * 60 - left) <= 60
        assert said <= len(STEPS)


def test_the_first_of_what_was_asked_is_what_runs() -> None:
    it = Executing()
    assert it.first is None
    for name in "123":
        it.asked(message("execute_request", name))
    it.answered(message("execute_reply", "5", "2"))
    assert it.first == ("1", {"msg_type": "execute_request", "msg_id": "1"})
    it.answered(message("execute_reply", "6", "1"))
    assert it.first is not None
    assert it.first[0] == "3"


# What the server makes of it


def test_a_note_is_a_sentence_in_the_cells_output() -> None:
    parent = {"msg_id": "1"}
    assert strike({"parent_header": parent, "text": TEXT, "minutes": 5}) == (parent, f"\n[In 5 min: {TEXT}]\n")
    left_out = omitted({"parent_header": parent, "messages": 2, "bytes": 3_000_000}, "gpu-vm")
    assert left_out.text.startswith("\n[2 outputs (3.0 MB) were left out here: more than could be kept on gpu-vm")
    hostile = strike({"parent_header": {}, "text": "\x1b[2J" + "x" * 10_000, "minutes": 10**15})
    assert len(hostile.text) < LONGEST_TEXT + 40
    assert "\x1b" not in hostile.text
    for odd in ({}, {"parent_header": 5, "minutes": 5}, {"parent_header": {}, "minutes": "5"}):
        with pytest.raises(WireError):
            strike(odd)


# Real relays


def notes(kernel: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kernel.happened(Type.NOTE)
    return found


def test_a_running_cell_is_told_in_its_place_and_once(home: Path) -> None:
    with machine(home, before=AT_ONCE) as vm, pipe(vm) as way:
        kernel = started(way)
        assert way.ask("strikes", **{"in": 7200, "text": "Much later."})["result"]["text"] == "Much later."
        request = kernel.execute("print('before', flush=True)\n" + WAIT)
        way.wait(lambda: kernel.text(request) == "before\n")
        answered = way.ask("strikes", **{"in": 290.0, "text": TEXT})
        assert 280 < answered["result"]["in"] <= 290
        way.wait(lambda: notes(kernel), 20)
        (note,) = notes(kernel)
        assert (note["text"], note["minutes"]) == (TEXT, 5)
        assert note["parent_header"]["msg_id"] == request
        assert way.ask("strikes", **{"in": 285.0, "text": TEXT})["result"]
        until = time.monotonic() + 2
        way.wait(lambda: time.monotonic() > until)
        assert len(notes(kernel)) == 1
        assert way.ask("strikes", **{"in": "soon", "text": TEXT})["error"]["code"] == "StrikesFailed"
        assert way.ask("strikes", **{"in": None}) == {"result": None}
        assert kernel.interrupt()
        way.wait(lambda: kernel.done(request))
        shut_down(way, kernel)


def test_nobody_attached_it_waits_in_the_journal(home: Path) -> None:
    """Every relay of the account reads it, and what is said while nobody listens comes in its place, once."""
    with machine(home, before=AT_ONCE) as vm:
        with pipe(vm) as way:
            kernel = started(way)
            count = "import time\nfor i in range(60): print(i, flush=True); time.sleep(0.05)"
            request = kernel.execute(count)
            way.wait(lambda: "2\n" in kernel.text(request))
            way.ask("strikes", **{"in": 800, "text": TEXT})
        time.sleep(4)
        with pipe(vm) as way:
            kernel.attach(way)
            way.wait(lambda: kernel.done(request))
            assert kernel.text(request) == "".join(f"{i}\n" for i in range(60))
            assert [note["minutes"] for note in notes(kernel)] == [13]
            assert say(way, kernel, "print('over')") == "over\n"
            shut_down(way, kernel)
        assert (vm.home / ".local/share/jupyter-dsvm/strikes").stat().st_mode & 0o777 == 0o700


def test_an_older_server_takes_it_for_nothing(home: Path, old_code: Any) -> None:
    with machine(home, before=AT_ONCE) as vm, pipe(vm) as way:
        kernel = OldKernelEnd(old_code)
        kernel.attach(way, create=True)
        kernel.start(IPYKERNEL)
        way.wait(lambda: kernel.happened(Type.STARTED), 30)
        ready(way, kernel)
        way.ask("strikes", **{"in": 290, "text": TEXT})
        request = kernel.execute("import time; time.sleep(3); print('on', flush=True)")
        way.wait(lambda: kernel.done(request), 30)
        assert kernel.text(request) == "on\n"
        assert len(notes(kernel)) == 1  # it came, with a number, and the conversation goes on
        assert kernel.session.version == 1
        shut_down(way, kernel)


def test_a_server_that_takes_over_gets_what_its_predecessor_had_not_handed_on(home: Path) -> None:
    with machine(home, before=AT_ONCE) as vm:
        with pipe(vm) as way:
            kernel = started(way)
            request = kernel.execute("print('first', flush=True)\n" + WAIT)
            way.wait(lambda: kernel.text(request) == "first\n")
            kernel.acknowledging = False
            upto = kernel.numbers[-1]
            way.ask("strikes", **{"in": 290, "text": TEXT})
            way.wait(lambda: notes(kernel), 20)
        heir = kernel.adopter(upto)
        with pipe(vm) as way:
            heir.attach(way)
            way.wait(lambda: notes(heir), 20)
            assert re.match("Azure", notes(heir)[0]["text"])
            assert heir.interrupt()
            way.wait(lambda: heir.of("execute_reply", request))
            shut_down(way, heir)
