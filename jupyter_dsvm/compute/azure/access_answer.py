"""What the script on the VM said (``scripts/access_root.sh``), and what its refusals mean. Pure.

The VM is not trusted: only lines that begin with the nonce of this very command count, and each is bounded and checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import OperationRefused, printable
from ...ssh.hostkeys import ALGORITHMS, HostKey

USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
"""A user name that may go to the script: a word that no shell takes for an option or anything else."""

MOST_KEYS = 16
MOST_PEOPLE = 20


@cache
def script(name: str = "access_root.sh") -> str:
    """The constant text of a script: the one for root holds the one for the account in a pair of single quotes."""
    folder = Path(__file__).with_name("scripts")
    text = (folder / name).read_text("utf-8")
    if name == "access_root.sh":
        inner = (folder / "access_user.sh").read_text("utf-8")
        assert "'" not in inner
        text = text.replace("@@USER_SCRIPT@@", inner)
    return text


@dataclass(frozen=True)
class Answer:
    host_keys: tuple[HostKey, ...] = ()
    people: tuple[str, ...] = ()
    """Accounts that somebody could mean."""
    user: str = ""
    done: bool = False
    refused: str = ""
    detail: str = ""
    complete: bool = False


def said(text: str, nonce: str) -> Iterator[tuple[str, str]]:
    """The words that a script of ours said, each with its value, from what its run command printed."""
    for line in text.splitlines():
        found, _, rest = line.partition(" ")
        if found == nonce:
            word, _, value = rest.strip().partition(" ")
            yield word, value


def take_host_key(keys: dict[HostKey, None], value: str) -> None:
    """Add the key of a line that begins with ``host``. What is none, or of a kind that nobody asks for, is left out."""
    if len(keys) < MOST_KEYS:
        try:
            key = HostKey.parse(value)
        except ValueError:
            return
        if key.type in ALGORITHMS:
            keys[key] = None


def parse(text: str, nonce: str) -> Answer:
    keys: dict[HostKey, None] = {}
    people: dict[str, None] = {}
    user = refused = detail = ""
    done = complete = False
    for word, value in said(text, nonce):
        if word == "host":
            take_host_key(keys, value)
        elif word == "person" and USER.fullmatch(value) and len(people) < MOST_PEOPLE:
            people[value] = None
        elif word == "user" and USER.fullmatch(value):
            user = value
        elif word == "no" and not refused:
            refused, _, detail = value.partition(" ")
            refused = refused if re.fullmatch(r"[A-Za-z]{1,40}", refused) else "Refused"
            detail = printable(detail, 200)
        elif word == "done":
            done = True
        elif word == "end":
            complete = True
    return Answer(tuple(keys), tuple(people), user, done, refused, detail, complete)


_FILE = "`{user}` has to own ~/.ssh and ~/.ssh/authorized_keys, and neither may be a link. Correct that on {name}, then try again"

REFUSALS: dict[str, tuple[str, str]] = {
    "UserNameNeeded": (
        "{name} has several accounts, and which one is yours is not known: {people}.",
        "Say it once: `jupyter dsvm access {name} --user USER`, or set c.AzureCompute.ssh_user.",
    ),
    "NoAccount": (
        "There is no account {detail} on {name}.{there}",
        "Say which is yours: `jupyter dsvm access {name} --user USER`, or set c.AzureCompute.ssh_user.",
    ),
    "SystemAccount": (
        "{detail} is a system account of {name}; keys are given to accounts of people only.",
        "Name your own account: `jupyter dsvm access {name} --user USER`.",
    ),
    "NoShell": (
        "The account {detail} of {name} lets nobody in: its shell says so.",
        "Name another account: `jupyter dsvm access {name} --user USER`.",
    ),
    "Home": (
        "The account {user} has no home folder on {name} that it can enter.",
        "Make it there (`sudo mkhomedir_helper {user}`), or name another account with --user.",
    ),
    "FolderIsLink": ("~/.ssh of {user} on {name} is a link, and nothing is written through one.", _FILE + "."),
    "FolderIsNone": ("~/.ssh of {user} on {name} is no folder.", _FILE + "."),
    "FolderOfAnother": ("~/.ssh of {user} on {name} belongs to somebody else.", _FILE + "."),
    "FileIsLink": (
        "~/.ssh/authorized_keys of {user} on {name} is a link, and nothing is written through one.",
        _FILE + ".",
    ),
    "FileIsNone": ("~/.ssh/authorized_keys of {user} on {name} is no file.", _FILE + "."),
    "FileOfAnother": ("~/.ssh/authorized_keys of {user} on {name} belongs to somebody else.", _FILE + "."),
    "CannotRead": ("~/.ssh/authorized_keys on {name} cannot be read by {user}.", _FILE + "."),
    "CannotWrite": (
        "~/.ssh/authorized_keys on {name} cannot be written by {user}; it is as it was.",
        "Its disk may be full, or the folder read-only: correct that on {name}, then try again.",
    ),
    "KeysElsewhere": (
        "sshd on {name} does not look into ~/.ssh/authorized_keys for {user} (AuthorizedKeysFile says where it does).",
        "Sign in in the way that its administrator intends: your own key, or `jupyter dsvm access {name} --password`.",
    ),
}
"""By what the script says: the sentence and the advice."""


def refusal(answer: Answer, name: str, user: str, stderr: str) -> OperationRefused:
    """The error for an answer that is no success."""
    if not answer.complete and not answer.refused:
        said = printable(stderr, 300)
        return OperationRefused(
            f"SSH on {name} was not set up: the command on the VM did not answer as it should."
            + (f" It printed: {said}" if said else ""),
            advice="Try again; if it stays so, put a key of yours there by hand.",
            code="BadAnswer",
        )
    words = {
        "name": name,
        "user": answer.user or user or answer.detail or "the account",
        "people": ", ".join(answer.people) or "none",
        "there": f" There is {', '.join(answer.people)}." if answer.people else "",
        "detail": answer.detail or "of a person",
    }
    sentence, advice = REFUSALS.get(
        answer.refused,
        (
            "SSH on {name} was not set up: the command there ended with " + answer.refused + " ({detail}).",
            "Put a key of yours there by hand, or use `jupyter dsvm access {name} --password`.",
        ),
    )
    return OperationRefused(sentence.format(**words), advice=advice.format(**words), code=answer.refused)
