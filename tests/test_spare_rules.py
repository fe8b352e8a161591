"""When a spare is handed out and when it ends, which kernels may share one, and what its holder says to relays. Without kernels."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.kernels.kernelspecs import RemoteSpec
from jupyter_dsvm.relay.hold import LONELY_LIMIT, MAX_AGE, End, Hand, Hold, State, Tell, Withdraw
from jupyter_dsvm.relay.lines import LIMIT, Lines
from jupyter_dsvm.relay.spare import kind_of, may_be_parked
from jupyter_dsvm.relay.spec import SOCKET_VARIABLE, KernelSpec
from jupyter_dsvm.service import DSVMService
from support.relay_vm import IPYKERNEL

# When it is handed out, and when it ends


def parked() -> Hold:
    hold = Hold("kind", 0.0)
    assert hold.connected(1) == []
    assert hold.said({"ready": True}, {}) == [Tell(1, {"parked": True})]
    return hold


TAKE = {"kind": "kind", "kernel": {"argv": []}}


def test_it_is_handed_to_who_asks_first_and_reports_to_that_one_only() -> None:
    hold = parked()
    assert hold.connected(2) == [Tell(2, {"parked": True})]
    assert hold.asked(2, TAKE) == [Withdraw(2), Hand({"argv": []})]
    assert hold.asked(1, TAKE) == [Tell(1, {"refused": "it is taken"})]
    assert hold.said({"taken": True}, {"pid": 7}) == [Tell(2, {"taken": {"pid": 7}})]
    assert hold.gone(1, 1.0) == []
    assert hold.due is None
    assert hold.exited(3) == [Tell(2, {"exited": 3}), End()]


def test_the_kernel_ends_with_the_relay_that_took_it() -> None:
    for taken in (False, True):
        hold = parked()
        hold.asked(1, TAKE)
        if taken:
            hold.said({"taken": True}, {})
        assert hold.gone(1, 1.0) == [End()]


def test_without_anybody_who_wants_it_it_ends() -> None:
    hold = parked()
    assert hold.gone(1, 10.0) == []
    assert hold.tick(10.0 + LONELY_LIMIT / 2) == []
    assert hold.due == 10.0 + LONELY_LIMIT
    hold.connected(2)
    assert hold.due == MAX_AGE
    assert hold.gone(2, 20.0) == []
    assert hold.tick(20.0 + LONELY_LIMIT) == [End()]
    assert parked().tick(MAX_AGE) == [End()]


def test_what_is_not_ready_or_another_kind_is_refused_and_stays() -> None:
    hold = Hold("kind", 0.0)
    assert hold.asked(1, TAKE) == [Tell(1, {"refused": "it is not ready yet"})]
    hold = parked()
    for wrong in (None, {}, {**TAKE, "kind": "another"}, {**TAKE, "kernel": 1}):
        assert hold.asked(1, wrong) == [Tell(1, {"refused": "it is of another kind"})]
    assert hold.state is State.PARKED


def test_a_spare_that_fails_says_so_to_who_asked() -> None:
    hold = parked()
    hold.asked(1, TAKE)
    assert hold.said({"refused": "no such folder"}, {}) == [Tell(1, {"refused": "no such folder"}), End()]
    hold = parked()
    hold.asked(1, TAKE)
    assert hold.exited(-9) == [Tell(1, {"refused": "it has ended"}), End()]
    assert parked().exited(1) == [End()]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("connected"), st.integers(1, 3)),
        st.tuples(st.just("asked"), st.integers(1, 3), st.sampled_from([TAKE, None, {"kind": "kind"}])),
        st.tuples(
            st.just("said"), st.sampled_from([{"ready": True}, {"taken": True}, {"refused": "x"}, {}]), st.just({})
        ),
        st.tuples(st.just("gone"), st.integers(1, 3), st.floats(0, 1e5)),
        st.tuples(st.just("exited"), st.integers(-15, 255)),
        st.tuples(st.just("tick"), st.floats(0, 1e5)),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_it_is_handed_out_once_at_most_and_ends_once(events: list[Any]) -> None:
    hold = Hold("kind", 0.0)
    handed = 0
    for name, *arguments in events:
        actions = getattr(hold, name)(*arguments)
        handed += sum(isinstance(a, Hand) for a in actions)
        assert handed <= 1
        assert End() not in actions[:-1]
        if End() in actions:
            assert hold.state is State.ENDED
            return
    assert hold.state is not State.ENDED


# Which kernels may share one


def kind(folder: str = "/k/1234567812345678", own: dict[str, str] | None = None, **more: Any) -> Any:
    values: dict[str, Any] = {
        "kernel_id": "id",
        "argv": tuple(IPYKERNEL),
        "key": "key",
        "session": "s" * 33,
        "spare": True,
    }
    spec = KernelSpec(**{**values, **more})
    return kind_of(spec, f"{folder}/connection.json", f"{folder}/start.py", f"{folder}/call.sock", own or {"A": "1"})


@pytest.fixture
def long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the kernel's folder, as real ones are longer than the spare's."""
    monkeypatch.setenv("XDG_DATA_HOME", "/k")


