"""paramiko, loaded without what it does not need here. Whatever uses it imports it from this module, when it is used.

paramiko imports invoke where that is installed, which loads its YAML parser and unittest: 2.2 MB of memory in every server
(measured) for ``Match exec`` of an SSH configuration. So it is kept from it; who meets a ``Match exec`` asks for it by
``with_match_exec``.
"""

from __future__ import annotations

import importlib
import sys
import threading

_OPTIONAL = "invoke"
_lock = threading.Lock()

with _lock:
    # What stands as None in sys.modules is no module that there is, for the import system and so for paramiko. For whoever
    # else imports it in these tenths of a second, too.
    _kept_out = "paramiko" not in sys.modules and _OPTIONAL not in sys.modules
    if _kept_out:
        sys.modules[_OPTIONAL] = None  # type: ignore[assignment]
    try:
        import paramiko
        from paramiko import common, config
        from paramiko.auth_handler import AuthHandler
        from paramiko.channel import Channel
        from paramiko.packet import Packetizer
        from paramiko.pkey import UnknownKeyType
    finally:
        if _kept_out:
            del sys.modules[_OPTIONAL]

__all__ = ["AuthHandler", "Channel", "Packetizer", "UnknownKeyType", "common", "paramiko", "with_match_exec"]


def with_match_exec() -> bool:
    """Have paramiko evaluate ``Match exec`` from now on; whether it could not before and now can."""
    with _lock:
        if vars(config)[_OPTIONAL] is not None:
            return False
        try:
            vars(config)[_OPTIONAL] = importlib.import_module(_OPTIONAL)
        except ImportError:
            return False
        return True
