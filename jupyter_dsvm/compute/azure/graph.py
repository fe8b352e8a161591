"""One Resource Graph query for every Data Science VM that the account can see in a tenant.

Called by ``listing.of_tenant`` only. The graph is an index that lags behind, by an unknown amount, so what
it says of a power state or an address is for showing; whatever is about to act reads the VM itself.

Request and answer: https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources.
The graph allows 15 queries per 5 seconds and user (``x-ms-user-quota-remaining`` counts down), and at most three joins
in a query.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .faults import seconds
from .images import PUBLISHERS

if TYPE_CHECKING:
    from .client import ArmClient

PATH = "/providers/Microsoft.ResourceGraph/resources"
API_VERSION = "2021-03-01"
PAGE = 1000
"""Rows per request: the most that the graph gives."""

PATIENCE = 15.0
"""Seconds to wait, over all pages of a listing, for a quota to be filled again; then the throttling is shown."""

PASSING = frozenset({408, 500, 502, 503, 504})
TRIES = 3
"""How often a page is asked for that meets a fault of Azure's own or of the network: as often as what else only reads."""
PAUSE = 0.4
"""Seconds before the second try; twice that before the third."""


def query(tag: str) -> str:
    """The query text. It narrows to the publishers of DSVM images and to our ``tag``; ``images.recognise`` decides.

    A VM without network interface, or one whose interface or gallery image the account may not read, still has its row:
    the joins are left outer. ``id`` has to be among the columns, or the graph does not page. The tag is looked for in
    all of the tags' text, since ``tags['…']`` tells apart what Azure's tags do not (case).
    """
    publishers = ", ".join(f"'{p}'" for p in PUBLISHERS)
    safe_tag = tag.replace("\\", "\\\\").replace("'", "\\'")
    tagged = f"\n    or tostring(tags) contains '{safe_tag}'" if tag else ""
    return f"""\
Resources
| where type =~ 'microsoft.compute/virtualmachines'
| extend image = properties.storageProfile.imageReference
| extend galleryImageId = tostring(split(tolower(tostring(image.id)), '/versions/')[0])
| join kind=leftouter (
    Resources
    | where type =~ 'microsoft.compute/galleries/images'
    | project galleryImageId = tolower(id), gallery = properties.identifier, purchasePlan = properties.purchasePlan
  ) on galleryImageId
| where tostring(image.publisher) in~ ({publishers})
    or tostring(plan.publisher) in~ ({publishers})
    or tostring(gallery.publisher) in~ ({publishers})
    or tostring(purchasePlan.publisher) in~ ({publishers}){tagged}
| extend nicId = tolower(tostring(properties.networkProfile.networkInterfaces[0].id))
| join kind=leftouter (
    Resources
    | where type =~ 'microsoft.network/networkinterfaces'
    | extend ipConfiguration = properties.ipConfigurations[0].properties
    | project nicId = tolower(id), privateIp = tostring(ipConfiguration.privateIPAddress),
        publicIpId = tolower(tostring(ipConfiguration.publicIPAddress.id))
  ) on nicId
| join kind=leftouter (
    Resources
    | where type =~ 'microsoft.network/publicipaddresses'
    | project publicIpId = tolower(id), publicIp = tostring(properties.ipAddress),
        fqdn = tostring(properties.dnsSettings.fqdn)
  ) on publicIpId
| project id, name, subscriptionId, resourceGroup, location, tags, plan, image, gallery, purchasePlan,
    vmId = tostring(properties.vmId),
    hibernation = tostring(properties.additionalCapabilities.hibernationEnabled),
    osType = tostring(properties.storageProfile.osDisk.osType),
    size = tostring(properties.hardwareProfile.vmSize),
    powerState = tostring(properties.extended.instanceView.powerState.code),
    provisioningState = tostring(properties.provisioningState),
    privateIp, publicIp, fqdn
| order by id asc
"""


def rows(client: ArmClient, tag: str, sleep: Callable[[float], object] = time.sleep) -> Iterator[dict[str, Any]]:
    """Every row, page by page. Raises what ``client`` raises; a refusal (400, 403) makes the listing ask elsewhere.

    A query only reads, so one that was throttled is asked again as soon as the graph says, and one that met a passing fault
    soon; the next page waits while the user's quota is used up, since other programs of the same user draw on it.
    """
    from azure.core.exceptions import DecodeError  # imported already by whoever made the client

    options: dict[str, Any] = {"$top": PAGE, "resultFormat": "objectArray"}
    body = {"query": query(tag), "options": options}
    left = PATIENCE
    followed: set[str] = set()
    while True:
        answer, headers, left = _page(client, body, left, sleep)
        data = answer.get("data")
        if not isinstance(data, list):
            raise DecodeError("The graph's answer has no rows")
        yield from (row for row in data if isinstance(row, dict))
        token = answer.get("$skipToken")
        if not token:
            if str(answer.get("resultTruncated")).lower() == "true":
                raise DecodeError("The graph cut its answer and does not say how to go on")
            return
        if not isinstance(token, str) or token in followed:
            raise DecodeError("The graph's answer leads back to a page that was read already")
        followed.add(token)
        options["$skipToken"] = token
        if headers.get("x-ms-user-quota-remaining") == "0":
            wait = min(left, seconds(headers.get("x-ms-user-quota-resets-after")) or 0.0)
            left -= wait
            sleep(wait)


def _page(
    client: ArmClient, body: Mapping[str, Any], left: float, sleep: Callable[[float], object]
) -> tuple[dict[str, Any], Mapping[str, str], float]:
    """One page, its headers, and the seconds of patience that are left."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    tries = 1
    while True:
        wait: float | None
        try:
            answer, headers = client.ask(PATH, API_VERSION, body)
            return answer, headers, left
        except (ServiceRequestError, ServiceResponseError):
            if tries == TRIES:
                raise
            wait = PAUSE * tries
            tries += 1
        except HttpResponseError as error:
            said: Mapping[str, str] = getattr(error.response, "headers", {})
            wait = seconds(said.get("Retry-After")) or seconds(said.get("x-ms-user-quota-resets-after"))
            if error.status_code in PASSING and tries < TRIES:
                wait = wait or PAUSE * tries
                tries += 1
            elif error.status_code != 429:
                raise
            # Without a time there is no telling; with one beyond our patience the user is told it.
            if not wait or wait > left:
                raise
        left -= wait
        sleep(wait)
