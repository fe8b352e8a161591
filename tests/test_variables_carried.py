"""Variables from one real kernel into another, as the gate asks for it."""

from __future__ import annotations

from support.carried import carry, kernels


def test_small_objects_stay_shared_and_functions_see_the_notebook_they_come_to():
    with kernels() as (old, new):
        old.run("x = 5\ndef f(): return x\na = [1]\nb = {'a': a}\n")
        sent, received = carry(old, new)
        assert sent["sent"] == received["received"] == ["x", "f", "a", "b"]
        assert sent["failed"] == received["failed"] == []
        assert new.value("[f(), b['a'] is a, a]") == [5, True, [1]]
        assert new.run("x = 6\nprint(f())") == "6\n"
        assert old.value("[f(), b['a'] is a]") == [5, True]


def test_what_cannot_move_stays_with_a_reason_and_the_rest_moves():
    with kernels() as (old, new):
        old.run(
            "import threading, os.path as p\nlock = threading.Lock()\nfile = open('/dev/null')\nheld = {'it': [lock]}\ny = 1"
        )
        planned = old.ask("plan")
        assert {v["name"]: v["reason"] for v in planned["variables"]} == {
            "lock": "A lock cannot move.",
            "file": "An open file cannot move.",
            "held": "Something in it stays: a lock cannot move.",
            "y": "",
        }
        sent, received = carry(old, new)
        assert {f["name"] for f in sent["failed"]} == {"lock", "file", "held"}
        assert received["received"] == ["threading", "p", "y"]
        assert new.value("[p.join('a', 'b'), y]") == ["a/b", 1]
        assert new.value("sorted(n for n in globals() if 'dsvm' in n)") == []
        assert old.value("[len(Out), sorted(n for n in globals() if 'dsvm' in n)]") == [0, []]
