"""Text in a notebook's output."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.richtext import escaped


def test_two_prices_are_no_formula():
    assert "$" not in re.sub("<span>[$]</span>", "", escaped("gpu-vm (~$0.66/h) costs more than cpu-vm (~$0.27/h)"))


@given(st.text())
def test_it_is_the_text_and_nothing_else(text: str):
    shown = escaped(text)
    assert html.unescape(re.sub("</?span>", "", shown)) == text
    assert not re.search("<(?!/?span>)", shown)
