"""A scenario: what the emulated Azure holds and how it behaves, from a JSON file or from the control interface.

``jupyter dsvm emulator --scenario FILE`` reads one at the start; ``PUT /control/scenario`` changes those parts of it that
can change while Azure runs (``LIVE``), each as a whole. Example::

    {"subscriptions": [{"id": "…", "name": "Lab", "quota_id": "FreeTrial_2014-09-01"}],
     "machines": [{"name": "vm-{n}", "count": 25, "resource_group": "lab", "subscription": "Lab", "ssh": false,
                   "size": "Standard_D4ds_v5", "image": "microsoft-dsvm:ubuntu-2204:2204-gen2"}],
     "latency": [{"seconds": 0.1}, {"operation": "start", "vm": "vm-3", "seconds": 2}],
     "throttles": [{"operation": "graph", "requests": 15, "seconds": 5}],
     "capacity": [{"size": "Standard_NC4as_T4_v3", "location": "westeurope", "machines": 0}],
     "quotas": [{"family": "Standard NCASv3_T4 Family", "limit": 4}],
     "restrictions": [{"size": "Standard_NC24ads_A100_v4", "reason": "NotAvailableForSubscription"}],
     "prices": [{"size": "Standard_D4ds_v5", "usd": null}],
     "faults": [{"vm": "vm-3", "operation": "get", "code": "ServerTimeout", "times": 2}],
     "timings": {"start": 10}}

A mistake is a ``ScenarioError`` that says where it is and what is possible there.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .faults import OPERATIONS, Fault
from .machines import HOME, SIZES, STANDARD, SUBSCRIPTIONS, Machine, Subscription, Tenant
from .offers import REGIONAL, Capacity, ListPrice, Quota, Restriction
from .pacing import ANY, Latency, Throttle
from .records import Timings

if typing.TYPE_CHECKING:
    from .arm import Arm

T = TypeVar("T")

FIXED = ("tenants", "subscriptions", "machines")
LIVE = ("latency", "throttles", "capacity", "quotas", "restrictions", "prices", "faults", "timings")

POWER = ("running", "stopped", "deallocated")
SYSTEMS = ("Linux", "Windows")
GENERATIONS = ("V1", "V2")
SECURITY = ("", "TrustedLaunch", "ConfidentialVM")
CONTROLLERS = ("SCSI", "NVMe")
DISKS = ("Premium_LRS", "StandardSSD_LRS", "Standard_LRS")
STATES = ("Enabled", "Disabled", "Warned")
MOST_MACHINES = 20_000


class ScenarioError(ValueError):
    """Where the mistake is, what was found there, and what is possible."""


@dataclass
class Scenario:
    tenants: Sequence[Tenant] = (HOME,)
    subscriptions: Sequence[Subscription] = SUBSCRIPTIONS
    machines: Sequence[Machine] = STANDARD
    latency: Sequence[Latency] = ()
    throttles: Sequence[Throttle] = ()
    capacity: Sequence[Capacity] = ()
    quotas: Sequence[Quota] = ()
    restrictions: Sequence[Restriction] = ()
    prices: Sequence[ListPrice] = ()
    faults: Sequence[Fault] = ()
    timings: Mapping[str, float | None] = field(default_factory=dict)

    def apply(self, arm: Arm, parts: Sequence[str] = LIVE) -> None:
        """Let Azure behave so from now on; ``parts`` are replaced, the others stay."""
        if "timings" in parts:
            arm.timings.update(dict(self.timings))
        if "faults" in parts:
            # The first that fits counts, in a file as in the list.
            arm.faults.active[:] = list(self.faults)
        if "latency" in parts:
            arm.latency = list(self.latency)
        if "throttles" in parts:
            arm.throttles = {t.operation: t for t in self.throttles}
        for name in ("capacity", "quotas", "restrictions", "prices"):
            if name in parts:
                setattr(arm.offers, name, list(getattr(self, name)))


def load(path: Path, machines: Sequence[Machine] = STANDARD) -> Scenario:
    """Raises ``ScenarioError``. ``machines`` where the file names none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"The scenario {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ScenarioError(f"The scenario {path} is no JSON: {error}.") from None
    try:
        return parse(data, Scenario(machines=machines))
    except ScenarioError as error:
        raise ScenarioError(f"The scenario {path}: {error}") from None


