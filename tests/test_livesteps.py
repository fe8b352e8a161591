"""How a long line of ``%dsvm`` looks in its cell while it goes on, and what an interrupt of it comes to."""

from __future__ import annotations

import html
import itertools
import re

import pytest

from jupyter_dsvm.livesteps import LiveSteps, duration, moved_text, said, waiting_for_answer
from jupyter_dsvm.models import FREE, Price
from jupyter_dsvm.operations import OperationStore, Running
from jupyter_dsvm.tables import price_words

EVIL = '<img src=x onerror="alert(1)">&\'</li>'
STEPS = [("start", "Start vm"), ("boot", "vm boots"), ("connect", "Connect to vm.")]


def operation(kind: str = "attach", steps: list[tuple[str, str]] = STEPS) -> Running:
    return OperationStore().begin(kind, compute="azure:1", kernel="k1", steps=steps)


def test_each_step_says_how_long_it_took():
    clock = itertools.count(0.0, 20.5)
    steps, running = LiveSteps("the free tier", "vm", lambda: next(clock)), operation()
    shown = []
    for name, _ in STEPS:
        running.step(name)
        shown.append(steps.progress(running.value, name)["live"]["text"].splitlines())
    assert shown == [
        ["▸ Start vm…", "· vm boots", "· Connect to vm"],
        ["✓ Start vm (20 s)", "▸ vm boots…", "· Connect to vm"],
        ["✓ Start vm (20 s)", "✓ vm boots (20 s)", "▸ Connect to vm…"],
    ]
    running.failed(RuntimeError())
    assert steps.progress(running.value, "")["live"]["text"].splitlines()[-1] == "✗ Connect to vm (20 s)"
    assert (duration(0.4), duration(59.4), duration(60), duration(125)) == ("0 s", "59 s", "1 min 0 s", "2 min 5 s")


def test_what_is_stopped_shows_nothing_in_progress():
    steps, running = LiveSteps("the free tier", "vm"), operation()
    running.step("boot")
    progress = steps.progress(running.value, "x", ["A note."])
    assert progress["stopped"]["text"].splitlines() == ["✓ Start vm", "■ vm boots", "A note."]
    assert 'aria-label="stopped"' in progress["stopped"]["html"]
    assert "▸" not in progress["stopped"]["html"]
    running.cancelled(RuntimeError())  # type: ignore[arg-type]
    assert steps.progress(running.value, "")["live"]["text"].splitlines()[1] == "■ vm boots"


@pytest.mark.parametrize("kind", ["attach", "start", "stop", "restart", "resize"])
def test_nothing_of_a_cloud_or_a_machine_becomes_html(kind: str):
    steps = LiveSteps(EVIL, EVIL)
    running = operation(kind, [("start", f"Start {EVIL}"), ("boot", f"{EVIL} boots")])
    running.step("start")
    running.report(f"Azure says {EVIL}")
    progress = steps.progress(running.value, EVIL, [EVIL])
    pictures = [progress["live"], progress["stopped"], waiting_for_answer(EVIL)["live"]]
    pictures += [said(moved_text("azure:1", EVIL, EVIL, EVIL, True), [EVIL], [EVIL])["live"]]
    for picture in pictures:
        tags = set(re.findall(r"<[^>]*>", picture["html"]))
        assert all(re.fullmatch(r'</?(ul|li|span|small|div)( (style|role|aria-label)="[\w .:;-]*")*>', t) for t in tags)
        assert html.unescape(re.sub(r"<[^>]*>", "", picture["html"])).count(EVIL) == picture["text"].count(EVIL)


SAYS = {
    ("attach", "ask", False): "stays on the free tier with its variables.",
    ("attach", "start", True): "goes on starting and is billed; %dsvm stop vm releases it.",
    ("attach", "connect", True): "vm is on and is billed",
    ("detach", "kernel", False): "stays on the free tier with its variables.",
    ("start", "start", True): "nobody waits for vm any more. vm goes on starting and is billed",
    ("stop", "stop", False): "Azure goes on stopping vm",
    ("restart", "restart", False): "Azure goes on restarting vm",
    ("resize", "release", False): "vm keeps its size, and is started again once it is released if it ran.",
    ("resize", "change", False): "Azure goes on with the change",
}


@pytest.mark.parametrize(("kind", "step", "starts"), SAYS)
def test_an_interrupt_says_what_is_kept_and_what_goes_on(kind: str, step: str, starts: bool):
    running = operation(kind, [(step, step)])
    running.step(step)
    say = LiveSteps("the free tier", "vm").progress(running.value, "", [], starts)["stopped"]["say"]
    assert say.startswith("Interrupted: ")
    assert SAYS[kind, step, starts] in say
    assert ("billed" in say) == starts


def test_the_line_at_the_end():
    assert moved_text("azure:1", "gpu-vm", "", "the free tier", True) == (
        "The following cells run on gpu-vm. The rest of this cell still runs on the free tier. Variables stayed behind."
    )
    assert moved_text(FREE, "Free tier", "", "gpu-vm", False) == (
        "This notebook moves to the free tier. Variables stay behind on gpu-vm."
    )
    prices = [Price(0.5, c, "") for c in ("USD", "EUR", "CHF")]
    assert [price_words(p) for p in [*prices, None]] == ["~$0.50/h", "~€0.50/h", "~0.50 CHF/h", ""]
