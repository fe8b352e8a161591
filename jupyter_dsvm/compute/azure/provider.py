"""``AzureCompute``: the Data Science VMs of every subscription that the account can see.

The one object that the service makes of this package. Nothing of the Azure libraries is imported before the first
call, which is on a worker thread: they take 0.4 s and 80 MB.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Float, List, Unicode, default

from ...errors import (
    ComputeError,
    OperationRefused,
    UnknownCompute,
)
from ...models import Compute, PowerState
from ..creating import Creation, NewCompute
from ..provider import Cancel, Listing, Memo, Report
from .access import AzureAccess
from .account import AzureAccount
from .createsettings import CreateSettings
from .credentials import cloud_of
from .listing import EVERYTHING, Listed, of_tenant, problem
from .machine import (
    PREFIX,
    VirtualMachine,
    from_model,
    is_hibernated,
    is_updating,
    may_be_asleep,
    merged,
    power_state,
    reread,
    unchanged_since,
)
from .prices import PUBLIC_ENDPOINT, Prices, key
from .quotas import Quotas
from .reach import Reach
from .resizable import Resizable
from .rootscript import RootScripts

if TYPE_CHECKING:
    from .client import ArmClient
    from .schedules import Schedules

PRICES_PATIENCE = 2.0
"""Seconds that a listing waits for prices. Later ones are in the next listing."""

MOST_LOOKS = 20
"""VMs that a listing asks whether they are hibernated; the next asks more of them, and ``get`` each."""

GRAPH_LAG = 600.0
"""Seconds after a look at a VM itself during which the graph's word on its state is checked. No bound is documented."""


