"""``jupyter dsvm spend``: what machines have cost, by day."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .errors import DSVMError
from .service import DSVMService
from .spendwords import spend_text

DAYS = 7
MOST_DAYS = 400
"""For as long as it is kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=_days, default=DAYS, metavar="N", help=f"of the last N days (default {DAYS})")
    parser.add_argument("--json", action="store_true", help="print it as JSON, with the days")


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 1 and {MOST_DAYS}")
    return int(text)


def run(
    service: DSVMService,
    arguments: argparse.Namespace,
    show: Callable[[Any], None],
    write: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    """What is on is looked at first; where that cannot be, it is as far as is known."""
    try:
        problems = [f"{p.message} {p.advice}" for p in service.computes(refresh=True).problems]
    except DSVMError as e:
        problems = [str(e)]
    spend, days = service.spending.record(), service.spending.days(arguments.days)
    if arguments.json:
        rows = [
            {"day": d.day.isoformat(), "compute": d.compute, "name": d.name, "hours": round(d.hours, 4)}
            | {"amount": None if d.amount is None else round(d.amount, 6), "currency": d.currency}
            for d in days
        ]
        show({**spend.to_json(), "days": rows})
    else:
        write(spend_text(spend, days))
    for problem in problems:
        say(f"Not everything could be looked at, so this may be out of date: {problem}".rstrip())
    return 0
