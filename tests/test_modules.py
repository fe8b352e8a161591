"""What a notebook imports, read from the text of its cells, and what to install for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_dsvm.errors import BadRequest
from jupyter_dsvm.models import Module
from jupyter_dsvm.modules import MAX_MODULES, checked_packages, imported, is_local, package_of
from jupyter_dsvm.notebooks import code_of, notes_of


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("import numpy as np, os.path", ["numpy", "os"]),
        ("from sklearn.linear_model import Lasso", ["sklearn"]),
        ("from . import beside\nfrom .beside import x", []),
        ("def f():\n    import inside", ["inside"]),
        ("import importlib\nimportlib.import_module('dyn.part')", ["importlib", "dyn"]),
        ("__import__('odd')\n__import__(name)\nimport_module('.rel')", ["odd"]),
        ("try:\n    import fast\nexcept ImportError:\n    import slow\nelse:\n    import extra", ["extra"]),
        ("try:\n    import fast\nexcept (ValueError, ModuleNotFoundError):\n    fast = None", []),
        ("try:\n    import needed\nexcept ValueError:\n    raise", ["needed"]),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import stubs\nelse:\n    import real",
            ["typing", "real"],
        ),
        ("%matplotlib inline\nimport a", ["a"]),
        ("!pip install x\nimport a\nfiles = !ls\nn = %sql select", ["a"]),
        ("if 1:\n    %load_ext x\n    import a", ["a"]),
        ("%time import timed", ["timed"]),
        ("a?\nimport a\nb.c??", ["a"]),
        ("%%time\nimport timed", ["timed"]),
        ("%%capture out --no-stderr\nimport quiet", ["quiet"]),
        ("%%bash\nimport screenshot.png", []),
        ("%%writefile x.py\nimport written", []),
        ("x = (7\n  % 3)\nimport after", ["after"]),
        ("text = '''\n!not a command\n%nor a magic\n'''\nimport after", ["after"]),
        ("await thing()\nimport after", ["after"]),
        ("import cut off (", []),
        ("import a\x00", []),
        ("\ufeffimport bom", ["bom"]),
        ("import ünïcode", ["ünïcode"]),
        ("x = '\\d'\nimport escaped", ["escaped"]),
        ("from __future__ import annotations", []),
        ("(" * 5000, []),
        ("x = " + "-" * 20000 + "1", []),
        ("", []),
    ],
)
def test_a_cell(cell: str, names: list[str]):
    assert imported([cell]) == names


def test_a_broken_cell_leaves_the_others_and_each_module_counts_once():
    assert imported(["import b, a", "def (", "import a, c"]) == ["b", "a", "c"]
    assert len(imported([f"import m{i}" for i in range(2 * MAX_MODULES)])) == MAX_MODULES


def test_packages():
    assert package_of("sklearn") == "scikit-learn"  # installed here
    assert package_of("cv2") == "opencv-python-headless"
    assert package_of("yaml").lower() == "pyyaml"
    assert package_of("some_thing") == "some-thing"
    assert package_of("imp") == ""  # of another Python
    assert package_of("google") == ""  # of many
    assert package_of("distutils") == "setuptools"


def test_what_lies_beside_the_notebook(tmp_path: Path):
    (tmp_path / "helpers.py").touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.py").touch()
    (tmp_path / "data").mkdir()
    assert [is_local(n, tmp_path) for n in ("helpers", "parts", "data", "numpy")] == [True, True, False, False]
    assert not is_local("helpers", None)


@pytest.mark.parametrize(
    "package",
    ["plotly", "plotly==5.24.1", "a[b,c]>=1,<2", "scikit-learn ~= 1.3", "x!=2.*", "ruamel.yaml", "zope.interface"],
)
def test_names_that_pip_may_be_given(package: str):
    assert checked_packages([package]) == [package]


@pytest.mark.parametrize(
    "package",
    [
        "",
        "-r",
        "--index-url=http://x",
        "-e.",
        ".",
        "./x",
        "/etc/x",
        "x/y",
        "git+https://x/y",
        "x @ https://x/y.whl",
        "http://x/y",
        "x.whl",
        "x-1.0.tar.gz",
        "x; python_version<'3'",
        "x --hash=1",
        "x\n--pre",
        "x y",
        "x==1 -U",
        "ünïcode",
        "a" * 201,
    ],
)
def test_what_pip_may_not_be_given(package: str):
    with pytest.raises(BadRequest):
        checked_packages([package])


def test_how_many_packages():
    for packages in ([], ["x"] * 51):
        with pytest.raises(BadRequest, match="to install"):
            checked_packages(packages)


def test_the_code_of_a_file():
    cells = [
        {"cell_type": "code", "source": ["import a\n", "x = 1"]},
        {"cell_type": "markdown", "source": "import b"},
        {"cell_type": "code", "source": "import c"},
    ]
    assert code_of(json.dumps({"cells": cells}).encode()) == ["import a\nx = 1", "import c"]
    for nonsense in (b"", b"\xff", b"[]", b"{}", b'{"cells": [1]}', b'{"cells": {"a": 1}}', b"[" * 100_000):
        assert code_of(nonsense) == []
    assert code_of(json.dumps({"cells": [{"cell_type": "code", "source": "x" * (2 << 20)}]}).encode()) == []


def test_what_the_magic_says_of_it():
    there = [Module("os", "", "present"), Module("odd", "", "unknown")]
    assert notes_of(there) == []
    one = Module("plotly", "plotly", "missing")
    assert notes_of([*there, one]) == [
        "Missing there: plotly. Install it with %pip install plotly in the next cell.",
    ]
    more = [one, Module("sklearn", "scikit-learn", "missing"), Module("imp", "", "missing"), Module("own", "", "local")]
    assert notes_of(more) == [
        "Missing there: plotly, sklearn (scikit-learn), imp. Install them with %pip install plotly scikit-learn in the next cell.",
        "own lies beside the notebook here and is not there.",
    ]
    assert notes_of([Module("imp", "", "missing")]) == ["Missing there: imp."]
