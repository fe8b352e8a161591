"""What a notebook's code says of GPUs and of the data it loads: read from its syntax tree with the table in ``libraries``. Pure.

Nothing is run and nothing looked at but the text of the cells, each of which may be anything. A notebook is one namespace, so names
are followed from cell to cell in their order: an alias of a module, and a variable that holds a device or a file's name.

``advice`` says what follows from it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .datafiles import DataFile, reading
from .libraries import TOOLS, Library, Use, Weight, library_of, means_gpu
from .modules import MAX_MODULES, extensions, is_about_imports, is_for_type_checkers, parsed

MAX_NODES = 400_000
"""Of a notebook's syntax trees in all; what is more is not read, and counts as cells that could not be."""

MAX_CALL = 80
"""Letters of a call that is quoted."""

DEPTH = 6
"""How often one variable is followed to the next."""

NO_DATA = ("/proc/", "/sys/", "/dev/")
"""What the system says of itself there is no data of the notebook's."""

GUARDS = ("available", "cuda", "gpu", "device")
"""A condition with such a word in one of its names asks whether there is a GPU."""


@dataclass(frozen=True)
class Found:
    """One thing that the code does with a library."""

    library: Library
    cell: int
    """Of the code cells, from 1."""
    weight: Weight
    call: str = ""
    """What asks for a GPU, as it is written; empty for an import."""


@dataclass(frozen=True)
class NotebookFacts:
    found: tuple[Found, ...] = ()
    """In the order of the code: for each library the import, and the first call of each weight."""
    unlisted: tuple[str, ...] = ()
    """Imported modules that the table does not have."""
    local: tuple[str, ...] = ()
    """Of these, what whoever asked knows to lie beside the notebook."""
    data: tuple[DataFile, ...] = ()
    """Files that are loaded by a name that is written out."""
    unread: tuple[int, ...] = ()
    """Cells that are no Python."""
    hidden: bool = False
    """GPUs are hidden from it: ``CUDA_VISIBLE_DEVICES`` is set to none."""
    cells: int = 0
    """How many were read."""


def facts_of(sources: Iterable[str], local: Iterable[str] = ()) -> NotebookFacts:
    """Raises nothing, whatever the cells are. ``local``: names of modules beside the notebook."""
    reader = _Reader()
    for number, source in enumerate(sources, 1):
        reader.cell(number, source)
    beside = set(local)
    unlisted = [name for name in reader.unlisted if name not in beside]
    return NotebookFacts(
        tuple(reader.found.values()),
        tuple(unlisted),
        tuple(name for name in reader.unlisted if name in beside),
        tuple(reader.data.values()),
        tuple(reader.unread),
        reader.hidden,
        reader.cells,
    )


