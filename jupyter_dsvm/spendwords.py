"""What machines have cost, in words: what ``%dsvm spend`` and ``jupyter dsvm spend`` print. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .budgets import PERIODS, in_words
from .models import Spend
from .richtext import escaped
from .spending_rules import DaySpend
from .tables import money

ESTIMATE = "An estimate: hours on, times the list price. Disks, addresses, traffic and discounts are not in it."
MOST_ROWS = 200


def spend_lines(spend: Spend) -> list[str]:
    """A sentence each: the sums, the budgets, and what is not in them."""
    if spend.currency is None:
        lines = ["Nothing is known to have cost anything this month."]
    else:
        now = f" {money(spend.per_hour, spend.currency)} an hour now." if spend.per_hour else ""
        lines = [
            f"About {money(spend.today, spend.currency)} today, {money(spend.month, spend.currency)} this month.{now}"
        ]
    for one in spend.budgets:
        of = f"{PERIODS[one.period]} budget{f' for {one.name}' if one.name else ''}"
        part = f" ({100 * one.spent / one.limit:.0f} %)" if one.limit else ""
        lines.append(
            f"{of[0].upper()}{of[1:]}: {money(one.spent, spend.currency)} of "
            f"{money(one.limit, spend.currency)}{part}{in_words(one)}"
        )
    if spend.unpriced:
        lines.append(f"Not in it, since the price was not known or in another currency: {', '.join(spend.unpriced)}.")
    if spend.unseen:
        lines.append(f"Nobody saw for some time whether they were on, so that is a guess: {', '.join(spend.unseen)}.")
    return lines


def _cells(days: Iterable[DaySpend]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for day in days:
        amount = "not known" if day.amount is None else money(day.amount, day.currency, cents=True)
        rows.append([day.day.isoformat(), day.name, f"{day.hours:.1f}", amount])
    return ["DAY", "NAME", "HOURS", "COST"], rows


def spend_text(spend: Spend, days: Sequence[DaySpend]) -> str:
    """For a terminal: a row for each day and machine, the latest first, then the sentences."""
    lines = []
    if days:
        head, rows = _cells(days[:MOST_ROWS])
        widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
        for row in [head, *rows]:
            cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]), row[3].rjust(widths[3])]
            lines.append("  ".join(cells).rstrip())
        if len(days) > MOST_ROWS:
            lines.append(f"… and {len(days) - MOST_ROWS} earlier rows")
        lines.append("")
    return "\n".join([*lines, *spend_lines(spend), ESTIMATE])


def spend_html(spend: Spend, days: Sequence[DaySpend]) -> str:
    """The same for a notebook. Every text is escaped."""
    head, rows = _cells(days[:MOST_ROWS])

    def line(tag: str, cells: Sequence[str]) -> str:
        sides = ("left", "left", "right", "right")
        return (
            "<tr>"
            + "".join(
                f'<{tag} style="text-align: {side}">{escaped(c)}</{tag}>' for c, side in zip(cells, sides, strict=True)
            )
            + "</tr>"
        )

    table = ""
    if rows:
        table = "<table><thead>" + line("th", [h.capitalize() for h in head]) + "</thead><tbody>"
        table += "".join(line("td", r) for r in rows) + "</tbody></table>"
    return table + "".join(f"<p>{escaped(text)}</p>" for text in (*spend_lines(spend), ESTIMATE))
