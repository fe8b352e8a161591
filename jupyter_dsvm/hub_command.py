"""``jupyter dsvm hub …``: for whoever teaches with the broker of a hub, and for whoever administers it.

``status``, ``stop`` and ``end`` ask the broker, with the token that the hub has given to the server in whose terminal this runs
(``JUPYTERHUB_API_TOKEN``), or one from a file. ``rotate`` and ``retire`` change the keys of the certificate authority, on the hub's
own computer. ``broker`` runs it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import BadRequest, ComputeError, ConfigurationError

Say = Callable[[str], None]

Command = Callable[[argparse.Namespace, Say, Callable[[Any], None], Say], int]
"""What each does: with what was typed, what says something to the person, what shows JSON and what writes to stdout."""


def add_arguments(parser: argparse.ArgumentParser, run: Callable[[Command, argparse.Namespace], int]) -> None:
    """``run`` is called with the command that was typed, and its arguments."""
    group = parser.add_subparsers(metavar="COMMAND", required=True)
    group.add_parser("broker", help="Run the broker, as a service of a JupyterHub; --help says its options.")

    def command(name: str, function: Command, text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = group.add_parser(name, help=text, description=text)
        sub.set_defaults(run=lambda arguments: run(function, arguments))
        return sub

    status = command("status", _status, "The VMs of the hub, who is attached, and what everybody has spent.")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    stop = command("stop", _stop, "Stop (deallocate) every VM of the hub.")
    stop.add_argument("--all", action="store_true", required=True, help="all of them, whoever is attached")
    end = command("end", _end, "End what a person has running on the hub's VMs.")
    end.add_argument("person", metavar="USER", help="the hub's name of that person")
    end.add_argument(
        "--remove",
        action="store_true",
        help="and remove their accounts on the VMs, with the files in their home folders",
    )
    for each in (status, stop, end):
        each.add_argument("--address", default=os.environ.get("JUPYTER_DSVM_BROKER", ""), help="of the broker")
        each.add_argument("--token-file", help="file with a token of the hub; the default is JUPYTERHUB_API_TOKEN")
    rotate = command("rotate", _rotate, "Make another key for the certificate authority; the old one stays trusted.")
    retire = command("retire", _retire, "Remove all keys of the certificate authority but the newest.")
    for each in (rotate, retire):
        each.add_argument(
            "--state-dir",
            default=os.environ.get("JUPYTER_DSVM_BROKER_STATE", ""),
            help="folder of the broker (DSVMBroker.state_dir)",
        )


def run_broker(argv: Sequence[str]) -> int:
    try:
        from .hub.application import main
    except ImportError as e:
        raise ConfigurationError(
            f"The broker cannot be loaded: {e}.", advice="Install it with pip install 'jupyter-dsvm[hub]'."
        ) from e
    return main(list(argv))


AWAY = (
    "The hub runs it as a service: look at the hub's log, and restart the hub. Until it is back, VMs that are on stop by "
    "Azure's own schedule; to stop one now: az vm deallocate --resource-group GROUP --name VM, or the portal."
)
"""For who can ask nobody: the broker alone knows which VMs are the hub's, and has the identity to stop them."""


def _ask(arguments: argparse.Namespace, method: str, path: str, body: Any = None, *, what: str) -> dict[str, Any]:
    """What the broker answers. Raises what it says, ``ComputeError`` (``BrokerAway``) where it does not run, and
    ``ConfigurationError`` where nobody has said which broker."""
    try:
        answer: dict[str, Any] = _asking(arguments).ask(method, path, body, what=what)
    except ComputeError as e:
        if e.code != "BrokerAway":
            raise
        raise ComputeError(f"{e.message} It seems not to run.", advice=AWAY, code=e.code) from e
    return answer


