"""The fast forms: how large values travel, each with the library that the notebook has imported anyway.

A form is a *reducer*: given the pickler and a value, it gives the value's memory to the pickler's sink and says what pickle is to
write instead; or ``NotImplemented`` where the value's own way is as good. By names of types: nothing is imported to know them.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

LARGE = 4096
"""Bytes from which an array travels beside the pickle."""
PIECE = 1024 * 1024
"""Bytes that are copied at a time where memory is not in one piece."""

Reducer = Callable[[Any, Any], Any]


def reducer_of(kind: type) -> Optional[Reducer]:
    return REDUCERS.get((kind.__module__, kind.__name__))


# NumPy


def _array(pickler: Any, array: Any) -> Any:
    """An array of numbers, dates or texts of fixed length; arrays of objects are left to pickle."""
    if array.nbytes < LARGE or array.dtype.hasobject or array.dtype.kind not in "biufcmMSUV":
        return NotImplemented
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    simple = array.dtype.isbuiltin == 1 or array.dtype.kind in "mMSU"
    about = {"form": "array", "dtype": array.dtype.str if simple else None, "shape": list(array.shape), "order": order}
    ticket = pickler.sink.part(about, array.nbytes, _memory_of(array, order))
    return made_array, (ticket, None if simple else array.dtype, array.shape, order)


def _memory_of(array: Any, order: str) -> Iterator[Any]:
    """The bytes of an array in this order, without a copy where they are in one piece."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        yield _bytes_of(array, order)
        return
    yield from _rows(array)


def _bytes_of(array: Any, order: str = "C") -> memoryview:
    """Of memory in one piece. Not by the buffer protocol alone, which knows no dates."""
    return memoryview(array.reshape(-1, order=order).view("u1"))


def _rows(array: Any) -> Iterator[Any]:
    import numpy

    if array.ndim > 1 and array.nbytes // len(array) > PIECE:
        for row in array:
            yield from _rows(row)
        return
    step = max(1, PIECE * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), step):
        piece = numpy.ascontiguousarray(array[start : start + step])
        yield _bytes_of(piece)


def made_array(ticket: int, dtype: Any, shape: Tuple[int, ...], order: str) -> Any:
    """Called by the pickle: the memory that has come, as what it was."""
    from .pickling import take

    array = take(ticket)
    return array if dtype is None else array.view(dtype).reshape(shape, order=order)


def room_for(about: Dict[str, Any], size: int) -> Tuple[Any, memoryview]:
    """Memory for a part that is announced: what the pickle will ask for, and its bytes. Not touched before they come."""
    if about.get("form") == "array":
        import numpy

        dtype = about.get("dtype")
        if dtype is None:
            array = numpy.empty(size, numpy.uint8)
            return array, _bytes_of(array)
        array = numpy.empty([int(n) for n in about["shape"]], numpy.dtype(str(dtype)), order=about["order"])
        if array.nbytes != size or array.dtype.hasobject:
            raise ValueError("An array is not as large as was said.")
        return array, _bytes_of(array, about["order"])
    if size >= PIECE and "numpy" in sys.modules:
        data: Any = memoryview(sys.modules["numpy"].empty(size, "u1"))
    else:
        data = bytearray(size)
    return data, memoryview(data)


REDUCERS: Dict[Tuple[str, str], Reducer] = {
    ("numpy", "ndarray"): _array,
}
