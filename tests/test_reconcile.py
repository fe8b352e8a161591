"""The rules of a sync, one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from jupyter_dsvm.sync import base as bases
from jupyter_dsvm.sync import names
from jupyter_dsvm.sync.base import Row, Stamp
from jupyter_dsvm.sync.entries import UNSETTLED, Entry, Kind, Side
from jupyter_dsvm.sync.ignore import never_pulled
from jupyter_dsvm.sync.names import Names
from jupyter_dsvm.sync.plan import Direction, Do, HaltReason, Options, Outcome, Why
from jupyter_dsvm.sync.reconcile import TABLE, State, advance, reconcile

NOW = datetime(2026, 11, 28, 5, 10, tzinfo=timezone.utc)
OPTIONS = Options(NOW, "gpu-vm")
HOURS = 3600 * 10**9


def file(path: str, content: str = "v0", *, at: int = 1, size: int | None = None, digest: bool = True, **more) -> Entry:
    """One file; its digest is its content, so that a test can be read."""
    length = len(content) if size is None else size
    return Entry(path, Kind.FILE, length, at, content if digest else "", mark=f"1:{at}", **more)


def folder(path: str) -> Entry:
    return Entry(path, Kind.FOLDER)


def tree(*entries: Entry) -> dict[str, Entry]:
    return {e.path: e for e in entries}


def in_step(*entries: Entry) -> dict[str, Row]:
    """Both sides had these; the VM's clock is five hours ahead."""
    return {e.path: bases.row_of(e, replace(e, mtime_ns=e.mtime_ns + 5 * HOURS)) for e in entries}


def there(*entries: Entry) -> dict[str, Entry]:
    return {e.path: replace(e, mtime_ns=e.mtime_ns + 5 * HOURS) for e in entries}


def plan(base, here, there, direction=Direction.BOTH, **options):
    return reconcile(base, here, there, direction=direction, options=replace(OPTIONS, **options))


def said(plan) -> list[tuple[str, str, str]]:
    return [(a.do.value, a.side.value, a.path) for a in plan.actions]


def others(n: int = 20) -> list[Entry]:
    """So that nothing looks like a folder that was emptied."""
    return [file(f"other{i}") for i in range(n)]


V0, V1, V2 = (file("a", v, at=i + 1) for i, v in enumerate(["v0", "version 1", "version two"]))

CASES = {
    # here, there -> what is done; with a version 0 in the base
    ("v0", "v0"): [],
    ("v1", "v0"): [("copy", "there", "a")],
    ("v0", "v1"): [("copy", "here", "a")],
    ("v1", "v1"): [],
    ("v1", "v2"): [("copy", "there", "a"), ("copy", "here", "a (gpu-vm 2026-11-28 05.10)")],
    (None, "v0"): [("delete", "there", "a")],
    ("v0", None): [("delete", "here", "a")],
    (None, "v1"): [("copy", "here", "a")],
    ("v1", None): [("copy", "there", "a")],
    (None, None): [],
}
VERSIONS = {"v0": V0, "v1": V1, "v2": V2}


@pytest.mark.parametrize("before", ["was in step", "new"])
@pytest.mark.parametrize(("h", "t"), CASES)
def test_the_table(h: str | None, t: str | None, before: str):
    rest = others()
    base = in_step(*rest, *([V0] if before == "was in step" else []))
    here_now = tree(*rest, *([VERSIONS[h]] if h else []))
    there_now = there(*rest, *([VERSIONS[t]] if t else []))
    made = plan(base, here_now, there_now)
    expected = CASES[h, t]
    if before == "new":
        one = [("copy", "there", "a")] if h else [("copy", "here", "a")] if t else []
        expected = [] if h == t else CASES["v1", "v2"] if h and t else one
    assert said(made) == expected
    assert made.halt is None


def test_the_table_is_whole():
    assert len(TABLE) == len(State) ** 2


