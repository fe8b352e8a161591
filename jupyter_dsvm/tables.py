"""Computes in words: what ``%dsvm list`` and ``jupyter dsvm list`` print. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .idlewords import stop_words
from .models import FREE, Compute, ComputeKind, PowerState, Price, Problem, Size, SizeOffer
from .richtext import escaped

STATE_WORDS = {
    PowerState.STOPPED: "stopped (still billed)",
    PowerState.DEALLOCATED: "off",
    PowerState.DEALLOCATING: "stopping",
}
"""Where Azure's word would mislead; the others are said as they are."""


GIB = 1024**3

SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def gib_words(gib: float) -> str:
    """``2.9 GB``, as the page says it; less than a tenth in MB."""
    return f"{gib:.0f} GB" if gib >= 10 else f"{gib:.1f} GB" if gib >= 0.1 else f"{max(1, round(gib * 1024))} MB"


def bytes_words(size: int) -> str:
    return gib_words(size / GIB) if size >= 1024 * 1024 else f"{max(1, size // 1024)} KB"


def place(compute_id: str, name: str) -> str:
    """A compute inside a sentence: "the free tier", or the machine's name."""
    return "the free tier" if compute_id == FREE else name


def state_words(compute: Compute) -> str:
    if compute.kind is not ComputeKind.DSVM and compute.power_state is PowerState.UNKNOWN:
        return "—"  # nobody can tell whether a host is on before it is asked
    if compute.hibernated:
        return "asleep (memory kept)"
    return STATE_WORDS.get(compute.power_state, compute.power_state.value)


def gpu_words(model: str | None) -> str:
    """``T4`` of ``NVIDIA T4 16 GB``, as the page has it: the maker and the memory are known from the name."""
    return re.sub(r"\s+\d+\s*GB$", "", re.sub(r"^(NVIDIA|AMD)\s+", "", model or "GPU", flags=re.I), flags=re.I)


def size_words(size: Size | None) -> str:
    """``4 CPU · 28 GB · 1 × T4``; what is not known is left out."""
    if size is None:
        return ""
    words = []
    if size.vcpus is not None:
        words.append(f"{size.vcpus} CPU")
    if size.memory_gib is not None:
        words.append(f"{round(size.memory_gib, 1):g} GB")
    if size.gpus:
        words.append(f"{size.gpus} × {gpu_words(size.gpu_model)}")
    return " · ".join(words) or size.name


def money(amount: float, currency: str | None, cents: bool = False) -> str:
    """``$1.12``, ``1.12 CHF``; whole amounts without their ``cents``, unless they are wanted."""
    number = f"{amount:.0f}" if amount == round(amount) and not cents else f"{amount:.2f}"
    sign = SIGNS.get(currency or "")
    return f"{sign}{number}" if sign else f"{number} {currency}" if currency else number


def price_words(price: Price | None) -> str:
    """``~$0.53/h``; an estimate, and nothing where it is not known."""
    if price is None:
        return ""
    sign = SIGNS.get(price.currency)
    return f"~{sign}{price.amount:.2f}/h" if sign else f"~{price.amount:.2f} {price.currency}/h"


def about_words(compute: Compute) -> str:
    """Size and price inside a sentence: ``4 CPU · 28 GB · 1 × T4, ~$0.53/h``."""
    return ", ".join(t for t in (size_words(compute.size), price_words(compute.price)) if t)


def _state(compute: Compute) -> str:
    """With the countdown, where there is one."""
    counted = stop_words(compute.idle).rstrip(".")
    return f"{state_words(compute)}, {counted[0].lower()}{counted[1:]}" if counted else state_words(compute)


def _cells(computes: Sequence[Compute], here: str | None, notebooks: bool) -> tuple[list[str], list[list[str]]]:
    head = ["", "NAME", "STATE", "SIZE", "PRICE"] + (["NOTEBOOKS"] if notebooks else [])
    rows = []
    for c in computes:
        row = ["*" if c.id == here else "", c.name, _state(c), size_words(c.size), price_words(c.price)]
        rows.append(row + ([", ".join(c.attached)] if notebooks else []))
    if not any(r[4] for r in rows):  # no prices known: no empty column
        head.pop(4)
        for r in rows:
            r.pop(4)
    return head, rows


def computes_text(
    computes: Sequence[Compute], problems: Sequence[Problem], here: str | None = None, notebooks: bool = True
) -> str:
    """A table for a terminal; ``here`` is the compute marked with a star."""
    head, rows = _cells(computes, here, notebooks)
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [head, *rows]]
    return "\n".join(lines + [_problem(p) for p in problems])


def computes_html(
    computes: Sequence[Compute], problems: Sequence[Problem], here: str | None = None, notebooks: bool = True
) -> str:
    """The same for a notebook. Every text is escaped: names come from a cloud and from a user's files."""
    head, rows = _cells(computes, here, notebooks)

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{tag} style="text-align: left">{escaped(c)}</{tag}>' for c in cells) + "</tr>"

    table = "<table><thead>" + line("th", [h.capitalize() for h in head]) + "</thead><tbody>"
    table += "".join(line("td", r) for r in rows) + "</tbody></table>"
    return table + "".join(f"<p>{escaped(_problem(p))}</p>" for p in problems)


def sizes_text(offers: Sequence[SizeOffer], everything: bool = False) -> str:
    """A table for a terminal: the sizes that can be had, or all with the reasons why not; the present one has a star."""
    shown = [o for o in offers if o.available or o.current or everything]
    head = ["", "SIZE", "CPU", "GB", "GPU", "PRICE", "NOTE"]
    rows = []
    for o in shown:
        memory = "" if o.size.memory_gib is None else f"{o.size.memory_gib:g}"
        gpus = f"{o.size.gpus} × {o.size.gpu_model or 'GPU'}" if o.size.gpus else ""
        note = f"Not possible: {o.reason}" if not o.available else " ".join(o.warnings)
        mark = "*" if o.current else "" if o.available else "-"
        vcpus = "" if o.size.vcpus is None else str(o.size.vcpus)
        rows.append([mark, o.size.name, vcpus, memory, gpus, price_words(o.price), note])
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [head, *rows]]
    hidden = len(offers) - len(shown)
    more = (
        f"\n{hidden} more sizes of the region are not possible; --all shows them, with the reasons." if hidden else ""
    )
    return "\n".join(lines) + more


def _problem(problem: Problem) -> str:
    return f"Not everything could be listed: {problem.message} {problem.advice}".rstrip()
