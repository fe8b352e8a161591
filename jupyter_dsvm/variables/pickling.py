"""From objects to a pickle whose large memory goes beside it, and back.

cloudpickle does most of it: functions and classes of the notebook travel by value, all else by the name under which it is
imported. What is different here:

* **A notebook's functions stay its functions.** cloudpickle gives an unpickled function a namespace of its own with copies of
  what it uses. Here a function of the notebook finds the namespace of the notebook that it comes to, so ``def f(): return x``
  goes on to see what ``x`` is made to be. Cells of closures that are shared stay shared.
* **Large memory is not copied.** Arrays (``forms``) and what offers its memory to pickle protocol 5 are written into the stream
  as they are, and read into the memory that they then have.
* **What cannot move is refused in a sentence** (``reasons``), also where pickle would make something else of it, as of an
  open file.

A pickle is made while it is sent and loaded while it arrives, so neither end has it in memory.
"""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import sys
import types
from typing import Any, Callable, Dict, Iterator, List, Optional, Protocol, Set, Tuple

from . import forms, sourcecode
from .names import Namespace
from .reasons import CannotMove, unmovable

PROTOCOL = 5
"""Python 3.8 and later; both ends know it, whatever else they know."""


def _find_cloudpickle() -> Any:
    """The one that came along (``kernels/variables_source.py``), else the one that is installed.

    Pickles hold names of its functions, so both ends must have the same.
    """
    try:
        return importlib.import_module(f"{__package__}.cloudpickle")
    except ImportError:
        return importlib.import_module("cloudpickle.cloudpickle")


cloudpickle = _find_cloudpickle()


class Sink(Protocol):
    """Where a pickle goes: ``outgoing.Outgoing``, or ``survey.Counter``, which only counts."""

    def write(self, data: Any) -> Any: ...

    def part(self, about: Dict[str, Any], size: int, memory: Iterator[Any]) -> int:
        """Memory that goes beside the pickle. The ticket under which the pickle speaks of it."""
        ...


class There:
    """What is known of the other end: its ``hello``."""

    def __init__(self, hello: Optional[Dict[str, Any]] = None) -> None:
        hello = hello or {}
        python = hello.get("python") or sys.version_info[:3]
        self.python: Tuple[int, ...] = tuple(python)
        self.modules: Dict[str, Optional[str]] = dict(hello.get("modules") or {})

    @property
    def reads_bytecode(self) -> bool:
        """Code objects mean something to the same minor version of Python only."""
        return self.python[:2] == tuple(sys.version_info[:2])

    @property
    def problem(self) -> str:
        """Why nothing at all can move there."""
        if self.python[0] != sys.version_info[0]:
            return f"Python {self.python[0]} cannot load what Python {sys.version_info[0]} has."
        return ""

    def lacks(self, module: str) -> bool:
        return module in self.modules and self.modules[module] is None

    def same_release(self, module: str) -> bool:
        """Whether a library is there in the same release (but for patches), as far as is known."""
        ours = getattr(sys.modules.get(module), "__version__", "")
        theirs = self.modules.get(module)
        return theirs is None or theirs.split(".")[:2] == str(ours).split(".")[:2]


