"""One Resource Graph query for every Data Science VM that the account can see.

Called by ``provider.AzureCompute.list`` only. The graph is an index that lags behind, by an unknown amount, so what
it says of a power state or an address is for showing; whatever is about to act reads the VM itself.

Request and answer: https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources.
The graph allows 15 queries per 5 seconds and user, and at most three joins in a query.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .images import PUBLISHERS

if TYPE_CHECKING:
    from .client import ArmClient

PATH = "/providers/Microsoft.ResourceGraph/resources"
API_VERSION = "2021-03-01"
PAGE = 1000
"""Rows per request: the most that the graph gives."""


def query(tag: str) -> str:
    """The query text. It narrows to the publishers of DSVM images and to our ``tag``; ``images.recognise`` decides.

    A VM without network interface, or one whose interface the account may not read, still has its row: the joins are
    left outer. ``id`` has to be among the columns, or the graph does not page.
    """
    publishers = ", ".join(f"'{p}'" for p in PUBLISHERS)
    safe_tag = tag.replace("\\", "\\\\").replace("'", "\\'")
    return f"""\
Resources
| where type =~ 'microsoft.compute/virtualmachines'
| extend image = properties.storageProfile.imageReference
| where tostring(image.publisher) in~ ({publishers})
    or tostring(plan.publisher) in~ ({publishers})
    or isnotempty(tostring(tags['{safe_tag}']))
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
| project id, name, subscriptionId, resourceGroup, location, tags, plan, image,
    vmId = tostring(properties.vmId),
    osType = tostring(properties.storageProfile.osDisk.osType),
    size = tostring(properties.hardwareProfile.vmSize),
    powerState = tostring(properties.extended.instanceView.powerState.code),
    privateIp, publicIp, fqdn
| order by id asc
"""


def rows(client: ArmClient, tag: str) -> Iterator[dict[str, Any]]:
    """Every row, page by page. Raises what ``client`` raises; a refusal (400, 403) makes the provider ask elsewhere."""
    options: dict[str, Any] = {"$top": PAGE, "resultFormat": "objectArray"}
    body = {"query": query(tag), "options": options}
    while True:
        answer = client.post(PATH, API_VERSION, body)
        yield from answer.get("data") or ()
        token = answer.get("$skipToken")
        if not token:
            return
        options["$skipToken"] = token
