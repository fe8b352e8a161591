"""Makes a DSVM in one deployment, follows it, and takes back exactly what was made if it does not end well.

Called by the provider on a worker thread, from the panel, REST or the command line. What is needed to go on after the server was
killed is in the memo, whose ``stage`` says what comes next::

    (nothing) → group → asked → done         group: the resource group may have been made by us
                           └──→ cleaning     the deployment has failed or was cancelled, and what it made is being deleted

A deployment's name is new each time, and a tag on all that it makes; so a later server finds it, and asking twice for the same one
changes nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import Cancelled, ComputeError, DSVMError, Forbidden, OperationRefused, Throttled
from ...ssh.keys import KeyPair, ensure_key
from ..creating import NewCompute
from ..provider import Cancel, Memo, Report
from . import template
from .access import mark_of, own_key_folder
from .cleanup import WORDS, Cleaner, made_by
from .errors import NOT_THERE
from .failures import explained, failure
from .machine import VirtualMachine, from_model
from .preflight import RESOURCES_API, Checked, checked, group_path
from .template import Plan

if TYPE_CHECKING:
    from .client import ArmClient
    from .provider import AzureCompute

DEPLOYMENTS_API = "2021-04-01"
ENDED = frozenset({"succeeded", "failed", "canceled", "deleted"})
SILENCE = 120.0
"""Seconds without one good answer after which following is given up; the deployment goes on in Azure."""
SETTLE = 15.0
"""Seconds in which what was being made when a deployment was cancelled comes into being."""
LONGEST_WAIT = 30.0
"""Seconds between two looks at most, whatever ``Retry-After`` says."""
LONGEST = 3600.0
"""Seconds for a deployment. Azure itself gives a VM some 20 minutes to come up."""


def marked(pair: KeyPair) -> str:
    """Our key's line as it goes on VMs, so that `jupyter dsvm forget` finds it."""
    kind, blob = pair.public_line.split()[:2]
    return f"{kind} {blob} {mark_of(pair)}"


def create(azure: AzureCompute, wanted: NewCompute, report: Report, cancel: Cancel, memo: Memo) -> VirtualMachine:
    """Return the new VM once it runs.

    Raises:
        NotAllowed, BadRequest: The administrator does not allow it, or something in ``wanted`` cannot be.
        OperationRefused: Azure refused, and nothing is left of it; or what is left is named.
        Cancelled: Somebody cancelled it; the same.
    """
    facts = memo.facts
    if facts.get("stage") in ("asked", "cleaning"):
        return _Deployment(azure, _found_again(facts), str(facts["tenant"]), report, cancel, memo).go_on()
    report(f"Looking whether {wanted.name} can be made", None)
    name = str(facts.get("deployment") or f"jupyter-dsvm-{wanted.name[:40]}-{secrets.token_hex(4)}")
    try:
        key = ensure_key(own_key_folder())
        found = checked(azure, wanted, marked(key), name)
        if cancel.is_set():
            raise Cancelled(f"{wanted.name} was not made: cancelled before Azure was asked.")
    except DSVMError as error:
        if facts.get("group_made"):
            # An earlier server had come so far.
            _Deployment(azure, _found_again(facts), str(facts["tenant"]), report, cancel, memo).drop_group(error)
        raise
    return _Deployment(azure, found.plan, found.subscription.tenant, report, cancel, memo, name).begin(found)


def _found_again(facts: Mapping[str, Any]) -> Plan:
    """The plan as far as going on needs it: names and places."""
    kinds = {str(k): str(v) for k, v in dict(facts["ids"]).items()}
    return Plan(
        subscription=str(facts["subscription"]),
        group=str(facts["group"]),
        name=str(facts["name"]),
        location=str(facts["location"]),
        size=str(facts["size"]),
        image=template.Image({}, ""),
        admin="",
        public_key="",
        tags={},
        source="*" if template.ADDRESS in kinds else "",
        subnet="" if template.VNET in kinds else "*",
    )