def test_a_change_on_one_side_says_what_it_replaces_and_keeps_it_in_the_trash():
    made = plan(in_step(V0), tree(V1), there(V0))
    (action,) = made.actions
    assert (action.why, action.entry, action.replaces, action.trash) == (Why.CHANGED, V1, there(V0)["a"], True)
    (action,) = plan(in_step(V0), tree(V1), there(V0), trash_below=1).actions
    assert not action.trash


def test_both_changed_nothing_is_overwritten_in_any_direction():
    for direction in Direction:
        made = plan(in_step(V0), tree(V1), there(V2), direction)
        push, pull = made.actions
        aside = "a (gpu-vm 2026-11-28 05.10)"
        assert (push.side, push.path, push.replaces, push.keep_as) == (Side.THERE, "a", there(V2)["a"], aside)
        assert (pull.side, pull.path, pull.replaces) == (Side.HERE, aside, None)
        assert made.phases == ((push,), (pull,))  # the copy is there before it is fetched
        (conflict,) = made.conflicts
        assert (conflict.path, conflict.kept_as, conflict.here, conflict.there) == ("a", aside, V1, there(V2)["a"])


def test_the_changed_one_wins_over_the_deletion_and_it_is_said():
    (action,) = plan(in_step(V0), {}, there(V1), unknown_here={"x": "?"}).actions
    assert (action.do, action.side, action.why) == (Do.COPY, Side.HERE, Why.REVIVED)


def test_a_push_leaves_what_changed_there_and_a_pull_what_changed_here():
    a, b, c = file("a"), file("b"), file("c")
    base = in_step(a, b, c, *others())
    here_now = tree(V1, b, *others())  # c is deleted
    there_now = there(a, file("b", "there"), c, file("d"), *others())
    assert said(plan(base, here_now, there_now, Direction.PUSH)) == [("copy", "there", "a"), ("delete", "there", "c")]
    assert said(plan(base, here_now, there_now, Direction.PULL)) == [("copy", "here", "b"), ("copy", "here", "d")]


def test_clocks_that_disagree_say_nothing():
    old = file("a", "v0", at=9 * HOURS)
    base = in_step(old)
    assert plan(base, tree(old), there(old)).actions == ()
    # Earlier by the clock, and yet a change.
    changed = file("a", "version 1", at=HOURS)
    assert said(plan(base, tree(old), tree(changed))) == [("copy", "here", "a")]


def test_digests_are_asked_for_where_they_spare_something():
    touched = file("a", "v0", at=50, digest=False)
    base = in_step(V0)
    made = plan(base, tree(touched), there(V0))
    assert (said(made), made.digests_here, made.digests_there) == ([("copy", "there", "a")], ("a",), ())
    made = plan(base, tree(replace(touched, digest="v0")), there(V0))
    assert (said(made), made.digests_here) == ([], ())
    (row,) = made.noted
    assert row.here == Stamp(2, 50, "1:50")
    assert plan(advance(base, made, []), tree(touched), there(V0)).digests_here == ()

    longer = file("a", "longer than v0", at=50, digest=False)
    assert plan(base, tree(longer), there(V0)).digests_here == ()  # its size says enough

    made = plan({}, tree(file("a", digest=False)), there(file("a", digest=False)))
    assert (made.digests_here, made.digests_there) == (("a",), ("a",))
    assert len(made.conflicts) == 1
    made = plan({}, tree(file("a")), there(file("a")))
    assert (made.actions, [r.digest for r in made.noted]) == ((), ["v0"])


def test_an_unsettled_stamp_is_not_believed():
    written = replace(V0, mark=UNSETTLED, digest="")
    base = {"a": bases.row_of(replace(written, digest="v0"), V0)}
    assert plan(base, tree(written), tree(V0)).digests_here == ("a",)


