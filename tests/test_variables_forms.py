"""Arrays, frames and tensors come out as they were, to the same release of their library and to another one."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

from jupyter_dsvm.kernels import variables_source
from jupyter_dsvm.variables.names import Namespace
from jupyter_dsvm.variables.pickling import There
from jupyter_dsvm.variables.survey import look_at
from support.streamed import received, stream_of

N = 20_000
OTHER_RELEASE = {"modules": {"pandas": "1.5.3", "numpy": "1.21.0"}}


def carried(value: Any, there: dict[str, Any] | None = None) -> tuple[Any, bytes]:
    stream = stream_of({"a": value}, there=there)
    names, result, error = received(stream)
    assert error is None
    assert result.failed == {}
    return names["a"], stream


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "i": np.arange(N),
            "f": np.where(np.arange(N) % 5, rng.normal(size=N), np.nan),
            "text": [f"text {k % 100}" for k in range(N)],
            "none": [None if k % 3 else "x" for k in range(N)],
            "objects": pd.Series([k if k % 2 else "mixed" for k in range(N)], dtype=object),
            "date": pd.date_range("2020", periods=N, freq="min"),
            "zone": pd.date_range("2020-10-24", periods=N, freq="h", tz="Europe/Berlin"),
            "delta": pd.to_timedelta(np.arange(N), unit="s"),
            "cat": pd.Categorical(["a", "b"] * (N // 2), categories=["b", "a", "c"], ordered=True),
            "int": pd.array([1, None] * (N // 2), dtype="Int64"),
            "float": pd.array([1.5, None] * (N // 2), dtype="Float64"),
            "bool": pd.array([True, None] * (N // 2), dtype="boolean"),
            "string": pd.array(["q", None] * (N // 2), dtype="string"),
            "period": pd.period_range("2020", periods=N, freq="D"),
        }
    )
    made.attrs["source"] = "somewhere"
    return made


@pytest.mark.parametrize("there", [None, OTHER_RELEASE], ids=["same", "other"])
def test_frames_of_pandas(frame: pd.DataFrame, there: dict[str, Any] | None):
    frames = {
        "plain": frame,
        "indexed": frame.set_index("date"),
        "multi": frame.set_index(["cat", "i"]).head(5000),
        "named": frame.set_index("text").head(5000).drop(columns=["none"]),
        "columns": pd.DataFrame(
            np.arange(8000.0).reshape(-1, 4), columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]])
        ),
        "doubled": pd.DataFrame(np.arange(20_000).reshape(-1, 2), columns=["x", "x"]),
        "empty": pd.DataFrame(),
        "none": frame.head(0),
    }
    stream = stream_of(frames, there=there)
    names, result, error = received(stream)
    assert error is None
    assert result.failed == {}
    for name, value in frames.items():
        pd.testing.assert_frame_equal(names[name], value, check_freq=True)
        assert names[name].attrs == value.attrs


@pytest.mark.parametrize("there", [None, OTHER_RELEASE], ids=["same", "other"])
def test_series_and_indexes_of_pandas(frame: pd.DataFrame, there: dict[str, Any] | None):
    for column in frame:
        pd.testing.assert_series_equal(carried(frame[column], there)[0], frame[column])
    for index in (
        frame.index,
        frame.set_index("date").index,
        frame.set_index("cat").index,
        pd.Index([1.5, 2]),
        pd.Index(["a"]),
    ):
        pd.testing.assert_index_equal(carried(index, there)[0], index, exact=True)


def test_a_frame_travels_by_its_own_memory_and_shares_it_with_its_array():
    array = np.random.default_rng(0).normal(size=(1000, 50))
    names = {"array": array, "frame": pd.DataFrame(array, copy=False)}
    stream = stream_of(names)
    assert len(stream) < 1.1 * array.nbytes
    there, _, _ = received(stream)
    assert np.shares_memory(there["frame"].iloc[:, 0].to_numpy(), there["array"])
    pd.testing.assert_frame_equal(there["frame"], names["frame"])


def test_text_columns_travel_in_arrows_memory(frame: pd.DataFrame):
    texts = pd.Series([f"a longer text number {k}" for k in range(N)], dtype="str")
    there, stream = carried(texts)
    pd.testing.assert_series_equal(there, texts)
    assert len(stream) < 1.3 * texts.memory_usage(index=False)
    few, stream = carried(texts.iloc[:10])
    pd.testing.assert_series_equal(few, texts.iloc[:10])
    assert len(stream) < 10_000


def test_tables_of_pyarrow_and_small_slices_of_them():
    table = pa.table(
        {"a": np.arange(N), "b": [f"text {k}" for k in range(N)], "c": [[k] if k % 2 else None for k in range(N)]}
    )
    there, _ = carried(table)
    assert there.equals(table, check_metadata=True)
    few, stream = carried(table.slice(5, 10))
    assert few.equals(table.slice(5, 10))
    assert len(stream) < 20_000
    batch = table.to_batches()[0]
    assert carried(batch)[0].equals(batch)
    assert carried(batch.slice(3, 4))[0].equals(batch.slice(3, 4))


@pytest.fixture(scope="module")
def pl() -> Any:
    """Its threads keep some descriptors for good."""
    polars = pytest.importorskip("polars")
    polars.DataFrame({"a": range(N)}).lazy().sort("a").collect()
    return polars


def test_frames_of_polars(pl: Any):
    made = pl.DataFrame(
        {
            "i": range(N),
            "s": [f"text {k}" for k in range(N)],
            "cat": pl.Series(["a", "b"] * (N // 2), dtype=pl.Categorical),
            "enum": pl.Series(["x", None] * (N // 2), dtype=pl.Enum(["x", "y"])),
            "list": [[k] for k in range(N)],
        }
    )
    there, _ = carried(made)
    assert there.schema == made.schema
    assert there.equals(made)
    assert carried(made["s"])[0].equals(made["s"])
    assert carried(made.head(3))[0].equals(made.head(3))
    assert carried(made.lazy())[0].collect().equals(made)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_sparse_matrices_masked_arrays_records_and_matrices():
    matrix = sparse.random(500, 500, 0.1, format="csr", random_state=0)
    there, stream = carried(matrix)
    assert (there != matrix).nnz == 0
    assert len(stream) < matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes + 5000
    masked = np.ma.MaskedArray(np.arange(5000.0), mask=np.arange(5000) % 3 == 0, fill_value=-1)
    there, _ = carried(masked)
    np.testing.assert_array_equal(there.mask, masked.mask)
    np.testing.assert_array_equal(there.filled(), masked.filled())
    records = np.rec.fromarrays([np.arange(5000), np.arange(5000.0)], names="x,y")
    there, _ = carried(records)
    assert type(there) is np.recarray
    np.testing.assert_array_equal(there.y, records.y)
    there, _ = carried(np.asmatrix(np.ones((100, 100))))
    assert type(there) is np.matrix


def test_objects_that_hold_arrays_share_them():
    array = np.arange(10_000.0)
    there, stream = carried({"a": array, "b": [array, {"c": array}], "none": np.array([None, 1, array], dtype=object)})
    assert there["a"] is there["b"][0] is there["b"][1]["c"] is there["none"][2]
    assert len(stream) < array.nbytes + 5000


@pytest.mark.parametrize("there", [None, OTHER_RELEASE], ids=["same", "other"])
def test_random_generators_go_on_where_they_were(there: dict[str, Any] | None):
    for bits in (np.random.PCG64, np.random.MT19937, np.random.Philox):
        generator = np.random.Generator(bits(3))
        generator.random(5)
        copy, _ = carried(generator, there)
        assert copy.random() == generator.random()


def test_models_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = np.random.default_rng(0).normal(size=(500, 200)), np.arange(500.0)
    model = linear.LinearRegression().fit(x, y)
    there, _ = carried(model)
    np.testing.assert_array_equal(there.predict(x), model.predict(x))


def test_arrays_of_jax():
    jax = pytest.importorskip("jax")
    array, small = jax.numpy.arange(20_000.0).reshape(100, 200), jax.numpy.arange(3000, dtype=jax.numpy.bfloat16)
    there, _ = carried({"a": array, "s": small})
    assert isinstance(there["a"], jax.Array)
    assert bool((there["a"] == array).all())
    assert there["s"].dtype == small.dtype
    assert bool((there["s"] == small).all())


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    whole = torch.arange(20_000.0).reshape(100, 200)
    half = torch.arange(1000).to(torch.bfloat16)
    layer = torch.nn.Linear(100, 50)
    tied = torch.nn.Linear(100, 50)
    tied.weight = layer.weight
    names = {
        "whole": whole, "turned": whole.T, "few": whole[0, :5], "half": half, "layer": layer, "tied": tied,
        "grad": torch.ones(5000, requires_grad=True), "empty": torch.empty(0, 3), "flag": torch.tensor(True),
    }  # fmt: skip
    stream = stream_of(names)
    assert len(stream) < whole.nbytes + half.nbytes + layer.weight.nbytes + 60_000
    there, result, error = received(stream)
    assert (error, result.failed) == (None, {})
    for name in ("whole", "turned", "few", "half", "grad", "empty", "flag"):
        assert torch.equal(there[name], names[name]), name
        assert there[name].dtype == names[name].dtype
        assert there[name].requires_grad == names[name].requires_grad
    there["whole"][3, 7] = -1
    assert there["turned"][7, 3] == -1
    assert there["tied"].weight is there["layer"].weight
    assert isinstance(there["layer"].weight, torch.nn.Parameter)
    assert torch.equal(there["layer"](whole[:, :100]), layer(whole[:, :100]))


# Between versions of Python


def pythons() -> list[str]:
    """Other minor versions on this machine; they need nothing installed."""
    found = {}
    for path in sorted(
        glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python")) + glob.glob("/usr/bin/python3.*")
    ):
        try:
            told = subprocess.run(
                [path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, timeout=20
            )
            major, minor = map(int, told.stdout.split())
        except (OSError, ValueError):
            continue
        if (major, minor) >= (3, 8) and (major, minor) != sys.version_info[:2]:
            found[minor] = path
    return list(found.values())


SEND = """
import sys, linecache, json
PUT, PATH, PYTHON, CELL = json.loads(sys.stdin.read())
exec(PUT)
def module(name): return sys.modules['_jupyter_dsvm_variables.' + name]
ns = sys.modules['__main__'].__dict__
before = set(ns) | {'before'}
linecache.cache['<cell>'] = (len(CELL), None, CELL.splitlines(True), '<cell>')
exec(compile(CELL, '<cell>', 'exec'), ns)
names = {n: ns[n] for n in ns if n not in before}
space = module('names').Namespace(ns)
with open(PATH, 'wb') as stream:
    out = module('outgoing').Outgoing(stream.write)
    sending = module('sending').Sending(space, module('pickling').There({'python': PYTHON}), out)
    sending.send(list(names))
