"""The stream of variables by itself: what goes in comes out; a changed or missing byte is an error, never another value."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm import variables
from jupyter_dsvm.variables.incoming import SLACK
from jupyter_dsvm.variables.names import Namespace
from jupyter_dsvm.variables.outgoing import Outgoing
from jupyter_dsvm.variables.pickling import There
from jupyter_dsvm.variables.receiving import TAKEN
from jupyter_dsvm.variables.sending import Sending
from jupyter_dsvm.variables.stream import HEAD_SIZE, Kind, Order, Reader, StreamEnded, StreamError, Writer
from support.streamed import received, stream_of

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(PLAIN, max_size=3)
    ),
    max_leaves=20,
)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)


def frames_of(stream: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(stream):
        size = int.from_bytes(stream[at + 4 : at + 8], "big")
        found.append(stream[at : at + HEAD_SIZE + size])
        at += HEAD_SIZE + size
    return found


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_goes_in_comes_out(names: dict[str, Any]):
    there, result, error = received(stream_of(names))
    assert error is None
    assert there == names
    assert list(result.done) == list(names)
    assert result.failed == {}


@given(
    st.sampled_from(["f8", "i2", ">u4", "M8[s]", "m8[ns]", "U3", "S5", "?", "c16", [("a", "i4"), ("b", "f8")]]),
    st.lists(st.integers(0, 30), min_size=0, max_size=3),
    st.sampled_from(["C", "F", "strided", "reversed", "readonly"]),
    st.sampled_from([False, True, "auto"]),
)
def test_arrays_come_out_as_they_were(dtype: Any, shape: list[int], layout: str, compress: str | bool):
    size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int))
    source = np.frombuffer(bytes(i % 2 for i in range(size)), dtype).reshape(shape) if size else np.zeros(shape, dtype)
    array = np.array(source, order="F" if layout == "F" else "C")
    if array.ndim and layout == "strided":
        array = np.repeat(array, 2, axis=0)[::2]
    elif array.ndim and layout == "reversed":
        array = array[::-1]
    elif layout == "readonly":
        array.flags.writeable = False
    there, _, error = received(stream_of({"a": array}, compress))
    assert error is None
    assert there["a"].shape == array.shape
    np.testing.assert_array_equal(there["a"], array)
    if size >= 4096:  # smaller ones are left to NumPy
        assert there["a"].dtype == array.dtype
        assert there["a"].tobytes() == array.tobytes()
        assert there["a"].flags.writeable == array.flags.writeable
        assert layout not in ("C", "F") or there["a"].flags.f_contiguous == array.flags.f_contiguous


def test_views_stay_views_of_what_travels_too():
    whole = np.arange(10_000.0).reshape(100, 100)
    small = np.arange(100_000.0)[:5]
    parts = np.arange(20_000.0)
    names = {
        "row": whole[3],
        "whole": whole,
        "turned": whole.T,
        "few": small,
        "train": parts[:15_000],
        "test": parts[5_000:],
    }
    stream = stream_of(names)
    assert len(stream) < whole.nbytes + parts.nbytes + 10_000
    there, _, _ = received(stream)
    for name, value in names.items():
        np.testing.assert_array_equal(there[name], value)
    there["whole"][3, 7] = -1
    assert there["row"][7] == there["turned"][7, 3] == -1
    there["train"][6_000] = -2
    assert there["test"][1_000] == -2


SOME = {"a": [1, 2], "b": np.arange(1000.0), "c": {"k": "v"}, "d": "text"}


def test_each_truncation_is_an_error_and_gives_whole_names_only():
    stream = stream_of(SOME)
    for length in range(len(stream)):
        there, _, error = received(stream[:length])
        assert isinstance(error, StreamEnded)
        for name, value in there.items():
            np.testing.assert_equal(value, SOME[name])


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_each_changed_byte_is_an_error_and_no_other_value(flip: int):
    stream = bytearray(stream_of({**SOME, "b": np.arange(600.0)}))
    for at in range(len(stream)):
        stream[at] ^= flip
        there, _, error = received(bytes(stream))
        stream[at] ^= flip
        assert error is not None, at
        for name, value in there.items():
            np.testing.assert_equal(value, SOME[name][:600] if name == "b" else SOME[name])


def test_each_frame_that_is_missing_doubled_or_at_another_place_is_an_error():
    frames = frames_of(stream_of(SOME))
    assert len(frames) > 10
    for i in range(len(frames)):
        assert received(b"".join(frames[:i] + frames[i + 1 :]))[2] is not None
        assert received(b"".join([*frames[: i + 1], *frames[i:]]))[2] is not None or i == len(frames) - 1
        if i:
            assert received(b"".join([*frames[: i - 1], frames[i], frames[i - 1], *frames[i + 1 :]]))[2] is not None


FIELDS = [
    "version",
    "bytes",
    "names",
    "name",
    "module",
    "attribute",
    "ticket",
    "size",
    "form",
    "dtype",
    "shape",
    "order",
]
JSON = st.recursive(
    st.none() | st.integers(-3, 2**70) | st.text(max_size=6) | st.sampled_from(["a", "array", "f8", "C", "os", "O"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "reason", "failed"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=8,
)
PAYLOAD = st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40))


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), PAYLOAD), max_size=12), st.integers(0, 3))
def test_whatever_well_formed_frames_say_the_end_is_an_error_of_the_stream(said: list[tuple[Kind, bytes]], start: int):
    """A hostile sender: the frames are right, what they say is anything. (Pickles, which may do anything, aside.)"""
    stream = io.BytesIO()
    writer = Writer(stream.write)
    opening: list[tuple[Kind, Any]] = [
        (Kind.HEAD, {"version": 1, "bytes": 100}),
        (Kind.ITEM, {"names": ["a"], "bytes": 1}),
        (Kind.PART, {"ticket": 1, "size": 20, "form": "bytes"}),
    ]
    for kind, value in opening[:start]:
        writer.json(kind, value)
    for kind, payload in said:
        if kind is not Kind.PICKLE:
            writer.frame(kind, payload)
    names, _, error = received(stream.getvalue())
    if error is None:
        assert names == {} or set(names) <= {"a", "os", "C", "O", "f8", "array"}


def test_more_than_was_announced_is_not_taken():
    stream = io.BytesIO()
    writer = Writer(stream.write)
    writer.json(Kind.HEAD, {"version": 1, "bytes": 10})
    writer.json(Kind.ITEM, {"names": ["a"], "bytes": 10})
    writer.json(Kind.PART, {"ticket": 1, "size": SLACK + 11, "form": "bytes"})
    _, _, error = received(stream.getvalue())
    assert str(error) == "More came than was announced."


def test_an_item_that_cannot_be_loaded_is_passed_over_and_the_next_is_there():
    class Gone:
        def __reduce__(self) -> Any:
            return fail_to_load, (np.arange(5000.0),)

    names = {"before": 1, "gone": Gone(), "after": np.arange(5000.0), "text": "t" * 400_000}
    there, result, error = received(stream_of(names))
    assert error is None
    assert list(there) == ["before", "after", "text"]
    assert result.failed == {"gone": "ValueError: not here."}
    np.testing.assert_array_equal(there["after"], names["after"])


def fail_to_load(_: Any) -> None:
    raise ValueError("not here")


def test_an_item_that_cannot_be_pickled_to_its_end_is_given_up_in_the_stream():
    class Changes:
        """Can be looked at once."""

        looks = 0

        def __reduce__(self) -> Any:
            Changes.looks += 1
            if Changes.looks > 1:
                raise ValueError("it has changed")
            return list, ()

    stream = io.BytesIO()
    sending = Sending(Namespace({"a": 1, "c": [np.arange(5000.0), Changes()], "d": 2}), There(), Outgoing(stream.write))
    sending.send(None)
    assert list(sending.result.done) == ["a", "d"]
    assert sending.result.failed == {"c": "ValueError: it has changed."}
    there, result, error = received(stream.getvalue())
    assert (there, result.failed, error) == ({"a": 1, "d": 2}, {}, None)


def test_what_is_there_already_is_not_overwritten():
    there, result, _ = received(stream_of({"a": 1, "b": [2], "c": 3}), {"b": "mine"})
    assert there == {"a": 1, "b": "mine", "c": 3}
    assert result.failed == {"b": TAKEN}


def test_a_name_that_is_none_is_not_made():
    stream = io.BytesIO()
    out = Outgoing(stream.write)
    out.writer.json(Kind.HEAD, {"version": 1, "bytes": 100})
    out.writer.json(Kind.IMPORTS, [{"name": "__builtins__", "module": "os"}, {"name": "a b", "module": "os"}])
    out.writer.json(Kind.DONE, {})
    assert received(stream.getvalue())[0] == {}


def test_large_pieces_are_deflated_where_that_is_asked_for():
    text = np.zeros(1_000_000)
    noise = np.frombuffer(np.random.default_rng(0).bytes(1_000_000), "u1")
    assert len(stream_of({"a": text}, True)) < 200_000
    assert len(stream_of({"a": noise}, True)) < 1_010_000
    there, _, _ = received(stream_of({"a": text, "b": noise}, True))
    np.testing.assert_array_equal(there["a"], text)
    np.testing.assert_array_equal(there["b"], noise)


def test_the_order_of_frames_is_a_table_that_names_only_its_own_states():
    for steps in (Order.STEPS, Order.BACK):
        assert {after for step in steps.values() for after in step.values()} <= set(steps)


def test_the_way_back_has_an_order_too():
    stream = io.BytesIO()
    writer = Writer(stream.write)
    writer.json(Kind.RESULT, {})
    writer.json(Kind.WANTED, ["a"])
    reader = Reader(io.BytesIO(stream.getvalue()).readinto, back=True)
    reader.next()
    reader.skip()
    with pytest.raises(StreamError, match="WANTED came where it may not"):
        reader.next()


LATE = {"IPython", "numpy", "pandas", "polars", "pyarrow", "torch", "jax", "cupy", "tensorflow"}
"""What a value brings with it."""


def test_it_is_python_3_8_and_imports_the_standard_library_until_a_value_needs_more():
    for path in Path(variables.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        late = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            allowed = {*sys.stdlib_module_names, *(LATE if node in late else ())}
            assert {n.partition(".")[0] for n in names} <= allowed, (path.name, names)
