"""The code that puts ``jupyter_dsvm.variables`` into a Python kernel, how it is called there, and how an answer is read.

The gate sends it as one silent ``execute_request``: ``source()`` as the code, ``call(…)`` in ``user_expressions``. In the
kernel the package is ``_jupyter_dsvm_variables`` in ``sys.modules`` and nowhere in the user's namespace. cloudpickle comes
along, in this server's version, as a module of that package: pickles name its functions, so both ends need the same one,
and many kernels have none.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from importlib import resources
from typing import Any

MODULE = "_jupyter_dsvm_variables"
EXPRESSION = "jupyter_dsvm"
MAX_ANSWER = 4 * 1024 * 1024
"""Characters of an answer that are read: a thousand variables with their reasons."""

ORDER = (
    "reasons", "names", "stream", "sourcecode", "forms", "frames", "tensors", "cloudpickle", "pickling", "survey",
    "outgoing", "incoming", "sending", "receiving", "files", "call",
)  # fmt: skip
"""Each module after those that it imports."""

_PUT = """
import base64, json, sys, types, zlib
def put(name, digest, packed):
    module = sys.modules.get(name)
    if getattr(module, "digest", None) == digest:
        return
    package = types.ModuleType(name)
    package.__path__ = []
    package.__package__ = name
    package.digest = digest
    made = {name: package}
    texts = json.loads(zlib.decompress(base64.b64decode(packed)))
    before = {n: sys.modules.pop(n) for n in list(sys.modules) if n == name or n.startswith(name + ".")}
    try:
        sys.modules[name] = package
        for short, text in texts:
            full = name + "." + short
            module = types.ModuleType(full)
            module.__package__ = name
            sys.modules[full] = module
            setattr(package, short, module)
            exec(compile(text, "<" + full + ">", "exec"), module.__dict__)
    except BaseException:
        for n in [n for n in sys.modules if n == name or n.startswith(name + ".")]:
            del sys.modules[n]
        sys.modules.update(before)
        raise
"""


@functools.cache
def source() -> str:
    """One statement that makes the modules; running it again does nothing. Raises in the kernel only if its Python is too old."""
    texts = [(name, _text(name)) for name in ORDER]
    data = json.dumps(texts).encode()
    packed = base64.b64encode(zlib.compress(data, 9)).decode()
    digest = hashlib.sha256(data).hexdigest()
    put = _PUT + f"put({MODULE!r}, {digest!r}, {packed!r})\n"
    return f"exec(compile({put!r}, '<{MODULE}>', 'exec'), {{'__name__': {MODULE!r}}})"


def _text(name: str) -> str:
    if name == "cloudpickle":
        return resources.files("cloudpickle").joinpath("cloudpickle.py").read_text(encoding="utf-8")
    return resources.files("jupyter_dsvm.variables").joinpath(f"{name}.py").read_text(encoding="utf-8")


def call(function: str, **arguments: Any) -> str:
    """An expression for ``user_expressions``, to be evaluated after ``source()`` has run."""
    return f"__import__('sys').modules[{MODULE + '.call'!r}].call({function!r}, {json.dumps(arguments)!r})"


def request(function: str, **arguments: Any) -> dict[str, Any]:
    """The content of the ``execute_request``. Its reply's content is for ``parse``."""
    return {
        "code": source(), "silent": True, "store_history": False,
        "user_expressions": {EXPRESSION: call(function, **arguments)}, "allow_stdin": False, "stop_on_error": False,
    }  # fmt: skip


def parse(content: Any) -> dict[str, Any]:
    """What the kernel answered, from the content of its ``execute_reply`` or from the expression's own part of it.

    Trusts nothing: what is no answer of ours is ``{"error": {"code", "message"}}`` too.
    """
    if isinstance(content, dict) and content.get("status") == "ok" and "data" not in content:
        expressions = content.get("user_expressions")
        content = expressions.get(EXPRESSION) if isinstance(expressions, dict) else None
    if not isinstance(content, dict):
        return _error("NoAnswer", "The kernel did not run it.")
    if content.get("status") != "ok":
        told = f"{content.get('ename', '')}: {content.get('evalue', '')}"
        return _error("Failed", told[:500])
    data = content.get("data")
    text = data.get("text/plain") if isinstance(data, dict) else None
    if not isinstance(text, str) or len(text) > MAX_ANSWER:
        return _error("NoAnswer", "The kernel's answer is not one.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _error("NoAnswer", "The kernel's answer cannot be read.")
    return value if isinstance(value, dict) else _error("NoAnswer", "The kernel's answer is not one.")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
