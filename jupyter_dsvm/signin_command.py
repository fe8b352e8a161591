"""``jupyter dsvm signin``: signs in the Jupyter server that runs, or with ``--keep`` this user for every later one."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .accounts import ended, outcome_text, prompt_text
from .compute.provider import Cancel
from .errors import BadRequest, ConfigurationError
from .models import SignInState, SignInStatus
from .remote_accounts import running_server
from .service import load_service


class Signing(Protocol):
    """``accounts.Accounts``, here or in a server."""

    def status(self, attempt: str | None = None) -> SignInStatus: ...
    def begin(self, tenant: str = "", keep: bool = False) -> SignInStatus: ...
    def paste(self, token: str) -> SignInStatus: ...
    def sign_out(self) -> None: ...
    def wait(self, attempt: str, cancel: Cancel) -> SignInStatus: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tenant", metavar="T", default="", help="the tenant, by id or domain; default: the account's own"
    )
    parser.add_argument("--new", action="store_true", help="another account than the one that is signed in")
    parser.add_argument("--keep", action="store_true", help="keep the sign-in, encrypted, beyond the server's life")
    # Never as an argument: other users of the computer see those.
    parser.add_argument("--paste", action="store_true", help="ask for an access token, or read it from stdin")
    parser.add_argument("--out", action="store_true", help="sign out, and forget what was kept")
    parser.add_argument("--server", metavar="URL", help="which of your running Jupyter servers")
    parser.add_argument("--json", action="store_true", help="print how it stands as JSON")


def run(arguments: argparse.Namespace, say: Callable[[str], None], show: Callable[[Any], None]) -> int:
    """The exit status: 0 when signed in (with ``--out``: signed out). Raises our errors."""
    if arguments.paste and (arguments.tenant or arguments.keep or arguments.out):
        raise BadRequest("--paste goes with no other option.")
    with _accounts(arguments) as accounts:
        if arguments.out:
            accounts.sign_out()
            status = accounts.status()
            say(outcome_text(status))
        else:
            status = _sign_in(accounts, arguments, say)
            say(ended(status))
    if arguments.json:
        show({**status.to_json(), "code": None})
    return 0


def _sign_in(accounts: Signing, arguments: argparse.Namespace, say: Callable[[str], None]) -> SignInStatus:
    if arguments.paste:
        return accounts.paste(getpass.getpass("Access token: ") if sys.stdin.isatty() else sys.stdin.read(1 << 16))
    if not (arguments.new or arguments.tenant or arguments.keep):
        present = accounts.status()
        if present.state is SignInState.SIGNED_IN:
            return present
    status = accounts.begin(arguments.tenant, arguments.keep)
    if status.code is None or status.id is None:
        return status
    say(prompt_text(status))
    return accounts.wait(status.id, Cancel())


@contextmanager
def _accounts(arguments: argparse.Namespace) -> Iterator[Signing]:
    remote = running_server(arguments.server)
    if remote is not None:
        yield remote
        return
    service = load_service()
    try:
        # Without a server there is only what asks nobody, what was kept, and what is to be kept.
        asked = arguments.paste or arguments.new or arguments.tenant
        enough = arguments.keep or arguments.out
        if not (enough or (not asked and service.accounts.status().state is SignInState.SIGNED_IN)):
            raise ConfigurationError(
                "No Jupyter server of yours is running, and a sign-in lasts as long as a server.",
                advice="Start one, or keep the sign-in with --keep, or sign in with `az login`.",
                code="NoServer",
            )
        yield service.accounts
    finally:
        service.close()
