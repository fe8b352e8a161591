"""CPU or GPU for a notebook, how much memory, and what of all that there is fits: sentences from facts. Pure.

``advising`` gathers the facts and asks; ``%dsvm advise``, ``jupyter dsvm advise`` and the move dialog show what comes out.

The grade follows what the code does *as it is written*. A library that could use a GPU and is not asked to gains nothing from one;
what would make it is said. Memory is what was measured, or what the data files come to by the rules in ``datafiles``, whichever is
more; what is not known is said to be unknown, and never made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .libraries import Weight
from .models import (
    FREE,
    OS,
    Advice,
    Compute,
    Fit,
    GPUEvidence,
    GPUGrade,
    SizeOffer,
)
from .notebookfacts import Found, NotebookFacts
from .richtext import escaped
from .tables import GIB, bytes_words, gib_words, price_words, size_words, state_words

FREE_SHARE = 0.1
"""Of a machine's memory that is left to its system and to everything else."""

FEW = 4
"""Names in one sentence."""

MOST_OFFERS = 3
"""Sizes that are shown beside the machines: the cheapest that fit."""


@dataclass(frozen=True)
class MemoryKnown:
    """What was measured of a notebook's memory."""

    peak_gib: float | None = None
    """The most that its kernel has had, where it runs now."""
    where: str = ""
    """Where that is, inside a sentence."""
    outgrew_gib: float | None = None
    """The limit at which its kernel was ended for want of memory."""


NOTHING_KNOWN = MemoryKnown()


def advise(
    facts: NotebookFacts,
    computes: Sequence[Compute],
    memory: MemoryKnown = NOTHING_KNOWN,
    offers: Sequence[SizeOffer] = (),
) -> Advice:
    """``computes``: all that the user has; ``offers``: sizes that a machine could have, where they are known already."""
    grade, first = _graded(facts)
    need, said = _memory(facts, memory)
    fits = _fits(computes, offers, grade, need, memory)
    sentences = [first, *_asides(facts), *said, *_of_price(fits, grade, need)]
    return Advice(grade, tuple(sentences), tuple(map(_evidence, facts.found)), need, tuple(fits))


# The grade


def _graded(facts: NotebookFacts) -> tuple[GPUGrade, str]:
    found = {w: [f for f in facts.found if f.weight is w] for w in Weight}
    if facts.hidden and (found[Weight.NEEDS] or found[Weight.GAINS]):
        return (
            GPUGrade.NO_GAIN,
            "A GPU brings this notebook nothing: it hides all of them from itself (CUDA_VISIBLE_DEVICES).",
        )
    if found[Weight.NEEDS]:
        return GPUGrade.NEEDED, f"This notebook needs a GPU: {_reasons(found[Weight.NEEDS])}."
    if found[Weight.GAINS]:
        return GPUGrade.GAINS, f"This notebook gains from a GPU: {_reasons(found[Weight.GAINS])}."
    unknown = [*facts.unlisted, *facts.local]
    if unknown:
        rest = " Nothing else in it uses one." if facts.found else ""
        beside = f" {_named(facts.local)} beside the notebook {_is(facts.local)} not read." if facts.local else ""
        what = f": of {_named(facts.unlisted)} nothing is known here" if facts.unlisted else ""
        return GPUGrade.UNKNOWN, f"Whether this notebook gains from a GPU cannot be told{what}.{beside}{rest}"
    if not facts.cells:
        return GPUGrade.UNKNOWN, "Whether this notebook gains from a GPU cannot be told: there is no Python code in it."
    if facts.unread and not facts.found:
        return (
            GPUGrade.UNKNOWN,
            "Whether this notebook gains from a GPU cannot be told from the cells that can be read.",
        )
    names = list(dict.fromkeys(f.library.name for f in facts.found))
    if not names:
        return GPUGrade.NO_GAIN, "A GPU brings this notebook nothing: it imports nothing that uses one."
    compute = "computes" if len(names) == 1 else "compute"
    return GPUGrade.NO_GAIN, f"A GPU brings this notebook nothing: {_named(names)} {compute} on the CPU here."


def _reasons(found: Sequence[Found]) -> str:
    shown = [_reason(f) for f in found[:FEW]]
    return "; ".join(shown) + (f"; and {len(found) - FEW} more" if len(found) > FEW else "")


