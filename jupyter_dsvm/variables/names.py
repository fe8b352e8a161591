"""The notebook's names: which of a kernel's namespace are the user's, and which of them an import brings back."""

from __future__ import annotations

import os
import re
import sys
import types
from typing import Any, Dict, List, NamedTuple, Optional

NEVER = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|_(ih|oh|dh|exit_code)|__\w+__")
"""What IPython and Python keep in the namespace under names of their own."""


class Namespace:
    """The user's names, and those that IPython has put beside them (``user_ns_hidden``)."""

    def __init__(self, names: Dict[str, Any], hidden: Optional[Dict[str, Any]] = None) -> None:
        self.names = names
        self.hidden = hidden or {}

    @classmethod
    def of_shell(cls) -> "Namespace":
        """Raises ``RuntimeError`` where no IPython runs in this process."""
        from IPython import get_ipython

        shell = get_ipython()
        if shell is None:
            raise RuntimeError("This kernel is not IPython's.")
        return cls(shell.user_ns, shell.user_ns_hidden)

    def has(self, name: str) -> bool:
        """Whether the user has made it, as far as can be told."""
        if name not in self.names or NEVER.fullmatch(name):
            return False
        missing = object()
        return self.names[name] is not self.hidden.get(name, missing)

    def may_have(self, name: str) -> bool:
        """Whether something that comes may be made under this name."""
        return name.isidentifier() and not NEVER.fullmatch(name)

    def users(self) -> List[str]:
        """All of them, in the order in which they were made."""
        return [name for name in list(self.names) if isinstance(name, str) and self.has(name)]


class Import(NamedTuple):
    """How a name comes back without its value: ``import module``, or ``from module import attribute``."""

    module: str
    attribute: str
    """A dotted name within the module; empty for the module itself."""

    def value(self) -> Any:
        __import__(self.module)
        value: Any = sys.modules[self.module]
        for part in self.attribute.split(".") if self.attribute else ():
            value = getattr(value, part)
        return value


def import_of(value: Any) -> Optional[Import]:
    """How ``value`` is imported; None for what has to travel itself, such as all that the notebook defines."""
    if isinstance(value, types.ModuleType):
        name = value.__name__
        if name != "__main__" and sys.modules.get(name) is value and getattr(value, "__spec__", None) is not None:
            return Import(name, "")
        return None
    if value is os.environ:
        return Import("os", "environ")
    if not callable(value):
        return None
    try:
        module = value.__module__
        attribute = getattr(value, "__qualname__", None) or value.__name__
    except Exception:
        return None
    if type(value).__name__ == "ufunc" and not module:
        module = "numpy"
    if not isinstance(module, str) or not isinstance(attribute, str) or module == "__main__" or "<" in attribute:
        return None
    found = Import(module, attribute)
    try:
        return found if module in sys.modules and found.value() is value else None
    except Exception:
        return None
