"""Who did what to which VM, and when: a line of JSON each, a jupyter event each, and numbers for Prometheus.

The lines go to the logger ``jupyter_dsvm.hub.audit``, which the broker's configuration leads to a file; the events have the schema
``events/hub_action.yaml``. Neither has a token, a key or an address in it. Called from any thread; raises nothing.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DSVMError, OperationRefused, RefusedByPolicy
from ..models import utc_now

if TYPE_CHECKING:
    from jupyter_events import EventLogger
    from prometheus_client.core import Metric

log = logging.getLogger("jupyter_dsvm.hub")
audit_log = logging.getLogger("jupyter_dsvm.hub.audit")

SCHEMA_ID = "https://events.jupyter.org/jupyter_dsvm/hub_action"

BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Seconds that operations take."""


class Audit:
    def __init__(self, events: EventLogger | None = None) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._actions: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._seconds: dict[str, list[float]] = {}
        """By action: how many took at most each of ``BUCKETS``, how many there were, and the sum."""
        if events is not None:
            events.register_event_schema(Path(__file__).parents[1] / "events" / "hub_action.yaml")

    def record(self, action: str, person: str, vm: str = "", name: str = "", outcome: str = "ok", **more: Any) -> None:
        """``person``: who did it; ``the hub`` where a rule did. ``vm`` is the ``vmId``, ``name`` what it is called.
        ``outcome``: ok, begun, or the code of the error. ``more``: serial, rule, seconds, whose."""
        data = {"at": utc_now(), "action": action, "person": person, "vm": vm, "name": name, "outcome": outcome, **more}
        with self._lock:
            self._actions[action, "ok" if outcome in ("ok", "begun") else "refused"] += 1
            if outcome not in ("ok", "begun"):
                self._errors[outcome] += 1
            if "seconds" in more:
                took = float(more["seconds"])
                counts = self._seconds.setdefault(action, [0.0] * (len(BUCKETS) + 2))
                for index, most in enumerate(BUCKETS):
                    counts[index] += took <= most
                counts[-2] += 1
                counts[-1] += took
        audit_log.info("%s", json.dumps(data, ensure_ascii=True, sort_keys=True))
        if self._events is not None:
            try:
                self._events.emit(schema_id=SCHEMA_ID, data=data)
            except Exception:
                log.exception("an event of the audit could not be sent")

    def metrics(self) -> tuple[dict[tuple[str, str], int], dict[str, int], dict[str, list[float]]]:
        with self._lock:
            return dict(self._actions), dict(self._errors), {k: list(v) for k, v in self._seconds.items()}


class Audited:
    """What is refused in its body is in the audit; what is begun too, unless ``quiet``."""

    def __init__(
        self, audit: Audit, action: str, person: str, vm: str, name: str, quiet: bool, more: dict[str, Any]
    ) -> None:
        self._audit, self._quiet = audit, quiet
        self._facts = {"action": action, "person": person, "vm": vm, "name": name, **more}

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            if not self._quiet:
                self._audit.record(**self._facts, outcome="begun")
        elif not (isinstance(error, OperationRefused) and error.code == "AccountNeeded"):
            rule = {"rule": error.rule} if isinstance(error, RefusedByPolicy) else {}
            code = error.code if isinstance(error, DSVMError) else type(error).__name__
            self._audit.record(**self._facts, outcome=code, **rule)


class Numbers:
    """A collector of prometheus_client: everything is counted when it is asked for."""

    def __init__(self, audit: Audit, now: Callable[[], dict[str, Any]]) -> None:
        """``now`` gives ``states`` (VMs by power state), ``attached`` (people by VM's name) and ``waiting`` (starts)."""
        self._audit, self._now = audit, now

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        found = self._now()
        states = GaugeMetricFamily("dsvm_hub_vms", "VMs by power state", labels=["state"])
        for state, number in found["states"].items():
            states.add_metric([state], number)
        yield states
        attached = GaugeMetricFamily("dsvm_hub_attached", "People attached, by VM", labels=["vm"])
        for name, number in found["attached"].items():
            attached.add_metric([name], number)
        yield attached
        yield GaugeMetricFamily("dsvm_hub_starts_waiting", "Starts that wait for their turn", value=found["waiting"])
        actions, errors, seconds = self._audit.metrics()
        counted = CounterMetricFamily("dsvm_hub_actions", "What people did", labels=["action", "outcome"])
        for (action, outcome), number in actions.items():
            counted.add_metric([action, outcome], number)
        yield counted
        refused = CounterMetricFamily("dsvm_hub_errors", "Errors and refusals, by code", labels=["code"])
        for code, number in errors.items():
            refused.add_metric([code], number)
        yield refused
        took = HistogramMetricFamily("dsvm_hub_operation_seconds", "How long operations took", labels=["kind"])
        for kind, counts in seconds.items():
            limits = [*map(str, BUCKETS), "+Inf"]
            took.add_metric([kind], list(zip(limits, counts[:-1], strict=True)), counts[-1])
        yield took


def exposition(numbers: Numbers) -> tuple[bytes, str]:
    """What ``GET metrics`` answers, and its content type. Needs prometheus_client."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(numbers)
    return generate_latest(registry), CONTENT_TYPE_LATEST