@dataclass
class _Deployment:
    azure: AzureCompute
    plan: Plan
    tenant: str
    report: Report
    cancel: Cancel
    memo: Memo
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or str(self.memo.facts["deployment"])
        self.client: ArmClient = self.azure._arm(self.tenant)
        self.path = f"{group_path(self.plan.subscription, self.plan.group)}/providers/Microsoft.Resources/deployments/{self.name}"
        # As documented: without the provider in the middle.
        self.operations = f"{group_path(self.plan.subscription, self.plan.group)}/deployments/{self.name}/operations"
        self._tried = f"make {self.plan.name}"
        self._failed = f"Could not {self._tried}"

    # -- beginning ----------------------------------------------------------------------------------------------------

    def begin(self, found: Checked) -> VirtualMachine:
        plan = self.plan
        group_made = bool(self.memo.facts.get("group_made")) or not found.group_is_there
        self.memo.note(
            stage="group" if group_made else "",
            deployment=self.name,
            subscription=plan.subscription,
            tenant=self.tenant,
            group=plan.group,
            group_made=group_made,
            name=plan.name,
            location=plan.location,
            size=plan.size,
            ids=plan.ids,
        )
        if not found.group_is_there:
            self._make_group()
        body = template.deployment(plan)
        self.report(f"Asking Azure whether {plan.name} can be made", None)
        try:
            self._validate(body)
            if self.cancel.is_set():
                raise Cancelled(f"{plan.name} was not made: cancelled before Azure began.")
        except DSVMError as error:
            self.drop_group(error)
            raise
        self.memo.note(stage="asked")
        self.report(f"Azure begins to make {plan.name}", None)
        try:
            with self.client.translated(self._tried):
                self.client.send("PUT", self.path, DEPLOYMENTS_API, body)
        except DSVMError as error:
            # Refused, or the answer was lost: the deployment itself says whether it was begun.
            if self._read_again() is None:
                error = explained(error, self._failed)
                self.memo.note(stage="group" if group_made else "")
                self.drop_group(error)
                raise error from error.__cause__
        return self.follow()

    def _make_group(self) -> None:
        plan = self.plan
        self.report(f"Making the resource group {plan.group}", None)
        body = {"location": plan.location, "tags": dict(plan.tags)}
        with self.client.translated(f"make the resource group {plan.group}"):
            status, _, _ = self.client.send("PUT", group_path(plan.subscription, plan.group), RESOURCES_API, body)
        if status != 201:
            self.memo.note(group_made=False)  # somebody else was faster: it is theirs

    def _validate(self, body: Mapping[str, Any]) -> None:
        """What Azure itself refuses: policies, the marketplace's terms, a quota that was used up meanwhile."""
        try:
            with self.client.translated(self._tried):
                self.client.send("POST", f"{self.path}/validate", DEPLOYMENTS_API, body)
        except Forbidden as error:
            # Its own permission, which those who may deploy need not have.
            if "validate" not in error.message:
                raise explained(error, self._failed) from error.__cause__
        except DSVMError as error:
            raise explained(error, self._failed) from error.__cause__

    # -- following ----------------------------------------------------------------------------------------------------

    def go_on(self) -> VirtualMachine:
        """After the server was killed."""
        facts = self.memo.facts
        if facts["stage"] == "cleaning":
            self._clean(_as_error(facts.get("because")))
        if self._read_again() is None:
            self._clean(
                OperationRefused(
                    f"{self.plan.name} was not made: the server was stopped before Azure had begun.",
                    advice="Make it again.",
                )
            )
        return self.follow()

    def follow(self) -> VirtualMachine:
        began = heard = time.monotonic()
        stopping = False
        error: Mapping[str, Any]
        while True:
            if self.cancel.is_set() and self.cancel.leaving:
                raise self._left()
            if self.cancel.is_set() and not stopping:
                self.report(f"Cancelling: Azure stops making {self.plan.name}", None)
                self._stop()
                stopping = True
            state, error = "", {}
            try:
                state, error = self._state()
                if state not in ENDED and not stopping:
                    self._progress()
                heard = time.monotonic()
            except ComputeError as unheard:
                if isinstance(unheard, NOT_THERE):
                    state, error = "deleted", {"code": unheard.code, "message": unheard.message}
                elif time.monotonic() - heard > SILENCE:
                    raise self._still_going(unheard) from unheard
                if isinstance(unheard, Throttled):
                    self.cancel.wait(min(unheard.retry_after or 0.0, LONGEST_WAIT))
            if state == "succeeded" and not stopping:
                return self._finished()
            if state in ENDED:
                self._clean(_cancelled(self.plan) if stopping else failure(error, self._failed))
            if time.monotonic() - began > LONGEST:
                raise self._still_going(None)
            self._wait(stopping)

    def _left(self) -> Cancelled:
        """The server stops: Azure goes on, and the next server with it."""
        return Cancelled(
            f"The server stops while Azure makes {self.plan.name}; Azure goes on, and it is billed once it runs.",
            advice="The next server sees how it ends.",
        )

    def _wait(self, stopping: bool) -> None:
        if stopping:
            time.sleep(self.azure.polling_interval)
        else:
            self.cancel.wait(self.azure.polling_interval)

    def _state(self) -> tuple[str, Mapping[str, Any]]:
        """Its state in lower case, and its error."""
        with self.client.translated(f"read how far {self.plan.name} is"):
            properties = self.client.get(self.path, DEPLOYMENTS_API).get("properties") or {}
        return str(properties.get("provisioningState") or "").lower(), properties.get("error") or {}

    def _read_again(self) -> str | None:
        """The deployment's state; None if Azure knows no such deployment. Waits for an answer as long as it takes."""
        heard = time.monotonic()
        while True:
            try:
                return self._state()[0]
            except ComputeError as error:
                if isinstance(error, NOT_THERE):
                    return None
                if time.monotonic() - heard > SILENCE:
                    raise self._still_going(error) from error
            time.sleep(self.azure.polling_interval)

    def _progress(self) -> None:
        """ "network 3 of 5", from the deployment's own operations. What is reported changes only when something has happened."""
        kinds = [kind for kind in self.plan.kinds if kind != template.DISK]
        done, doing = set(), []
        for operation in self._operations():
            properties = operation.get("properties") or {}
            kind = next((k for k in kinds if self.plan.ids[k].lower() == _target(properties)), None)
            if kind is None or str(properties.get("provisioningOperation")).lower() != "create":
                continue
            if str(properties.get("provisioningState")).lower() == "succeeded":
                done.add(kind)
            else:
                doing.append(kind)
        now = next(
            (kind for kind in kinds if kind in doing), next((kind for kind in kinds if kind not in done), kinds[-1])
        )
        self.report(
            f"Azure is making {WORDS[now]} ({kinds.index(now) + 1} of {len(kinds)})",
            0.1 + 0.85 * len(done) / len(kinds),
        )

    def _operations(self) -> list[dict[str, Any]]:
        with self.client.translated(f"read what was made of {self.plan.name}"):
            return list(self.client.pages(self.operations, DEPLOYMENTS_API))

    def _stop(self) -> None:
        try:
            with self.client.translated(f"cancel making {self.plan.name}"):
                self.client.send("POST", f"{self.path}/cancel", DEPLOYMENTS_API)
        except ComputeError:
            pass  # it has ended already, or does not hear us; what it then is, is asked anyway

    def _finished(self) -> VirtualMachine:
        with self.client.translated(f"read the new {self.plan.name}"):
            model = (
                self.client.virtual_machines(self.plan.subscription)
                .get(self.plan.group, self.plan.name, expand="instanceView")
                .as_dict()
            )
        machine = from_model(model, self.azure.tag)
        if machine is None:
            raise ComputeError(
                f"{self.plan.name} was made, but Azure shows it without what it is known by.",
                advice="Reload the list of computes; in the Azure portal it is in the resource group "
                + self.plan.group
                + ".",
            )
        self.memo.note(stage="done")
        return replace(machine, tenant=self.tenant).in_state(machine.compute.power_state)

    # -- taking back --------------------------------------------------------------------------------------------------

    def _clean(self, because: DSVMError) -> NoReturn:
        """Delete what the deployment made, and raise ``because`` with what has become of it."""
        self.memo.note(stage="cleaning", because=because.to_json())
        cleaner = Cleaner(self.client, self.name, self.azure.polling_interval, self.report)
        if isinstance(because, Cancelled):
            self._settle()
        made = self._made()
        left = cleaner.delete(made)
        if any(cleaner.is_there(kind, one) for kind, one in made.items() if one not in dict(left.ids)):
            left = cleaner.delete(made)  # something came into being meanwhile
        if self.memo.facts.get("group_made") and not left.ids:
            why = cleaner.delete_group(self.plan.subscription, self.plan.group)
            if why:
                left.ids.append((f"the resource group {self.plan.group}", why))
        self.memo.note(stage="done")
        self._say(
            because, f"{left.sentence()}." if left.ids else "What had been made was deleted again.", bool(left.ids)
        )
        raise because

    def _settle(self) -> None:
        """What Azure had begun when the deployment was cancelled is made nevertheless, and may not be there yet."""
        ids = {one.lower(): kind for kind, one in self.plan.ids.items()}
        cleaner = Cleaner(self.client, self.name, self.azure.polling_interval, self.report)
        until = time.monotonic() + SETTLE
        while time.monotonic() < until:
            try:
                unfinished = [
                    _target(one)
                    for one in (operation.get("properties") or {} for operation in self._operations())
                    if str(one.get("provisioningState")).lower() not in ENDED
                ]
            except ComputeError:
                return
            if not any(one in ids and not cleaner.is_there(ids[one], one) for one in unfinished):
                return
            time.sleep(self.azure.polling_interval)

    def _made(self) -> dict[str, str]:
        """What the deployment has made or begun to, as far as it says so."""
        ids = self.plan.ids
        try:
            return made_by(self._operations(), ids)
        except ComputeError as error:
            if isinstance(error, NOT_THERE):
                return {}
            return ids  # none of them was there before, and each is looked at before it is deleted

    def drop_group(self, error: DSVMError) -> None:
        """Nothing was begun; a group that we made for it goes again."""
        if self.memo.facts.get("group_made"):
            cleaner = Cleaner(self.client, self.name, self.azure.polling_interval, self.report)
            why = cleaner.delete_group(self.plan.subscription, self.plan.group)
            if why:
                self._say(error, f"The resource group {self.plan.group} was made for it and is left: {why}.", True)
        self.memo.note(stage="done")

    @staticmethod
    def _say(error: DSVMError, text: str, left: bool) -> None:
        error.message = f"{error.message} {text}"
        error.args = (error.message,)
        if left:
            error.advice = f"{error.advice} Delete what is left in the Azure portal.".strip()

    # -- errors -------------------------------------------------------------------------------------------------------

    def _still_going(self, error: DSVMError | None) -> ComputeError:
        why = f" {error.message}" if error is not None else ""
        return ComputeError(
            f"Contact was lost while Azure makes {self.plan.name}; it goes on there, and is billed once it runs.{why}",
            advice=f"Look at the deployment {self.name} in the resource group {self.plan.group} in the Azure portal, or reload the "
            "list of computes in some minutes.",
            code="Timeout",
        )


def _target(properties: Mapping[str, Any]) -> str:
    return str((properties.get("targetResource") or {}).get("id") or "").lower()


def _cancelled(plan: Plan) -> Cancelled:
    return Cancelled(f"{plan.name} was not made: it was cancelled.")


def _as_error(data: Any) -> DSVMError:
    """What was noted down before the server was killed."""
    given = data if isinstance(data, Mapping) else {}
    kind: type[DSVMError] = Cancelled if given.get("code") == "Cancelled" else OperationRefused
    return kind(
        str(given.get("message") or "The VM was not made."),
        advice=str(given.get("advice") or ""),
        code=str(given.get("code") or "Failed"),
    )
