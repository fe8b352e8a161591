"""``python -m jupyter_dsvm.hub``: the broker. ``application`` says how a hub starts it."""

import sys

from .application import main

sys.exit(main())
