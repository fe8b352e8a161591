"""What a data file comes to in memory, by its kind: rules, each with its source, or a rule of thumb and called so. Pure, but for
``sized``, which looks at the disk.

``notebookfacts`` finds the calls that load one; ``advice`` adds up.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

MAX_FILES = 100
"""That are looked at for one notebook."""

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")

THUMB = "a rule of thumb"


@dataclass(frozen=True)
class Kind:
    name: str
    factor: float
    """Memory for working with it, as so many times its size on disk."""
    source: str = THUMB
    """The page that says so."""


TEXT = Kind("text table", 5, "https://wesmckinney.com/blog/apache-arrow-pandas-internals/")
"""“5 to 10 times as much RAM as the size of your dataset”, from who wrote pandas: the lower one."""
PACKED = Kind("compressed text table", 20)
COLUMNS = Kind("Parquet or ORC", 10)
ARROW = Kind("Feather or Arrow", 5, "https://wesmckinney.com/blog/apache-arrow-pandas-internals/")
SHEET = Kind("spreadsheet", 20)
ARRAY = Kind("NumPy array", 2)
ARRAYS = Kind("NumPy archive", 3)
OBJECT = Kind("pickle or model", 2)
READ = Kind("file read as a whole", 2)

KINDS = (TEXT, PACKED, COLUMNS, ARROW, SHEET, ARRAY, ARRAYS, OBJECT, READ)

READERS: dict[str, Kind] = {
    "read_csv": TEXT, "read_table": TEXT, "read_fwf": TEXT, "read_json": TEXT, "read_html": TEXT, "read_xml": TEXT,
    "read_parquet": COLUMNS, "read_orc": COLUMNS, "read_feather": ARROW, "read_ipc": ARROW,
    "read_excel": SHEET, "read_pickle": OBJECT, "read_hdf": OBJECT, "read_stata": ARROW, "read_sas": ARROW,
    "read_spss": ARROW,
}  # fmt: skip
"""Functions of this name of the libraries in ``TABLES``."""
TABLES = ("pandas", "geopandas", "polars", "cudf", "modin.pandas")

FUNCTIONS: dict[str, Kind] = {
    "numpy.load": ARRAY, "numpy.fromfile": ARRAY, "numpy.loadtxt": TEXT, "numpy.genfromtxt": TEXT,
    "cupy.load": ARRAY, "torch.load": OBJECT, "joblib.load": OBJECT, "geopandas.read_file": TEXT,
    "pyarrow.parquet.read_table": COLUMNS, "pyarrow.csv.read_csv": TEXT, "open": READ,
}  # fmt: skip

IN_PARTS = {"chunksize", "nrows", "iterator", "usecols", "columns", "mmap_mode"}
"""Arguments with which less than all of it is loaded: how much cannot be told."""


@dataclass(frozen=True)
class DataFile:
    name: str
    """As it is written in the notebook."""
    cell: int
    kind: Kind
    size: int | None = None
    """Bytes on disk; None where it was not looked for, or is not there."""

    @property
    def memory(self) -> float | None:
        """Bytes for working with it."""
        return None if self.size is None else self.size * self.kind.factor


def reading(node: ast.Call, dotted: str, text: Callable[[ast.expr], str | None]) -> tuple[str, Kind] | None:
    """The file that a call of the function ``dotted`` loads as a whole, if its name is written out; ``text`` gives what is."""
    library, _, function = dotted.rpartition(".")
    kind = READERS.get(function) if library in TABLES else FUNCTIONS.get(dotted)
    if kind is None or not node.args or any(k.arg in IN_PARTS for k in node.keywords):
        return None
    if dotted == "open":
        mode = node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "mode"), None)
        if mode is not None and not (isinstance(mode, ast.Constant) and str(mode.value).startswith("r")):
            return None
    name = text(node.args[0])
    if not name or "\0" in name or "://" in name or len(name) > 1000:
        return None
    lower = name.lower()
    if kind is TEXT and lower.endswith(COMPRESSED):
        kind = PACKED
    elif kind is ARRAY and lower.endswith(".npz"):
        kind = ARRAYS
    return name, kind


def sized(files: Iterable[DataFile], folder: Path) -> list[DataFile]:
    """With the sizes of those that are there; ``folder``: the notebook's, which its kernel runs in. Looks at the disk."""
    found = []
    for file in list(files)[:MAX_FILES]:
        try:
            path = folder / os.path.expanduser(file.name)
            found.append(replace(file, size=path.stat().st_size) if path.is_file() else file)
        except (OSError, ValueError, RuntimeError):
            found.append(file)
    return found