@dataclass
class _Reader:
    found: dict[tuple[str, Weight], Found] = field(default_factory=dict)
    unlisted: dict[str, None] = field(default_factory=dict)
    data: dict[str, DataFile] = field(default_factory=dict)
    unread: list[int] = field(default_factory=list)
    hidden: bool = False
    cells: int = 0
    _names: dict[str, str] = field(default_factory=dict)
    """What a name stands for, dotted: a module, or something of one."""
    _values: dict[str, list[tuple[ast.expr, bool]]] = field(default_factory=dict)
    """What a variable was given, and whether on a condition."""
    _imported: dict[str, Library] = field(default_factory=dict)
    _nodes: int = 0
    _number: int = 0

    def cell(self, number: int, source: str) -> None:
        tree = parsed(source)
        if tree is None:
            if source.strip() and not source.lstrip().startswith("%%"):
                self.unread.append(number)
            return
        self._number = number
        self.cells += 1
        for name in extensions(source):
            self._module(name, False)
        try:
            for node, guarded in self._walk(tree):
                self._node(node, guarded)
        except (RecursionError, ValueError):  # an expression nested as deep as somebody likes
            self.unread.append(number)

    def _walk(self, tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
        """Every node in the order of the text, and whether the code gets on without it."""
        waiting: list[tuple[ast.AST, bool]] = [(n, False) for n in reversed(tree.body)]
        while waiting:
            node, guarded = waiting.pop()
            self._nodes += 1
            if self._nodes > MAX_NODES:
                self.unread.append(self._number)
                return
            yield node, guarded
            children: list[tuple[ast.AST, bool]]
            if isinstance(node, ast.If) and is_for_type_checkers(node.test):
                children = [(c, guarded) for c in node.orelse]
            elif isinstance(node, ast.If):
                under = guarded or self._asks_for_gpu(node.test)
                children = [(node.test, guarded), *((c, under) for c in (*node.body, *node.orelse))]
            elif isinstance(node, ast.Try):
                under = guarded or any(map(is_about_imports, node.handlers))
                children = [(c, under) for c in (*node.body, *node.handlers, *node.orelse)]
                children += [(c, guarded) for c in node.finalbody]
            elif isinstance(node, ast.Attribute) and self._dotted(node):
                continue  # was looked at as a whole
            else:
                children = [(c, guarded) for c in ast.iter_child_nodes(node)]
            waiting.extend(reversed(children))

    def _node(self, node: ast.AST, guarded: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._module(alias.name, guarded)
                # ``import a.b`` binds a; with a name of its own, b.
                self._names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                return
            for alias in node.names:
                name = node.module if alias.name == "*" else f"{node.module}.{alias.name}"
                self._module(name, guarded)
                self._names[alias.asname or alias.name] = name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assigned(target, node.value, guarded)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            if node.value is not None:
                self._assigned(node.target, node.value, guarded)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self._setting(key.value, value, guarded, None)
        elif isinstance(node, ast.Call):
            self._call(node, guarded)
        elif isinstance(node, ast.Attribute):
            self._used(self._dotted(node), guarded)
        elif isinstance(node, ast.Assert):
            self._asserted(node)

    # Modules

    def _module(self, dotted: str, guarded: bool) -> None:
        """It is imported, or an extension of that name loaded."""
        row, top = library_of(dotted), dotted.partition(".")[0]
        if row is not None:
            self._imported.setdefault(row.name, row)
            self._uses(row, guarded)
        elif not (top in sys.stdlib_module_names or top in TOOLS or len(self.unlisted) >= MAX_MODULES):
            self.unlisted.setdefault(top)

    def _uses(self, row: Library, guarded: bool) -> None:
        weight = {
            Use.NEVER: Weight.NONE,
            Use.ASKED: Weight.COULD,
            Use.ITSELF: Weight.GAINS,
            Use.ONLY: Weight.GAINS if guarded else Weight.NEEDS,
        }[row.use]
        self._note(row, weight, "")

    def _used(self, dotted: str, guarded: bool) -> None:
        """Part of a module that was imported as a whole: ``numba.cuda.jit``."""
        row = library_of(dotted) if dotted else None
        if row is None:
            return
        whole = library_of(dotted.partition(".")[0])
        if row is not whole:
            self._uses(row, guarded)
        self._function(row, dotted, f"{dotted}", guarded)

    def _note(self, row: Library, weight: Weight, call: str) -> None:
        self.found.setdefault((row.name, weight), Found(row, self._number, weight, call))

    def _asks(self, row: Library, call: str, maybe: bool) -> None:
        self._note(row, Weight.GAINS if maybe or row.falls_back else Weight.NEEDS, call)

    def _dotted(self, node: ast.expr) -> str:
        """What a name, or a chain of attributes, stands for; empty where that is no module's."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._names:
            return ""
        return ".".join([self._names[node.id], *reversed(parts)])

    # Calls

    def _call(self, node: ast.Call, guarded: bool) -> None:
        dotted = self._dotted(node.func)
        row = library_of(dotted) if dotted else None
        if row is not None:
            if isinstance(node.func, ast.Name):
                self._function(row, dotted, f"{node.func.id}()", guarded)
            if dotted in row.moves:
                self._moved(row, node, guarded)
        elif isinstance(node.func, ast.Attribute):
            self._method(node, node.func.attr, guarded)
        for keyword in node.keywords:
            if keyword.arg:
                self._setting(keyword.arg, keyword.value, guarded, row)
        name = dotted or (node.func.id if isinstance(node.func, ast.Name) else "")
        self._loads(node, name)

    def _function(self, row: Library, dotted: str, call: str, guarded: bool) -> None:
        if any(dotted == c or dotted.startswith(c + ".") for c in row.calls):
            self._asks(row, call, guarded)
        elif dotted in row.prefers:
            self._note(row, Weight.GAINS, call)

    def _method(self, node: ast.Call, name: str, guarded: bool) -> None:
        """Of something that is no module: whose it is cannot be told, so whoever of the imported has such a one."""
        for row in self._imported.values():
            if name in row.methods:
                self._asks(row, f".{name}()", guarded)
                return
        for row in self._imported.values():
            if name in row.moves:
                self._moved(row, node, guarded)
                return
        if name == "run_line_magic":
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if len(words) == 2 and words[0] == "load_ext":
                self._module(words[1], guarded)

    def _moved(self, row: Library, node: ast.Call, guarded: bool) -> None:
        for argument in [*node.args, *(k.value for k in node.keywords if k.arg == "device")]:
            maybe = self._gpu(argument, frozenset({"cuda"}))
            if maybe is not None:
                self._asks(row, _quoted(node), maybe or guarded)

    def _setting(self, name: str, value: ast.expr, guarded: bool, row: Library | None) -> None:
        rows = (
            [row] if row is not None and name in row.settings else list(self._imported.values()) if row is None else []
        )
        for candidate in rows:
            values = candidate.settings.get(name)
            maybe = self._gpu(value, values) if values else None
            if maybe is not None:
                self._asks(candidate, f"{name}={_quoted(value)}", maybe or guarded)
                return

    def _asserted(self, node: ast.Assert) -> None:
        """``assert torch.cuda.is_available()``"""
        if isinstance(node.test, ast.Call):
            dotted = self._dotted(node.test.func)
            row = library_of(dotted) if dotted.endswith(".is_available") else None
            if row is not None and "cuda" in dotted:
                self._note(row, Weight.NEEDS, _quoted(node))

    # Values

    def _assigned(self, target: ast.expr, value: ast.expr, guarded: bool) -> None:
        if isinstance(target, ast.Name):
            self._names.pop(target.id, None)
            dotted = self._dotted(value) if isinstance(value, (ast.Name, ast.Attribute)) else ""
            if dotted:
                self._names[target.id] = dotted  # np = numpy
            self._values.setdefault(target.id, []).append((value, guarded))
        elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            key = target.slice.value
            if key == "CUDA_VISIBLE_DEVICES" and isinstance(value, ast.Constant) and value.value in ("", "-1"):
                self.hidden = self.hidden or not guarded
            elif isinstance(key, str):
                self._setting(key, value, guarded, None)

    def _gpu(self, node: ast.expr, values: frozenset[str], depth: int = DEPTH) -> bool | None:
        """Whether it names a GPU: False: it does; True: on some condition, or as a wish; None: it does not, or nobody can tell."""
        if depth == 0:
            return None
        if isinstance(node, ast.Constant):
            if not means_gpu(values, str(node.value)):
                return None
            return str(node.value).lower() in ("auto", "balanced", "sequential")
        if isinstance(node, ast.IfExp):
            return self._any([node.body, node.orelse], values, depth)
        if isinstance(node, ast.BoolOp):
            return self._any(node.values, values, depth)
        if isinstance(node, (ast.List, ast.Tuple)):
            return self._any(node.elts, values, depth)
        if isinstance(node, ast.JoinedStr):
            return self._gpu(node.values[0], values, depth - 1) if node.values else None
        if isinstance(node, ast.Call):
            dotted = self._dotted(node.func)
            return self._gpu(node.args[0], values, depth - 1) if node.args and dotted.endswith("device") else None
        if isinstance(node, ast.Name):
            given = self._values.get(node.id, ())
            told = [(self._gpu(value, values, depth - 1), guarded) for value, guarded in given[-10:]]
            sure = [maybe or guarded for maybe, guarded in told if maybe is not None]
            return (any(sure) or len(sure) < len(told)) if sure else None
        return None

    def _any(self, nodes: Sequence[ast.expr], values: frozenset[str], depth: int) -> bool | None:
        told = [self._gpu(n, values, depth - 1) for n in nodes[:20]]
        sure = [maybe for maybe in told if maybe is not None]
        return (any(sure) or len(sure) < len(told)) if sure else None

    def _asks_for_gpu(self, test: ast.expr) -> bool:
        names = [
            n.attr if isinstance(n, ast.Attribute) else n.id
            for n in ast.walk(test)
            if isinstance(n, (ast.Attribute, ast.Name))
        ]
        return any(word in name.lower() for name in names for word in GUARDS)

    # Data

    def _loads(self, node: ast.Call, dotted: str) -> None:
        """A call that loads a file."""
        found = reading(node, dotted, self._text)
        if found is not None and len(self.data) < MAX_MODULES and not found[0].startswith(NO_DATA):
            name, kind = found
            self.data.setdefault(name, DataFile(name, self._number, kind))

    def _text(self, node: ast.expr, depth: int = DEPTH) -> str | None:
        """A text that is written out, in one piece or several."""
        if depth == 0:
            return None
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            given = self._values.get(node.id, ())
            return self._text(given[-1][0], depth - 1) if given else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Div)):
            left, right = self._text(node.left, depth - 1), self._text(node.right, depth - 1)
            if left is None or right is None:
                return None
            return left + right if isinstance(node.op, ast.Add) else f"{left.rstrip('/')}/{right}"
        if isinstance(node, ast.JoinedStr):
            parts = [self._text(v.value if isinstance(v, ast.FormattedValue) else v, depth - 1) for v in node.values]
            return None if any(p is None for p in parts) else "".join(p or "" for p in parts)
        if isinstance(node, ast.Call) and self._dotted(node.func) in ("pathlib.Path", "os.path.join"):
            parts = [self._text(a, depth - 1) for a in node.args]
            return None if any(p is None for p in parts) else "/".join((p or "").rstrip("/") or "/" for p in parts)
        return None


def _quoted(node: ast.AST) -> str:
    """A piece of code as it is written, on one short line; a method without what it is called on."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        arguments = [ast.unparse(a) for a in node.args] + [f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords]
        text = f".{node.func.attr}({', '.join(arguments)})"
    else:
        text = ast.unparse(node)
    text = " ".join(text.replace("'", '"').split())
    return text if len(text) <= MAX_CALL else text[: MAX_CALL - 1] + "…"
