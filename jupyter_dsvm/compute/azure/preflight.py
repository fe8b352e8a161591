"""What a new VM can be like, and all that is checked before anything of it exists.

``choices`` is called for the page's form, ``checked`` before a deployment. Both only read. What ``checked`` lets pass, Azure may
still refuse (a policy, the marketplace's terms): ``create`` asks for that with the deployment's own validation.
"""

from __future__ import annotations

import getpass
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import BadRequest, NotAllowed, OperationRefused
from ...models import SizeOffer
from ..creating import Creation, NewCompute, SubscriptionOffer
from . import names, template
from .errors import NOT_THERE
from .newsizes import checked_size, offers
from .places import Subscription, chosen_subscription, locations, place, subscriptions, unusable, which
from .template import Plan

if TYPE_CHECKING:
    from .client import ArmClient
    from .provider import AzureCompute

RESOURCES_API = "2021-04-01"
GALLERY_API = "2023-07-03"
IMAGE_API = "2024-07-01"

AT_ONCE = 6
NOTICE = "The disk and a public address are billed beside that, also while the VM is stopped."


# -- what can be chosen -----------------------------------------------------------------------------------------------


def choices(azure: AzureCompute, location: str | None, subscription: str | None) -> Creation:
    """Raises ``BadRequest`` for a subscription or region that there is not, and what Azure answers."""
    if not (azure.may_create and azure.enabled):
        return Creation(False, _not_allowed().message)
    found = template.image(azure.create_image, azure.create_image_plan)
    every = subscriptions(azure)
    shown = tuple(SubscriptionOffer(s.id, s.name, not (why := unusable(azure, s)), why) for s in every)
    usable = [s for s in every if not unusable(azure, s)]
    common = Creation(
        True,
        subscriptions=shown,
        image=found.text,
        resource_group=azure.create_group,
        source_address=azure.create_source_address,
        private_only=azure.create_private_only,
        notice=NOTICE,
    )
    if not usable:
        reason = "There is no subscription in which a VM can be made." if every else "The account sees no subscription."
        return replace(common, allowed=False, reason=reason)
    chosen = chosen_subscription(azure, every, subscription) if subscription or len(usable) == 1 else None
    if chosen is None:
        if location:
            raise which(usable)
        return common
    client = azure._arm(chosen.tenant)
    places = locations(azure, client, chosen)
    sizes: tuple[SizeOffer, ...] = ()
    if location:
        location = place(places, location)
        sizes = tuple(offers(azure, client, chosen, location, _generation(client, found.own_id)))
    return replace(common, subscription=chosen.id, locations=places, location=location or None, sizes=sizes)


# -- before a deployment ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    plan: Plan
    subscription: Subscription
    group_is_there: bool


def checked(azure: AzureCompute, wanted: NewCompute, public_key: str, deployment: str, ours: bool = False) -> Checked:
    """All that can be known beforehand holds. ``ours``: what is there under the names is of this very deployment, which is
    gone on with.

    Raises:
        NotAllowed: The administrator does not allow it.
        BadRequest: A name, region or address that cannot be.
        OperationRefused: Azure has no size, quota or name for it.
    """
    if not (azure.may_create and azure.enabled):
        raise _not_allowed()
    names.check_name(wanted.name)
    group = wanted.resource_group or azure.create_group
    names.check_group(group)
    names.check_disk(wanted.disk_gib)
    size = names.check_size(wanted.size)
    found = template.image(azure.create_image, azure.create_image_plan)
    admin = azure.create_admin or azure.ssh_user or "azureuser"
    names.check_account(admin, "AzureCompute.create_admin" if azure.create_admin else "AzureCompute.ssh_user")
    source = _source(azure, wanted)
    subscription = chosen_subscription(azure, subscriptions(azure), wanted.subscription)
    client = azure._arm(subscription.tenant)
    location = place(locations(azure, client, subscription), wanted.location)
    generation = _generation(client, found.own_id)
    sku = checked_size(azure, client, subscription, location, size, generation)
    plan = Plan(
        subscription=subscription.id,
        group=group,
        name=wanted.name,
        location=location,
        size=sku.name,
        image=found,
        admin=admin,
        public_key=public_key,
        tags={**_tags(azure, deployment), **dict(wanted.tags)},
        source=source,
        subnet=azure.create_subnet,
        disk_gib=wanted.disk_gib,
        disk_kind="Premium_LRS" if sku.premium_disks else "StandardSSD_LRS",
        security_type=azure.create_security_type,
        secure_boot=azure.create_secure_boot,
    )
    there = _group_is_there(azure, client, plan)
    if there and not ours:
        _names_free(client, plan)
    return Checked(plan, subscription, there)


