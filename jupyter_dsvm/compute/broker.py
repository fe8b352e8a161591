"""``BrokerCompute``: the VMs that a hub's broker (``jupyter_dsvm.hub``) lets this user use; in a user's server, in place of Azure.

This server holds no Azure credential and no lasting key. It shows the broker the token that the hub has given it, and the broker
says what there is, starts and stops it, and signs a certificate of some minutes for a key pair that this process makes for itself
and keeps in its memory. What the broker refuses is shown as it says it.

The address comes from the hub (``JUPYTER_DSVM_BROKER`` in the environment of users' servers), and the token goes there and nowhere
else: no proxy, no redirect. Standard library only, until something is attached (paramiko, cryptography).
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traitlets import Float, Unicode, default
from traitlets.config import Configurable

from ..errors import (
    AuthenticationError,
    Cancelled,
    ComputeError,
    ConfigurationError,
    DSVMError,
    NotFound,
    OperationRefused,
    SignInRequired,
    StaysOn,
    printable,
    reason,
)
from ..models import Compute, Operation, OperationState, PowerState, SizeOffer, SSHTarget, StepState
from .brokermaking import Making
from .brokerpresence import Presence
from .brokershapes import PREFIX, compute_of, error_of, offer_of, operation_of, problem_of, rows_of, rule_of, text_of
from .brokershapes import ended as how_it_ended
from .provider import Cancel, IdleRule, Listing, Memo, Report, reach

if TYPE_CHECKING:
    import paramiko

    from ..ssh.hostkeys import HostKeys

ADDRESS = "JUPYTER_DSVM_BROKER"
TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - the name of a variable

LONGEST_ANSWER = 4 * 1024 * 1024
WAIT_SECONDS = 2.0
"""How long the broker may hold back an answer to a question how far something is: a cancel is noticed after that."""

REACHED = {"start": PowerState.RUNNING, "restart": PowerState.RUNNING, "stop": PowerState.DEALLOCATED}

GIVEN_UP_SECONDS = 120.0
"""How long a broker that does not answer is waited for in the midst of a change: it may be restarting."""

RETRY_SECONDS = 2.0

SOON = 60.0
"""Seconds before its end at which a certificate is renewed: a connect takes some of them."""


def from_hub() -> bool:
    """Whether this is a server of a hub that has a broker."""
    return bool(os.environ.get(ADDRESS))


@dataclass(frozen=True)
class _Certificate:
    key: paramiko.PKey
    until: float
    """By this process's monotonic clock: its wall clock may be wrong."""
    facts: Mapping[str, Any]