class AzureCompute(Resizable, CreateSettings, Reach, AzureAccess, RootScripts, Quotas, AzureAccount):
    """Data Science VMs in Azure: list, create, start, stop, restart, resize, and where to reach them over SSH."""

    prefix = PREFIX

    enabled = Bool(True, help="Whether to show Azure's Data Science VMs.").tag(config=True)
    tag = Unicode(
        "dsvm",
        help="VMs with this tag are shown as DSVMs whatever image they were made from (and hidden if its value is false).",
    ).tag(config=True)
    tenants = List(
        Unicode(),
        help="Ids of further tenants whose subscriptions are listed too. The account has to be able to sign in there. Tenants "
        "that somebody signs in to by name are listed anyway.",
    ).tag(config=True)
    prices_endpoint = Unicode(
        help="Address of Azure's Retail Prices API, which is asked for regions and sizes only, without a token. The default "
        "is Azure's own with its public and US Government clouds, and none otherwise; empty: no prices are shown."
    ).tag(config=True)
    currency = Unicode("USD", help="Currency of the prices shown, such as EUR.").tag(config=True)
    polling_interval = Float(3.0, help="Seconds between two looks at an operation, where Azure does not say.").tag(
        config=True
    )
    operation_timeout = Float(1800.0, help="Seconds to wait for a start or a stop before giving up waiting.").tag(
        config=True
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lock = threading.Lock()  # protects the four below, and is held for no request
        self._clients: dict[str, ArmClient] = {}
        self._price_list: Prices | None = None
        self._machines: dict[str, VirtualMachine] = {}
        self._sku_lists = {}
        self._new: dict[str, float] = {}
        """Ids of VMs that were made here, and when: the graph takes a while to know them."""

    @default("prices_endpoint")
    def _default_prices_endpoint(self) -> str:
        cloud = cloud_of(self.arm_endpoint)
        return PUBLIC_ENDPOINT if cloud is not None and cloud.name in {"public", "usgov"} else ""

    # The port (compute/provider.py says who calls these, and when)

    def list(self) -> Listing:
        """All DSVMs, from the graph; from each subscription in turn where the graph is refused. Of several tenants, what
        one refuses is a problem beside the others' VMs."""
        if not self.enabled:
            return Listing(())
        listed = self._listed()
        with self._lock:
            before = self._machines
            # What was known of a machine and is in no list (its account, its interface) is kept; and so is a machine whose
            # subscription did not answer.
            found: dict[str, VirtualMachine] = {}
            for machine in listed.machines:
                # The account's own tenant comes first: what it shows too is asked for there.
                found.setdefault(machine.compute.id, merged(machine, before.get(machine.compute.id)))
            for unheard in before.values():
                if listed.unheard & {unheard.subscription.lower(), f"tenant:{unheard.tenant}"}:
                    old = replace(unheard.compute, unchanged_since=None)
                    found.setdefault(unheard.compute.id, replace(unheard, compute=old))
            unlisted = self._made_lately(before, found)
            self._machines = {**found, **{m.compute.id: m for m in unlisted}}
        asleep = [i for i, m in found.items() if may_be_asleep(m, before.get(i))][:MOST_LOOKS]
        rows = [self._settled(m, before.get(i), i in asleep) for i, m in found.items()]
        rows += [self._still_there(m) for m in unlisted]
        computes = [c for c in rows if c is not None]
        return Listing(tuple(self._priced(computes, PRICES_PATIENCE)), tuple(listed.problems))

    def get(self, compute_id: str) -> Compute:
        return self._shown(self._fresh(compute_id).compute)

    def look(self, compute_id: str) -> Compute:
        """Only what state it is in, from its instance view: for who looks every few seconds."""
        machine = self._known(compute_id)
        client = self._arm(machine.tenant)
        with self._forgetting(machine), client.translated(f"read the state of {machine.name}"):
            view = client.instance_view(machine.subscription, machine.group, machine.name)
        machine = machine.in_state(
            power_state(view),
            updating=is_updating(view),
            hibernated=is_hibernated(view),
            unchanged_since=unchanged_since(view),
        )
        with self._lock:
            self._machines[machine.compute.id] = machine
        return self._shown(machine.compute)

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("start", compute_id, report, cancel, memo)

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("stop", compute_id, report, cancel, memo)

    def restart(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("restart", compute_id, report, cancel, memo)

    def safety(self, compute_id: str) -> Schedules:
        """The dead man's switch of a VM: the auto-shutdown schedule that Azure keeps for it. Asks nothing yet."""
        from .schedules import Schedules  # here, since it is for VMs in use

        machine = self._known(compute_id)
        return Schedules(self._arm(machine.tenant), machine)

    def creation(self, location: str | None = None, subscription: str | None = None) -> Creation:
        """What a new VM can be like."""
        from .preflight import choices  # here, since it is for few

        return choices(self, location, subscription)

    def create(self, wanted: NewCompute, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Make a VM in one deployment: return once it runs. ``create.py`` has the rest."""
        from .create import create

        machine = create(self, wanted, report, cancel, memo or Memo())
        with self._lock:
            self._machines[machine.compute.id] = machine
            self._new[machine.compute.id] = time.monotonic()
        return self._priced((machine.compute,), PRICES_PATIENCE)[0]

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
            price_list, self._price_list = self._price_list, None
        for client in clients.values():
            client.close()
        if price_list is not None:
            price_list.close()
        self._end_sign_in()

    # Listing

    def _listed(self) -> Listed:
        """Of all tenants. Raises if none could be asked: what was known before then stays."""
        together = Listed()
        failed: MutableSequence[ComputeError] = []
        named = {tenant.lower(): tenant for tenant in (*self.tenants, *self.sign_in.tenants)}
        tenants = ("", *named.values())
        for tenant in tenants:
            try:
                part = of_tenant(self._arm(tenant), self.tag)
            except ComputeError as error:
                failed.append(error)
                if tenant:
                    error.message = f"In the tenant {tenant}: {error.message}"
                together.problems.append(problem(error))
                together.unheard.add(f"tenant:{tenant}")
                continue
            together.machines.extend(replace(machine, tenant=tenant) for machine in part.machines)
            together.problems.extend(part.problems)
            # Of one tenant: what another has shown whole is known.
            together.unheard |= {f"tenant:{tenant}" if one == EVERYTHING else one for one in part.unheard}
        if len(failed) == len(tenants):
            raise failed[0]
        return together

    def _priced(self, computes: Sequence[Compute], patience: float) -> Sequence[Compute]:
        """With what their sizes cost, as far as that is known within ``patience`` seconds."""
        keys = {c.id: key(c.location, c.size.name, c.os) for c in computes if c.location and c.size}
        prices = self._prices().known(keys.values(), patience)
        return [replace(c, price=prices.get(keys[c.id])) if c.id in keys else c for c in computes]

    def _shown(self, compute: Compute) -> Compute:
        return self._priced((compute,), 0.0)[0]

    def _prices(self) -> Prices:
        with self._lock:
            if self._price_list is None:
                self._price_list = Prices(self.prices_endpoint, self.currency)
            return self._price_list

    def _settled(self, listed: VirtualMachine, before: VirtualMachine | None, look: bool = False) -> Compute | None:
        """The row of a listed VM; asked for itself where the list contradicts what it said itself a short while ago, or
        to ``look``.

        The graph lags behind, so that a VM just started would be shown as deallocated. None if it is gone.
        """
        if not look and (
            before is None
            or before.read_at is None
            or (before.compute.power_state, before.compute.updating)
            == (listed.compute.power_state, listed.compute.updating)
            or time.monotonic() - before.read_at > GRAPH_LAG
        ):
            return listed.compute
        try:
            return self._fresh(listed.compute.id).compute
        except UnknownCompute:
            return None
        except ComputeError:
            return listed.compute

    def _made_lately(
        self, before: dict[str, VirtualMachine], found: dict[str, VirtualMachine]
    ) -> MutableSequence[VirtualMachine]:
        """VMs that were made here a short while ago and are in no list yet."""
        now = time.monotonic()
        self._new = {one: at for one, at in self._new.items() if one not in found and now - at < GRAPH_LAG}
        return [before[one] for one in self._new if one in before]

    def _still_there(self, machine: VirtualMachine) -> Compute | None:
        try:
            return self._fresh(machine.compute.id).compute
        except UnknownCompute:
            return None
        except ComputeError:
            return machine.compute

    # One VM

    def _arm(self, tenant: str = "") -> ArmClient:
        from .client import ArmClient  # here, since it imports the Azure libraries

        with self._lock:
            client = self._clients.get(tenant)
            if client is None:
                client = self._clients[tenant] = ArmClient(
                    self.arm_endpoint, tenant=tenant, credential=self.sign_in.credential
                )
            return client

    def _known(self, compute_id: str) -> VirtualMachine:
        """As last seen; one listing if it never was, as after a restart of the server."""
        compute_id = compute_id.lower()
        if compute_id not in self._machines:
            self.list()
        with self._lock:
            machine = self._machines.get(compute_id)
        if machine is None:
            raise UnknownCompute(
                f"No Data Science VM has the id {compute_id.removeprefix(PREFIX)}.",
                advice="It may have been deleted, or the account no longer sees it. Reload the list of computes.",
            )
        return machine

    def _fresh(self, compute_id: str) -> VirtualMachine:
        """The VM's model and instance view, read now, in one request."""
        known = self._known(compute_id)
        client = self._arm(known.tenant)
        with self._forgetting(known), client.translated(f"read the state of {known.name}"):
            model = client.machine(known.subscription, known.group, known.name)
            if str((model.get("properties") or {}).get("vmId")).lower() != known.vm_id:
                raise UnknownCompute(
                    f"{known.name} was deleted and made again: it is another VM now.",
                    advice="Reload the list of computes.",
                    code="Replaced",
                )
        view = (model.get("properties") or {}).get("instanceView")
        # Without its tag or its plan it is still the VM that was listed; the next listing leaves it out.
        machine = merged(from_model(model, self.tag) or reread(known, model), known).in_state(
            power_state(view),
            updating=is_updating(view),
            hibernated=is_hibernated(view),
            unchanged_since=unchanged_since(view),
        )
        with self._lock:
            self._machines[known.compute.id] = machine
        return machine

    @contextmanager
    def _forgetting(self, machine: VirtualMachine) -> Iterator[None]:
        """A VM that is gone is no longer remembered."""
        try:
            yield
        except UnknownCompute:
            with self._lock:
                self._machines.pop(machine.compute.id, None)
            raise

    def _change(self, kind: str, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        from .lifecycle import ACTIONS, Change, was_asked  # here, since they import the Azure libraries
        from .refusals import advise

        machine = self._fresh(compute_id)  # also makes sure that the name still means the same VM
        client = self._arm(machine.tenant)
        operations = client.virtual_machines(machine.subscription)
        action = ACTIONS[kind]

        def begin(**options: Any) -> Any:
            return getattr(operations, action.method)(machine.group, machine.name, **options)

        def state() -> PowerState:
            with client.translated(f"read the state of {machine.name}"):
                return power_state(client.instance_view(machine.subscription, machine.group, machine.name))

        off = machine.compute.power_state in {PowerState.DEALLOCATED, PowerState.STOPPED}
        if kind == "restart" and off and not was_asked(memo, kind):
            raise OperationRefused(
                f"{machine.name} is {machine.compute.power_state.value}, so it cannot be restarted.",
                advice="Start it instead.",
            )
        change = Change(
            action,
            machine.name,
            begin,
            state,
            follow=client.read,
            endpoint=client.endpoint,
            interval=self.polling_interval,
            timeout=self.operation_timeout,
        )
        with self._forgetting(machine):
            try:
                reached = change.run(report, cancel, memo)
            except OperationRefused as error:
                advise(error, client, machine)
                raise
        machine = machine.in_state(reached)
        with self._lock:
            self._machines[machine.compute.id] = machine
        return self._shown(machine.compute)
