"""``%dsvm sync`` end to end: a real kernel on an emulated VM, real SSH, and both folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import PATIENCE, attached, configured, emulator, ours, refused, service, where
from support.kernels import Notebook, until

__all__ = ["configured", "emulator"]


@pytest.fixture
def folder(configured: Emulator, tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "work" / "analysis"
    made.mkdir(parents=True)
    (made / "data.csv").write_text("x,21\n")
    yield made
    until(lambda: not ours(configured, "cpu-vm"))


def in_step(notebook: Notebook) -> None:
    until(lambda: service().workspaces.of_kernel(notebook.proxy.kernel_id).state.value == "in_step")


def test_a_cell_syncs_and_is_told_what_both_sides_had_changed(folder: Path):
    with Notebook(cwd=str(folder)) as notebook:
        said, _ = refused(notebook, "%dsvm sync")
        assert said.startswith("No files travel with this notebook: it runs on the free tier.")
        attached(notebook, "cpu-vm")
        in_step(notebook)
        assert "Its files: 5 bytes, in step." in notebook.run("%dsvm status").text
        (folder / "more.txt").write_text("more")
        line = notebook.run("%dsvm sync", timeout=PATIENCE)
        assert line.status == "ok"
        assert "1 file copied to cpu-vm." in line.text
        assert notebook.run("print(open('more.txt').read())").text == "more\n"

        in_step(notebook)
        (folder / "data.csv").write_text("x,1\n")
        told = notebook.run("written = open('data.csv', 'w').write('x,100\\n')\n%dsvm sync", timeout=PATIENCE).text
        assert "data.csv was changed here and there: the machine's version is beside it as data (cpu-vm " in told
        assert (folder / "data.csv").read_text() == "x,1\n"
        (kept,) = folder.glob("data (cpu-vm *).csv")
        assert "data.csv was changed here and there" in notebook.run("%dsvm status").text
        kept.unlink()
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"


def test_an_attach_without_files(folder: Path):
    with Notebook(cwd=str(folder)) as notebook:
        assert notebook.run("%dsvm attach cpu-vm --no-sync", timeout=PATIENCE).status == "ok"
        until(lambda: where(notebook) == "cpu-vm")
        assert notebook.run("import os; print(os.path.exists('data.csv'))").text == "False\n"
        said, _ = refused(notebook, "%dsvm sync")
        assert said.startswith("No files travel with this notebook on cpu-vm.")
        assert "%dsvm detach" in said
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
