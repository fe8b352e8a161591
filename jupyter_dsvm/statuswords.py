"""What ``%dsvm status`` says: where a notebook runs, whether it is reached, when its machine stops, what is under way for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .filewords import state_lines
from .idlewords import stop_words
from .models import FREE, IdleStop, LinkPhase, PowerState
from .tables import place, state_words

if TYPE_CHECKING:
    from .service import DSVMService


def full_status(service: DSVMService, proxy: Any, *, private: bool) -> str:
    """With what all machines cost today; ``private``: a VM asks, whose business that is not."""
    today = "" if private else service.spending.today()
    return status_text(service, proxy) + (f"\nYour machines: {today}, an estimate." if today else "")


def status_text(service: DSVMService, proxy: Any) -> str:
    """Where a notebook runs, whether it is reached, and what is under way for it."""
    status = proxy.status
    row = service.known.known(status.compute)
    kernel = f" with the kernel {status.kernelspec}" if status.kernelspec else ""
    lines = [f"This notebook runs on {place(status.compute, status.compute_name)}{kernel}."]
    if row is not None and row.id != FREE and row.power_state is not PowerState.UNKNOWN:
        lines.append(f"{row.name} is {state_words(row)}. {_idle_words(service.idle_stops.of(row.id))}".strip())
    link = status.link
    if link.state in (LinkPhase.CONNECTING, LinkPhase.RECONNECTING, LinkPhase.GONE):
        words = {
            LinkPhase.CONNECTING: "It is being connected to",
            LinkPhase.RECONNECTING: f"It is out of reach and being reconnected to (try {link.attempt})",
            LinkPhase.GONE: "Its kernel there has ended",
        }[link.state]
        lines.append(f"{words}{': ' + link.reason if link.reason else '.'}")
    record = service.workspaces.of_kernel(proxy.kernel_id)
    if record is not None:
        lines += state_lines(record)
    operations = [o for o in service.operations()[0] if o.kernel == proxy.kernel_id and o.kind != "sync"]
    for operation in operations:
        if operation.ended is None and operation.compute is not None:
            step = next((s.text for s in operation.steps if s.state.value == "running"), "")
            target = place(operation.compute, service.known.name(operation.compute))
            lines.append(f"It is moving to {target}{': ' + step if step else ''}.")
    if operations and operations[0].error is not None and operations[0].ended is not None:
        lines.append(
            f"The last move did not happen: {operations[0].error.message} {operations[0].error.advice}".strip()
        )
    lines += service.advising.fallen_back(proxy.kernel_id, status.compute)
    return "\n".join(lines)


def _idle_words(stop: IdleStop | None) -> str:
    if stop is None:
        return ""
    safety = "" if stop.safety is None or (stop.safety.kind == "ours" and stop.safety.averted) else stop.safety.text
    lost = f"A stop loses files on its temporary disk: {', '.join(stop.lost)}." if stop.lost else ""
    counted = stop_words(stop)
    return " ".join(text for text in (counted or stop.text, lost, safety) if text)