print(json.dumps(sending.result.failed))
"""
LOAD = """
import sys, json
PUT, PATH, CHECK = json.loads(sys.stdin.read())
exec(PUT)
def module(name): return sys.modules['_jupyter_dsvm_variables.' + name]
ns = sys.modules['__main__'].__dict__
with open(PATH, 'rb') as stream:
    receiving = module('receiving').Receiving(module('names').Namespace(ns), stream.readinto)
    receiving.receive()
print(json.dumps([receiving.result.failed, eval(CHECK)]))
"""
CELL = """
import functools
x = 5
def f(): return x
def outer(n=3, *, k=4):
    def inner(m): return (lambda a: a + n + m + k)(1), [(lambda: i)() for i in range(2)]
    return inner
inner = outer(10)
pair = (lambda: 'first'), (lambda: 'second')
class A:
    kind = 'A'
    def __init__(self, v): self.v = v
    @property
    def twice(self): return self.v * 2
    @classmethod
    def make(cls): return cls(1)
    def __eq__(self, other): return type(other) is type(self) and other.v == self.v
class B(A):
    def __init__(self, v): super().__init__(v + 1)
b = B(20)
@functools.wraps(f)
def wrapped(): return f() + 1
def gen():
    yield from (i * x for i in range(3))
async def later(): return x
"""
CHECK = (
    "[f(), inner(1), [p() for p in pair], b.twice, type(b) is B, A.make() == A(1), B.make().v, wrapped(), list(gen()),"
    " outer()(1)[0], f.__globals__ is ns, ns.__setitem__('x', 7), f()]"
)
EXPECTED = [5, [16, [0, 1]], ["first", "second"], 42, True, True, 2, 6, [0, 5, 10], 9, True, None, 7]


def ran(python: str, script: str, *told: Any) -> Any:
    shown = subprocess.run(
        [python, "-c", script], input=json.dumps(told), capture_output=True, text=True, timeout=60, check=False
    )
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


@pytest.mark.skipif(not pythons(), reason="no other Python on this machine")
def test_functions_and_classes_of_the_notebook_go_to_other_versions_of_python_and_back(tmp_path: Path):
    put, path, here = variables_source.source(), str(tmp_path / "x"), list(sys.version_info[:3])
    for other in pythons():
        there = ran(other, "import sys, json; print(json.dumps(sys.version_info[:3]))")
        assert ran(sys.executable, SEND, put, path, there, CELL) == {}
        assert ran(other, LOAD, put, path, CHECK) == [{}, EXPECTED], other
        assert ran(other, SEND, put, path, here, CELL) == {}
        assert ran(sys.executable, LOAD, put, path, CHECK) == [{}, EXPECTED], other


def test_a_function_without_source_stays_where_another_version_is_there():
    made: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(): return 1", made)
    look = look_at(Namespace(made), "f", There({"python": [3, 8, 1]}), float("inf"))
    assert look.reason == "Python 3.8 needs the source of f, which is not known."
    assert look_at(Namespace(made), "f", There(), float("inf")).reason == ""
    assert There({"python": [4, 0, 0]}).problem == "Python 4 cannot load what Python 3 has."
