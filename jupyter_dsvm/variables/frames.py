"""The fast forms of data frames.

pandas
    Where the other end has the same release, a frame's own pickle: its blocks are arrays and travel as those, and text columns are
    Arrow's memory, which pickle protocol 5 gives as it is. Other releases do not understand that. To them a frame goes in
    pieces that all know: the values of each column, its dtype, and the index.
Polars
    Arrow's stream format, some rows at a time; Polars' own pickle would have all of it in memory once more.
pyarrow
    A table's own pickle gives its memory as it is; a small slice of a large table goes in Arrow's stream format, which leaves the
    rest behind.
"""

from __future__ import annotations

import io
from typing import Any, Callable, Dict, Iterator, List, Tuple

LARGE = 64 * 1024
PIECE = 8 * 1024 * 1024
"""Bytes of rows that are written at a time."""

Reducer = Callable[[Any, Any], Any]


# pandas, to another release


def _pandas(reduce: Reducer) -> Reducer:
    def reducer(pickler: Any, value: Any) -> Any:
        there = pickler.there
        alike = there.same_release("pandas") and not (there.lacks("pyarrow") and _has_arrow(value))
        return NotImplemented if alike else reduce(pickler, value)

    return reducer


def _has_arrow(value: Any) -> bool:
    dtypes = getattr(value, "dtypes", None)
    each = [value.dtype] if hasattr(value, "dtype") else list(dtypes) if dtypes is not None else []
    return any(getattr(d, "storage", "") == "pyarrow" or type(d).__name__ == "ArrowDtype" for d in each)


def _frame(_pickler: Any, frame: Any) -> Any:
    columns = [_Values(frame.iloc[:, i]) for i in range(frame.shape[1])]
    return made_frame, (columns, frame.columns, frame.index, dict(frame.attrs))


def _series(_pickler: Any, series: Any) -> Any:
    return made_series, (_Values(series), series.index, series.name, dict(series.attrs))


def _index(_pickler: Any, index: Any) -> Any:
    freq = getattr(index, "freqstr", None) if type(index).__name__ in ("DatetimeIndex", "TimedeltaIndex") else None
    return made_index, (_Values(index), index.name, freq)


def _range(_pickler: Any, index: Any) -> Any:
    return made_range, (index.start, index.stop, index.step, index.name)


def _multi(_pickler: Any, index: Any) -> Any:
    return made_multi, (list(index.levels), [_plain(c) for c in index.codes], list(index.names))


def _plain(array: Any) -> Any:
    import numpy

    return numpy.ascontiguousarray(array)


class _Values:
    """The values of a column or an index, whatever class of pandas has them."""

    def __init__(self, of: Any) -> None:
        self.of = of


def _values(_pickler: Any, values: _Values) -> Any:
    import numpy

    array, dtype = values.of.array, values.of.dtype
    kind = type(dtype).__name__
    if isinstance(dtype, numpy.dtype):
        return made_values, ("numpy", values.of.to_numpy())
    if kind == "CategoricalDtype":
        return made_values, ("category", (_plain(array.codes), _Values(array.categories), bool(array.ordered)))
    if kind == "DatetimeTZDtype":
        return made_values, ("zone", (array.asi8, getattr(dtype, "unit", "ns"), str(dtype.tz)))
    if kind.endswith("StringDtype"):
        texts = numpy.asarray(array.astype(object), dtype=object)
        return made_values, ("text", (texts.tolist(), str(dtype) == "str"))
    if hasattr(array, "_data") and hasattr(array, "_mask"):
        return made_values, ("masked", (array._data, array._mask, kind))
    return made_values, ("other", array)


def made_values(form: str, value: Any) -> Any:
    """Called by the pickle: an array of NumPy's or pandas'."""
    import pandas

    if form == "category":
        codes, categories, ordered = value
        return pandas.Categorical.from_codes(
            codes, categories=pandas.Index(categories, dtype=categories.dtype), ordered=ordered
        )
    if form == "zone":
        stamps, unit, zone = value
        return pandas.DatetimeIndex(stamps.view(f"M8[{unit}]")).tz_localize("UTC").tz_convert(zone).array
    if form == "text":
        texts, is_str = value
        if is_str and int(pandas.__version__.split(".")[0]) >= 3:
            return pandas.array(texts, dtype="str")
        if is_str:  # to pandas 2 that is what texts are
            import numpy

            return numpy.asarray(texts, dtype=object)
        return pandas.array(texts, dtype="string")
    if form == "masked":
        data, mask, kind = value
        array = {"BooleanDtype": "BooleanArray", "Float32Dtype": "FloatingArray", "Float64Dtype": "FloatingArray"}
        return getattr(pandas.arrays, array.get(kind, "IntegerArray"))(data, mask)
    return value


def made_frame(columns: List[Any], names: Any, index: Any, attrs: Dict[Any, Any]) -> Any:
    import pandas

    # Each with its dtype: pandas 3 would make texts of objects that are texts.
    series = {i: pandas.Series(v, index=index, dtype=v.dtype, copy=False) for i, v in enumerate(columns)}
    frame = pandas.DataFrame(series, index=index, copy=False)
    frame.columns = names
    frame.attrs.update(attrs)
    return frame


def made_series(values: Any, index: Any, name: Any, attrs: Dict[Any, Any]) -> Any:
    import pandas

    series = pandas.Series(values, index=index, dtype=values.dtype, name=name, copy=False)
    series.attrs.update(attrs)
    return series


