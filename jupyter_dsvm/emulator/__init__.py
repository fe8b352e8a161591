"""The embedded stand-in for Azure: ARM and Resource Graph over real HTTP, every VM a real SSH server.

Imported by ``cli.py`` and the tests only; production code sees an endpoint in its configuration, nothing else.
"""

from .app import EmulatorError, Options, serve
from .client import ControlError, Emulator
from .machines import STANDARD, TWINS, Machine

__all__ = ["STANDARD", "TWINS", "ControlError", "Emulator", "EmulatorError", "Machine", "Options", "serve"]
