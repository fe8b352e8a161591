"""CPU or GPU for a notebook: grades, memory, what fits and what it costs, and that nothing a notebook has in it is too odd."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_dsvm.advice import FREE_SHARE, MemoryKnown, advice_html, advice_text, advise
from jupyter_dsvm.datafiles import ARRAY, TEXT, DataFile, sized
from jupyter_dsvm.models import FREE, OS, Advice, Compute, ComputeKind, GPUGrade, PowerState, Price, Size, SizeOffer
from jupyter_dsvm.notebookfacts import NotebookFacts, facts_of
from jupyter_dsvm.notebooks import code_of, language_of
from support.fakes import dsvm

GIB = 1024**3
HERE = Path(__file__).parent / "data" / "notebooks"


def usd(amount: float) -> Price:
    return Price(amount, "USD", "2026-01-01T00:00:00Z")


FREE_TIER = Compute(FREE, "Free tier", ComputeKind.FREE, PowerState.RUNNING, size=Size("", 2, 4.0, 0))
CPU = replace(dsvm("cpu-vm"), size=Size("Standard_D4ds_v5", 4, 16.0, 0), price=usd(0.25))
BIG = replace(dsvm("big-vm"), size=Size("Standard_E16ds_v5", 16, 128.0, 0), price=usd(1.2))
T4 = replace(
    dsvm("gpu-vm", PowerState.DEALLOCATED),
    size=Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "NVIDIA T4 16 GB"),
    price=usd(0.6),
)
ALL = (FREE_TIER, CPU, BIG, T4)

PANDAS = facts_of(["import pandas as pd\nfrom scipy import stats"])
TORCH = facts_of(["import torch", "x.cuda()"])


def best(advice: Advice) -> list[str]:
    return [f.name for f in advice.fits if f.best]


def fits(advice: Advice) -> dict[str, bool | None]:
    return {f.name: f.fits for f in advice.fits}


# The grade


@pytest.mark.parametrize(
    ("cells", "grade", "first"),
    [
        (["import torch", "x.cuda()"], GPUGrade.NEEDED,
         "This notebook needs a GPU: PyTorch asks for one in code cell 2 (.cuda())."),
        (["import cudf"], GPUGrade.NEEDED, "This notebook needs a GPU: cuDF (code cell 1) does nothing without one."),
        (["import jax"], GPUGrade.GAINS, "This notebook gains from a GPU: JAX (code cell 1) uses one where there is one."),
        (
            ["import xgboost as x\nx.XGBClassifier(device='cuda')"],
            GPUGrade.GAINS,
            'This notebook gains from a GPU: XGBoost takes one where there is one (device="cuda" in code cell 1).',
        ),
        (["import pandas, numpy"], GPUGrade.NO_GAIN,
         "A GPU brings this notebook nothing: pandas and NumPy compute on the CPU here."),
        (["import torch"], GPUGrade.NO_GAIN, "A GPU brings this notebook nothing: PyTorch computes on the CPU here."),
        (["import json"], GPUGrade.NO_GAIN, "A GPU brings this notebook nothing: it imports nothing that uses one."),
        (
            ["import os, jax\nos.environ['CUDA_VISIBLE_DEVICES'] = ''"],
            GPUGrade.NO_GAIN,
            "A GPU brings this notebook nothing: it hides all of them from itself (CUDA_VISIBLE_DEVICES).",
        ),
        (
            ["import pandas, strange"],
            GPUGrade.UNKNOWN,
            "Whether this notebook gains from a GPU cannot be told: of strange nothing is known here. Nothing else in it uses one.",
        ),
        ([], GPUGrade.UNKNOWN, "Whether this notebook gains from a GPU cannot be told: there is no Python code in it."),
        (["def ("], GPUGrade.UNKNOWN, "Whether this notebook gains from a GPU cannot be told: there is no Python code in it."),
        (["def (", "x = 1"], GPUGrade.UNKNOWN,
         "Whether this notebook gains from a GPU cannot be told from the cells that can be read."),
    ],
)  # fmt: skip
def test_the_grade(cells: list[str], grade: GPUGrade, first: str):
    advice = advise(facts_of(cells), ALL)
    assert (advice.gpu, advice.sentences[0]) == (grade, first)


def test_modules_beside_the_notebook_are_not_read():
    advice = advise(facts_of(["import train"], {"train"}), ALL)
    assert advice.gpu is GPUGrade.UNKNOWN
    assert "train beside the notebook is not read." in advice.sentences[0]


def test_what_would_make_a_library_use_a_gpu_is_said_once():
    said = advise(facts_of(["import torch", "import xgboost"]), ALL).sentences
    assert 'PyTorch (code cell 1) computes on the CPU unless asked; with .to("cuda") it uses a GPU.' in said
    assert not any("unless asked" in s for s in advise(TORCH, ALL).sentences)


def test_evidence_has_the_call_the_cell_and_the_source():
    (could, needs) = advise(TORCH, ALL).evidence
    assert (could.weight, could.cell, could.call) == ("could", 1, "")
    assert (needs.weight, needs.cell, needs.call, needs.library) == ("needs", 2, ".cuda()", "PyTorch")
    assert needs.source.startswith("https://docs.pytorch.org/")


# Memory


def with_data(*files: DataFile) -> NotebookFacts:
    return replace(PANDAS, data=files)


def test_memory_is_the_larger_of_what_was_measured_and_what_the_data_comes_to():
    data = with_data(DataFile("a.csv", 1, TEXT, 2 * GIB), DataFile("b.npy", 1, ARRAY, GIB))
    advice = advise(data, ALL, MemoryKnown(3.0, "the free tier"))
    assert advice.memory_gib == 12.0
    assert "Its kernel has had 3.0 GB of memory at most on the free tier." in advice.sentences
    assert (
        "Its data comes to about 12 GB in memory, by rules of thumb: "
        "a.csv (2.0 GB, text table: × 5), b.npy (1.0 GB, NumPy array: × 2)."
    ) in advice.sentences
    assert advise(data, ALL, MemoryKnown(30.0, "the free tier")).memory_gib == 30.0
    assert fits(advice) == {"Free tier": False, "cpu-vm": True, "big-vm": True, "gpu-vm": True}
    assert best(advice) == ["cpu-vm"]


def test_unknown_is_unknown():
    advice = advise(PANDAS, ALL)
    assert advice.memory_gib is None
    assert set(fits(advice).values()) == {None}
    assert best(advice) == []
    assert any(s.startswith("How much memory it needs is not known") for s in advice.sentences)
    missing = advise(with_data(DataFile("gone.csv", 1, TEXT)), ALL)
    assert missing.memory_gib is None
    assert "The size of gone.csv is not known here." in missing.sentences
    unsized = advise(PANDAS, [replace(CPU, size=None)], MemoryKnown(1.0, "the free tier"))
    assert fits(unsized) == {"cpu-vm": None}


def test_a_kernel_that_ran_out_of_memory_needs_more_than_that():
    advice = advise(PANDAS, ALL, MemoryKnown(outgrew_gib=16.0))
    assert fits(advice) == {"Free tier": False, "cpu-vm": False, "big-vm": True, "gpu-vm": True}
    assert best(advice) == ["big-vm"]
    assert "It ran out of memory at 16 GB, so it needs more than that." in advice.sentences


@pytest.mark.parametrize(("need", "enough"), [(16 * (1 - FREE_SHARE), True), (16 * (1 - FREE_SHARE) + 0.1, False)])
def test_a_tenth_is_left_to_the_system(need: float, enough: bool):
    assert fits(advise(PANDAS, [CPU], MemoryKnown(need, "the free tier"))) == {"cpu-vm": enough}


def test_sizes_of_files(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"x" * 1000)
    (tmp_path / "folder").mkdir()
    names = ["a.csv", "gone.csv", "folder", "a" * 5000, "~nobody-of-that-name/x", str(tmp_path / "a.csv")]
    found = sized([DataFile(n, 1, TEXT) for n in names], tmp_path)
    assert [f.size for f in found] == [1000, None, None, None, None, 1000]
    assert found[0].memory == 5000


# What fits, and what it costs


def test_a_gpu_without_gain_is_said_to_cost_so_many_times_as_much():
    advice = advise(PANDAS, ALL, MemoryKnown(10.0, "the free tier"))
    assert "The cheapest that fits: cpu-vm (~$0.25/h)." in advice.sentences
    assert (
        "gpu-vm (~$0.60/h) has a GPU and would cost 2.4 times as much as cpu-vm (~$0.25/h), with no gain."
        in advice.sentences
    )


def test_where_the_free_tier_is_enough():
    advice = advise(PANDAS, ALL, MemoryKnown(1.0, "the free tier"))
    assert best(advice) == ["Free tier"]
    assert "The free tier has enough memory for it." in advice.sentences
    alone = advise(PANDAS, [FREE_TIER, T4], MemoryKnown(1.0, "the free tier"))
    assert alone.sentences[-1] == "gpu-vm (~$0.60/h) has a GPU and would cost that, with no gain."


def test_where_a_gpu_is_needed():
    advice = advise(TORCH, ALL, MemoryKnown(10.0, "the free tier"))
    assert best(advice) == ["gpu-vm"]
    assert "The cheapest with a GPU: gpu-vm (~$0.60/h)." in advice.sentences
    assert not any("no gain" in s for s in advice.sentences)
    unmeasured = advise(TORCH, ALL)
    assert (
        "The cheapest with a GPU: gpu-vm (~$0.60/h); whether its memory is enough is not known." in unmeasured.sentences
    )
    none = advise(TORCH, [FREE_TIER, CPU], MemoryKnown(10.0, "the free tier"))
    assert none.sentences[-1] == "None of your machines is known to have a GPU and enough memory."


def test_prices_in_two_currencies_are_not_compared():
    euros = replace(T4, price=Price(0.6, "EUR", "2026-01-01T00:00:00Z"))
    advice = advise(PANDAS, [CPU, euros], MemoryKnown(1.0, "the free tier"))
    assert not any("times as much" in s for s in advice.sentences)


def test_windows_machines_are_left_out_and_machines_without_prices_stay():
    advice = advise(TORCH, [replace(T4, os=OS.WINDOWS), replace(T4, id="azure:x", name="x", price=None)])
    assert fits(advice) == {"x": None}
    assert best(advice) == ["x"]


def test_sizes_that_a_machine_could_have_are_the_cheapest_of_the_right_kind():
    def offer(name: str, gib: float, gpus: int, price: float | None, **more: Any) -> SizeOffer:
        return SizeOffer(Size(name, 4, gib, gpus), usd(price) if price else None, **more)

    offers = [
        offer("A", 28, 1, 3.0), offer("B", 28, 1, 0.9), offer("C", 28, 1, 2.0), offer("D", 28, 1, 1.0),
        offer("E", 2, 1, 0.1),
        offer("F", 64, 0, 0.2), offer("G", 28, 1, None), offer("H", 28, 1, 0.1, available=False),
        offer("I", 28, 1, 0.1, current=True),
    ]  # fmt: skip
    advice = advise(TORCH, [CPU], MemoryKnown(10.0, "the free tier"), offers)
    assert list(fits(advice)) == ["cpu-vm", "B", "D", "C"]
    assert best(advice) == ["B"]
    # A machine that is there comes before a size that one could have.
    assert best(advise(TORCH, [T4], MemoryKnown(10.0, "the free tier"), offers)) == ["gpu-vm"]
    assert fits(advise(PANDAS, [CPU], MemoryKnown(20.0, "x"), offers)) == {"cpu-vm": False, "F": True}
    assert fits(advise(facts_of(["import strange"]), [CPU], MemoryKnown(1.0, "x"), offers)) == {"cpu-vm": True}


# How it is shown


def test_a_table_for_a_terminal():
    lines = advice_text(advise(TORCH, ALL, MemoryKnown(10.0, "the free tier"))).splitlines()
    assert lines[-5].split() == ["NAME", "STATE", "SIZE", "KIND", "MEMORY", "PRICE"]
    assert lines[-4].split() == ["Free", "tier", "2", "CPU", "·", "4", "GB", "CPU", "too", "small"]
    assert lines[-1].startswith("*  gpu-vm     off")
    assert lines[-1].endswith("GPU   fits       ~$0.60/h")
    assert "NAME" not in advice_text(advise(TORCH, []))


def test_html_is_escaped():
    odd = replace(CPU, name="<img src=x>")
    facts = facts_of(["import torch", "x.to('cuda', '<script>')"])
    shown = advice_html(advise(facts, [odd]))
    assert "<img" not in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


# Whatever is in a notebook


def judged(notebook: bytes) -> Advice:
    advice = advise(facts_of(code_of(notebook)), ALL, MemoryKnown(1.0, "the free tier"))
    json.dumps(advice.to_json())
    assert advice.sentences[0]
    assert all(s.endswith(".") for s in advice.sentences), advice.sentences
    assert advice_text(advice)
    assert advice_html(advice)
    return advice


@pytest.mark.parametrize(
    ("name", "grade"),
    [
        ("churn", GPUGrade.NO_GAIN),
        ("finetune", GPUGrade.GAINS),
        ("boosted", GPUGrade.NEEDED),
        ("mnist", GPUGrade.GAINS),
        ("rapids", GPUGrade.GAINS),
        ("old", GPUGrade.NO_GAIN),
    ],
)
def test_notebooks(name: str, grade: GPUGrade):
    assert judged((HERE / f"{name}.ipynb").read_bytes()).gpu is grade


def test_a_notebook_of_another_language():
    assert language_of((HERE / "survey.ipynb").read_bytes()) == "r"
    assert language_of((HERE / "churn.ipynb").read_bytes()) == "python"
    assert language_of(b"[]") == language_of(b'{"metadata": {"kernelspec": 5}}') == ""


def test_notebooks_of_installed_packages():
    """Whatever packages are here: those of papermill are there for its own tests, and odd."""
    pytest.importorskip("papermill")
    places = [Path(p) for p in sys.path if p.endswith("site-packages")]
    places.append(Path(__file__).parent.parent / "jupyter_dsvm")
    found = {file: place for place in places for file in sorted(place.rglob("*.ipynb"))[:200]}
    assert len([file for file in found if "papermill" in file.parts]) > 10
    grades = {file.relative_to(place).as_posix(): judged(file.read_bytes()).gpu for file, place in found.items()}
    assert grades["papermill/tests/notebooks/simple_execute.ipynb"] is GPUGrade.NO_GAIN
    assert grades["papermill/tests/notebooks/test_logging.ipynb"] is GPUGrade.UNKNOWN


def test_modules_of_installed_packages_as_cells():
    """Notebooks are rare among packages, and code is not: some hundred files of it, each as a cell."""
    place = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    for package in ("numpy", "scipy", "sklearn", "IPython", "joblib"):
        files = sorted((place / package).rglob("*.py"))[::15][:25]
        for file in files:
            facts = facts_of([file.read_text("utf-8", "replace")])
            assert advise(facts, ALL).sentences


ODD = [
    b"", b"{}", b"[]", b"null", b"\xff", b'{"cells": 5}', b'{"cells": [5]}', b'{"cells": [{"cell_type": "code"}]}',
    b'{"cells": [{"cell_type": "code", "source": null}]}', b'{"worksheets": []}', b'{"worksheets": [{}]}',
    b'{"cells": [{"cell_type": "code", "source": [1, 2]}]}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("notebook", ODD)
def test_what_is_no_notebook(notebook: bytes):
    assert judged(notebook).gpu in (GPUGrade.UNKNOWN, GPUGrade.NO_GAIN)


@pytest.mark.parametrize(
    "cell",
    [
        "(" * 5000,
        "x = " + "-" * 20_000 + "1",
        "import torch\n" + "x = " + " + ".join(["a"] * 3000) + "\nx.cuda()",
        "import torch\nx" + ".y" * 3000 + ".cuda()",
        "x = x\ny = x\nx = y\nimport torch\nm.to(x)",
        "import torch\nd = d if c else d\nm.to(d)",
        "f'{x!r:>{y}}'\nimport pandas as pd\npd.read_csv(f'{x}{y}')",
        "import pandas as pd\npd.read_csv(*a, **b)\npd.read_csv('a\\0b')",
        "import torch\n{**a, 'device': 'cuda'}\nf(**{'device': None})",
        "import torch\nm.to()\nm.cuda(*x)\ntorch.device()",
        "import " + ", ".join(f"m{i}" for i in range(5000)),
        "match x:\n    case {'device': 'cuda'}:\n        pass",
        "\ufeffimport pandas",
        "import a\x00",
        "%%time",
        "%load_ext",
        "# " + "x" * 500_000,
        "x = [\n" + "'y',\n" * 50_000 + "]",
    ],
)
def test_odd_cells(cell: str):
    facts = facts_of([cell, "import pandas"])
    assert advise(facts, ALL).sentences
    assert "pandas" in {f.library.name for f in facts.found}


FRAGMENTS = st.sampled_from(
    [
        "import torch", "import pandas as pd", "from numba import cuda", "device = 'cuda'", "device = device", "m.to(device)",
        "m.cuda()", "if torch.cuda.is_available():", "    m.to('cuda')", "pd.read_csv('a.csv')", "%load_ext cudf.pandas", "%%bash",
        "!ls", "x?", "def (", "try:", "except ImportError:", "    import cupy", "p['device'] = 'gpu'", "d = {'device': device}",
        "import lightgbm", "torch = 5", "pd = torch", "(", ")", "'''", "return", "await x", "lambda: 0", "\t", "\\",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.lists(FRAGMENTS, max_size=8).map("\n".join), st.text(max_size=60)), max_size=6))
def test_anything_as_cells(cells: list[str]):
    notebook = {"cells": [{"cell_type": "code", "source": c} for c in cells], "nbformat": 4}
    judged(json.dumps(notebook).encode())
