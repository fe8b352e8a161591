"""``jupyter dsvm advise NOTEBOOK.ipynb``: CPU or GPU for it, and what of all that there is fits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .advice import advice_text
from .service import DSVMService


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebook", metavar="NOTEBOOK", help="the file; it is read, and nothing of it run")
    parser.add_argument("--json", action="store_true", help="print the advice as JSON")


def run(
    service: DSVMService, arguments: argparse.Namespace, show: Callable[[Any], None], write: Callable[[str], None]
) -> int:
    """Raises ``DSVMError`` where the notebook cannot be read."""
    advice = service.advising.of_file(Path(arguments.notebook).absolute())
    if arguments.json:
        show(advice.to_json())
    else:
        write(advice_text(advice))
    return 0
