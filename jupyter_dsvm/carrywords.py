"""Carrying variables, in sentences: what came along, what stayed behind and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .kernelvariables import Failed, Moved
from .models import Variables
from .richtext import escaped
from .tables import bytes_words, place

SHOWN = 5
"""Names with their reasons in a sentence; an operation's notice is no list."""


def variables_words(count: int) -> str:
    return "1 variable" if count == 1 else f"{count} variables"


def failed_words(failed: Sequence[Failed]) -> str:
    """``conn (an open connection cannot move), fh (…) and 2 more``"""
    shown = [f"{f.name} ({_clause(f.reason)})" if f.reason else f.name for f in failed[:SHOWN]]
    if len(failed) > SHOWN:
        return f"{', '.join(shown)} and {len(failed) - SHOWN} more"
    return ", ".join(shown)


def came_along(moved: Moved, failed: Sequence[Failed]) -> str:
    """What is said after a move with variables: ``12 variables came along (1.2 GB). 3 stayed behind: …``"""
    if moved.count:
        said = f"{variables_words(moved.count)} came along ({bytes_words(moved.bytes)})."
    elif failed:
        said = "No variable came along."
    else:
        return "There was no variable to carry."
    return f"{said} {len(failed)} stayed behind: {failed_words(failed)}." if failed else said


def stayed(left: str, why: str) -> str:
    """The move took place without them: nobody had asked for it, or ``why``, a sentence."""
    return f"Variables stayed on {left}{f': {why} Run' if why else '; run'} the cells that make them."


def progress_text(done: int, of: int) -> str:
    if of <= 0:
        return f"Carrying variables ({bytes_words(done)})" if done else "Carrying variables"
    return f"Carrying variables ({bytes_words(min(done, of))} of {bytes_words(of)})"


def needs_yes(source: str, target: str, target_is_free: bool) -> str:
    """What a person says yes to: once per VM."""
    beside = "beside this server’s token" if target_is_free else f"with your account on {target}"
    return (
        f"Variables from {source} would be loaded on {target}. Loading them runs what {source} sends, {beside}: "
        f"allow it only where you trust what runs on {source}. It is asked once for {source}."
    )


def unsupported(language: str) -> str:
    name = {"r": "an R", "julia": "a Julia", "": "this"}.get(language.lower(), f"a {language}")
    return f"Variables of {name} kernel cannot be carried yet."


def plan_text(plan: Variables, name: str) -> str:
    """``%dsvm carry`` as text."""
    lines = [_summary(plan, name)]
    if plan.variables:
        rows = _rows(plan)
        widths = [max(len(r[i]) for r in [HEAD, *rows]) for i in range(len(HEAD))]
        lines += ["", *("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [HEAD, *rows])]
    if plan.more:
        lines.append(f"and {plan.more} more")
    return "\n".join(lines)


def plan_html(plan: Variables, name: str) -> str:
    """The same for a notebook; every text is escaped, since names and types are a kernel's."""
    text = f"<div>{escaped(_summary(plan, name))}</div>"
    if not plan.variables:
        return text

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{tag} style="text-align: left">{escaped(c)}</{tag}>' for c in cells) + "</tr>"

    table = "<table><thead>" + line("th", [h.capitalize() for h in HEAD]) + "</thead><tbody>"
    more = f"<div>and {plan.more} more</div>" if plan.more else ""
    return text + table + "".join(line("td", r) for r in _rows(plan)) + "</tbody></table>" + more


HEAD = ["NAME", "TYPE", "SIZE", "MOVES"]


def _rows(plan: Variables) -> list[list[str]]:
    return [
        [v.name, v.type, "—" if v.bytes is None else bytes_words(v.bytes), "yes" if v.moves else f"no: {v.reason}"]
        for v in plan.variables
    ]


def _summary(plan: Variables, name: str) -> str:
    to = f" to {place(plan.compute, name)}" if name else ""
    if plan.reason:
        return plan.reason
    moving = sum(v.moves for v in plan.variables)
    if not plan.variables:
        return f"There is no variable that could go along{to}."
    takes = "" if plan.seconds is None else f", about {max(1, round(plan.seconds))} s"
    all_move = moving == len(plan.variables)
    some = variables_words(moving) if all_move else f"{moving} of {variables_words(len(plan.variables))}"
    asked = " A person is asked first, once for this machine." if plan.needs_yes else ""
    return f"{some} could go along{to} ({bytes_words(plan.bytes)}{takes}).{asked}"


def _clause(reason: str) -> str:
    """A sentence inside parentheses: without its full stop, and small where it begins with an article."""
    reason = reason.rstrip(".")
    for article in ("A ", "An ", "The "):
        if reason.startswith(article):
            return reason[0].lower() + reason[1:]
    return reason