def _not_allowed() -> NotAllowed:
    return NotAllowed(
        "The administrator of this server does not allow VMs to be made here.",
        advice="Make it in the Azure portal; it appears here by itself.",
    )


def _source(azure: AzureCompute, wanted: NewCompute) -> str:
    """The network that may reach port 22; empty for a VM without a public address."""
    if wanted.private or azure.create_private_only:
        if wanted.source_address:
            raise BadRequest(
                "A VM without a public address has nothing to open to an address.",
                advice="Leave the address out, or ask for a public one where the administrator allows it.",
                code="BadAddress",
            )
        return ""
    if azure.create_source_address:
        own = names.source_network(azure.create_source_address, by_administrator=True)
        if wanted.source_address and names.source_network(wanted.source_address, by_administrator=False) != own:
            raise NotAllowed(
                f"The administrator has the SSH port of new VMs opened to {own} alone.", advice="Leave the address out."
            )
        return own
    if not wanted.source_address:
        raise BadRequest(
            "Which address may reach the new VM is not said, and this server does not know its own as the internet sees it.",
            advice="Give this server's public address (`--from ADDRESS`), or make a VM without a public address (`--private`) if "
            "the server is in the VM's network. An administrator can set AzureCompute.create_source_address.",
            code="NoSourceAddress",
        )
    return names.source_network(wanted.source_address, by_administrator=False)


def _generation(client: ArmClient, own_image: str) -> str:
    """``V1`` or ``V2``: what the image boots. Raises for an image of Windows."""
    if not own_image:
        return "V2"
    gallery = "/galleries/" in own_image.lower()
    path = own_image.rsplit("/versions/", 1)[0] if gallery else own_image
    with client.translated(f"read the image {path.rsplit('/', 1)[-1]} of AzureCompute.create_image"):
        properties = client.get(path, GALLERY_API if gallery else IMAGE_API).get("properties") or {}
    disk = (properties.get("storageProfile") or {}).get("osDisk") or {}
    if str(properties.get("osType") or disk.get("osType") or "Linux").lower() != "linux":
        raise OperationRefused(
            "The image of AzureCompute.create_image is one of Windows, where notebooks cannot run.",
            advice="Name a Linux image.",
        )
    return str(properties.get("hyperVGeneration") or "V1").upper()


def _tags(azure: AzureCompute, deployment: str) -> dict[str, str]:
    """On everything that is made: how it is recognised, whose it is, and which deployment may delete it again."""
    account = azure.sign_in.status().account or os.environ.get("JUPYTERHUB_USER") or _login()
    owner = azure.create_owner or account
    return {azure.tag: "true", "created-by": "jupyter-dsvm", DEPLOYMENT_TAG: deployment} | (
        {"owner": owner[:256]} if owner else {}
    )


DEPLOYMENT_TAG = "jupyter-dsvm-deployment"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def is_there(client: ArmClient, resource_id: str, api_version: str) -> dict[str, Any] | None:
    """The resource, or None if Azure says that there is none. Raises what else it answers."""
    try:
        with client.translated(f"look for {resource_id.rsplit('/', 1)[-1]}"):
            return client.get(resource_id, api_version)
    except NOT_THERE:
        return None


def group_path(subscription: str, group: str) -> str:
    return f"/subscriptions/{subscription}/resourcegroups/{group}"


def _group_is_there(azure: AzureCompute, client: ArmClient, plan: Plan) -> bool:
    if is_there(client, group_path(plan.subscription, plan.group), RESOURCES_API) is not None:
        return True
    if azure.create_resource_group:
        return False
    raise NotAllowed(
        f"There is no resource group {plan.group}, and the administrator does not allow one to be made.",
        advice="Name one that is there.",
        code="ResourceGroupNotFound",
    )


def _names_free(client: ArmClient, plan: Plan) -> None:
    """Nothing is there under any of the names: only then is what is there afterwards ours to delete."""
    with ThreadPoolExecutor(AT_ONCE, "dsvm-create") as pool:
        found = list(pool.map(lambda kind: is_there(client, plan.ids[kind], template.APIS[kind]), plan.kinds))
    taken = [kind for kind, one in zip(plan.kinds, found, strict=True) if one is not None]
    if template.VM in taken:
        raise OperationRefused(
            f"There is a VM {plan.name} in the resource group {plan.group} already.",
            advice="Choose another name or another resource group.",
            code="NameTaken",
        )
    if taken:
        names = ", ".join(plan.ids[kind].rsplit("/", 1)[-1] for kind in taken)
        raise OperationRefused(
            f"In the resource group {plan.group} there is already what a VM {plan.name} would need the names of: {names}.",
            advice="Choose another name, or delete what an earlier VM of that name has left behind.",
            code="NameTaken",
        )
