"""The rules of a hub: who sees what, who may do what and when, and that each refusal names its rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError
from traitlets.config import Config

from jupyter_dsvm.errors import RefusedByPolicy
from jupyter_dsvm.hub.hours import DAYS, WEEK, Hours
from jupyter_dsvm.hub.policy import Facts, HubPolicy, Machine, Person

ADA = Person("ada", frozenset({"vision"}))
BOB = Person("bob")
TEACHER = Person("grace", frozenset({"staff"}))
MINE = Machine("vm1", "ada-vm", {"jupyterhub-user": "ada, carl"}, "Standard_D4ds_v5", 0.27)
CLASS = Machine("vm2", "class-vm", {"JupyterHub-Group": "vision"}, "Standard_NC4as_T4_v3", 0.66)
POOLED = Machine("vm3", "pool-1", {"jupyterhub-pool": "gpu"}, "Standard_NC4as_T4_v3")
NOBODYS = Machine("vm4", "prod", {"team": "vision"}, "Standard_D4ds_v5")
RULE = "stop_under_others"
MONDAY = datetime(2026, 11, 30, 9, 30, tzinfo=timezone.utc).timestamp()
NIGHT = datetime(2026, 11, 30, 23, 30, tzinfo=timezone.utc).timestamp()


def policy(**values: Any) -> HubPolicy:
    return HubPolicy(config=Config({"HubPolicy": values}))


def rule(function: Callable[..., None], *arguments: Any) -> str:
    """The rule that refuses it; empty where it is allowed."""
    try:
        function(*arguments)
    except RefusedByPolicy as e:
        error = e
    else:
        return ""
    assert f"(rule HubPolicy.{error.rule})." in error.message, error
    assert error.advice
    assert error.status == 403
    assert error.rule in HubPolicy.class_trait_names(config=True)
    return error.rule


def test_who_sees_which_vm():
    some = policy(pools={"gpu": {"people": ["group:vision"]}}, teachers=["group:staff"])

    def seen(person: Person, *assigned: str) -> list[str]:
        return [m.name for m in (MINE, CLASS, POOLED, NOBODYS) if some.sees(person, m, assigned)]

    assert seen(ADA) == ["ada-vm", "class-vm"]
    assert seen(ADA, "vm3") == ["ada-vm", "class-vm", "pool-1"]
    assert seen(Person("carl")) == ["ada-vm"]
    assert seen(BOB, "vm3", "vm4") == [], "assigned before he left the group"
    assert seen(TEACHER) == ["ada-vm", "class-vm", "pool-1", "prod"]
    assert seen(Person("root", admin=True)) == ["ada-vm", "class-vm", "pool-1", "prod"]
    assert [p.name for p in some.pools_of(ADA)] == ["gpu"]
    assert some.pools_of(BOB) == []


@given(
    st.text(),
    st.frozensets(st.text(), max_size=3),
    st.dictionaries(st.sampled_from(["jupyterhub-user", "jupyterhub-group", "jupyterhub-pool", "x"]), st.text()),
)
def test_with_an_empty_configuration_nothing_is_anybodys_but_by_its_tags(
    name: str, groups: frozenset[str], tags: dict[str, str]
):
    person, machine = Person(name, groups), Machine("vm", "vm", tags)
    named = {part.strip() for part in tags.get("jupyterhub-user", "").split(",")} - {""}
    grouped = {part.strip() for part in tags.get("jupyterhub-group", "").split(",")} - {""}
    assert policy().sees(person, machine, ["vm"]) == (name in named or bool(groups & grouped))


@given(st.text(), st.frozensets(st.text(), max_size=3), st.sampled_from(["Standard_D2s_v5", "NC4as_T4_v3", ""]))
def test_making_and_resizing_is_denied_unless_somebody_allows_it(name: str, groups: frozenset[str], size: str):
    person, usual = Person(name, groups), policy()
    assert rule(usual.check_create, person, size, Facts(), MONDAY) == "may_create"
    assert rule(usual.check_resize, person, MINE, size, Facts(), MONDAY) == "may_resize"


def test_who_may_make_and_resize():
    some = policy(may_create=["ada"], may_resize=["group:vision"], resize_sizes=["NC4*"], sizes=["Standard_D*"])
    assert rule(some.check_create, ADA, "Standard_D2s_v5", Facts(), MONDAY) == ""
    assert rule(some.check_create, ADA, "NC4as_T4_v3", Facts(), MONDAY) == "sizes"
    assert rule(some.check_create, BOB, "Standard_D2s_v5", Facts(), MONDAY) == "may_create"
    assert rule(some.check_resize, ADA, MINE, "Standard_NC4as_T4_v3", Facts(), MONDAY) == ""
    assert rule(some.check_resize, ADA, MINE, "Standard_NC24ads_A100_v4", Facts(), MONDAY) == "resize_sizes"
    assert rule(some.check_resize, ADA, MINE, "NC4as_T4_v3", Facts(frozenset({"ada", "bob"})), MONDAY) == RULE
    assert rule(some.check_resize, BOB, MINE, "NC4as_T4_v3", Facts(), MONDAY) == "may_resize"


def test_what_keeps_a_vm_from_being_started():
    some = policy(
        sizes=["D*"], hours=["Mon-Fri 08:00-20:00"], budget_per_user=10, budget=100, teachers=["grace"], may_create=[]
    )
    assert rule(some.check_start, ADA, MINE, Facts(), MONDAY) == ""
    assert rule(some.check_start, ADA, CLASS, Facts(), MONDAY) == "sizes"
    assert rule(some.check_start, ADA, MINE, Facts(), NIGHT) == "hours"
    assert rule(some.check_start, ADA, MINE, Facts(running=frozenset({"vm9"})), MONDAY) == "running_per_user"
    assert rule(some.check_start, ADA, MINE, Facts(spent=10), MONDAY) == "budget_per_user"
    assert rule(some.check_start, ADA, MINE, Facts(spent=9.99, spent_by_all=100), MONDAY) == "budget"
    busy = Facts(running=frozenset({"vm9"}), spent=10)
    assert rule(some.check_start, TEACHER, MINE, busy, NIGHT) == ""
    assert rule(some.check_start, TEACHER, MINE, Facts(spent_by_all=100), NIGHT) == "budget"
    with pytest.raises(RefusedByPolicy, match="Next: Tuesday, 08:00"):
        some.check_start(ADA, MINE, Facts(), NIGHT)


def test_attaching_and_staying():
    some = policy(hours=["daily 08:00-20:00"], pools={"gpu": {"people": ["*"], "users_per_vm": 2}}, budget_per_user=5)
    two = Facts(frozenset({"bob", "carl"}))
    assert rule(some.check_attach, ADA, POOLED, Facts(frozenset({"ada", "carl"})), MONDAY) == ""
    assert rule(some.check_attach, ADA, POOLED, two, MONDAY) == "pools"
    assert rule(some.check_attach, ADA, CLASS, two, MONDAY) == ""
    assert rule(some.check_attach, ADA, CLASS, Facts(spent=5), MONDAY) == "budget_per_user"
    assert rule(some.check_attach, ADA, CLASS, Facts(), NIGHT) == "hours"
    assert rule(some.check_stay, ADA, CLASS, [], Facts(), NIGHT) == "", "what is attached may go on"
    assert rule(some.check_stay, ADA, NOBODYS, [], Facts(), MONDAY) == "user_tag"
    assert rule(some.check_stay, ADA, CLASS, [], Facts(spent=5), MONDAY) == "budget_per_user"
    some.close_after_hours = True
    assert rule(some.check_stay, ADA, CLASS, [], Facts(), NIGHT) == "hours"


def test_nobody_stops_what_others_use():
    some = policy(teachers=["grace"])
    both = frozenset({"ada", "bob"})
    assert rule(some.check_stop, ADA, CLASS, Facts(both, frozenset({"ada"}))) == "", (
        "Bob is attached, and nothing of his runs"
    )
    assert rule(some.check_stop, ADA, CLASS, Facts(both, both)) == RULE
    assert rule(some.check_stop, TEACHER, CLASS, Facts(both, both)) == ""
    assert rule(some.check_stop, ADA, CLASS, Facts(both), "restarted") == RULE, (
        "his variables would be lost for nobody's sake"
    )
    assert some.others(ADA, both) == {"bob"}
    assert policy(stop_under_others=True).others(ADA, both) == some.others(TEACHER, both) == set()


def test_a_hard_limit_is_on_by_default():
    usual = policy()
    assert usual.why_stop(None, None, 9e9) == ""
    assert usual.why_stop(0, 8 * 3600 - 1, 8 * 3600 - 1) == ""
    assert "HubPolicy.hard_limit_hours" in usual.why_stop(0, 8 * 3600, 8 * 3600)
    assert usual.why_stop(1000, None, 1000 + 1799) == ""
    assert "HubPolicy.idle_minutes" in usual.why_stop(1000, 500, 1000 + 1800)
    assert usual.why_stop(0, 1000, 1000 + 1800 + 599, attached=2) == "", "their servers fetch their files first"
    assert usual.why_stop(0, 1000, 1000 + 1800 + 600, attached=2).startswith("nobody has used it for 30 min")
    never = policy(hard_limit_hours=None, idle_minutes=None)
    assert never.why_stop(0, None, 9e9) == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hours": ["Mon 8-9"]}, "write it like"),
        ({"hours": ["Mon 08:00-25:00"]}, "25:00 is no time of day"),
        ({"hours": ["Foo 08:00-09:00"]}, "'foo' is no day"),
        ({"hours": ["Mon 08:00-08:00"]}, "no length"),
        ({"time_zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ({"pools": {"a b": {}}}, "has to be a word"),
        ({"pools": {"a": {"persons": []}}}, "has to be a word, with"),
        ({"pools": {"a": {"people": "ada"}}}, "list of names"),
        ({"pools": {"a": {"users_per_vm": 0}}}, "1 or more"),
    ],
)
def test_settings_that_cannot_be_meant(values: dict[str, Any], said: str):
    with pytest.raises(TraitError, match=said):
        policy(**values)


TIMES = st.integers(0, 24 * 60 - 1)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1))


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@given(st.lists(st.sampled_from(DAYS), min_size=1, max_size=3), TIMES, TIMES, MOMENTS)
def test_hours_are_what_a_calendar_says(days: list[str], begin: int, end: int, moment: datetime):
    if begin == end:
        return
    hours = Hours.parse([f"{','.join(days)} {clock(begin)}-{clock(end)}"])
    at = moment.hour * 60 + moment.minute
    today, yesterday = DAYS[moment.weekday()] in days, DAYS[moment.weekday() - 1] in days
    if begin < end:
        expected = today and begin <= at < end
    else:
        expected = (today and at >= begin) or (yesterday and at < end)
    assert hours.contain(moment) is expected
    following = hours.next_begin(moment)
    assert following is not None
    assert timedelta(0) <= following - moment <= timedelta(minutes=WEEK)
    assert hours.contain(following)
    assert DAYS[following.weekday()] in days
    assert following.hour * 60 + following.minute == begin


def test_hours_over_the_change_of_the_clocks_and_the_end_of_the_week():
    some = policy(hours=["Sun-Mon 22:00-02:00"], time_zone="Europe/Berlin")

    def at(text: str) -> str:
        moment = datetime.fromisoformat(text).timestamp()
        return rule(some.check_start, ADA, MINE, Facts(), moment)

    assert at("2026-11-29T22:00:00+01:00") == ""  # a Sunday
    assert at("2026-11-30T01:59:00+01:00") == ""
    assert at("2026-11-30T02:00:00+01:00") == "hours"
    assert at("2026-12-01T01:00:00+01:00") == ""
    assert at("2026-03-29T22:00:00+02:00") == ""  # the clocks have changed that night
    assert at("2026-03-29T21:59:00+02:00") == "hours"
    assert not Hours.parse([])
    assert Hours.parse([]).next_begin(datetime(2026, 1, 1)) is None
    assert Hours.parse(["daily 00:00-24:00"]).contain(datetime(2026, 1, 4, 23, 59))