class BrokerCompute(Making, Configurable):
    """VMs of the hub: list, start, stop, and where to reach them over SSH."""

    prefix = PREFIX

    address = Unicode(
        help="Address of the hub's broker, such as http://127.0.0.1:10101/services/dsvm/. The default is what the hub says "
        "(JUPYTER_DSVM_BROKER). This server's token goes there."
    ).tag(config=True)
    timeout = Float(60.0, min=1, help="Seconds that the broker may take to answer.").tag(config=True)

    @default("address")
    def _default_address(self) -> str:
        return os.environ.get(ADDRESS, "")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lock = threading.Lock()
        self._private: Any = None
        self._certificates: dict[tuple[str, bool], _Certificate] = {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
        self.idle_rule = IdleRule(None)
        """As the broker said with its last list."""
        self.token = ""
        """Another token than the hub's for this server: of whoever teaches, on the command line."""

    # The port

    def list(self) -> Listing:
        body = self.ask("GET", "computes", what="list the VMs of the hub")
        self.idle_rule = rule_of(body.get("idle_minutes"))
        rows = [compute_of(row) for row in rows_of(body, "computes")]
        problems = [problem_of(one) for one in rows_of(body, "problems")]
        return Listing(tuple(rows), tuple(p for p in problems if p is not None))

    def get(self, compute_id: str) -> Compute:
        return compute_of(self.ask("GET", self._path(compute_id), what="read the state of the VM"))

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("start", compute_id, {}, report, cancel, memo)

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("stop", compute_id, {}, report, cancel, memo)

    def restart(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("restart", compute_id, {}, report, cancel, memo)

    def sizes(self, compute_id: str) -> tuple[Sequence[SizeOffer], str]:
        body = self.ask("GET", f"{self._path(compute_id)}/sizes", what="list the sizes of the VM")
        offers = [o for o in map(offer_of, rows_of(body, "sizes")) if o is not None]
        return offers, text_of(body.get("notice")) or ""

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("resize", compute_id, {"size": size}, report, cancel, memo)

    def ssh_target(self, compute_id: str) -> SSHTarget:
        """Where the VM is now, with a certificate that is good for some minutes. Raises ``AuthenticationError``
        (``AccountNeeded``) where the account is not made yet, which ``set_up_access`` does."""
        return self._target(compute_id, terminal=False)

    def terminal_target(self, compute_id: str) -> SSHTarget:
        """The same with a certificate that allows a terminal. Raises ``RefusedByPolicy`` where the hub's rules do not."""
        return self._target(compute_id, terminal=True)

    def _target(self, compute_id: str, terminal: bool) -> SSHTarget:
        found = self._certificate(compute_id, terminal)
        facts = found.facts
        return SSHTarget(
            compute=compute_id,
            name=text_of(facts.get("name")) or compute_id,
            host=str(facts["host"]),
            port=int(facts["port"]),
            user=str(facts["user"]),
            certificates=(found.key,),
            pinned_key_id=str(facts["vm_id"]),
            python=text_of(facts.get("python")),
        )

    def close(self) -> None:
        """Nothing is held open."""

    # Beside the port: what ``access`` calls where a connect was refused, and what keeps a VM on

    def may_set_up(self, compute_id: str) -> bool:
        return True

    def set_up_access(
        self, compute_id: str, report: Report, cancel: Cancel, *, user: str = "", renew_host_key: bool = False
    ) -> str:
        """Have the hub make this user's account on the VM; a sentence. Blocks for half a minute at least."""
        if user:
            raise OperationRefused(
                "On a VM of the hub your account has a name that the hub gives it.", advice="Leave --user out."
            )
        self._forget(compute_id)
        ended = self._follow("access", f"{self._path(compute_id)}/access", {}, report, cancel, None)
        return ended.notice or "Your account is there."

    def knows_host_key(self, compute_id: str) -> bool:
        return False

    def safety(self, compute_id: str) -> Presence:
        """What tells the broker that the VM is used, in place of Azure's own schedule, which the broker keeps."""
        return Presence(self, compute_id)

    def present(self, compute_id: str, idle: float) -> dict[str, Any]:
        """``idle``: seconds for which nothing of ours has gone on there."""
        body = {"used": True, "idle": float(idle)}
        return self.ask("PUT", f"{self._path(compute_id)}/presence", body, what="tell the hub that the VM is used")

    # Changes

    def _change(
        self, kind: str, compute_id: str, body: Mapping[str, Any], report: Report, cancel: Cancel, memo: Memo | None
    ) -> Compute:
        try:
            ended = self._follow(kind, f"{self._path(compute_id)}/{kind}", body, report, cancel, memo)
            if ended.kind == "leave":
                raise StaysOn(ended.notice or "The VM stays on: others use it.")
        except NotFound:
            # Of one that an earlier server had asked for: the broker forgets it an hour after its end. What it was about tells.
            if self.get(compute_id).power_state is not REACHED.get(kind):
                raise
        self._forget(compute_id)  # its address is another one now
        return self.get(compute_id)

    def _follow(
        self, kind: str, path: str, body: Mapping[str, Any], report: Report, cancel: Cancel, memo: Memo | None
    ) -> Operation:
        """Ask for it (a POST to ``path``) and wait for its end; of one that an earlier server had asked for, wait for its end.
        Raises what it ended with, and ``Cancelled``."""
        facts = memo.facts if memo is not None else {}
        begun = facts.get(f"{kind}_operation")
        if not isinstance(begun, str):
            if cancel.is_set():
                raise Cancelled("It was cancelled before the hub was asked.")
            if memo is not None:
                memo.note(**{f"{kind}_asked": True})
            what = {"access": "have your account made"}.get(kind, f"{kind} the VM")
            begun = operation_of(self.ask("POST", path, body, what=what)).id
            if memo is not None:
                memo.note(**{f"{kind}_operation": begun})
        tag, heard = "", time.monotonic()
        while True:
            if cancel.is_set():
                raise self._give_up(begun, cancel)
            try:
                answer = self._wait(begun, tag)
                heard = time.monotonic()
            except ComputeError as e:
                if e.code != "BrokerAway" or time.monotonic() - heard > GIVEN_UP_SECONDS:
                    raise
                report(f"The hub's broker does not answer; waiting for it ({e.message})", None)
                cancel.wait(RETRY_SECONDS)
                continue
            operation, tag = operation_of(answer[0]), answer[1]
            if operation.state is not OperationState.RUNNING:
                if operation.state is OperationState.DONE:
                    return operation
                raise how_it_ended(operation)
            step = next((s for s in operation.steps if s.state is StepState.RUNNING), None)
            if step is not None:
                reach(report, step.name, step.text)

    def _wait(self, operation: str, tag: str) -> tuple[dict[str, Any], str]:
        path = f"operations/{urllib.parse.quote(operation, safe='')}?wait={WAIT_SECONDS if tag else 0:g}"
        what = "ask how far it is"
        return self._send("GET", path, None, what, {"If-None-Match": tag} if tag else {})

    def _give_up(self, operation: str, cancel: Cancel) -> Cancelled:
        if not cancel.leaving:
            try:
                self.ask("DELETE", f"operations/{urllib.parse.quote(operation, safe='')}", what="cancel it")
            except DSVMError as e:
                return Cancelled(f"Stopped waiting. The hub goes on with it: {e.message}")
        return Cancelled("Stopped waiting. What the hub has asked of Azure already goes on.")

    # Certificates

    def _certificate(self, compute_id: str, terminal: bool) -> _Certificate:
        with self._lock:
            known = self._certificates.get((compute_id, terminal))
            if known is not None and known.until - SOON > time.monotonic():
                return known
            if self._private is None:
                from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

                self._private = Ed25519PrivateKey.generate()
            private = self._private
        made = self._new(compute_id, private, terminal)
        with self._lock:
            self._certificates[compute_id, terminal] = made
        return made

    def _forget(self, compute_id: str) -> None:
        with self._lock:
            for terminal in (False, True):
                self._certificates.pop((compute_id, terminal), None)

    def _new(self, compute_id: str, private: Any, terminal: bool) -> _Certificate:
        from cryptography.hazmat.primitives import serialization

        from ..ssh.certified import ed25519
        from ..ssh.library import paramiko

        public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        asked = time.monotonic()
        try:
            facts = self.ask(
                "POST",
                f"{self._path(compute_id)}/certificate",
                {"public_key": public.decode(), "terminal": terminal},
                what="get a certificate for the VM",
            )
        except OperationRefused as e:
            if e.code != "AccountNeeded":
                raise
            raise AuthenticationError(e.message, advice="Attach to it once more.", code=e.code) from None
        try:
            key = ed25519(private, str(facts["certificate"]))
            until = asked + float(facts["seconds"])
            host_keys = [str(line) for line in facts["host_keys"]]
            vm_id, _, _, _ = str(facts["vm_id"]), str(facts["host"]), int(facts["port"]), str(facts["user"])
        except (KeyError, TypeError, ValueError, paramiko.SSHException) as e:
            raise self._no_answer("get a certificate for the VM", f"it is none: {reason(e)}") from None
        self._host_keys().pin(vm_id, *host_keys)
        return _Certificate(key, until, facts)

    def _host_keys(self) -> HostKeys:
        from ..ssh.hostkeys import HostKeys

        return HostKeys()

    # HTTP

    def _path(self, compute_id: str) -> str:
        return f"computes/{urllib.parse.quote(compute_id, safe=':')}"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, what: str) -> dict[str, Any]:
        return self._send(method, path, body, what, {})[0]

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, what: str, headers: Mapping[str, str]
    ) -> tuple[dict[str, Any], str]:
        """The answer, and its tag. Raises what the broker says, as the error that it is, and ``ComputeError`` (``BrokerAway``)
        where nothing came that is from it."""
        token = self.token or os.environ.get(TOKEN, "")
        if not token:
            raise SignInRequired(
                "This server has no token of the hub, so the hub's broker cannot be asked.",
                advice="Start your server from the hub.",
            )
        scheme = urllib.parse.urlsplit(self.address).scheme
        if scheme not in ("http", "https"):
            raise ConfigurationError(
                f"BrokerCompute.address is {self.address[:80]!r}, which is no address of a broker.",
                advice="Whoever runs the hub sets JUPYTER_DSVM_BROKER for users' servers.",
            )
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            self.address.rstrip("/") + "/" + path,
            data=None if method in ("GET", "DELETE") else json.dumps(body or {}).encode(),
            method=method,
            headers={"Authorization": f"token {token}", "Content-Type": "application/json", **headers},
        )
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return self._object(answer, what), answer.headers.get("Etag", "")
        except urllib.error.HTTPError as e:
            with e:
                raise self._error(e, what) from None
        except (OSError, http.client.HTTPException) as e:
            raise self._no_answer(what, reason(e), "BrokerAway") from None

    def _object(self, answer: Any, what: str) -> dict[str, Any]:
        data = answer.read(LONGEST_ANSWER + 1)
        if not data:
            return {}
        try:
            found = json.loads(data) if len(data) <= LONGEST_ANSWER else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._no_answer(what, "its answer is no JSON object")
        return found

    def _error(self, answer: urllib.error.HTTPError, what: str) -> DSVMError:
        if answer.code in (502, 503, 504):
            # A broker's own 502 is in our shape; a proxy's is not.
            try:
                return error_of(self._object(answer, what), answer.code)
            except (DSVMError, ValueError):
                return self._no_answer(what, f"status {answer.code}", "BrokerAway")
        if answer.code == 401:
            return SignInRequired(
                f"Could not {what}: the hub does not know this server's token.",
                advice="Restart your server from the hub.",
            )
        try:
            return error_of(self._object(answer, what), answer.code)
        except (DSVMError, ValueError):
            return self._no_answer(what, f"status {answer.code}")

    def _no_answer(self, what: str, said: str, code: str = "Broker") -> ComputeError:
        return ComputeError(
            f"Could not {what}: the hub's broker at {self.address} did not answer as it should ({printable(said, 200)}).",
            advice="Try again in a minute; if it stays so, tell whoever runs the hub.",
            code=code,
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token stays where it was meant for."""

    def redirect_request(self, *arguments: Any) -> None:
        return None