def parse(data: Any, base: Scenario | None = None, parts: Sequence[str] = (*FIXED, *LIVE)) -> Scenario:
    """A scenario like ``base`` with the parts that ``data`` has. Raises ``ScenarioError``."""
    found = dataclasses.replace(base) if base is not None else Scenario()
    given = _object(data, "it", parts)
    if "tenants" in given:
        found.tenants = _rows(given, "tenants", Tenant)
    if "subscriptions" in given:
        found.subscriptions = _rows(given, "subscriptions", Subscription)
    for number, one in enumerate(found.subscriptions):
        where = f"subscriptions[{number}]"
        _one_of(one.state, STATES, f"{where}.state")
        _one_of(one.tenant, [t.id for t in found.tenants], f"{where}.tenant")
    _unique([s.id.lower() for s in found.subscriptions], "subscriptions", "id")
    if "machines" in given:
        found.machines = _machines(given["machines"], found.subscriptions)
    elif {m.subscription for m in found.machines} - {s.id for s in found.subscriptions}:
        raise ScenarioError("with subscriptions of its own it has to have machines, too.")
    for name, kind in (
        ("latency", Latency), ("throttles", Throttle), ("capacity", Capacity), ("quotas", Quota),
        ("restrictions", Restriction), ("prices", ListPrice),
    ):  # fmt: skip
        if name in given:
            setattr(found, name, _rows(given, name, kind))
    if "faults" in given:
        found.faults = _faults(given["faults"])
    if "timings" in given:
        found.timings = _timings(given["timings"])
    _check_rules(found)
    return found


def _check_rules(found: Scenario) -> None:
    vms = {m.name.lower() for m in found.machines}
    families = sorted({s.family for s in SIZES.values()} | {REGIONAL})
    names = {m.name for m in found.machines}
    for part in ("latency", "throttles", "capacity", "quotas", "restrictions", "prices", "faults"):
        for number, rule in enumerate(getattr(found, part)):
            where = f"{part}[{number}]"
            given = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}
            if given.get("size", ANY) != ANY:
                _one_of(given["size"], SIZES, f"{where}.size")
            if given.get("vm", ANY) != ANY and given["vm"].lower() not in vms:
                raise ScenarioError(f"{where}.vm: there is no VM {given['vm']!r}; there are {_some(names)}.")
            if given.get("operation", ANY) != ANY:
                _one_of(given["operation"], OPERATIONS, f"{where}.operation")
            if "family" in given:
                _one_of(given["family"], families, f"{where}.family")
            for name in ("seconds", "machines", "limit", "requests", "usd"):
                if given.get(name) is not None and given[name] < 0:
                    raise ScenarioError(f"{where}.{name} must not be negative; it is {given[name]}.")
    for number, throttle in enumerate(found.throttles):
        if throttle.operation == ANY:
            raise ScenarioError(f"throttles[{number}].operation has to be one of {', '.join(OPERATIONS)}.")


# -- the parts ----------------------------------------------------------------------------------------------------------


def _machines(rows: Any, subscriptions: Sequence[Subscription]) -> list[Machine]:
    ids = {s.id.lower(): s.id for s in subscriptions} | {s.name.lower(): s.id for s in subscriptions}
    found: list[Machine] = []
    for number, row in enumerate(_list(rows, "machines")):
        where = f"machines[{number}]"
        row = dict(_object(row, where, ["count", *(f.name for f in dataclasses.fields(Machine))]))
        count = _typed(row.pop("count", 1), int, f"{where}.count")
        if not 1 <= count <= MOST_MACHINES:
            raise ScenarioError(f"{where}.count is between 1 and {MOST_MACHINES}, not {count}.")
        for name in ("image", "plan", "gallery_image"):
            if isinstance(row.get(name), str):
                row[name] = row[name].split(":")
        one = _build(Machine, row, where)
        if one.subscription.lower() not in ids:
            known = [s.name for s in subscriptions]
            raise ScenarioError(
                f"{where}.subscription: there is none called {one.subscription!r}; there are {_some(known)}."
            )
        _one_of(one.size, SIZES, f"{where}.size")
        _one_of(one.power, POWER, f"{where}.power")
        _one_of(one.os, SYSTEMS, f"{where}.os")
        _one_of(one.generation, GENERATIONS, f"{where}.generation")
        _one_of(one.security, SECURITY, f"{where}.security")
        _one_of(one.disk_controller, CONTROLLERS, f"{where}.disk_controller")
        _one_of(one.os_disk, DISKS, f"{where}.os_disk")
        if one.data_disks < 0 or one.interfaces < 1:
            raise ScenarioError(
                f"{where} has {one.data_disks} data disks and {one.interfaces} interfaces; it needs 0 and 1."
            )
        if one.hibernated and not (one.hibernation and one.power == "deallocated"):
            raise ScenarioError(f"{where}.hibernated needs hibernation, and the power deallocated.")
        if count > 1 and "{n}" not in one.name:
            raise ScenarioError(f"{where}.name needs {{n}} in it, since there are {count} of them.")
        for n in range(1, count + 1):
            found.append(
                dataclasses.replace(
                    one, name=one.name.replace("{n}", str(n)), subscription=ids[one.subscription.lower()]
                )
            )
    _unique([f"{m.subscription}/{m.resource_group}/{m.name}".lower() for m in found], "machines", "name")
    return found


