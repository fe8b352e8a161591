"""The language of ``%dsvm``: its verbs, what they take, and what is said of them. Pure.

``calls`` parses a line with it and does what it says; ``completion`` offers what may come next; ``%dsvm help`` prints it.
Who may use a verb follows where the call came from (``calls``), of which the table knows only whether a VM may at all.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
from dataclasses import dataclass
from typing import Any, NoReturn

from .errors import BadRequest

VERSION = 1
"""Of what the magic and the server say to each other (``relay.magic``)."""

MAX_LINE = 4096


@dataclass(frozen=True)
class Option:
    name: str
    value: str = ""
    """What stands for its value in the usage; empty for a flag."""
    from_vm: bool = True
    """Whether a kernel on a VM may use it."""
    many: bool = False
    """Whether it may be there more than once; its values are a list then."""
    words: bool = False
    """Whether any number of words may follow it, none too; they are a list then, and None stands for its absence."""


@dataclass(frozen=True)
class Verb:
    name: str
    summary: str
    """One line, for the list."""
    detail: str
    """What ``%dsvm help VERB`` adds: plain sentences."""
    arguments: tuple[str, ...] = ()
    """Names of the positional arguments, as the usage has them; in brackets what may be left out, and ``MINUTES|off`` with a word
    that may take its place."""
    options: tuple[Option, ...] = ()
    from_vm: bool = True
    """Whether a kernel on a VM may use it."""

    @property
    def usage(self) -> str:
        options = (f"[{o.name}{f' {o.value}' if o.value else ''}]{'…' if o.many else ''}" for o in self.options)
        return " ".join([self.name, *self.arguments, *options])


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "list",
            "what there is to run on",
            "The machines with state, size and price; * marks where this notebook runs.",
        ),
        Verb(
            "attach",
            "the following cells run there",
            "The machine is started if it is off, which a person is asked for in the page. Everything slow happens while this "
            "cell runs; the notebook changes over when the cell has ended. Code after this line in the same cell still runs "
            "where it did, and variables stay there, unless --carry takes them along: all that can, or those that are named. If "
            "anything fails, or the cell is interrupted, the notebook keeps the "
            "kernel that it had. --kernel names a kernelspec of that machine. The notebook's folder is copied there first, and "
            "what changes there comes back: --no-sync leaves that out, --yes allows a large one.",
            ("NAME",),
            (
                Option("--kernel", "K"),
                Option("--carry", "[x y]", words=True),
                Option("--no-sync"),
                Option("--yes", from_vm=False),
            ),
        ),
        Verb(
            "detach",
            "the following cells run on the free tier again",
            "Files that changed on the machine come here first. The kernel there ends, and variables stay behind, unless --carry "
            "brings them: all that can, or those that are named. Loading them runs what the machine sends, so a person is asked "
            "for it in the page, once for each machine. The machine goes on and is billed until it is stopped: %dsvm stop NAME.",
            (),
            (Option("--carry", "[x y]", words=True),),
        ),
        Verb(
            "carry",
            "which variables could go along with a move",
            "A look, which moves nothing: their types and sizes, and why some cannot move. NAME is where they would go.",
            ("[NAME]",),
        ),
        Verb(
            "load",
            "variables that were saved before the machine was stopped",
            "Before a machine is stopped because nobody uses it, what can move is saved on its disk. This puts it into the kernel "
            "again, where it makes no name over.",
        ),
        Verb(
            "sync",
            "bring the notebook's folder here and on the machine into step",
            "It happens by itself too: after each execution, and when a file is saved here. --force does what a sync had stopped "
            "before because it looked wrong; %dsvm status says what. --yes copies more than is copied without being told. --fetch "
            "brings a file here that stayed on the machine for its size.",
            (),
            (
                Option("--force", from_vm=False),
                Option("--yes", from_vm=False),
                Option("--fetch", "PATH", from_vm=False, many=True),
            ),
        ),
        Verb(
            "status",
            "where this notebook runs",
            "With the state of that machine, of a move that is under way, and of the notebook's files.",
        ),
        Verb(
            "advise",
            "CPU or GPU for this notebook, and which machines fit",
            "Read from the notebook's file as it was last saved: what it imports and calls, and how large the data files "
            "are that it names. With the memory that its kernel has had, and your machines' prices. Nothing is run or started.",
        ),
        Verb(
            "spend",
            "what your machines have cost",
            "Today, in the last seven days and this month, by machine, with the budgets. An estimate: hours on, times the list "
            "price; disks, addresses and traffic are not in it.",
            from_vm=False,
        ),
        Verb(
            "start",
            "turn a machine on; it costs money until it is stopped",
            "A person is asked for it in the page.",
            ("NAME",),
            from_vm=False,
        ),
        Verb(
            "stop",
            "release a machine, so that it costs nothing but its disk",
            "What runs there ends. Disks and files stay.",
            ("NAME",),
            from_vm=False,
        ),
        Verb(
            "keep",
            "keep a machine on, although nobody uses it",
            "For an hour, or HOURS; 0 ends it. Nobody else's server stops it for being idle either.",
            ("NAME", "[HOURS]"),
            from_vm=False,
        ),
        Verb(
            "autostop",
            "after how many idle minutes a machine is stopped by itself",
            "off: never for being idle. --hard: so many hours after its start it is stopped whatever runs there, or off. "
            "What is chosen is kept for that machine.",
            ("NAME", "MINUTES|off"),
            (Option("--hard", "HOURS"),),
            from_vm=False,
        ),
        Verb("restart", "restart a machine", "What runs there ends. It keeps its address.", ("NAME",), from_vm=False),
        Verb(
            "resize",
            "give a machine another size",
            "It is released, changed, and started again if it ran; disks and files stay. A person is asked for it in the page. "
            "--yes: the kernels that run there may end.",
            ("NAME", "SIZE"),
            (Option("--yes"),),
            from_vm=False,
        ),
        Verb(
            "signin",
            "sign in to Azure with a code",
            "The code is in the cell's output, for everybody who sees it. --tenant names another directory than the usual "
            "one, --new asks for another account than the present one.",
            # No token and no password: a cell's text is kept in the notebook.
            (),
            (Option("--tenant", "T"), Option("--new")),
            from_vm=False,
        ),
        Verb("help", "this text; %dsvm help VERB says more", "Also %dsvm VERB?."),
    )
}


def help_text(verb: str = "") -> str:
    """Of one verb, or the list of all. Raises ``BadRequest`` for what is none."""
    if verb:
        described = known(verb)
        return f"%dsvm {described.usage}\n\n{described.summary[0].upper()}{described.summary[1:]}. {described.detail}"
    width = max(len(v.usage) for v in VERBS.values())
    return "\n".join(f"%dsvm {v.usage.ljust(width)}  {v.summary}" for v in VERBS.values())


def brief_text() -> str:
    """The verbs in a few lines."""
    names = [" ".join([v.name, *v.arguments]) for v in VERBS.values() if v.name != "help"]
    return f"%dsvm {' · '.join(names)}\n%dsvm help says what each does, %dsvm help VERB more."


def known(name: str) -> Verb:
    """Raises ``BadRequest``, with the nearest in the advice."""
    if name in VERBS:
        return VERBS[name]
    near = difflib.get_close_matches(name, VERBS, 1)
    advice = f"Did you mean %dsvm {near[0]}? " if near else ""
    raise BadRequest(f"%dsvm has no verb {name!r}.", advice=advice + "%dsvm help shows all of them.")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadRequest(f"{self.prog}: {message}.", advice=f"Usage: {self.format_usage()[len('usage: ') :].strip()}")


def _parser(verb: Verb) -> _Parser:
    parser = _Parser(prog=f"%dsvm {verb.name}", usage=f"%%dsvm {verb.usage}", add_help=False, allow_abbrev=False)
    for argument in verb.arguments:
        name, optional = argument.strip("[]").partition("|")[0].lower(), argument.startswith("[")
        if optional:
            parser.add_argument(name, metavar=argument, nargs="?", default="")
        else:
            parser.add_argument(name, metavar=argument)
    for option in verb.options:
        if option.words:
            parser.add_argument(option.name, metavar=option.value, nargs="*", default=None)
        elif option.many:
            parser.add_argument(option.name, metavar=option.value, action="append", default=[])
        elif option.value:
            parser.add_argument(option.name, metavar=option.value, default=None)
        else:
            parser.add_argument(option.name, action="store_true")
    if verb.name == "help":
        parser.add_argument("verb", metavar="VERB", nargs="?", default="")
    return parser


def check_version(request: dict[str, Any]) -> None:
    if request.get("version") != VERSION:
        raise BadRequest(
            "This %dsvm does not speak the language of this server.",
            advice="Restart the kernel, so that it gets the magic of the installed version.",
        )


def parse(request: dict[str, Any]) -> tuple[str, argparse.Namespace]:
    """The verb and its arguments; a bare ``%dsvm`` is the verb "". Raises ``BadRequest`` with one readable sentence."""
    check_version(request)
    line = request.get("line")
    if not isinstance(line, str):
        raise BadRequest("%dsvm was called without a line.", advice="Restart the kernel.")
    if len(line) > MAX_LINE:
        raise BadRequest(
            f"This line of %dsvm has {len(line)} characters, and no more than {MAX_LINE} are read.",
            advice="%dsvm help shows what it can be.",
        )
    line = line.partition("#")[0] if line.lstrip().startswith("#") else line
    try:
        words = shlex.split(line, comments=True)
    except ValueError as e:
        raise BadRequest(f"%dsvm {line.strip()}: {e}.", advice="Close the quotation mark.") from None
    if not words:
        return "", argparse.Namespace()
    verb, *rest = words
    if verb in ("-h", "--help"):
        verb = "help"
    if "--help" in rest or "-h" in rest:
        verb, rest = "help", [verb]
    return verb, _parser(known(verb)).parse_args(rest)
