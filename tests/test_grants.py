"""What is remembered of the way into each VM."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from jupyter_dsvm.errors import ConfigurationError
from jupyter_dsvm.ssh.grants import Grant, Grants


def test_what_is_kept_is_read_by_the_next_process(tmp_path: Path):
    path = tmp_path / "ours" / "access.json"
    grants = Grants(path)
    assert grants.get("1111") == Grant()
    grants.change("1111", user="ann")
    grants.change("1111", until=200.0, since=100.0)
    grants.change("2222", user="bob")
    assert Grants(path).get("1111") == Grant("ann", 200.0, 100.0)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    grants.forget("1111")
    grants.forget("3333")
    assert Grants(path).get("1111") == Grant()
    assert Grants(path).get("2222").user == "bob"


def test_good_and_half_over():
    grant = Grant("ann", until=200.0, since=100.0)
    assert [grant.good(now) for now in (100, 199, 200, 300)] == [True, True, False, False]
    assert [grant.half_over(now) for now in (100, 149, 151, 199, 201)] == [False, False, True, True, False]
    assert not Grant().good(0)
    assert not Grant().half_over(0)


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '{"1111": {}}', '{"1111": {"user": "a", "until": "x", "since": 0}}']
)
def test_a_file_that_is_none_of_ours_is_nothing(tmp_path: Path, text: str):
    path = tmp_path / "access.json"
    path.write_text(text)
    assert Grants(path).get("1111") == Grant()
    Grants(path).change("1111", user="ann")
    assert json.loads(path.read_text())["1111"]["user"] == "ann"


def test_several_at_a_time(tmp_path: Path):
    path = tmp_path / "access.json"
    threads = [
        threading.Thread(target=lambda n=n: Grants(path).change(f"vm-{n}", user=f"user{n}"))  # type: ignore[misc]
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {Grants(path).get(f"vm-{n}").user for n in range(12)} == {f"user{n}" for n in range(12)}


def test_a_folder_that_cannot_be_used(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be kept"):
        Grants(tmp_path / "file" / "access.json").change("1111", user="ann")
