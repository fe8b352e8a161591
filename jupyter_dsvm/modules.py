"""Which modules the code of a notebook imports, and what to install for them. Pure, but for a look at what is installed here and
what lies beside a notebook.

``environments`` asks with these names what a kernel's Python on a VM has. Only names of top-level modules leave this file: to look
for a submodule one would have to import its parent, and nothing of the user's is imported to answer a question.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .errors import BadRequest

MAX_MODULES = 300
"""A notebook has dozens; what is more is cut off, in the order of the cells."""
MAX_NAME = 100

PYTHON_CELLS = {"time", "timeit", "capture", "prun", "memit", "mprun", "lprun", "python", "python3"}
"""Cell magics whose body is Python. The body of another is none: a shell's, a web page, a file."""

PYTHON_LINES = {"time", "timeit", "prun", "memit"}
"""Line magics that are followed by a Python statement."""

PACKAGES: Mapping[str, str] = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "imblearn": "imbalanced-learn",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "kafka": "kafka-python",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "mysql": "mysql-connector-python",
    "osgeo": "GDAL",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "pylab": "matplotlib",
    "pytorch_lightning": "pytorch-lightning",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "umap": "umap-learn",
    "usb": "pyusb",
    "xlsxwriter": "XlsxWriter",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Module to package on pypi.org, where the two differ (each project's own page there says what it is imported as). It is asked only
for what is not installed here: the metadata of what is installed knows better."""

SHARED = {"azure", "google", "ruamel", "zope", "sphinxcontrib", "backports", "jaraco"}
"""Namespaces that many packages share: which of them a notebook needs cannot be told from the first name."""

MAX_PACKAGES = 50

_NAME = re.compile(r"[^\W\d]\w*")

_VERSION = r"\s*(?:===?|~=|!=|<=?|>=?)\s*[A-Za-z0-9.*+!_-]+\s*"
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    r"(?:\s*\[\s*[A-Za-z0-9._-]+(?:\s*,\s*[A-Za-z0-9._-]+)*\s*\])?"
    rf"(?:{_VERSION}(?:,{_VERSION})*)?",
    re.ASCII,
)
"""A name of PEP 508 with extras and versions: no address, no path, no marker, no option."""
_ARCHIVES = (".whl", ".zip", ".tar", ".gz", ".bz2", ".xz", ".tgz", ".tbz", ".txz", ".tlz", ".lzma", ".lz")
"""What pip takes for the name of a file."""


# What is imported


def imported(sources: Iterable[str]) -> list[str]:
    """The top-level modules that these cells need, in the order of their first import. A cell that is no Python counts for
    nothing and leaves the others; so does an import whose failure the code itself deals with, or that only a type checker sees."""
    found: dict[str, None] = {}
    for source in sources:
        tree = parsed(source)
        if tree is None:
            continue
        for name in _imports(tree.body):
            top = name.partition(".")[0]
            if _NAME.fullmatch(top) and len(top) <= MAX_NAME and top != "__future__":
                found.setdefault(top)
            if len(found) >= MAX_MODULES:
                return list(found)
    return list(found)


def parsed(source: str) -> ast.Module | None:
    """A cell as Python, with what only IPython understands taken out."""
    source = source.lstrip("\ufeff")
    magic = re.match(r"\s*%%(\w+)[^\n]*\n?", source)
    if magic is not None:
        if magic[1] not in PYTHON_CELLS:
            return None
        source = source[magic.end() :]
    try:
        with warnings.catch_warnings():  # of the user's code, an invalid escape for one
            warnings.simplefilter("ignore")
            try:
                return ast.parse(source)
            except SyntaxError:
                return ast.parse("\n".join(map(_plain, source.split("\n"))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def extensions(source: str) -> list[str]:
    """The IPython extensions that a cell loads with ``%load_ext``. They say what libraries do that are imported afterwards."""
    words = [line.split() for line in source.split("\n")]
    return [w[1] for w in words if len(w) == 2 and w[0] in ("%load_ext", "%reload_ext") and len(w[1]) <= MAX_NAME]


def _plain(line: str) -> str:
    """A line without IPython's own syntax. Only where the cell is no Python as it stands."""
    indent = line[: len(line) - len(line.lstrip())]
    rest = line[len(indent) :]
    if match := re.match(r"%(\w+)\s+(?:-\S+\s+)*(.*)", rest):
        return indent + (match[2] if match[1] in PYTHON_LINES and match[2] else "pass")
    if rest.startswith(("%", "!", "?")) or re.fullmatch(r"[\w.]+\?{1,2}\s*", rest):
        return indent + "pass"
    if match := re.match(r"([\w.,\s\[\]'\"]+=)\s*[%!](?!=)", rest):
        return f"{indent}{match[1]} None"
    return line


def _imports(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Dotted names. Without recursion: code may be nested as deep as somebody likes."""
    waiting: list[ast.AST] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                yield node.module
        elif isinstance(node, ast.Call):
            yield from _by_call(node)
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Try) and any(map(is_about_imports, node.handlers)):
            # What is tried and what stands in for it: the code gets on without either.
            children = [c for part in (node.orelse, node.finalbody) for c in part]
        elif isinstance(node, ast.If) and is_for_type_checkers(node.test):
            children = list(node.orelse)
        waiting.extend(reversed(children))


def _by_call(node: ast.Call) -> Iterator[str]:
    """``importlib.import_module("x")``, ``import_module("x")``, ``__import__("x")``, with a name that is written out."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in ("import_module", "__import__") and len(node.args) >= 1:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
            yield first.value


def is_about_imports(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        isinstance(c, ast.Name) and c.id in ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")
        for c in caught
    )


def is_for_type_checkers(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


# What belongs to them


def is_local(name: str, folder: Path | None) -> bool:
    """Whether a module of that name lies beside the notebook. Blocks for a look at the disk."""
    if folder is None:
        return False
    try:
        return (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))
    except OSError:
        return False


def package_of(name: str) -> str:
    """What to install for a module; empty where that cannot be told. Blocks for a moment, the first time."""
    if name in sys.stdlib_module_names and name not in PACKAGES:
        return ""  # another version of Python has it: no package of that name is the same thing
    here = _installed().get(name, ())
    if len(set(here)) == 1:
        return here[0]
    if here or name in SHARED:
        return PACKAGES.get(name, "")
    return PACKAGES.get(name, name.replace("_", "-") if name.isascii() else "")


def checked_packages(packages: Sequence[str]) -> list[str]:
    """What pip may be asked to install. Raises ``BadRequest``."""
    if not 0 < len(packages) <= MAX_PACKAGES:
        raise BadRequest(f"There are {len(packages)} packages to install.", advice=f"Name 1 to {MAX_PACKAGES}.")
    for package in packages:
        if len(package) > 200 or not _REQUIREMENT.fullmatch(package) or package.lower().endswith(_ARCHIVES):
            raise BadRequest(
                f"{package[:200]!r} is no name of a package.",
                advice="Give names as on pypi.org, with a version where one is needed: plotly, plotly==5.24. "
                "Addresses, files and pip's options can be given to %pip in a cell there.",
            )
    return list(packages)


@functools.lru_cache(maxsize=1)
def _installed() -> Mapping[str, Sequence[str]]:
    """Module to packages in this server's environment, as it was when first asked for."""
    try:
        return importlib.metadata.packages_distributions()
    except Exception:  # a broken dist-info of somebody else's
        return {}