def _reason(found: Found) -> str:
    name, where = found.library.name, f"code cell {found.cell}"
    if found.weight is Weight.NEEDS:
        return (
            f"{name} asks for one in {where} ({found.call})"
            if found.call
            else f"{name} ({where}) does nothing without one"
        )
    if found.weight is Weight.GAINS:
        if found.call:
            return f"{name} takes one where there is one ({found.call} in {where})"
        return f"{name} ({where}) uses one where there is one"
    if found.weight is Weight.COULD:
        return f"{name} ({where}) computes on the CPU unless asked; with {found.library.how} it uses a GPU"
    other = f"; {found.library.how} would use a GPU" if found.library.how else ""
    return f"{name} ({where}) computes on the CPU{other}"


def _evidence(found: Found) -> GPUEvidence:
    library = found.library
    return GPUEvidence(library.name, found.cell, found.call, found.weight.value, f"{_reason(found)}.", library.source)


def _asides(facts: NotebookFacts) -> list[str]:
    """What else there is to know: libraries that could be asked, and what was not read."""
    asked = {f.library.name for f in facts.found if f.weight in (Weight.NEEDS, Weight.GAINS)}
    could = [f for f in facts.found if f.weight is Weight.COULD and f.library.name not in asked]
    said = [f"{_reason(f)}." for f in could[:FEW]]
    if asked and facts.unlisted:
        said.append(f"Of {_named(facts.unlisted)} nothing is known here.")
    if facts.unread:
        cells, one = _named([str(n) for n in facts.unread]), len(facts.unread) == 1
        said.append(
            f"Code cell {cells} is no Python and was not read."
            if one
            else f"Code cells {cells} are no Python and were not read."
        )
    return said


# Memory


def _memory(facts: NotebookFacts, memory: MemoryKnown) -> tuple[float | None, list[str]]:
    said, needs = [], []
    if memory.peak_gib is not None:
        needs.append(memory.peak_gib)
        said.append(f"Its kernel has had {gib_words(memory.peak_gib)} of memory at most on {memory.where}.")
    if memory.outgrew_gib is not None:
        needs.append(memory.outgrew_gib)
        said.append(f"It ran out of memory at {gib_words(memory.outgrew_gib)}, so it needs more than that.")
    files = [f for f in facts.data if f.memory is not None]
    if files:
        total = sum(f.memory or 0.0 for f in files) / GIB
        needs.append(total)
        shown = ", ".join(
            f"{f.name} ({bytes_words(f.size or 0)}, {f.kind.name}: × {f.kind.factor:g})" for f in files[:FEW]
        )
        more = f" and {len(files) - FEW} more" if len(files) > FEW else ""
        said.append(f"Its data comes to about {gib_words(total)} in memory, by rules of thumb: {shown}{more}.")
    missing = [f.name for f in facts.data if f.memory is None]
    if missing:
        said.append(f"The size of {_named(missing)} is not known here.")
    if not needs:
        said.append(
            "How much memory it needs is not known: nothing was measured, and no data file of a known size is named in it."
        )
        return None, said
    return round(max(needs), 3), said


# What fits


def _fits(
    computes: Sequence[Compute], offers: Sequence[SizeOffer], grade: GPUGrade, need: float | None, memory: MemoryKnown
) -> list[Fit]:
    rows = [_fit_of(c, need, memory) for c in computes if c.os is not OS.WINDOWS]
    possible = [o for o in offers if o.available and not o.current and o.price is not None]
    wanted = [
        Fit(
            None,
            o.size.name,
            o.size,
            o.price,
            "a size that can be had",
            bool(o.size.gpus),
            _enough(o.size.memory_gib, need, memory),
        )
        for o in sorted(possible, key=lambda o: o.price.amount if o.price else 0.0)
    ]
    gpu = grade in (GPUGrade.NEEDED, GPUGrade.GAINS)
    fitting = [f for f in wanted if f.fits is not False and f.gpu == gpu][:MOST_OFFERS]
    rows += fitting if grade is not GPUGrade.UNKNOWN else []
    best = _best(rows, grade)
    return [replace(r, best=r is best) for r in rows]


def _fit_of(compute: Compute, need: float | None, memory: MemoryKnown) -> Fit:
    size = compute.size
    return Fit(
        compute.id,
        compute.name,
        size,
        compute.price,
        "" if compute.id == FREE else state_words(compute),
        bool(size and (size.gpus or (size.gpus is None and size.gpu_model))),
        _enough(size.memory_gib if size else None, need, memory),
    )


def _enough(total: float | None, need: float | None, memory: MemoryKnown) -> bool | None:
    if total is None or need is None:
        return None
    if memory.outgrew_gib is not None and total <= memory.outgrew_gib:
        return False
    return total * (1 - FREE_SHARE) >= need