def made_index(values: Any, name: Any, freq: Any) -> Any:
    import pandas

    index = pandas.Index(values, dtype=values.dtype, name=name, copy=False)
    if freq is not None:
        try:
            index.freq = freq
        except ValueError:
            pass
    return index


def made_range(start: int, stop: int, step: int, name: Any) -> Any:
    import pandas

    return pandas.RangeIndex(start, stop, step, name=name)


def made_multi(levels: List[Any], codes: List[Any], names: List[Any]) -> Any:
    import pandas

    return pandas.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=False)


# Polars


class _Rows:
    """Some rows, written when their turn comes."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows


def _polars_frame(_pickler: Any, frame: Any) -> Any:
    if frame.estimated_size() < LARGE:
        return NotImplemented
    step = max(1, PIECE * frame.height // frame.estimated_size())
    return made_polars, ([_Rows(frame.slice(start, step)) for start in range(0, frame.height, step)],)


def _polars_series(_pickler: Any, series: Any) -> Any:
    if series.estimated_size() < LARGE:
        return NotImplemented
    return made_polars_series, (series.to_frame(), series.name)


def _polars_rows(pickler: Any, rows: _Rows) -> Any:
    if pickler.only_counts:
        return made_rows, (pickler.sink.part({}, rows.rows.estimated_size(), iter(())),)
    buffer = io.BytesIO()
    rows.rows.write_ipc_stream(buffer)
    view = buffer.getbuffer()
    return made_rows, (pickler.sink.part({"form": "bytes"}, view.nbytes, iter((view,))),)


def made_rows(ticket: int) -> Any:
    """Called by the pickle."""
    import polars

    from .pickling import take

    return polars.read_ipc_stream(io.BytesIO(take(ticket)))


def made_polars(pieces: List[Any]) -> Any:
    import polars

    return polars.concat(pieces, rechunk=False)


def made_polars_series(frame: Any, name: str) -> Any:
    return frame.get_column(name)


# pyarrow


def _table(pickler: Any, table: Any) -> Any:
    if table.get_total_buffer_size() < 2 * table.nbytes + LARGE:
        return NotImplemented
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    batches = table.to_batches() if hasattr(table, "to_batches") else [table]
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    buffer = memoryview(sink.getvalue())
    ticket = pickler.sink.part({"form": "bytes"}, buffer.nbytes, iter((buffer,)))
    return made_table, (ticket, hasattr(table, "to_batches"))


def made_table(ticket: int, table: bool) -> Any:
    """Called by the pickle."""
    import pyarrow

    from .pickling import take

    reader = pyarrow.ipc.open_stream(pyarrow.py_buffer(take(ticket)))
    return reader.read_all() if table else reader.read_next_batch()


def _arrow_extension(_pickler: Any, array: Any) -> Any:
    """A column of pandas in Arrow's memory. Its own pickle would put the pieces together first, which is a copy of all."""
    chunked = getattr(array, "_pa_array", None)
    if chunked is None or chunked.nbytes < LARGE or chunked.get_total_buffer_size() > 1.5 * chunked.nbytes + LARGE:
        return NotImplemented  # of a small slice, that copy is the smaller thing
    return made_arrow_extension, (type(array), {**array.__dict__, "_pa_array": list(chunked.chunks), "_cache": {}})


def made_arrow_extension(kind: Any, state: Dict[str, Any]) -> Any:
    """Called by the pickle."""
    array = kind.__new__(kind)
    array.__setstate__(state)
    return array


def _both(*names: str) -> Iterator[Tuple[str, str]]:
    """A class's name, under the module that pandas said before 3 and the one that it says since."""
    for name in names:
        module, _, kind = name.rpartition(".")
        yield module, kind
        yield "pandas", kind


REDUCERS: Dict[Tuple[str, str], Reducer] = {
    **dict.fromkeys(_both("pandas.core.frame.DataFrame"), _pandas(_frame)),
    **dict.fromkeys(_both("pandas.core.series.Series"), _pandas(_series)),
    **dict.fromkeys(
        _both(
            "pandas.core.indexes.base.Index",
            "pandas.core.indexes.numeric.Int64Index",
            "pandas.core.indexes.numeric.UInt64Index",
            "pandas.core.indexes.numeric.Float64Index",
            "pandas.core.indexes.category.CategoricalIndex",
            "pandas.core.indexes.datetimes.DatetimeIndex",
            "pandas.core.indexes.timedeltas.TimedeltaIndex",
        ),
        _pandas(_index),
    ),
    **dict.fromkeys(_both("pandas.core.indexes.range.RangeIndex"), _pandas(_range)),
    **dict.fromkeys(_both("pandas.core.indexes.multi.MultiIndex"), _pandas(_multi)),
    (__name__, "_Values"): _values,
    ("pandas.arrays", "ArrowStringArray"): _arrow_extension,
    ("pandas.arrays", "ArrowExtensionArray"): _arrow_extension,
    ("pandas.core.arrays.string_arrow", "ArrowStringArray"): _arrow_extension,
    ("pandas.core.arrays.arrow.array", "ArrowExtensionArray"): _arrow_extension,
    ("polars.dataframe.frame", "DataFrame"): _polars_frame,
    ("polars.series.series", "Series"): _polars_series,
    (__name__, "_Rows"): _polars_rows,
    ("pyarrow.lib", "Table"): _table,
    ("pyarrow.lib", "RecordBatch"): _table,
}
