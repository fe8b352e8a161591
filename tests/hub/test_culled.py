"""A kernel on a VM outlives the user's server where a hub culls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.hub import Hub, Person, needs_proxy
from support.kernels import until
from support.restarted import COMPUTE, attach, counting, lines, numbers, place
from support.served import OTHERS, write_settings
from support.tab import Tab

pytestmark = needs_proxy

PATIENCE = 60.0
ADA = "ada"


@pytest.mark.timeout(300)  # two servers come up, one after the other
def test_a_kernel_survives_a_cull_with_the_same_id(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with place(tmp_path / "place") as where:
        write_settings(where.config, OTHERS)
        person = Person(ADA, where.home, environment={**where.environment, "JUPYTER_CONFIG_DIR": str(where.config)})
        with Hub(tmp_path / "hub", [person]) as hub:
            server = hub.spawn(ADA)
            session = server.open("count.ipynb")
            kernel_id = session["kernel"]["id"]
            attach(server, kernel_id)
            with Tab(server, kernel_id) as tab:
                tab.run("x = 41")
                cells = [tab.send(counting(150, 0.1, said)), tab.send("print(x + 1)")]
                tab.until(lambda: tab.of(cells[0]).text.count("\n") >= 5)
                hub.cull(ADA)
                tab.cut()
                before = lines(said)
                until(lambda: lines(said) > before)
                hub.spawn(ADA)
                (found,) = server.rest("GET", "api/sessions")
                assert (found["id"], found["path"], found["kernel"]["id"]) == (session["id"], "count.ipynb", kernel_id)
                tab.connect()
                counted, after = tab.wait(*cells, timeout=PATIENCE)
                assert counted.text == numbers(150) == said.read_text()
                assert after.text == "42\n"
                row = server.row(kernel_id)
                assert (row["compute"], row["link"]["state"], row["path"]) == (COMPUTE, "connected", "count.ipynb")
            server.rest("DELETE", f"api/sessions/{session['id']}", status=204)
            until(lambda: not where.kept)
        # The hub has stopped the server, whose connection was the last that was left there.
        assert not where.machine.wait_until_idle(20)