def test_what_the_page_has_open_is_pushed_and_never_overwritten():
    nb, changed = file("n.ipynb"), file("n.ipynb", "by the kernel", at=9)
    owned = {"owned_here": frozenset({"n.ipynb"})}
    base = in_step(nb)
    push, pull = plan(base, tree(nb), there(changed), Direction.PULL, **owned).actions
    assert (push.side, push.path, push.keep_as) == (Side.THERE, "n.ipynb", "n (gpu-vm 2026-11-28 05.10).ipynb")
    assert (pull.side, pull.path) == (Side.HERE, "n (gpu-vm 2026-11-28 05.10).ipynb")
    assert said(plan(base, tree(changed), there(nb), **owned)) == [("copy", "there", "n.ipynb")]
    rest = others()
    deleted = plan(in_step(nb, *rest), tree(nb, *rest), there(*rest), **owned)
    assert said(deleted) == [("copy", "there", "n.ipynb")]


def test_the_executable_bit_travels_without_a_conflict():
    plain, ready = file("a"), file("a", executable=True)
    assert said(plan(in_step(plain), tree(ready), there(plain))) == [("copy", "there", "a")]
    assert said(plan(in_step(plain), tree(plain), there(ready))) == [("copy", "here", "a")]
    made = plan({}, tree(plain), there(ready))
    assert (said(made), made.conflicts) == ([("copy", "there", "a")], ())
    # From Windows the bit does not count, and a changed file keeps what it has on the VM.
    assert plan(in_step(ready), tree(plain), there(ready), modes_here=False).actions == ()
    made = plan(in_step(ready), tree(file("a", "version 1")), there(ready), modes_here=False)
    assert made.actions[0].entry.executable


def test_folders_are_made_before_files_and_removed_after_them():
    new = tree(folder("d"), folder("d/e"), file("d/e/f"), *others())
    made = plan(in_step(*others()), new, there(*others()))
    assert said(made) == [("folder", "there", "d"), ("folder", "there", "d/e"), ("copy", "there", "d/e/f")]
    base = in_step(*new.values())
    made = plan(base, tree(*others()), there(*new.values()))
    assert said(made) == [
        ("delete", "there", "d/e/f"),
        ("remove_folder", "there", "d/e"),
        ("remove_folder", "there", "d"),
    ]


def test_a_deleted_folder_comes_back_for_what_changed_in_it():
    had = [folder("d"), file("d/a"), file("d/b"), *others()]
    made = plan(in_step(*had), tree(*others()), there(*had[:1], file("d/a", "version 1"), *had[2:]))
    assert said(made) == [("folder", "here", "d"), ("copy", "here", "d/a"), ("delete", "there", "d/b")]


def test_a_folder_that_was_not_empty_does_not_come_back():
    had = [folder("d"), *others()]
    base = in_step(*had)
    made = plan(base, tree(*others()), there(*had))
    (remove,) = made.actions
    base = advance(base, made, [Outcome(remove, True, there=folder("d"))])
    assert plan(base, tree(*others()), there(*had)).actions == ()
    # A new file there brings it here again.
    made = plan(base, tree(*others()), there(*had, file("d/new")))
    assert said(made) == [("folder", "here", "d"), ("copy", "here", "d/new")]


# Halts.


def halted(made) -> tuple[HaltReason, ...]:
    assert made.halt is not None
    assert made.actions == ()
    assert "--force" in made.halt.advice
    return made.halt.reasons


def test_a_folder_that_vanished():
    made = plan(in_step(V0), tree(V0), None)
    assert halted(made) == (HaltReason.VANISHED,)
    assert made.halt.message.startswith("The workspace's folder is not there any more on gpu-vm.")
    made = plan(in_step(V0), tree(V0), None, forced=made.halt.id)
    assert said(made) == [("copy", "there", "a")]  # it is filled again, never taken for deleted
    assert said(plan({}, tree(V0), None)) == [("copy", "there", "a")]


