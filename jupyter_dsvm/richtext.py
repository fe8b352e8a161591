"""Text as HTML for a notebook's output: what ``tables``, ``livesteps`` and ``advice`` make of names, sentences and prices. Pure."""

from __future__ import annotations

import html

DOLLAR = "<span>$</span>"


def escaped(text: str) -> str:
    """As HTML, since names come from a cloud, a VM and the user's files. Each dollar sign is an element of its own: JupyterLab,
    Notebook and nbconvert typeset what stands between two of them as mathematics, and do not look across elements."""
    return html.escape(text).replace("$", DOLLAR)
