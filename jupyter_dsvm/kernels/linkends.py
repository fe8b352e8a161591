"""Why a link is over for good: what its relay said, or did not, as errors for the notebook."""

from __future__ import annotations

from ..errors import DSVMError, ProtocolError, RelayError, printable
from ..relay.events import HungUp


def hung_up(compute_name: str, event: HungUp) -> DSVMError:
    """The relay said GOODBYE."""
    text = printable(event.text, 500)
    if event.reason == "superseded":
        return RelayError(
            f"The kernel on {compute_name} was attached from elsewhere.",
            advice="It runs on there. Attach again to take it over.",
            code="Superseded",
        )
    if event.reason == "version":
        return ProtocolError(
            f"The kernel on {compute_name} is of an earlier version of jupyter-dsvm, and cannot be gone on with: {text}.",
            advice="Attach again to start a new one.",
        )
    if event.reason in ("protocol", "epoch"):
        return ProtocolError(f"The relay on {compute_name} ended the conversation ({event.reason}): {text}")
    return no_more(compute_name, text or "its relay has ended")


def no_more(compute_name: str, reason: str) -> DSVMError:
    return RelayError(
        f"The kernel on {compute_name} is no more: {reason}.",
        advice="Attach again to start a new one, or return to the free tier.",
        code="KernelGone",
    )


def broken(compute_name: str, text: str) -> DSVMError:
    return ProtocolError(
        f"The relay on {compute_name} broke the protocol: {text}.",
        advice="The notebook no longer listens to it. Attach again to start a new kernel.",
    )