def test_a_side_that_is_suddenly_empty():
    for direction in Direction:
        made = plan(in_step(V0), tree(V0), {}, direction)
        assert halted(made) == (HaltReason.EMPTY,)
        assert made.halt.message.startswith("The workspace on gpu-vm is empty; at the last sync it had 1 file.")
    made = plan(in_step(V0), {}, there(V0))
    assert halted(made) == (HaltReason.EMPTY,)
    assert said(plan(in_step(V0), {}, there(V0), forced=made.halt.id)) == [("delete", "there", "a")]
    assert plan(in_step(V0), {}, {}).forgotten == ("a",)


def test_a_plan_that_would_delete_more_than_half():
    files = others(10)
    base = in_step(*files)
    assert len(plan(base, tree(*files[5:]), there(*files)).actions) == 5
    made = plan(base, tree(*files[6:]), there(*files))
    assert halted(made) == (HaltReason.MANY_DELETIONS,)
    assert "would delete 6 of 10 files on gpu-vm" in made.halt.message
    assert len(plan(base, tree(*files[6:]), there(*files), forced=made.halt.id).actions) == 6
    few = others(6)
    assert len(plan(in_step(*few), tree(*few[4:]), there(*few)).actions) == 4


def test_force_is_for_the_plan_that_was_shown():
    files = others(10)
    made = plan(in_step(*files), tree(*files[6:]), there(*files))
    later = plan(in_step(*files), tree(*files[7:]), there(*files), forced=made.halt.id)
    assert halted(later) == (HaltReason.MANY_DELETIONS,)
    later = plan(in_step(*files), tree(), there(*files), forced=made.halt.id)
    assert halted(later) == (HaltReason.EMPTY,)


def test_a_file_turned_folder():
    base = in_step(V0, *others())
    turned = there(folder("a"), file("a/x"), *others())
    made = plan(base, tree(V0, *others()), turned)
    assert halted(made) == (HaltReason.TYPE,)
    assert "“a” is a folder on gpu-vm and a file on this server" in made.halt.message
    made = plan(base, tree(V0, *others()), turned, forced=made.halt.id)
    assert said(made) == [("delete", "here", "a"), ("folder", "here", "a"), ("copy", "here", "a/x")]
    # Had the file changed too, it would be kept beside.
    made = plan(base, tree(V1, *others()), turned)
    made = plan(base, tree(V1, *others()), turned, forced=made.halt.id)
    aside = "a (this server 2026-11-28 05.10)"
    assert said(made) == [
        ("move", "here", "a"),
        ("folder", "here", "a"),
        ("copy", "there", aside),
        ("copy", "here", "a/x"),
    ]
    # Both sides did the same: nothing to ask.
    both = [folder("a"), file("a/x"), *others()]
    made = plan(base, tree(*both), there(*both))
    assert (made.halt, made.actions) == (None, ())


def test_a_folder_turned_file():
    had = [folder("d"), file("d/x"), *others()]
    turned = tree(file("d", "now a file"), *others())
    made = plan(in_step(*had), turned, there(*had))
    assert halted(made) == (HaltReason.TYPE,)
    made = plan(in_step(*had), turned, there(*had), forced=made.halt.id)
    assert said(made) == [("delete", "there", "d/x"), ("remove_folder", "there", "d"), ("copy", "there", "d")]


# What cannot travel.


def test_what_a_side_cannot_tell_is_not_deleted():
    had = [folder("d"), file("d/x"), file("b"), *others()]
    made = plan(
        in_step(*had), tree(*others()), there(*had), unknown_here={"d": "it cannot be read", "b": "it is a device"}
    )
    assert made.actions == ()
    assert [(s.path, s.side, s.reason) for s in made.skipped] == [
        ("b", Side.HERE, "it is a device"),
        ("d", Side.HERE, "it cannot be read"),
    ]
    assert plan(in_step(*had), tree(*others()), there(*had), unknown_here={"": "it cannot be read"}).actions == ()