def _asking(arguments: argparse.Namespace) -> Any:
    from .compute.broker import BrokerCompute

    if not arguments.address:
        raise ConfigurationError(
            "Nobody has said where the hub's broker is.",
            advice="Run this in a terminal of your server on the hub, or give --address.",
        )
    provider = BrokerCompute(address=arguments.address)
    if arguments.token_file:
        try:
            provider.token = Path(arguments.token_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigurationError(f"The token in {arguments.token_file} cannot be read: {e}.") from e
    return provider


def _status(arguments: argparse.Namespace, say: Say, show: Callable[[Any], None], write: Say) -> int:
    found = _ask(arguments, "GET", "admin/overview", what="ask how the hub's VMs are")
    if arguments.json:
        show(found)
        return 0
    write(overview_text(found))
    for problem in found.get("problems", ()):
        say(f"Not everything could be listed: {problem['message']} {problem['advice']}".rstrip())
    return 0


def overview_text(found: dict[str, Any]) -> str:
    """Two tables: the VMs, and what everybody has spent."""
    rows = [("VM", "STATE", "SIZE", "PER HOUR", "ON SINCE", "STARTED BY", "ATTACHED", "CA KEY", "IMAGE")]
    for one in found.get("vms", ()):
        at = one.get("on_since")
        since = datetime.fromtimestamp(at, timezone.utc).strftime("%a %H:%M UTC") if at else ""
        price = one.get("per_hour")
        rows.append(
            (
                one["name"],
                one["power_state"],
                (one.get("size") or "").removeprefix("Standard_"),
                f"{price:.2f} {found.get('currency', '')}" if price is not None else "unknown",
                since,
                one.get("started_by") or "",
                ", ".join(one.get("attached") or ()) or "nobody",
                one.get("authority") or "",
                f"{one.get('image_version') or 'unknown'}{' (not ' + one['drift'] + ')' if one.get('drift') else ''}",
            )
        )
    spend = [("USER", f"SPENT IN {found.get('month', '')}")]
    for person, amount in sorted(found.get("spend", {}).items(), key=lambda item: -item[1]):
        spend.append((person, f"{amount:.2f} {found.get('currency', '')}"))
    waiting = found.get("waiting", 0)
    said = f"\n\n{waiting} start{'s' if waiting != 1 else ''} waiting for their turn" if waiting else ""
    return f"{_table(rows)}\n\n{_table(spend)}{said}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _stop(arguments: argparse.Namespace, say: Say, show: Callable[[Any], None], write: Say) -> int:
    names = _ask(arguments, "POST", "admin/stop", what="stop the hub's VMs").get("stopping", [])
    say(f"Being stopped: {', '.join(names)}." if names else "None of the hub's VMs is on.")
    return 0


def _end(arguments: argparse.Namespace, say: Say, show: Callable[[Any], None], write: Say) -> int:
    body = {"person": arguments.person, "remove": arguments.remove}
    what = f"end what {arguments.person} has running"
    count = _ask(arguments, "POST", "admin/end", body, what=what).get("vms", 0)
    if not count:
        raise BadRequest(f"{arguments.person} has no account on any VM of the hub.", advice="Look at the name.")
    done = "is being removed" if arguments.remove else "is being ended"
    say(
        f"What {arguments.person} has on {count} VM{'s' if count != 1 else ''} {done}; on a VM that is off, once it is on."
    )
    return 0


def _authority(arguments: argparse.Namespace) -> Any:
    from .hub.certificates import Authority

    folder = Path(arguments.state_dir).expanduser() / "ca"
    if not arguments.state_dir or not folder.is_dir():
        raise ConfigurationError(
            f"There is no certificate authority in {arguments.state_dir or 'a folder that nobody has named'}.",
            advice="Give --state-dir, the folder of the broker (DSVMBroker.state_dir), as the broker's account.",
        )
    return Authority(folder)


def _rotate(arguments: argparse.Namespace, say: Say, show: Callable[[Any], None], write: Say) -> int:
    key = _authority(arguments).rotate()
    say(
        f"{key.fingerprint} is the new key. VMs that are on trust it within minutes, the others once they are started; until then "
        "they get certificates of the old one. When all do (`jupyter dsvm hub status`), `jupyter dsvm hub retire` ends the old one."
    )
    return 0


def _retire(arguments: argparse.Namespace, say: Say, show: Callable[[Any], None], write: Say) -> int:
    gone = _authority(arguments).retire()
    say(f"Gone: {', '.join(gone)}." if gone else "There is one key only; make another with `jupyter dsvm hub rotate`.")
    return 0 if gone else 1