class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
    """One pickle into a sink. ``roots``: ids of arrays that are sent whole, so that views of them are sent as views."""

    only_counts = False
    """In the dry run: a form need not make what it would send."""

    def __init__(self, sink: Sink, namespace: Namespace, there: There, roots: Optional[Set[int]] = None) -> None:
        super().__init__(sink, protocol=PROTOCOL, buffer_callback=self._buffer)
        self.sink = sink
        self.there = there
        self.roots = roots if roots is not None else set()
        self._namespace = namespace.names
        installed = sys.modules.get("cloudpickle.cloudpickle")
        if installed is not None:  # modules that the user wants to travel by value
            cloudpickle._PICKLE_BY_VALUE_MODULES.update(installed._PICKLE_BY_VALUE_MODULES)
        self._known: Dict[type, Optional[forms.Reducer]] = {}
        self._cells: Dict[int, Any] = {}
        """Cells of functions, whose contents come with the function."""
        self._sources: Dict[str, str] = {}
        self.storages: Dict[int, Any] = {}
        """Memory of tensors, by its address: see ``tensors``."""
        self.notes: List[str] = []

    def saw_array(self, array: Any, root: Any) -> None:
        """For the dry run: an array and the one whose memory it is."""

    def shares(self, key: Any) -> None:
        """For the dry run: what others may share, such as the memory of tensors."""

    def note(self, text: str) -> None:
        """Something is not quite the same there."""
        self.notes.append(text)

    def _buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Called by pickle for memory that an object offers. False: it goes beside the pickle."""
        raw = buffer.raw()
        self.sink.part({"form": "buffer"}, raw.nbytes, iter((raw,)))
        return False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self._known:
            reducer = self._known[kind]
        else:
            reason = unmovable(kind)
            if reason is not None:
                raise CannotMove(reason)
            reducer = self._known[kind] = OWN.get(kind) or forms.reducer_of(kind)
        if reducer is not None:
            reduced = reducer(self, obj)
            return super().reducer_override(obj) if reduced is NotImplemented else reduced
        if kind is types.CodeType:
            return self._code(obj)
        if kind is types.CellType and id(obj) in self._cells:
            return _empty_cell, ()
        return super().reducer_override(obj)

    def _code(self, code: types.CodeType) -> Any:
        source = self._sources.get(code.co_filename)
        if source is None:
            source = self._sources[code.co_filename] = sourcecode.source_of(code.co_filename)
        if not self.there.reads_bytecode:
            return sourcecode.reduce(code, source, self.there.python)
        return sourcecode.reduce_with(cloudpickle._code_reduce(code), code.co_filename, source)

    def _dynamic_function_reduce(self, func: Any) -> Any:
        """cloudpickle calls this for a function that cannot be imported there."""
        if func.__globals__ is not self._namespace:
            return super()._dynamic_function_reduce(func)
        cells = func.__closure__ or ()
        for cell in cells:
            self._cells[id(cell)] = cell
        contents = [(cell.cell_contents,) if _full(cell) else () for cell in cells]
        try:
            annotations = dict(func.__annotations__)
        except Exception:  # evaluated late since Python 3.14; then they name what is not there
            annotations = {}
        state = {
            "__qualname__": func.__qualname__,
            "__module__": func.__module__,
            "__doc__": func.__doc__,
            "__defaults__": func.__defaults__,
            "__kwdefaults__": func.__kwdefaults__,
            "__annotations__": annotations,
        }
        return (
            _function, (func.__code__, func.__name__, cells), (state, dict(func.__dict__), contents), None, None, _finish_function,
        )  # fmt: skip


def _environ(_pickler: Pickler, environ: Any) -> Any:
    """This process's environment is not the other's, and has tokens in it that are none of its business."""
    return (getattr, (os, "environ")) if environ is os.environ else NotImplemented


def _cached(_pickler: Pickler, function: Any) -> Any:
    """A function of the notebook under ``functools.lru_cache``: pickle would only name it, and there it is not yet."""
    if function.__module__ != "__main__":
        return NotImplemented
    parameters = getattr(function, "cache_parameters", None)  # since Python 3.9
    kept = parameters() if parameters is not None else {"maxsize": function.cache_info().maxsize}
    return made_cached, (function.__wrapped__, kept)


def made_cached(function: Any, parameters: Dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


OWN: Dict[type, forms.Reducer] = {type(os.environ): _environ, functools._lru_cache_wrapper: _cached}


def _full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


# What pickles call where they are loaded


class _Place:
    """Where what is being loaded goes; ``Loading`` sets it. Loading is one at a time, on the kernel's main thread."""

    names: Optional[Dict[str, Any]] = None
    take: Optional[Callable[[int], Any]] = None


def take(ticket: int) -> Any:
    """The memory that came beside the pickle under this ticket."""
    if _Place.take is None:
        raise pickle.UnpicklingError("This can only be loaded from its stream.")
    return _Place.take(ticket)


def _function(code: Any, name: str, cells: Tuple[Any, ...]) -> Any:
    if _Place.names is None:
        raise pickle.UnpicklingError("This can only be loaded from its stream.")
    return types.FunctionType(code, _Place.names, name, None, cells or None)


def _finish_function(function: Any, state: Any) -> None:
    attributes, extra, contents = state
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(extra)
    for cell, content in zip(function.__closure__ or (), contents):
        if content:
            cell.cell_contents = content[0]


def _empty_cell() -> Any:
    return types.CellType()


class Loading:
    """``with Loading(namespace, take):`` around the loading of pickles of this module."""

    def __init__(self, namespace: Namespace, ticket: Callable[[int], Any]) -> None:
        self._names, self._take = namespace.names, ticket

    def __enter__(self) -> None:
        _Place.names, _Place.take = self._names, self._take

    def __exit__(self, *_: Any) -> None:
        _Place.names = _Place.take = None


class _Unpickler(pickle.Unpickler):
    """Knows that NumPy's modules have another name before version 2 (1.26 at the earliest) than since."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ModuleNotFoundError, AttributeError):
            for before, after in (("numpy._core", "numpy.core"), ("numpy.core", "numpy._core"), ("numpy.rec", "numpy")):
                if module.startswith(before):
                    return super().find_class(after + module[len(before) :], name)
            raise


def load(file: Any, buffers: Iterator[Any]) -> Any:
    """One pickle. ``file`` gives its bytes as they come, ``buffers`` the memory beside it."""
    return _Unpickler(file, buffers=buffers).load()
