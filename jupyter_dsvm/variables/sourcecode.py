"""Code of a notebook for another minor version of Python, which does not understand this one's bytecode: as its source.

A cell's text is in ``linecache``, under the file name that IPython has given the cell. What travels is that text and which of the
code objects in it is meant: the way to it through the functions that it is in, and which of those of the same name. So free
variables, defaults and decorators are what they were. To the same version the bytecode travels, with the text for tracebacks.
"""

from __future__ import annotations
import __future__

import linecache
import types
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .reasons import CannotMove

MAX_SOURCE = 512 * 1024
TOP_LEVEL_AWAIT = 0x2000
"""``ast.PyCF_ALLOW_TOP_LEVEL_AWAIT``: cells may await."""

Way = List[Tuple[str, int]]
"""From the cell's own code: the name of each code object, and which of that name there."""

_cells: Dict[Tuple[str, str], Any] = {}
"""What was compiled last, by its name and text: the methods of a class are in one cell."""


def source_of(filename: str) -> str:
    """The text of a cell; empty where it is not known, or is that of a file."""
    entry = linecache.cache.get(filename)
    lines = entry[2] if entry is not None and len(entry) == 4 and entry[1] is None else ()
    return "".join(lines) if 0 < sum(map(len, lines)) <= MAX_SOURCE else ""


def reduce_with(reduced: Any, filename: str, source: str) -> Any:
    """For pickle, to the same version of Python: what cloudpickle makes of it, and the source for tracebacks and later moves."""
    return (with_source, (reduced[1], filename, source)) if source else reduced


def with_source(arguments: Any, filename: str, source: str) -> types.CodeType:
    """The code object, where it is loaded."""
    _remember(filename, source)
    return types.CodeType(*arguments).replace(co_filename=filename)


def _remember(filename: str, source: str) -> None:
    linecache.cache.setdefault(filename, (len(source), None, source.splitlines(True), filename))


def reduce(code: types.CodeType, source: str, python: Tuple[int, ...]) -> Any:
    """For pickle, to another version of Python. ``CannotMove`` where the source is not known."""
    way = _way_to(code, source) if source else None
    if way is None:
        there = ".".join(map(str, python[:2]))
        raise CannotMove(f"Python {there} needs the source of {code.co_name}, which is not known.")
    return compiled, (source, code.co_filename, way, _features_of(code))


def compiled(source: str, filename: str, way: Way, features: List[str]) -> types.CodeType:
    """The code object, where it is loaded."""
    code = _compile(source, filename, features)
    _remember(filename, source)
    for name, number in way:
        found = [inner for inner in _inner(code) if inner.co_name == name]
        if number >= len(found):
            raise ValueError(f"The source of {name} means something else to this Python.")
        code = found[number]
    return code


def _compile(source: str, filename: str, features: List[str]) -> types.CodeType:
    key = (filename, source)
    if key not in _cells:
        flags = TOP_LEVEL_AWAIT
        for name in features:
            feature = getattr(__future__, name, None)
            flags |= feature.compiler_flag if feature is not None else 0
        _cells.clear()
        _cells[key] = compile(source, filename, "exec", flags, dont_inherit=True)
    code: types.CodeType = _cells[key]
    return code


def _features_of(code: types.CodeType) -> List[str]:
    flagged = [(name, getattr(__future__, name).compiler_flag) for name in __future__.all_feature_names]
    return [name for name, flag in flagged if flag and code.co_flags & flag == flag and flag > 0x10000]


def _way_to(code: types.CodeType, source: str) -> Optional[Way]:
    try:
        whole = _compile(source, code.co_filename, _features_of(code))
    except (SyntaxError, ValueError):
        return None
    for way, found in _walk(whole, []):
        if found == code:
            return way
    return None


def _walk(code: types.CodeType, way: Way) -> Iterator[Tuple[Way, types.CodeType]]:
    counted: Dict[str, int] = {}
    for inner in _inner(code):
        number = counted.get(inner.co_name, 0)
        counted[inner.co_name] = number + 1
        there = [*way, (inner.co_name, number)]
        yield there, inner
        yield from _walk(inner, there)


def _inner(code: types.CodeType) -> List[types.CodeType]:
    """Those that this one makes functions and classes of, in the order of the source (by lines; within one, as compiled).

    Comprehensions are code of their own before Python 3.12 only, and annotations from 3.14 on.
    """
    found: List[types.CodeType] = []
    for const in code.co_consts:
        if isinstance(const, types.CodeType) and const.co_name in ("<listcomp>", "<dictcomp>", "<setcomp>"):
            found += _inner(const)
        elif isinstance(const, types.CodeType) and const.co_name != "__annotate__":
            found.append(const)
    return sorted(found, key=lambda c: c.co_firstlineno)
