"""The code that puts ``%dsvm`` into a Python kernel: the source of ``relay/magic.py``, run in a namespace of its own.

The proxy sends it as one silent ``execute_request``, so it leaves no name behind in the user's namespace, no history and
no output.
"""

from __future__ import annotations

import functools
from importlib import resources

MODULE = "jupyter_dsvm_magic"


@functools.cache
def source() -> str:
    """One statement; running it twice is harmless. Raises nothing in the kernel: a kernel without IPython stays as it is."""
    text = resources.files("jupyter_dsvm.relay").joinpath("magic.py").read_text(encoding="utf-8")
    text += "\n\ntry:\n    load()\nexcept ImportError:\n    pass\n"
    return f"exec(compile({text!r}, '<{MODULE}>', 'exec'), {{'__name__': {MODULE!r}}})"
