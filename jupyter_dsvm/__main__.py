"""``python -m jupyter_dsvm``: the same as ``jupyter dsvm``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
