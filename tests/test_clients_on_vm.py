"""Pages of a kernel on a VM: its relay keeps what they have not got, and waits for them where there is no more room here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.kernels import clients
from jupyter_dsvm.kernels.link import RelayBackend
from jupyter_dsvm.relay.session import CREDIT
from support.emulated import PATIENCE, emulator
from support.kernels import Notebook, until
from support.on_vm import notebook_on_cpu_vm
from support.pages import Page, reading

__all__ = ["emulator"]

SPOOL = 3_000_000
FLOOD = "import time\nfor n in range({n}): display({{'text/plain': f'{{n:50000}}'}}, raw=True); time.sleep({pause})"


@pytest.fixture(scope="module")
def there(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """A notebook on a VM whose pages have little room here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "MEMORY", 200_000)
        patch.setattr(clients, "SPOOL_LIMIT", SPOOL)
        home: Path = tmp_path_factory.mktemp("home")
        with notebook_on_cpu_vm(emulator, home) as notebook:
            yield notebook


@pytest.fixture
def page(there: Notebook) -> Iterator[Page]:
    page = Page(there.proxy)
    yield page
    for name in list(there.proxy.clients.sessions()):
        page.connection = there.proxy.clients.connect(name, lambda: None)
        page.connection.close()
    until(lambda: not there.proxy.clients.held)


def shown(page: Page, msg_id: str) -> list[int]:
    return [int(m["content"]["data"]["text/plain"]) for m in page.of(msg_id).outputs("display_data")]


def backend(notebook: Notebook) -> RelayBackend:
    (relay,) = [b for b in notebook.proxy._sides.backends.values() if not b.trusted]
    return cast(RelayBackend, relay)


def test_the_relay_may_forget_what_every_page_has_and_nothing_else(there: Notebook, page: Page) -> None:
    page.run("print('both')")
    other = Page(there.proxy)
    other.connection.disconnect()
    before = there.proxy.clients.sessions()
    assert before[page.name] == before[other.name] > 0
    until(lambda: backend(there)._session._window.delivered >= before[page.name])
    assert page.run("print('one of them')").text == "one of them\n"
    there.receive(0.2)
    after = there.proxy.clients.sessions()
    assert after[page.name] > after[other.name] == before[other.name]
    assert backend(there)._session._window.delivered < after[page.name] - 3, "one page is still to get it"
    other.connect()
    other.until(lambda: other.messages)
    until(lambda: backend(there)._session._window.delivered >= after[page.name])
    assert there.proxy.clients.sessions()[other.name] == after[page.name]


def test_a_page_that_stalls_makes_the_relay_wait_and_gets_everything_in_the_end(there: Notebook, page: Page) -> None:
    count = 1000
    cell = page.cell(FLOOD.format(n=count, pause=0))
    until(lambda: there.proxy.clients.held, PATIENCE)
    outbox = there.proxy.clients._outbox
    there.receive(1.0)
    assert outbox.spooled < SPOOL + 2 * CREDIT < count * 50_000
    (execution,) = page.wait(cell, timeout=PATIENCE)
    assert shown(page, cell) == list(range(count))
    assert execution.outputs("stream") == []
    assert not there.proxy.clients.held
    assert page.run("print('on')").text == "on\n"


def test_a_page_that_is_away_is_given_up_rather_than_hold_up_one_that_reads(there: Notebook, page: Page) -> None:
    away, count = Page(there.proxy), 500
    away.connection.disconnect()
    with reading(page):
        cell = page.cell(FLOOD.format(n=count, pause=0.005))
        until(lambda: page.of(cell).over, PATIENCE)
    assert shown(page, cell) == list(range(count))
    assert away.name not in there.proxy.clients.sessions()
    assert not there.proxy.clients.held


def test_a_page_that_comes_frees_a_kernel_that_waits_for_one_that_is_away(there: Notebook, page: Page) -> None:
    cell = page.cell(FLOOD.format(n=1000, pause=0))
    page.connection.disconnect()
    until(lambda: there.proxy.clients.held, PATIENCE)
    other = Page(there.proxy)
    other.until(lambda: "idle" in other.of(cell).states, PATIENCE)
    assert shown(other, cell)[-1] == 999
    assert page.name not in there.proxy.clients.sessions()
