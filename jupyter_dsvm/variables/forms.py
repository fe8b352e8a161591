"""The fast forms: how large values travel, each with the library that the notebook has imported anyway. Here: NumPy's arrays.

A form is a *reducer*: given the pickler and a value, it gives the value's memory to the pickler's sink and says what pickle is to
write instead; or ``NotImplemented`` where the value's own way is as good. By names of types: nothing is imported to know them.

Arrays that share memory with another one (views) stay views of it if that one travels too, or if together they are most of it.
Which ones those are is seen in the dry run (``survey``) and told the pickler as ``roots``.
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
    """Asked once for each class and pickler."""
    from . import frames, tensors

    key = (kind.__module__, kind.__name__)
    for table in (REDUCERS, frames.REDUCERS, tensors.REDUCERS):
        if key in table:
            return table[key]
    return _subclass if _is_plain_subclass(kind) else None


def _array(pickler: Any, array: Any) -> Any:
    """An array of numbers, dates or texts of fixed length; arrays of objects are left to pickle."""
    if array.dtype.hasobject or array.dtype.kind not in "biufcmMSUV":
        return NotImplemented
    root = root_of(array)
    pickler.saw_array(array, root)
    simple = array.dtype.isbuiltin == 1 or array.dtype.kind in "mMSU"
    writable = bool(array.flags.writeable)
    if id(root) in pickler.roots and root is not array:
        offset = address_of(array) - address_of(root)
        dtype = array.dtype.str if simple else array.dtype
        return view_of, (root, dtype, array.shape, array.strides, offset, writable)
    if array.nbytes < LARGE:
        return NotImplemented
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    about = {"form": "array", "dtype": array.dtype.str if simple else None, "shape": list(array.shape), "order": order}
    ticket = pickler.sink.part(about, array.nbytes, memory_of(array, order))
    return made_array, (ticket, None if simple else array.dtype, array.shape, order, writable)


def root_of(array: Any) -> Any:
    """The array whose memory it is: itself, or the one that it is a view of, if that is an ordinary one in one piece."""
    root = array
    while type(root.base) is type(array):
        root = root.base
    fit = (root.flags.c_contiguous or root.flags.f_contiguous) and not root.dtype.hasobject and root.nbytes > 0
    return root if fit else array


def address_of(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def memory_of(array: Any, order: str) -> Iterator[Any]:
    """The bytes of an array in this order, without a copy where they are in one piece."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        yield _bytes_of(array, order)
    else:
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
        yield _bytes_of(numpy.ascontiguousarray(array[start : start + step]))


def made_array(ticket: int, dtype: Any, shape: Tuple[int, ...], order: str, writable: bool) -> Any:
    """Called by the pickle: the memory that has come, as what it was."""
    from .pickling import take

    array = take(ticket)
    if dtype is not None:
        array = array.view(dtype).reshape(shape, order=order)
    if not writable:
        array.flags.writeable = False
    return array


def view_of(
    root: Any, dtype: Any, shape: Tuple[int, ...], strides: Tuple[int, ...], offset: int, writable: bool
) -> Any:
    """Called by the pickle. NumPy checks that the view is within the root's memory."""
    import numpy

    order = "C" if root.flags.c_contiguous else "F"
    view = numpy.ndarray(shape, numpy.dtype(dtype), root.reshape(-1, order=order).view("u1"), offset, strides)
    if not writable:
        view.flags.writeable = False
    return view


def _is_plain_subclass(kind: type) -> bool:
    """A subclass of ndarray that leaves pickling to it, such as ``numpy.matrix``; it would copy its memory into the pickle."""
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None
        and issubclass(kind, numpy.ndarray)
        and all(getattr(kind, n) is getattr(numpy.ndarray, n) for n in ("__reduce__", "__reduce_ex__", "__setstate__"))
    )


def _subclass(pickler: Any, array: Any) -> Any:
    if array.nbytes < LARGE or array.dtype.hasobject:
        return NotImplemented
    return as_subclass, (array.view(sys.modules["numpy"].ndarray), type(array))


def as_subclass(array: Any, kind: type) -> Any:
    return array.view(kind)


def _masked(pickler: Any, array: Any) -> Any:
    if array.nbytes < LARGE or array.dtype.hasobject:
        return NotImplemented
    data, mask = array.data, array.mask
    return masked, (data, mask if mask.ndim else bool(mask), array.fill_value, bool(array.hardmask))


def masked(data: Any, mask: Any, fill_value: Any, hard: bool) -> Any:
    import numpy

    return numpy.ma.MaskedArray(data, mask=mask, fill_value=fill_value, hard_mask=hard, copy=False)


def _generator(pickler: Any, generator: Any) -> Any:
    """A random generator, whose own pickle other releases of NumPy do not understand."""
    if pickler.there.same_release("numpy"):
        return NotImplemented
    return made_generator, (type(generator.bit_generator).__name__, generator.bit_generator.state)


def made_generator(kind: str, state: Any) -> Any:
    from numpy import random

    bits = getattr(random, kind)()
    bits.state = state
    return random.Generator(bits)


def room_for(about: Dict[str, Any], size: int) -> Tuple[Any, memoryview]:
    """Memory for a part that is announced: what the pickle will ask for, and its bytes. Not touched before they come."""
    if about.get("form") == "array":
        import numpy

        dtype = about.get("dtype")
        if dtype is None:
            array: Any = numpy.empty(size, numpy.uint8)
            return array, _bytes_of(array)
        kind, shape = numpy.dtype(str(dtype)), [int(n) for n in about["shape"]]
        length = kind.itemsize
        for n in shape:
            length *= max(n, 0)
        if length != size or kind.hasobject:
            raise ValueError("An array is not as large as was said.")
        array = numpy.empty(shape, kind, order=about["order"])
        return array, _bytes_of(array, about["order"])
    if size >= PIECE and "numpy" in sys.modules:
        data: Any = memoryview(sys.modules["numpy"].empty(size, "u1"))
    else:
        data = bytearray(size)
    return data, memoryview(data)


REDUCERS: Dict[Tuple[str, str], Reducer] = {
    ("numpy", "ndarray"): _array,
    ("numpy.random._generator", "Generator"): _generator,
    ("numpy.ma", "MaskedArray"): _masked,
    ("numpy.ma.core", "MaskedArray"): _masked,
}
