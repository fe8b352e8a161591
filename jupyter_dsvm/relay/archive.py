"""The zip that this code runs from on a VM. The loader removes zips that nobody has used for a while (``kernels.loader``).

A relay runs for weeks and still needs its own: a restart of its kernel, a list of kernelspecs, a module that is imported
late. So whoever runs from a zip says so every few hours, by the file's time.
"""

from __future__ import annotations

import os
import time

EVERY = 6 * 3600.0


class Archive:
    def __init__(self, module_file: str = __file__) -> None:
        self.path = os.path.dirname(os.path.dirname(os.path.abspath(module_file)))
        self._next = 0.0

    def keep(self) -> None:
        """Called in every turn of a loop; cheap."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        if os.path.isfile(self.path):
            try:
                os.utime(self.path)
            except OSError:
                pass  # the disk, not the file's time, is then the trouble
