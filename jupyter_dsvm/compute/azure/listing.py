"""All Data Science VMs of a tenant: from the graph, or from each subscription in turn where the graph is refused.

Called by ``provider.AzureCompute.list``, on a worker thread. What one part of Azure refuses is a ``Problem`` that names
that part; the rest is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import ComputeError, DSVMError, Forbidden, SignInRequired
from ...models import Problem
from . import graph
from .images import gallery_image
from .machine import VirtualMachine, from_graph, from_model, is_hibernated, power_state

if TYPE_CHECKING:
    from .client import ArmClient

SUBSCRIPTIONS_API = "2022-12-01"
GALLERY_API = "2023-07-03"
GRAPH_REFUSED = {400, 403, 404}

EVERYTHING = "*"

AT_ONCE = 8
"""Subscriptions asked at a time where each has to be asked."""

MOST_GALLERY_IMAGES = 50
"""Images of galleries looked up in a listing without the graph."""


@dataclass
class Listed:
    machines: list[VirtualMachine] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unheard: set[str] = field(default_factory=set)
    """Ids (lower-case) of subscriptions that did not answer, or ``EVERYTHING`` of the tenant: what was known of them may
    still be so. One that refuses has answered."""


def of_tenant(client: ArmClient, tag: str) -> Listed:
    """Raises our errors where there is nothing to show at all."""
    from azure.core.exceptions import HttpResponseError

    listed = Listed()
    try:
        with client.translated("list the VMs"):
            try:
                for row in graph.rows(client, tag):
                    machine = from_graph(row, tag)
                    if machine is not None:
                        listed.machines.append(machine)
            except HttpResponseError as error:
                refused = error.response is not None and error.status_code in GRAPH_REFUSED
                if not refused or listed.machines:
                    raise
                return _of_subscriptions(client, tag)
    except ComputeError as error:
        # A page that did not come is no reason to hide those that did.
        if not listed.machines:
            raise
        found = f"Only the first {len(listed.machines)} VMs could be listed. {error.message}"
        listed.problems.append(Problem(error.code, found, error.advice, error.retry_after))
        listed.unheard.add(EVERYTHING)
    return listed


def _of_subscriptions(client: ArmClient, tag: str) -> Listed:
    listed = Listed()
    with client.translated("list the subscriptions"):
        subscriptions = tuple(client.pages("/subscriptions", SUBSCRIPTIONS_API))
    if not subscriptions:
        listed.problems.append(
            Problem(
                "NoSubscription",
                "The account that is signed in sees no Azure subscription.",
                "Ask for a role (Reader is enough to see a VM), or sign in with another account or tenant.",
            )
        )
        return listed

    def ask(subscription: Mapping[str, Any]) -> Sequence[VirtualMachine] | ComputeError:
        subscription_id = str(subscription.get("subscriptionId") or "")
        shown = subscription.get("displayName") or subscription_id
        try:
            with client.translated(f"list the VMs of the subscription {shown}"):
                return list(_of_subscription(client, tag, subscription_id))
        except ComputeError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE, "dsvm-listing") as pool:
        answers = list(pool.map(ask, subscriptions))
    for subscription, answer in zip(subscriptions, answers, strict=True):
        if not isinstance(answer, ComputeError):
            listed.machines.extend(answer)
            continue
        if isinstance(answer, SignInRequired):
            raise answer
        listed.problems.append(problem(answer))
        if not isinstance(answer, Forbidden):
            listed.unheard.add(str(subscription.get("subscriptionId")).lower())
    return listed


def _of_subscription(client: ArmClient, tag: str, subscription_id: str) -> Iterator[VirtualMachine]:
    """Two lists: the models, and the power states, which ``statusOnly`` gives without the rest of the model."""
    operations = client.virtual_machines(subscription_id)
    models = [model.as_dict() for model in operations.list_all()]
    views = {
        str(status.get("id")).lower(): (status.get("properties") or {}).get("instanceView")
        for status in (model.as_dict() for model in operations.list_all(status_only="true"))
    }
    galleries: dict[str, Mapping[str, Any]] = {}
    for model in models:
        view = views.get(str(model.get("id")).lower())
        state, asleep = power_state(view), is_hibernated(view)
        machine = from_model(model, tag, state, hibernated=asleep)
        if machine is None:
            image = gallery_image(((model.get("properties") or {}).get("storageProfile") or {}).get("imageReference"))
            if image is not None:
                properties = _gallery_properties(client, image, galleries)
                machine = from_model(model, tag, state, properties, asleep)
        if machine is not None:
            yield machine


def _gallery_properties(client: ArmClient, image: str, known: dict[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What a gallery says of an image, asked once; empty where it may not be read: then the VM is none of ours."""
    key = image.lower()
    if key not in known and len(known) < MOST_GALLERY_IMAGES:
        try:
            with client.translated("read the image"):
                known[key] = client.get(image, GALLERY_API).get("properties") or {}
        except ComputeError:
            known[key] = {}
    return known.get(key, {})


def problem(error: DSVMError) -> Problem:
    return Problem(error.code, error.message, error.advice, error.retry_after)