BAD = ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "", "a\0b", "caf\udce9", "n" * 256, "d/" * 2000 + "x"]


@pytest.mark.parametrize("path", BAD)
def test_a_hostile_side_is_listed_and_touches_nothing(path: str):
    made = plan({}, {}, tree(file(path), file("good")))
    assert said(made) == [("copy", "here", "good")]
    (skipped,) = made.skipped
    assert skipped.side is Side.THERE
    assert "\udce9" not in skipped.path
    assert "\0" not in skipped.path


def test_a_side_that_contradicts_itself():
    made = plan(
        {}, {}, {"a": file("b"), "c": file("c"), "c/d": file("c/d"), "l": Entry("l", Kind.LINK, digest="../up")}
    )
    assert said(made) == [("copy", "here", "c")]
    assert {s.path for s in made.skipped} == {"a", "c/d", "l"}


def test_names_that_windows_cannot_have():
    entries = [file(p) for p in ("a:b", "CON", "aux.txt", "end.", "end ", 'q"', "fine.txt", "d\\e")]
    made = plan({}, {}, tree(*entries), here_names=Names(folds_case=True, windows=True))
    assert said(made) == [("copy", "here", "fine.txt")]
    assert len(made.skipped) == 7


def test_names_that_differ_in_case_only():
    folds = {"here_names": Names(folds_case=True)}
    made = plan({}, {}, tree(file("Data.csv"), file("data.csv", "other")), **folds)
    assert said(made) == [("copy", "here", "Data.csv")]
    (skipped,) = made.skipped
    assert (skipped.path, skipped.reason) == ("data.csv", "on this server it would be the same name as “Data.csv”")
    # The one that is here stays.
    made = plan(
        in_step(file("data.csv")), tree(file("data.csv")), there(file("data.csv"), file("Data.csv", "new")), **folds
    )
    assert (said(made), made.skipped[0].path) == ([], "Data.csv")
    # Folders too, with what is in them.
    made = plan({}, tree(folder("src"), file("src/a")), there(folder("Src"), file("Src/b")), **folds)
    assert said(made) == [("folder", "there", "src"), ("copy", "there", "src/a")]
    assert {s.path for s in made.skipped} == {"Src", "Src/b"}
    # é in one character and in two is one name for a Mac.
    made = plan({}, {}, tree(file("caf\u00e9"), file("cafe\u0301")), **folds)
    assert len(made.actions) == 1


def test_a_name_that_changes_its_case_is_made_free_first():
    rest = others()
    base = in_step(file("data.csv"), *rest)
    made = plan(base, tree(file("data.csv"), *rest), there(file("Data.csv"), *rest), here_names=Names(folds_case=True))
    assert said(made) == [("delete", "here", "data.csv"), ("copy", "here", "Data.csv")]


def test_what_would_run_by_itself_is_never_pulled():
    paths = ["sitecustomize.py", ".git/hooks/pre-commit", "x.pth"]
    made = plan({}, {}, tree(*map(file, paths), file("good.py")), never_pull=never_pulled)
    assert said(made) == [("copy", "here", "good.py")]
    assert {s.path for s in made.skipped} >= set(paths)
    rest = others()
    made = plan(in_step(file("x.pth"), *rest), tree(file("x.pth"), *rest), there(*rest), never_pull=never_pulled)
    assert made.actions == ()


# Sizes.


def test_a_pull_stops_at_its_budget_and_leaves_the_largest():
    entries = [file(n, size=s) for n, s in (("big", 500), ("mid", 300), ("mid2", 300), ("small", 10))]
    made = plan({}, {}, tree(*entries), pull_bytes=400)
    assert [a.path for a in made.actions] == ["mid", "small"]
    assert [(e.path, e.size) for e in made.left_there] == [("big", 500), ("mid2", 300)]
    made = plan({}, {}, tree(*entries), pull_bytes=400, fetch=frozenset({"big"}))
    assert [a.path for a in made.actions] == ["big"]
    assert [a.path for a in plan({}, {}, tree(*entries, file("empty", "")), pull_bytes=-5).actions] == ["empty"]