def _best(rows: Sequence[Fit], grade: GPUGrade) -> Fit | None:
    """The cheapest that serves, machines before sizes; None where too little is known to name one."""
    if grade is GPUGrade.UNKNOWN:
        return None
    gpu = grade in (GPUGrade.NEEDED, GPUGrade.GAINS)
    serving = [r for r in rows if r.gpu == gpu and (r.fits or (r.fits is None and gpu))]
    free = [r for r in serving if r.compute == FREE]
    priced = [r for r in serving if r.compute != FREE and r.price is not None]
    owned = [r for r in priced if r.compute is not None] or priced
    if free:
        return free[0]
    return min(owned, key=lambda r: r.price.amount if r.price else 0.0, default=next(iter(serving), None))


def _of_price(fits: Sequence[Fit], grade: GPUGrade, need: float | None) -> list[str]:
    gpu_wanted = grade in (GPUGrade.NEEDED, GPUGrade.GAINS)
    best = next((f for f in fits if f.best), None)
    said = []
    if best is not None and best.compute == FREE:
        said.append("The free tier has enough memory for it.")
    elif best is not None:
        kind = "with a GPU" if gpu_wanted else "that fits"
        rest = "" if best.fits else "; whether its memory is enough is not known"
        said.append(f"The cheapest {kind}: {_priced(best)}{rest}.")
    elif gpu_wanted:
        said.append("None of your machines is known to have a GPU and enough memory.")
    elif need is not None and fits and grade is GPUGrade.NO_GAIN:
        said.append("None of your machines is known to have enough memory.")
    fitting = [f for f in fits if f.fits is not False and f.compute != FREE]
    cpu, gpu = _cheapest([f for f in fitting if not f.gpu]), _cheapest([f for f in fitting if f.gpu])
    gain = ", with no gain" if grade is GPUGrade.NO_GAIN else ""
    times = _times(gpu, cpu)
    if gpu is not None and cpu is not None and times is not None and times > 1:
        words = f"{times:.0f}" if times >= 10 else f"{times:.1f}"
        said.append(f"{_priced(gpu)} has a GPU and would cost {words} times as much as {_priced(cpu)}{gain}.")
    elif gpu is not None and gain and best is not None and best.compute == FREE:
        said.append(f"{_priced(gpu)} has a GPU and would cost that{gain}.")
    return said


def _cheapest(rows: Sequence[Fit]) -> Fit | None:
    """With a price; of one currency, since there is no rate here."""
    return min((r for r in rows if r.price is not None), key=lambda r: r.price.amount if r.price else 0.0, default=None)


def _times(one: Fit | None, other: Fit | None) -> float | None:
    if one is None or other is None or one.price is None or other.price is None:
        return None
    if one.price.currency != other.price.currency or other.price.amount <= 0:
        return None
    return one.price.amount / other.price.amount


def _priced(fit: Fit) -> str:
    return f"{fit.name} ({price_words(fit.price)})" if fit.price is not None else fit.name


# In words


def _named(names: Sequence[str]) -> str:
    shown = [*names[:FEW], *([f"{len(names) - FEW} more"] if len(names) > FEW else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


_FITS = {True: "fits", False: "too small", None: "not known"}


def _cells(advice: Advice) -> tuple[list[str], list[list[str]]]:
    rows = []
    for f in advice.fits:
        words = size_words(f.size)
        rows.append(
            [
                "*" if f.best else "",
                f.name,
                f.state,
                words,
                "GPU" if f.gpu else "CPU",
                _FITS[f.fits],
                price_words(f.price),
            ]
        )
    return ["", "NAME", "STATE", "SIZE", "KIND", "MEMORY", "PRICE"], rows


def advice_text(advice: Advice) -> str:
    """For a terminal; the machine that is meant has a star."""
    head, rows = _cells(advice)
    lines = list(advice.sentences)
    if rows:
        widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
        lines += ["", *("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [head, *rows])]
    return "\n".join(lines)


def advice_html(advice: Advice) -> str:
    """The same for a notebook. Every text is escaped: names come from a cloud, calls from a notebook."""
    first, *rest = advice.sentences
    text = f"<div><b>{escaped(first)}</b></div>" + "".join(f"<div>{escaped(s)}</div>" for s in rest)
    head, rows = _cells(advice)
    if not rows:
        return text

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{tag} style="text-align: left">{escaped(c)}</{tag}>' for c in cells) + "</tr>"

    table = "<table><thead>" + line("th", [h.capitalize() for h in head]) + "</thead><tbody>"
    return text + table + "".join(line("td", r) for r in rows) + "</tbody></table>"
