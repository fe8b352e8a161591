"""What the emulator answers about resource groups, deployments, networks and disks; a part of ``routes.Handler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import shapes
from .deployments import Deployment, Step
from .estate import KINDS, Task
from .refusal import Refusal

if TYPE_CHECKING:
    from .arm import Arm
    from .records import Operation, Record

Json = dict[str, Any]

_GROUP = r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)"
_DEPLOYMENT = _GROUP + r"/providers/microsoft\.resources/deployments/(?P<name>[^/]+)"
_NETWORK = (
    _GROUP + r"/providers/microsoft\.network/(?P<kind>networksecuritygroups|virtualnetworks|networkinterfaces|"
    r"publicipaddresses)/(?P<name>[^/]+)"
)
_DISK = _GROUP + r"/providers/microsoft\.compute/(?P<kind>disks)/(?P<name>[^/]+)"

DEPLOY_ROUTES = (
    ("GET", r"/subscriptions/(?P<sub>[^/]+)/locations", "locations"),
    ("GET", _GROUP, "get_group"),
    ("PUT", _GROUP, "put_group"),
    ("DELETE", _GROUP, "delete_group"),
    ("GET", _GROUP + "/resources", "group_resources"),
    ("POST", _DEPLOYMENT + "/validate", "validate"),
    ("PUT", _DEPLOYMENT, "deploy"),
    ("GET", _DEPLOYMENT, "get_deployment"),
    ("POST", _DEPLOYMENT + "/cancel", "cancel_deployment"),
    (
        "GET",
        _GROUP + r"(?:/providers/microsoft\.resources)?/deployments/(?P<name>[^/]+)/operations",
        "deployment_operations",
    ),
    ("GET", _DEPLOYMENT + r"/operationstatuses/(?P<status>[^/]+)", "deployment_status"),
    ("GET", _NETWORK, "get_resource"),
    ("DELETE", _NETWORK, "delete_resource"),
    ("GET", _DISK, "get_resource"),
    ("DELETE", _DISK, "delete_resource"),
    (
        "DELETE",
        _GROUP + r"/providers/microsoft\.compute/virtualmachines/(?P<name>[^/]+)",
        "delete_vm",
    ),
    (
        "GET",
        r"/subscriptions/(?P<sub>[^/]+)/providers/microsoft\.network/locations/[^/]+/operations/(?P<name>[^/]+)",
        "network_operation",
    ),
)


class DeployRoutes:
    arm: Arm
    asked: Any
    base: str
    set_status: Any
    set_header: Any
    get_query_argument: Any
    on_network: Any
    _spend: Any
    _address: Any
    _point_to: Any

    def on_locations(self, sub: str) -> Json:
        one = self.arm.known_subscription(sub)
        self.arm.raise_fault("locations")
        rows = [
            {
                "id": f"/subscriptions/{one.id}/locations/{name}",
                "name": name,
                "type": "Region",
                "displayName": text,
                "regionalDisplayName": f"(Europe) {text}",
                "metadata": {"regionType": "Physical", "regionCategory": "Recommended", "geographyGroup": "Europe"},
            }
            for name, text in self.arm.locations.items()
        ]
        logical = {
            "id": f"/subscriptions/{one.id}/locations/europe",
            "name": "europe",
            "type": "Region",
            "displayName": "Europe",
            "metadata": {"regionType": "Logical", "regionCategory": "Other"},
        }
        return {"value": [*rows, logical]}

    # -- groups -------------------------------------------------------------------------------------------------------

    def on_get_group(self, sub: str, group: str) -> Json:
        self.arm.known_subscription(sub)
        return self.arm.estate.group(sub, group).body()

    def on_put_group(self, sub: str, group: str) -> Json:
        one = self.arm.known_subscription(sub)
        self.arm.raise_fault("group")
        asked = self.asked if isinstance(self.asked, dict) else {}
        location = str(asked.get("location") or "").replace(" ", "").lower()
        if location not in self.arm.locations:
            raise Refusal(
                400,
                "LocationNotAvailableForResourceGroup",
                f"The provided location '{location}' is not available for resource group. List of available regions is "
                f"'{','.join(self.arm.locations)}'.",
            )
        found, new = self.arm.estate.put_group(one.id, group, location, dict(asked.get("tags") or {}))
        self.set_status(201 if new else 200)
        return found.body()

    def on_delete_group(self, sub: str, group: str) -> None:
        found = self.arm.estate.group(sub, group)
        self.arm.raise_fault("delete")
        self._accepted(self.arm.deletions.delete_group(found), found.subscription, found.location)

    def on_group_resources(self, sub: str, group: str) -> Json:
        self.arm.known_subscription(sub)
        return {"value": self.arm.estate.inventory(self.arm.estate.group(sub, group), self.arm.records)}

    # -- deployments --------------------------------------------------------------------------------------------------

    def on_validate(self, sub: str, group: str, name: str) -> Json:
        deployment = self.arm.deployments.validated(sub, group, name, self.asked)
        body = _shape(deployment)
        body["properties"]["provisioningState"] = "Succeeded"
        body["properties"]["validatedResources"] = [{"id": step.resource_id} for step in deployment.steps]
        return body

    def on_deploy(self, sub: str, group: str, name: str) -> Json:
        deployment = self.arm.deployments.begin(self.arm.deployments.validated(sub, group, name, self.asked))
        self.set_status(201)
        version = self.get_query_argument("api-version")
        self.set_header(
            "Azure-AsyncOperation",
            f"{self.base}{deployment.id}/operationStatuses/{deployment.status_id}?api-version={version}",
        )
        self.set_header("Retry-After", "1")
        return _shape(deployment)

    def on_get_deployment(self, sub: str, group: str, name: str) -> Json:
        self.arm.raise_fault("deployments")
        return _shape(self.arm.deployments.find(sub, group, name))

    def on_deployment_status(self, sub: str, group: str, name: str, status: str) -> Json:
        found = self.arm.deployments.find(sub, group, name)
        if found.status_id != status:
            raise Refusal(
                404, "DeploymentOperationStatusNotFound", f"The operation status '{status}' could not be found."
            )
        return {"status": found.state} | ({"error": found.error} if found.error else {})

    def on_cancel_deployment(self, sub: str, group: str, name: str) -> None:
        self.arm.deployments.cancel(self.arm.deployments.find(sub, group, name))
        self.set_status(204)

    def on_deployment_operations(self, sub: str, group: str, name: str) -> Json:
        self.arm.raise_fault("deployments")
        found = self.arm.deployments.find(sub, group, name)
        return {"value": [_operation(found, step) for step in found.steps if step.state]}

    # -- resources ----------------------------------------------------------------------------------------------------

    def on_get_resource(self, sub: str, group: str, kind: str, name: str) -> Json:
        full = KINDS[kind.lower()]
        found = self.arm.estate.find(f"/subscriptions/{sub}/resourceGroups/{group}/providers/{full}/{name}")
        if found is not None:
            self.arm.raise_fault("network")
            return found.body
        if kind.lower() in ("networkinterfaces", "publicipaddresses"):
            answer: Json = self.on_network(sub, group, kind, name)
            return answer
        self.arm.estate.group(sub, group)
        raise _not_found(full, name, group)

    def on_delete_resource(self, sub: str, group: str, kind: str, name: str) -> None:
        where = self.arm.estate.group(sub, group)
        full = KINDS[kind.lower()]
        found = self.arm.estate.find(f"{where.id}/providers/{full}/{name}")
        if found is None:
            self.set_status(204)
            return
        task = self.arm.deletions.delete(found)
        self._accepted(task, where.subscription, str(found.body["location"]))

    def on_delete_vm(self, sub: str, group: str, name: str) -> None:
        where = self.arm.estate.group(sub, group)
        record: Record | None = self.arm.by_id(f"{where.id}/providers/Microsoft.Compute/virtualMachines/{name}")
        if record is None:
            self.set_status(204)
            return
        operation: Operation = self.arm.deletions.delete_vm(record)
        self._spend("DeleteVM3Min;239", "DeleteVM30Min;1199")
        self.set_status(202)
        self._point_to(operation)
        self.set_header("Location", self._address(operation, "monitor=true&"))

    def on_network_operation(self, sub: str, name: str) -> Json:
        task = self.arm.estate.tasks.get(name)
        if task is None:
            raise Refusal(404, "NotFound", "The entity was not found in this Azure location.")
        return task.body()

    def _accepted(self, task: Task, subscription: str, location: str) -> None:
        self.set_status(202)
        address = (
            f"{self.base}/subscriptions/{subscription}/providers/Microsoft.Network/locations/{location}/operations/{task.id}"
            f"?api-version={self.get_query_argument('api-version')}"
        )
        self.set_header("Azure-AsyncOperation", address)
        self.set_header("Location", address)
        self.set_header("Retry-After", "1")


def _not_found(kind: str, name: str, group: str) -> Refusal:
    return Refusal(
        404,
        "ResourceNotFound",
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix",
    )


def _shape(one: Deployment) -> Json:
    properties: Json = {
        "templateHash": str(abs(hash(one.name)) % 10**19),
        "parameters": {
            name: {"type": str(one.template["parameters"][name]["type"]).capitalize(), **value}
            for name, value in one.parameters.items()
        },
        "mode": one.mode,
        "provisioningState": one.state,
        "timestamp": shapes.moment(one.ended or one.started),
        "duration": _duration(((one.ended or one.started) - one.started).total_seconds()),
        "correlationId": one.correlation,
        "providers": [],
        "dependencies": [
            {
                "dependsOn": [_reference(str(other)) for other in step.resource.get("dependsOn") or ()],
                **_reference(step.resource_id),
            }
            for step in one.steps
            if step.resource.get("dependsOn")
        ],
    }
    if one.state == "Succeeded":
        properties["outputResources"] = [{"id": step.resource_id} for step in one.steps]
    if one.error is not None:
        properties["error"] = one.error
    return {"id": one.id, "name": one.name, "type": "Microsoft.Resources/deployments", "properties": properties}


def _operation(one: Deployment, step: Step) -> Json:
    properties: Json = {
        "provisioningOperation": "Create",
        "provisioningState": step.state,
        "timestamp": shapes.moment(step.changed),
        "duration": _duration(0.0),
        "trackingId": step.tracking,
        "targetResource": _reference(step.resource_id),
    }
    if step.status:
        properties["statusCode"] = step.status
    if step.error is not None:
        properties["statusMessage"] = {"status": "Failed", **step.error}
    return {"id": f"{one.id}/operations/{step.id}", "operationId": step.id, "properties": properties}


def _reference(resource_id: str) -> Json:
    parts = resource_id.split("/providers/", 1)[-1].split("/")
    return {"id": resource_id, "resourceType": f"{parts[0]}/{parts[1]}", "resourceName": parts[-1]}


def _duration(seconds: float) -> str:
    return f"PT{seconds:.7f}S"