def test_a_large_push_asks_first():
    entries = tree(file("a", size=600), file("b", size=600))
    assert plan({}, entries, {}, ask_above=1200).needs_yes == 0
    assert plan({}, entries, {}, ask_above=1000).needs_yes == 1200
    assert plan({}, entries, {}, ask_above=1000, agreed_bytes=1200).needs_yes == 0
    assert plan({}, entries, {}, Direction.PULL, ask_above=1000).needs_yes == 0


# The base.


def test_only_what_happened_is_recorded():
    a, b = file("a"), file("b")
    made = plan({}, tree(a, b), {})
    first, second = made.actions
    outcomes = [Outcome(first, True, here=a, there=replace(a, mtime_ns=77)), Outcome(second, False, problem="no room")]
    base = advance({}, made, outcomes)
    assert base == {"a": Row("a", Kind.FILE, "v0", False, Stamp(2, 1, "1:1"), Stamp(2, 77, "1:1"))}
    assert bases.from_json(bases.to_json(base)) == base
    assert bases.known(base, Side.THERE) == {"a": replace(a, mtime_ns=77)}


@pytest.mark.parametrize(
    "data", [None, 5, [5], [["a"]], [["a", "file", "", False, [1], None]], [["a", "x", "", False, None, None]]]
)
def test_what_is_no_base(data):
    with pytest.raises(ValueError):
        bases.from_json(data)


# Entries from the VM.


def test_entries_travel_as_json():
    for entry in (file("a", executable=True), folder("d"), Entry("l", Kind.LINK, digest="a")):
        assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


BROKEN = {"path": [5, None, "x" * 9000], "kind": ["device", 1], "size": [-1, "5", 1.5, True, 2**64], "mtime_ns": ["1", 2**70],
          "digest": [None, "x" * 5000], "executable": [1], "mark": [None, "x" * 101], "more": [1]}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BROKEN.items() for v in values])
def test_what_is_no_entry(field: str, value: object):
    with pytest.raises(ValueError):
        Entry.from_json({**file("a").to_json(), field: value})


@pytest.mark.parametrize("data", [None, [], "a", {}, {"path": "a"}])
def test_what_is_no_entry_at_all(data: object):
    with pytest.raises(ValueError):
        Entry.from_json(data)


# Names.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.csv", "data (gpu-vm 2026-11-28 05.10).csv"),
        ("d/e/model", "d/e/model (gpu-vm 2026-11-28 05.10)"),
        ("x.tar.gz", "x (gpu-vm 2026-11-28 05.10).tar.gz"),
        (".hidden", ".hidden (gpu-vm 2026-11-28 05.10)"),
        ("a. this is no extension at all, is it", "a. this is no extension at all, is it (gpu-vm 2026-11-28 05.10)"),
    ],
)  # fmt: skip
def test_conflict_names(path: str, expected: str):
    assert names.conflict_name(path, "gpu-vm", NOW, lambda p: False) == expected


def test_conflict_names_are_free_legal_and_not_too_long():
    taken = {"a (gpu-vm 2026-11-28 05.10).csv", "a (gpu-vm 2026-11-28 05.10 2).csv"}
    assert names.conflict_name("a.csv", "gpu-vm", NOW, taken.__contains__) == "a (gpu-vm 2026-11-28 05.10 3).csv"
    windows = Names(folds_case=True, windows=True)
    for stem in ("n" * 251, "é" * 125, "名" * 83):
        found = names.conflict_name(f"d/{stem}.csv", 'my/vm: "x"' * 20, NOW, lambda p: False, (names.POSIX, windows))
        assert found.endswith(".csv")
        assert len(found.encode()) <= 2 + 255
        assert names.problem(found, windows) == ""
