"""The life of a sign-in by code, without any I/O; and Entra's refusals as sentences."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure.aadsts import TABLE, ends_sign_in, number_of, passes, refusal, shown
from jupyter_dsvm.compute.azure.signin_states import MOST_ENDED, MOST_OPEN, OPEN, Attempts, Event, Phase, Prompt
from jupyter_dsvm.emulator.aadsts import ERRORS, Refused
from jupyter_dsvm.models import Problem

PROBLEM = Problem("AADSTS53003", "Blocked.", "Ask.")

steps = st.lists(
    st.one_of(
        st.just("ask"),
        st.tuples(st.integers(0, 20), st.sampled_from(list(Event))),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens(run):
    attempts, asked, ever_ended = Attempts(), 0, {}
    for step in run:
        before = attempts
        if step == "ask":
            attempts = attempts.asked(f"a{asked}", "")
            asked += 1
        else:
            number, event = step
            prompt = Prompt("https://x", f"CODE{number}", "") if event is Event.CODED else None
            problem = PROBLEM if event is Event.REFUSED else None
            attempts = attempts.happened(f"a{number}", event, prompt=prompt, problem=problem)
            if event is Event.FINISHED and attempts is not before:
                # One has signed in: nobody else's code is worth anything to us any more.
                assert attempts.open == ()
                assert before.get(f"a{number}").phase is Phase.PROMPTING
        assert len(attempts.open) <= MOST_OPEN
        assert len(attempts.all) <= MOST_OPEN + MOST_ENDED + 1
        assert len({a.id for a in attempts.all}) == len(attempts.all)
        for attempt in attempts.all:
            # A code is known exactly while it can be entered, and only its own.
            assert (attempt.prompt is not None) == (attempt.phase is Phase.PROMPTING)
            if attempt.prompt is not None:
                assert attempt.prompt.code == f"CODE{attempt.id[1:]}"
            assert (attempt.problem is not None) == (attempt.phase is Phase.FAILED)
            if attempt.id in ever_ended:
                assert attempt.phase is ever_ended[attempt.id]
            if attempt.phase not in OPEN:
                ever_ended[attempt.id] = attempt.phase
    assert attempts.cancelled().open == ()


def test_what_comes_late_changes_nothing():
    attempts = Attempts().asked("a", "").happened("a", Event.CODED, prompt=Prompt("https://x", "C", ""))
    cancelled = attempts.happened("a", Event.CANCELLED)
    assert cancelled.happened("a", Event.FINISHED) is cancelled
    assert cancelled.happened("unknown", Event.FINISHED) is cancelled
    assert "C" not in re.findall(r"code='(\w+)'", repr(attempts))


def test_a_fifth_page_ends_the_first_ones_attempt():
    attempts = Attempts()
    for number in range(MOST_OPEN + 1):
        attempts = attempts.asked(str(number), "")
    assert attempts.get("0").phase is Phase.CANCELLED
    assert [a.id for a in attempts.open] == [str(n) for n in range(1, MOST_OPEN + 1)]


# Refusals


@pytest.mark.parametrize(
    "number", [70020, 70016, 53003, 50076, 50079, 65001, 50020, 50105, 700016, 7000218, 90002, 50173, 70043, 53000]
)
def test_every_number_of_the_facts_has_a_sentence_and_a_next_step(number: int):
    error = refusal("invalid_grant", f"AADSTS{number}: Something. Trace ID: 1234 Correlation ID: 5 Timestamp: 6")
    assert error.code == f"AADSTS{number}"
    row = next(r for r in TABLE if number in r.numbers)
    assert row.sentence in error.message
    assert error.advice == row.advice
    assert len(error.advice) > 10
    assert error.message.endswith(f"Entra said: AADSTS{number}: Something.")
    assert "Trace" not in error.message


def test_the_table_has_each_number_once_and_all_that_the_emulator_can_say_of_people():
    numbers = [n for row in TABLE for n in row.numbers]
    assert len(numbers) == len(set(numbers))
    programs_only = {
        16000,
        50011,
        50049,
        70003,
        70011,
        90014,
    }  # faults of a client's request, not of a person's sign-in
    assert set(ERRORS) - programs_only <= set(numbers)
    for number in ERRORS:
        assert "{" not in Refused(number).text


@pytest.mark.parametrize("word", ["authorization_declined", "access_denied", "expired_token", "bad_verification_code"])
def test_refusals_without_a_number_go_by_their_word(word: str):
    error = refusal(word, "")
    assert error.code == word
    assert "Could not sign in to Azure. " in error.message
    assert error.advice


def test_an_unknown_number_keeps_entras_words():
    error = refusal("invalid_grant", "AADSTS1234567: Something quite new.")
    assert "Entra said: AADSTS1234567: Something quite new." in error.message
    assert error.code == "AADSTS1234567"
    assert "nothing" in refusal("", "").message


def test_entras_own_faults_say_nothing_about_the_account():
    for code in ("AADSTS90033", "AADSTS90038", "AADSTS90055", "temporarily_unavailable"):
        assert passes(code)
        assert not ends_sign_in(code)
    for code in ("AADSTS50173", "AADSTS65001", "invalid_grant", "SignInExpired", ""):
        assert not passes(code)


@given(st.text(max_size=3000))
def test_any_text(text: str):
    error = refusal("", text)
    assert all(c.isprintable() or c == "\n" for c in error.message)
    assert len(shown(text)) < 500
    assert number_of(text) is None or f"AADSTS{number_of(text)}" in text