def _faults(rows: Any) -> list[Fault]:
    found = []
    for number, row in enumerate(_list(rows, "faults")):
        try:
            given = _object(row, f"faults[{number}]", [f.name for f in dataclasses.fields(Fault)])
            found.append(Fault.from_json(dict(given)))
        except ScenarioError:
            raise
        except (ValueError, TypeError) as error:
            raise ScenarioError(f"faults[{number}]: {error}") from None
    return found


def _timings(data: Any) -> dict[str, float | None]:
    hints = typing.get_type_hints(Timings)
    given = _object(data, "timings", list(hints))
    return {name: _typed(value, hints[name], f"timings.{name}") for name, value in given.items()}


# -- from JSON to dataclasses -------------------------------------------------------------------------------------------


def _rows(given: Mapping[str, Any], name: str, kind: type[T]) -> list[T]:
    return [_build(kind, row, f"{name}[{number}]") for number, row in enumerate(_list(given[name], name))]


def _build(kind: type[T], row: Any, where: str) -> T:
    fields = [f for f in dataclasses.fields(typing.cast(Any, kind)) if f.repr]
    hints = typing.get_type_hints(kind)
    given = _object(row, where, [f.name for f in fields])
    for f in fields:
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in given:
            raise ScenarioError(f"{where} has no {f.name!r}.")
    make: Callable[..., T] = kind
    return make(**{name: _typed(value, hints[name], f"{where}.{name}") for name, value in given.items()})


_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def _typed(value: Any, hint: Any, where: str) -> Any:
    """``value`` as the type that a field is declared with. Raises ``ScenarioError``."""
    options = typing.get_args(hint) if typing.get_origin(hint) is not tuple and not _is_dict(hint) else ()
    if options:  # a union with None
        if value is None and type(None) in options:
            return None
        return _typed(value, next(o for o in options if o is not type(None)), where)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        rows = _list(value, where)
        if inner[-1] is ...:
            return tuple(_typed(v, inner[0], f"{where}[{i}]") for i, v in enumerate(rows))
        if len(rows) != len(inner):
            raise ScenarioError(f"{where} has to have {len(inner)} parts; it has {len(rows)}.")
        return tuple(_typed(v, kind, f"{where}[{i}]") for i, (v, kind) in enumerate(zip(rows, inner, strict=True)))
    if _is_dict(hint):
        return {str(k): _typed(v, str, f"{where}.{k}") for k, v in _object(value, where, None).items()}
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise ScenarioError(f"{where} has to be {_WORDS[hint]}, not {json.dumps(value)[:60]}.")
    return float(value) if hint is float else value


def _is_dict(hint: Any) -> bool:
    return typing.get_origin(hint) is dict


def _object(data: Any, where: str, names: Sequence[str] | None) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise ScenarioError(f"{where} has to be an object, not {json.dumps(data)[:60]}.")
    unknown = [] if names is None else [name for name in data if name not in names]
    if unknown:
        raise ScenarioError(f"{where} has {', '.join(map(repr, unknown))}; possible are {', '.join(names or ())}.")
    return data


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise ScenarioError(f"{where} has to be a list, not {json.dumps(data)[:60]}.")
    return data


def _one_of(value: str, possible: Any, where: str) -> None:
    if value not in possible:
        raise ScenarioError(f"{where} is one of {', '.join(possible)}; not {value!r}.")


def _unique(values: Sequence[str], where: str, what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ScenarioError(f"{where}: the {what} {value!r} is there twice.")
        seen.add(value)


def _some(names: typing.Iterable[str], most: int = 8) -> str:
    shown = sorted(names)
    return ", ".join(shown[:most]) + (" …" if len(shown) > most else "")