FOLDER = "/k/jupyter-dsvm/kernels/0123456789abcdef"
OTHER_FOLDER = "/k/jupyter-dsvm/kernels/fedcba9876543210"


@pytest.mark.usefixtures("long_names")
def test_kernels_of_one_kind_share_a_spare() -> None:
    first = kind(FOLDER, {"A": "1", "SSH_CONNECTION": "1.2.3.4 5"}, cwd="/tmp")
    second = kind(OTHER_FOLDER, {"A": "1", "SSH_CONNECTION": "1.2.3.4 6"}, kernel_id="other", key="x", session="t" * 33)
    assert first is not None
    assert first.digest == second.digest
    real = replace(KernelSpec("id", tuple(IPYKERNEL), "key"), session="s" * 33)
    command = real.command(f"{FOLDER}/connection.json", f"{FOLDER}/start.py")
    assert [len(a) for a in first.argv] == [len(a) for a in command]
    assert len(first.env[SOCKET_VARIABLE]) == len(f"{FOLDER}/call.sock")
    assert FOLDER not in repr((first.argv, first.env))


@pytest.mark.usefixtures("long_names")
@pytest.mark.parametrize(
    "different",
    [
        {"own": {"A": "2"}},
        {"own": {"A": "1", "LD_LIBRARY_PATH": "/opt"}},
        {"env": {"CUDA_VISIBLE_DEVICES": "1"}},
        {"argv": (*IPYKERNEL, "--debug")},
        {"argv": (sys.executable, "-Xfrozen_modules=off", *IPYKERNEL[1:])},
        {"session": "s" * 34},
        {"resource_dir": "/x", "argv": (*IPYKERNEL, "{resource_dir}")},
    ],
    ids=repr,
)
def test_kernels_that_differ_in_what_python_reads_do_not(different: dict[str, Any]) -> None:
    other = kind(FOLDER, **different)
    assert other is not None
    assert other.digest != kind(FOLDER).digest


@pytest.mark.usefixtures("long_names")
def test_limits_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kind(FOLDER)
    monkeypatch.setattr(os, "nice", lambda _: 5)
    assert kind(FOLDER).digest != before.digest


@pytest.mark.parametrize(
    ("argv", "env", "may"),
    [
        (IPYKERNEL, {}, True),
        ([sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"], {}, True),
        (["/opt/env/bin/python3.12", "-m", "ipykernel", "-f", "{connection_file}"], {}, True),
        (IPYKERNEL, {"PYTHONPATH": "/a:/b"}, True),
        (IPYKERNEL, {"PYTHONPATH": "lib"}, False),
        (IPYKERNEL, {"PYTHONPATH": "/a:"}, False),
        (["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"], {}, False),
        (["/usr/bin/env", "python3", "-m", "ipykernel_launcher"], {}, False),
        (["/opt/conda/bin/conda", "run", "-n", "x", "python", "-m", "ipykernel_launcher"], {}, False),
        ([sys.executable, "launcher.py", "-m", "ipykernel_launcher"], {}, False),
        ([sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"], {}, False),
        (["/usr/bin/R", "-e", "IRkernel::main()", "--args", "{connection_file}"], {}, False),
    ],
)
def test_only_a_plain_ipykernel_is_parked(argv: list[str], env: dict[str, str], may: bool) -> None:
    assert may_be_parked(argv, env) is may


@pytest.mark.usefixtures("long_names")
def test_it_can_be_turned_off() -> None:
    assert kind(FOLDER, spare=False) is None
    assert KernelSpec.from_json({"argv": ["x"]}).spare is False


# What is said


def test_lines_are_bounded_and_garbage_ends_them() -> None:
    for bad in (b"no json\n", b"[1]\n", b"\xff\n", b"x" * (LIMIT + 2)):
        here, there = socket.socketpair()
        with there:
            lines = Lines(here)
            there.sendall(b'{"a": 1}\n{"b"')
            assert lines.read() == [{"a": 1}]
            assert lines.open
            there.settimeout(5)
            sent = 0
            while lines.open:
                sent += there.send(bad[sent : sent + 65536]) if sent < len(bad) else 0
                assert lines.read() == []
            assert lines.say(x=1) is False
            lines.close()


def test_the_setting_reaches_the_relay() -> None:
    front = SimpleNamespace(kernel_id="k", key=b"k", signature_scheme="hmac-sha256", session="s")
    spec = RemoteSpec("python3", "Python 3", "python", tuple(IPYKERNEL))
    for wanted in (True, False):
        service = DSVMService(spare_interpreters=wanted)
        try:
            body = service.arrivals.start_spec(front, spec, None)
        finally:
            service.close()
        assert KernelSpec.from_json(body).spare is wanted
